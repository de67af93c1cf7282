"""Words of the command line and what they become."""

import numpy as np
import pytest
from PIL import Image

from keras_ssl import methods, names, optimizers
from keras_ssl.backbones import Tiny


def test_methods():
    backbone = Tiny((8, 8, 1), features=8)
    model = names.method("simclr", backbone, 16, 0.3)
    assert isinstance(model, methods.SimCLR)
    assert model.backbone is backbone
    assert (model.projector.units, model.temperature) == (16, 0.3)


@pytest.mark.parametrize("name", names.POLICIES)
def test_policies(name):
    view = names.policy(name, 12).view_1(np.zeros((2, 12, 12, 3), np.uint8))
    assert view.shape == (2, 12, 12, 3)


def test_simclr_small_is_the_papers_for_cifar10():
    layers = names.policy("simclr-small", 32).view_1.layers
    assert [type(layer).__name__ for layer in layers][-1] == "RandomGrayscale"
    assert layers[2].brightness == pytest.approx(0.4)


def test_backbones():
    assert names.backbone("tiny", 0.5, (8, 8, 1)).output_shape == (None, 32)
    assert names.backbone("resnet18", 0.25, (32, 32, 3)).output_shape == (None, 128)
    mobile = names.backbone("MobileNetV3Small", 1.0, (32, 32, 3))
    assert len(mobile.output_shape) == 2


def test_networks_of_keras_have_no_width():
    with pytest.raises(ValueError, match=r"`width` is for resnet and tiny.* width=2\.0"):
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
            lambda: names.method("simclear", Tiny((8, 8, 1)), 8, 0.5),
            r"Unknown method\. Nearest: simclr\. Expected one of: simclr.* Received: 'simclear'",
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


def write(path, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side)).save(path)


def test_digits_have_test_images():
    train, test = names.sources("digits")
    assert (len(train), len(test)) == (1437, 360)


def test_a_folder_of_images_has_no_test_images(tmp_path):
    write(tmp_path / "a.png")
    train, test = names.sources(str(tmp_path))
    assert (len(train), test, train.labels) == (1, None, None)
    assert names.sources(str(tmp_path), channels=1)[0].image_shape == (None, None, 1)


@pytest.mark.parametrize("name", ["val", "test", "validation", "valid"])
def test_a_folder_with_train_and_test(tmp_path, name):
    for part, count in (("train", 3), (name, 2)):
        for number in range(count):
            write(tmp_path / part / "cat" / f"{number}.png")
    train, test = names.sources(str(tmp_path))
    assert (len(train), len(test)) == (3, 2)
    assert train.class_names == test.class_names == ["cat"]


def test_a_folder_with_train_alone(tmp_path):
    write(tmp_path / "train" / "a.png")
    train, test = names.sources(str(tmp_path))
    assert (len(train), test) == (1, None)


def test_npz_with_and_without_test_images(tmp_path):
    images = np.zeros((6, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "both.npz", x_train=images, x_test=images[:2])
    np.savez(tmp_path / "one.npz", images=images)
    train, test = names.sources(str(tmp_path / "both.npz"))
    assert (len(train), len(test)) == (6, 2)
    train, test = names.sources(str(tmp_path / "one.npz"))
    assert (len(train), test) == (6, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", r"Did you mean 'digits'\? Received: 'digit'"),
        ("no/such/folder", "there is no such file or folder"),
    ],
)
def test_what_is_not_there(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        names.sources(name)
