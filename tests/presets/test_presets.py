"""Words of the command line and what they become."""

import keras
import numpy as np
import pytest

from keras_ssl import methods, names, optimizers
from keras_ssl.backbones import Tiny
from keras_ssl.layers import LinearProbe, SplitBatchNorm
from keras_ssl.names import Options

CLASSES = {
    "simclr": methods.SimCLR,
    "simclr-memory": methods.SimCLRMemory,
    "moco": methods.MoCo,
    "byol": methods.BYOL,
    "memory-bank": methods.MemoryBank,
}


def built(name, **given):
    options = names.options(name, Options(**{"images": 100, "batch_size": 32, **given}))
    return names.method(name, Tiny((8, 8, 1), features=8), options)


def test_every_method_has_a_row():
    assert list(names.METHODS) == list(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name):
    model = built(name, embedding=16, probe=LinearProbe(3))
    assert type(model) is CLASSES[name]
    assert model.projector.units == 16
    assert model.probe.classes == 3
    is_split = [isinstance(layer, SplitBatchNorm) for layer in model._flatten_layers()]
    assert any(is_split) == (name == "moco")


def test_what_the_options_become():
    assert built("simclr", temperature=0.3).temperature == 0.3
    memory = built("simclr-memory", temperature=0.3, queue_size=7)
    assert (memory.temperature, memory.queue.size, memory.projector.depth) == (0.3, 7, 3)
    moco = built("moco", temperature=0.3, queue_size=7, groups=4)
    assert (moco.temperature, moco.queue.size, moco.projector.depth) == (0.3, 7, 2)
    groups = [la.groups for la in moco._flatten_layers() if isinstance(la, SplitBatchNorm)]
    assert set(groups) == {4}
    bank = built("memory-bank", temperature=0.3)
    assert (bank.temperature, bank.bank.size, bank.projector.depth) == (0.3, 100, 1)
    byol = built("byol")
    assert (byol.projector.units, byol.projector.hidden_units) == (256, 4096)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("simclr", {"embedding": 128, "head_layers": 2, "temperature": 0.5}),
        (
            "simclr-memory",
            {
                "embedding": 128,
                "head_layers": 3,
                "temperature": 0.1,
                "momentum": 0.999,
                "final_momentum": 0.999,
                "queue_size": 50,
            },
        ),
        ("memory-bank", {"embedding": 128, "temperature": 0.07}),
        ("byol", {"embedding": 256, "momentum": 0.996, "final_momentum": 1.0}),
        (
            "moco",
            {
                "embedding": 128,
                "temperature": 0.2,
                "momentum": 0.999,
                "final_momentum": 0.999,
                "queue_size": 50,
                "groups": 2,
            },
        ),
    ],
)
def test_defaults_are_the_papers(name, expected):
    found = names.options(name, Options(images=100, batch_size=32))
    values = {option: getattr(found, option) for option in names.OPTIONS}
    assert values == {option: expected.get(option) for option in names.OPTIONS}


def test_a_constant_momentum_stays_constant():
    moco = names.options("moco", Options(100, 32, momentum=0.9))
    assert (moco.momentum, moco.final_momentum) == (0.9, 0.9)
    byol = names.options("byol", Options(100, 32, momentum=0.9))
    assert (byol.momentum, byol.final_momentum) == (0.9, 1.0)
    rising = names.options("moco", Options(100, 32, momentum=0.9, final_momentum=0.99))
    assert (rising.momentum, rising.final_momentum) == (0.9, 0.99)


@pytest.mark.parametrize(("images", "size"), [(1, 1), (1437, 718), (1_281_167, 65536)])
def test_the_queue_holds_at_most_half_the_images(images, size):
    assert names.options("moco", Options(images, 1)).queue_size == size


@pytest.mark.parametrize(
    ("batch", "replicas", "groups"),
    [
        (256, 1, 8),  # 32 images each, as in the paper
        (128, 1, 8),
        (64, 1, 4),
        (250, 1, 5),  # 6, 7 and 8 do not divide it
        (251, 1, 1),
        (16, 1, 1),  # too few images to divide
        (256, 2, 8),
        (256, 3, 1),  # 256 cannot be divided evenly over 3 replicas
        (240, 3, 6),
        (1024, 16, 16),  # one for each replica
    ],
)
def test_groups_leave_enough_images_to_each(batch, replicas, groups):
    assert names.options("moco", Options(10_000, batch, replicas)).groups == groups


@pytest.mark.parametrize(
    ("batch", "replicas", "chunks", "groups"),
    [
        (256, 1, 4, 8),  # two for each chunk
        (256, 2, 4, 8),
        (240, 1, 3, 6),
        (1024, 2, 16, 32),  # one for each chunk
        (256, 1, 32, 1),  # too few images to divide: a chunk is a group
    ],
)
def test_chunks_share_the_groups(batch, replicas, chunks, groups):
    given = Options(10_000, batch, replicas, chunks)
    assert names.options("moco", given).groups == groups


@pytest.mark.parametrize(
    ("groups", "batch", "replicas"), [(3, 32, 1), (64, 32, 1), (3, 36, 2), (-2, 32, 1)]
)
def test_groups_that_do_not_divide(groups, batch, replicas):
    message = rf"--groups must be 1, or divide.*--groups {groups}, --batch-size {batch}, {replicas}"
    with pytest.raises(ValueError, match=message):
        names.options("moco", Options(100, batch, replicas, groups=groups))


@pytest.mark.parametrize(
    ("name", "option", "value", "owners"),
    [
        ("byol", "temperature", 0.1, "simclr, simclr-memory, moco, memory-bank"),
        ("simclr", "momentum", 0.9, "simclr-memory, moco, byol"),
        ("memory-bank", "final_momentum", 1.0, "simclr-memory, moco, byol"),
        ("simclr", "queue_size", 8, "simclr-memory, moco"),
        ("simclr-memory", "groups", 4, "moco"),
        ("byol", "groups", 4, "moco"),
    ],
)
def test_options_of_other_methods_are_refused(name, option, value, owners):
    word = "--" + option.replace("_", "-")
    message = rf"--method {name} has no {word}: .* of {owners}\. Received: {word} {value}"
    with pytest.raises(ValueError, match=message):
        names.options(name, Options(100, 32, **{option: value}))


def nested_norm():
    """A backbone whose batch normalisation lies within a layer of another class."""

    @keras.saving.register_keras_serializable(package="test_names")
    class Block(keras.layers.Layer):
        def build(self, shape):
            self.norm = keras.layers.BatchNormalization()
            self.norm.build(shape)

        def call(self, x, training=False):
            return self.norm(x, training=training)

    images = keras.Input((8, 8, 1))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(Block()(images)))


def test_a_backbone_that_cannot_be_split_is_told_what_to_do():
    backbone = nested_norm()
    options = names.options("moco", Options(100, 32))
    with pytest.raises(ValueError, match=r"With --groups 1 it is left whole\. .*--groups 2"):
        names.method("moco", backbone, options)
    whole = names.options("moco", Options(100, 32, groups=1))
    assert names.method("moco", backbone, whole).backbone is backbone


def test_nothing_to_split():
    images = keras.Input((8, 8, 1))
    backbone = keras.Model(images, keras.layers.Flatten()(images))
    options = names.options("moco", Options(100, 32))
    assert names.method("moco", backbone, options).backbone is backbone


@pytest.mark.parametrize("name", names.POLICIES)
def test_policies(name):
    view = names.policy(name, 12).view_1(np.zeros((2, 12, 12, 3), np.uint8))
    assert view.shape == (2, 12, 12, 3)


def test_simclr_small_is_the_papers_for_cifar10():
    layers = names.policy("simclr-small", 32).view_1.layers
    assert [type(layer).__name__ for layer in layers][-1] == "RandomGrayscale"
    assert layers[2].brightness == pytest.approx(0.4)


@pytest.mark.parametrize("name", CLASSES)
def test_each_methods_own_views(name):
    assert names.default_policy(name, 65) in names.POLICIES
    small = names.policy(names.default_policy(name, 64), 32)
    assert small.view_1.begins_with_crop
    for view in small:
        assert "RandomBlur" not in [type(layer).__name__ for layer in view.layers]


def test_large_and_small_views_of_moco_and_byol():
    assert [names.default_policy("moco", size) for size in (64, 65)] == ["moco-v2-small", "moco-v2"]
    assert [names.default_policy("byol", size) for size in (64, 65)] == ["byol-small", "byol"]
    blurs = {
        name: [
            [layer.probability for layer in view.layers if type(layer).__name__ == "RandomBlur"]
            for view in names.policy(name, 96)
        ]
        for name in ("moco-v2", "byol")
    }
    assert blurs == {"moco-v2": [[0.5], [0.5]], "byol": [[1.0], [0.1]]}
    assert names.policy("moco-v2", 96).view_1.layers[0].area == (0.2, 1.0)
    assert names.policy("moco-v2-small", 32).view_1.layers[0].area == (0.08, 1.0)  # the notebook's


def test_backbones():
    assert names.backbone("small-resnet", 0.25, (32, 32, 3)).output_shape == (None, 48)
    assert names.backbone("tiny", 0.5, (8, 8, 1)).output_shape == (None, 32)
    assert names.backbone("resnet18", 0.25, (32, 32, 3)).output_shape == (None, 128)
    mobile = names.backbone("MobileNetV3Small", 1.0, (32, 32, 3))
    assert len(mobile.output_shape) == 2


def test_networks_of_keras_have_no_width():
    with pytest.raises(
        ValueError, match=r"`width` is for resnet, small-resnet and tiny.* width=2\.0"
    ):
        names.backbone("MobileNetV2", 2.0, (32, 32, 3))


@pytest.mark.parametrize(
    ("kind", "peak", "decay"),
    [("lars", 0.075 * 16, 1e-6), ("sgd", 0.06 * 256 / 128, 5e-4), ("adam", 1e-3, None)],
)
def test_optimizers_have_the_references_rates(kind, peak, decay):
    built = names.optimizer(kind, None, None, 256, total_steps=100, warmup_steps=10)
    schedule = built._learning_rate
    assert isinstance(schedule, optimizers.WarmupCosine)
    assert (schedule.peak, schedule.total_steps, schedule.warmup_steps) == (
        pytest.approx(peak),
        100,
        10,
    )
    assert built.weight_decay == decay
    own = names.optimizer(kind, 0.25, 0.125, 256, total_steps=100, warmup_steps=10)
    assert own._learning_rate.peak == 0.25
    assert own.weight_decay == 0.125


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: names.known_method("simclear"),
            r"Unknown method\. Nearest: simclr\. Expected one of: simclr.* Received: 'simclear'",
        ),
        (
            lambda: names.options("mocco", Options(8, 8)),
            r"Unknown method\. Nearest: moco\. Expected one of: simclr, simclr-memory, moco, byol, "
            "memory-bank",
        ),
        (
            lambda: names.policy("simclr-smal", 8),
            r"Unknown policy of views\. Nearest: simclr-small, simclr\. .*'simclr-smal'",
        ),
        (
            lambda: names.backbone("resnet17", 1.0, (8, 8, 3)),
            r"Unknown backbone\. Nearest: resnet18.* Received: 'resnet17'",
        ),
        (
            lambda: names.backbone("MobileNetV22", 1.0, (8, 8, 3)),
            r"Unknown backbone\. Nearest: MobileNetV2",
        ),
        (
            lambda: names.backbone("resnet", 1.0, (8, 8, 3)),  # a module of keras.applications
            r"Unknown backbone\. Nearest: resnet",
        ),
        (
            lambda: names.optimizer("lasr", None, None, 8, 1, 0),
            r"Unknown optimizer\. .*Expected one of: lars, sgd, adam\. Received: 'lasr'",
        ),
    ],
)
def test_unknown_words_get_the_nearest(make, message):
    with pytest.raises(ValueError, match=message):
        make()
