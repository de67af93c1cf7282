"""Presets: their options and defaults, and what they build."""

import ast
import inspect
import itertools
import re
from dataclasses import MISSING, dataclass, fields, replace

import keras
import numpy as np
import pytest

from keras_ssl import methods, presets
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.layers import LinearProbe, SplitBatchNorm
from keras_ssl.presets import (
    PRESETS,
    ImageFacts,
    Preset,
    build_policy,
    find_preset,
    option_owners,
)

CLASSES = {
    "simclr": methods.SimCLR,
    "simclr-memory": methods.SimCLRMemory,
    "moco": methods.MoCo,
    "byol": methods.BYOL,
    "memory-bank": methods.MemoryBank,
    "deep-cluster": methods.DeepCluster,
    "invariant-spreading": methods.InvariantSpreading,
    "exemplar": methods.Exemplar,
    "denoising-autoencoder": methods.DenoisingAutoencoder,
    "context-encoder": methods.ContextEncoder,
    "adversarial-context-encoder": methods.AdversarialContextEncoder,
    "cpc": methods.CPC,
    "rotation": methods.Rotation,
    "colorization": methods.Colorization,
    "split-brain": methods.SplitBrain,
    "cmc": methods.CMC,
    "relative-location": methods.RelativeLocation,
    "jigsaw": methods.Jigsaw,
    "pirl": methods.PIRL,
    "video-colorization": methods.VideoColorization,
}
FACTS = ImageFacts(image_channels=1, image_count=100, class_count=3)


def resolve(method, replicas=1, facts=FACTS, **options):
    preset = find_preset(method)(**{"batch_size": 32, **options})
    side = 24 if method in OF_TILES else 8
    return preset.resolve(facts, replicas, sides=(side, side))


OF_TILES = {"relative-location", "jigsaw", "pirl"}  # they need larger images
OF_COLOR = {"colorization", "split-brain", "cmc"}  # they have backbones of their own
OF_COLOR |= {"video-colorization"}
CENTERS = (20.0, 0.0, -20.0, 0.0)  # of colors, which video colorization measures


def build(method, **options):
    facts = replace(FACTS, image_channels=3) if method in OF_COLOR else FACTS
    facts = replace(facts, measured=CENTERS) if method == "video-colorization" else facts
    preset = resolve(method, facts=facts, backbone="tiny", width=0.125, **options)
    return preset.build_model(preset.build_backbone(facts), facts)


def test_every_method_has_a_preset_that_is_tested_here():
    assert list(PRESETS) == list(CLASSES)
    public = {getattr(methods, name) for name in methods.__all__}
    assert set(CLASSES.values()) == public - {methods.Learner, methods.SelfSupervised}
    exported = [getattr(presets, name) for name in presets.__all__]
    classes = {each for each in exported if inspect.isclass(each) and issubclass(each, Preset)}
    assert set(PRESETS.values()) == classes - {Preset}


def test_names_are_found_in_any_spelling():
    for name in ("simclr-memory", "SimCLRMemory", "simclr_memory", "SIMCLR-MEMORY"):
        assert find_preset(name).method == "simclr-memory"
    with pytest.raises(ValueError, match=r"Unknown method\. Nearest: simclr\b.*'simclear'"):
        find_preset("simclear")


def help_texts(cls):
    """Returns the fields that a class itself declares, each with the help text that follows it."""
    (body,) = [node.body for node in ast.parse(inspect.getsource(cls)).body]
    texts = {}
    for field, following in itertools.zip_longest(body, body[1:]):
        if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.unparse(field.annotation):
            is_text = isinstance(following, ast.Expr)
            texts[field.target.id] = ast.literal_eval(following.value) if is_text else ""
    return texts


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_every_option_has_a_default_and_a_help_text_and_every_preset_a_source(preset):
    classes = [cls for cls in preset.__mro__ if issubclass(cls, Preset)]
    declared = [(name, text) for cls in classes for name, text in help_texts(cls).items()]
    assert {name for name, _ in declared} == {field.name for field in fields(preset)}
    assert [name for name, text in declared if len(text) < 10] == []
    assert all(field.default is not MISSING for field in fields(preset))
    assert "\n    Source: " in preset.__doc__
    assert len(preset.__doc__.splitlines()[0]) > 20  # the line in `keras-ssl pretrain --help`


def test_a_missing_help_text_would_be_found():
    assert help_texts(Undocumented) == {"first": "Help of the first option.", "second": ""}


@dataclass(frozen=True)
class Undocumented:
    first: int = 1
    """Help of the first option."""
    second: int = 2


@pytest.mark.parametrize("method", CLASSES)
def test_the_method_is_built(method):
    has_embedding = "embedding" in find_preset(method).options()
    model = build(method, probe=True, **({"embedding": 16} if has_embedding else {}))
    assert type(model) is CLASSES[method]
    heads = {"cmc": "lightness_head", "video-colorization": "head"}
    head = heads.get(method, "projector")
    assert not has_embedding or getattr(model, head).units == 16
    assert isinstance(model.probe, LinearProbe)
    assert model.probe.classes == 3
    is_split = [isinstance(layer, SplitBatchNorm) for layer in model._flatten_layers()]
    assert any(is_split) == (method == "moco")


def test_options_reach_the_method():
    assert build("simclr", temperature=0.3).temperature == 0.3
    memory = build("simclr-memory", temperature=0.3, queue_size=7)
    assert (memory.temperature, memory.queue.size, memory.projector.depth) == (0.3, 7, 3)
    moco = build("moco", temperature=0.3, queue_size=7, groups=4, symmetric=True)
    assert (moco.temperature, moco.queue.size, moco.projector.depth) == (0.3, 7, 2)
    assert moco.symmetric
    groups = [la.groups for la in moco._flatten_layers() if isinstance(la, SplitBatchNorm)]
    assert set(groups) == {4}
    bank = build("memory-bank", temperature=0.3)
    assert (bank.temperature, bank.bank.size, bank.projector.depth) == (0.3, 100, 1)
    byol = build("byol", hidden_units=24)
    assert (byol.projector.units, byol.projector.hidden_units) == (256, 24)
    assert (byol.predictor.units, byol.predictor.hidden_units) == (256, 24)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("simclr", {"embedding": 128, "head_layers": 2, "temperature": 0.5, "optimizer": "lars"}),
        (
            "simclr-memory",
            {
                "embedding": 128,
                "head_layers": 3,
                "temperature": 0.1,
                "momentum": 0.999,
                "final_momentum": 0.999,
                "queue_size": 50,
                "optimizer": "lars",
            },
        ),
        ("memory-bank", {"embedding": 128, "temperature": 0.07, "optimizer": "sgd"}),
        (
            "invariant-spreading",
            {"embedding": 128, "spread_weight": 1.0, "temperature": 0.1, "optimizer": "sgd"},
        ),
        ("exemplar", {"optimizer": "sgd"}),
        ("cpc", {"predictions": 5, "context_units": None, "optimizer": "adam"}),
        ("context-encoder", {"region": "random", "filters": None, "optimizer": "adam"}),
        (
            "adversarial-context-encoder",
            {"region": "random", "filters": None, "adversarial_weight": 0.001, "optimizer": "adam"},
        ),
        (
            "denoising-autoencoder",
            {"noise": "masking", "amount": 0.25, "filters": None, "optimizer": "adam"},
        ),
        (
            "deep-cluster",
            {
                "clusters": 3000,
                "clusterings": 3,
                "temperature": 0.1,
                "embedding": 128,
                "hidden_units": 2048,
            },
        ),
        ("rotation", {"optimizer": "sgd"}),
        (
            "relative-location",
            {"tile_share": 0.75, "gray": 0.66, "hidden_units": 4096, "optimizer": "adam"},
        ),
        ("jigsaw", {"tile_share": 0.75, "gray": 0.66, "permutations": 504, "optimizer": "adam"}),
        (
            "pirl",
            {
                "tile_share": 0.75,
                "temperature": 0.07,
                "embedding": 128,
                "negatives": None,
                "tile_weight": 0.5,
                "optimizer": "adam",
            },
        ),
        ("colorization", {"hidden_units": 256, "rebalance": True, "optimizer": "adam"}),
        ("split-brain", {"hidden_units": 256, "lightness_bins": 50, "optimizer": "adam"}),
        ("cmc", {"embedding": 128, "temperature": 0.07, "optimizer": "sgd"}),
        (
            "video-colorization",
            {
                "temperature": 1.0,
                "colors": 16,
                "embedding": 64,
                "frame_rate": 6.0,
                "frame_step": 1,
                "optimizer": "adam",
            },
        ),
        (
            "byol",
            {
                "embedding": 256,
                "hidden_units": 4096,
                "momentum": 0.996,
                "final_momentum": 1.0,
                "optimizer": "lars",
            },
        ),
        (
            "moco",
            {
                "embedding": 128,
                "temperature": 0.2,
                "momentum": 0.999,
                "final_momentum": 0.999,
                "queue_size": 50,
                "groups": 2,
                "symmetric": False,
                "optimizer": "sgd",
            },
        ),
    ],
)
def test_defaults_are_the_papers(method, expected):
    preset = resolve(method)
    assert {option: getattr(preset, option) for option in expected} == expected
    shared = set(find_preset("simclr").options()) - {"temperature", "embedding", "head_layers"}
    assert set(preset.options()) == shared | set(expected)
    assert preset.resolve(FACTS, sides=(8, 8)) == preset  # already complete


@pytest.mark.parametrize(
    ("method", "backbone", "chosen"),
    [
        ("simclr", "resnet50", "lars"),
        ("simclr", "MobileNetV2", "lars"),
        ("simclr", "ConvNeXtTiny", "adamw"),
        ("moco", "small-resnet", "sgd"),
        ("moco", "ConvNeXtBase", "adamw"),
        ("byol", "vit-small", "adamw"),
    ],
)
def test_auto_chooses_the_optimizer_for_the_network(method, backbone, chosen):
    preset = find_preset(method)(backbone=backbone)
    assert preset.optimizer == "auto"
    assert resolve(method, backbone=backbone).optimizer == chosen
    built = preset.build_optimizer(steps_per_epoch=10)
    assert type(built).__name__.lower() == chosen
    reason = backbone if chosen == "adamw" else f"the default of {method}"
    assert re.match(f"Optimizer: {chosen}, .*{reason}", preset.describe_optimizer())


def test_an_optimizer_that_is_set_is_kept():
    preset = find_preset("simclr")(backbone="ConvNeXtTiny", optimizer="lars")
    assert preset.describe_optimizer() is None
    assert preset.resolve(FACTS, sides=(8, 8)).optimizer == "lars"


def test_a_constant_momentum_stays_constant():
    moco = resolve("moco", momentum=0.9)
    assert (moco.momentum, moco.final_momentum) == (0.9, 0.9)
    byol = resolve("byol", momentum=0.9)
    assert (byol.momentum, byol.final_momentum) == (0.9, 1.0)
    rising = resolve("moco", momentum=0.9, final_momentum=0.99)
    assert (rising.momentum, rising.final_momentum) == (0.9, 0.99)


def test_callbacks_set_the_momentum():
    (encoder,) = resolve("moco", momentum=0.9, final_momentum=0.95).build_callbacks()
    assert isinstance(encoder, MomentumEncoder)
    assert (encoder.momentum, encoder.final) == (0.9, 0.95)
    assert resolve("simclr").build_callbacks() == []


@pytest.mark.parametrize(("images", "size"), [(1, 1), (1437, 718), (1_281_167, 65536)])
def test_the_queue_holds_at_most_half_the_images(images, size):
    assert resolve("moco", facts=ImageFacts(1, images), batch_size=1).queue_size == size


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
def test_groups_have_at_least_16_images(batch, replicas, groups):
    assert resolve("moco", replicas, batch_size=batch).groups == groups


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
    assert resolve("moco", replicas, batch_size=batch, chunks=chunks).groups == groups


@pytest.mark.parametrize(("groups", "batch", "replicas"), [(3, 32, 1), (64, 32, 1), (3, 36, 2)])
def test_groups_that_do_not_divide_the_batch_are_refused(groups, batch, replicas):
    message = rf"`groups` must be 1, or divide.*groups={groups}, batch_size={batch}, {replicas} rep"
    with pytest.raises(ValueError, match=message):
        resolve("moco", replicas, batch_size=batch, groups=groups)


def test_chunks_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"`chunks` must divide .* chunks=3, batch_size=32, 1 dev"):
        resolve("simclr", chunks=3)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("simclr", {"epochs": 0}, r"`epochs` must be at least 1\. Received: epochs=0"),
        ("simclr", {"head_layers": -1}, "`head_layers` must be at least 0"),
        ("simclr", {"seed": -1}, "`seed` must lie in"),
        ("simclr", {"precision": "mixed_float8"}, r"Unknown precision\. Nearest: mixed_float16"),
        ("simclr", {"views_on": "gpu"}, "Unknown place of views"),
        ("moco", {"queue_size": 0}, "`queue_size` must be at least 1"),
        ("byol", {"hidden_units": 0}, "`hidden_units` must be at least 1"),
        ("byol", {"warmup_epochs": -0.5}, "`warmup_epochs` must be at least 0"),
    ],
)
def test_invalid_options_are_refused(method, options, message):
    with pytest.raises(ValueError, match=message):
        find_preset(method)(**options).check()


@pytest.mark.parametrize("method", CLASSES)
def test_numbers_below_their_minimum_are_refused(method):
    preset = find_preset(method)
    minimums = {}
    for cls in reversed(preset.__mro__):
        minimums |= vars(cls).get("minimums", {})
    assert minimums.keys() <= set(preset.options())
    for option, minimum in minimums.items():
        preset(**{option: minimum}).check()
        value = minimum - 1
        message = f"`{option}` must be at least {minimum}. Received: {option}={value}"
        with pytest.raises(ValueError, match=message):
            preset(**{option: value}).check()


def test_options_name_their_owners():
    assert option_owners("queue_size") == ["simclr-memory", "moco"]
    assert option_owners("groups") == ["moco"]
    assert option_owners("epochs") == list(PRESETS)
    assert option_owners("no_such_option") == []


@pytest.mark.parametrize("method", CLASSES)
def test_the_image_size_decides_about_blur(method):
    preset = find_preset(method)()
    large, small = (preset.resolve(FACTS, sides=(side, side)) for side in (65, 64))
    assert (large.policy, small.policy) == (preset.large_policy, preset.small_policy)
    assert (large.image_size, small.image_size) == (65, 64)
    policy = replace(small, image_size=32).build_policy()
    views = [policy] if preset.view_count == 1 else policy
    assert len(views) == preset.view_count
    for view in views:
        assert view.begins_with_crop
        assert "RandomBlur" not in [type(layer).__name__ for layer in view.layers]


def test_the_default_size_is_that_of_the_images():
    preset = find_preset("simclr")()
    assert preset.resolve(FACTS, sides=(None, None)).image_size == 224
    assert preset.resolve(FACTS, sides=(32, 40)).image_size == 32
    assert replace(preset, image_size=96).resolve(FACTS, sides=(8, 8)).image_size == 96


def test_centred_images_get_no_crops():
    preset = find_preset("byol")()
    assert preset.resolve(FACTS, sides=(8, 8), centred=True).policy == "centred"
    chosen = replace(preset, policy="byol").resolve(FACTS, sides=(8, 8), centred=True)
    assert chosen.policy == "byol"


def test_policies_of_large_and_small_views():
    blurs = {
        name: [
            [layer.probability for layer in view.layers if type(layer).__name__ == "RandomBlur"]
            for view in build_policy(name, 96)
        ]
        for name in ("moco-v2", "byol")
    }
    assert blurs == {"moco-v2": [[0.5], [0.5]], "byol": [[1.0], [0.1]]}
    assert build_policy("moco-v2", 96).view_1.layers[0].area == (0.2, 1.0)
    assert build_policy("moco-v2-small", 32).view_1.layers[0].area == (0.08, 1.0)  # the notebook's
    assert build_policy("moco-v2-no-blur", 32).view_1.layers[0].area == (0.2, 1.0)


@pytest.mark.parametrize(
    ("options", "warmup_steps"),
    [
        ({"epochs": 100}, 100),
        ({"epochs": 25}, 20),  # a tenth, in entire epochs
        ({"epochs": 9}, 0),
        ({"epochs": 9, "warmup_epochs": 0.5}, 5),
        ({"epochs": 100, "warmup_epochs": 0}, 0),
    ],
)
def test_warm_up_lasts_at_most_a_tenth(options, warmup_steps):
    optimizer = find_preset("moco")(**options).build_optimizer(steps_per_epoch=10)
    schedule = optimizer._learning_rate
    assert schedule.warmup_steps == warmup_steps
    assert schedule.total_steps == 10 * options["epochs"]


@pytest.mark.parametrize("method", CLASSES)
def test_a_shrunk_preset_fits_64_images(method):
    preset = find_preset(method)(batch_size=4096, backbone="resnet50", chunks=2).shrink()
    facts = ImageFacts(3, 64, measured=CENTERS if method == "video-colorization" else None)
    resolved = preset.resolve(facts)
    assert (resolved.epochs, resolved.batch_size, resolved.backbone) == (2, 16, "tiny")
    model = resolved.build_model(resolved.build_backbone(facts), facts)
    side = None if method in OF_TILES else 32
    assert model.backbone.input_shape == (None, side, side, 3)


def nested_norm():
    """A backbone whose batch normalization is inside a layer of another class."""

    @keras.saving.register_keras_serializable(package="test_presets")
    class Block(keras.layers.Layer):
        def build(self, shape):
            self.norm = keras.layers.BatchNormalization()
            self.norm.build(shape)

        def call(self, x, training=False):
            return self.norm(x, training=training)

    images = keras.Input((8, 8, 1))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(Block()(images)))


def test_a_backbone_that_cannot_be_split_needs_one_group():
    backbone = nested_norm()
    with pytest.raises(ValueError, match=r"Expected: groups=1.*Received: groups=2"):
        resolve("moco").build_model(backbone, FACTS)
    assert resolve("moco", groups=1).build_model(backbone, FACTS).backbone is backbone


def test_a_backbone_without_batch_normalization_is_not_split():
    images = keras.Input((8, 8, 1))
    backbone = keras.Model(images, keras.layers.Flatten()(images))
    assert resolve("moco").build_model(backbone, FACTS).backbone is backbone


def test_the_untrained_backbone_has_the_size_of_the_views():
    preset = resolve("simclr", backbone="tiny", width=0.5)
    backbone = preset.build_backbone(FACTS)
    assert (backbone.input_shape, backbone.output_shape) == ((None, 8, 8, 1), (None, 32))
    assert np.asarray(backbone(np.zeros((2, 8, 8, 1)))).shape == (2, 32)


@pytest.mark.parametrize(("width", "given", "expected"), [(4, None, 64), (1, None, 16), (1, 8, 8)])
def test_the_context_network_of_cpc_fits_the_backbone(width, given, expected):
    preset = PRESETS["cpc"](backbone="tiny", width=width, image_size=32, context_units=given)
    images = ImageFacts(3, 64)
    model = preset.build_model(preset.build_backbone(images), images)
    assert model.context.hidden_units == expected


@pytest.mark.parametrize(
    ("side", "given", "expected"), [(24, None, 16), (96, None, 48), (160, None, 64), (160, 8, 8)]
)
def test_the_decoder_fits_the_images(side, given, expected):
    images = ImageFacts(3, 64)
    for method in ("denoising-autoencoder", "context-encoder", "adversarial-context-encoder"):
        options = {"backbone": "tiny", "width": 0.25, "image_size": side, "filters": given}
        preset = PRESETS[method](**options)
        model = preset.build_model(preset.build_backbone(images), images)
        assert model.decoder.filters == expected
    assert model.discriminator.filters == expected
