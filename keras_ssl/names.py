"""The words of the command line and the objects they stand for: the only such table."""

import difflib
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_ssl import augment, backbones, data, methods, optimizers
from keras_ssl.data import Source
from keras_ssl.layers import ProjectionHead

# Each takes the backbone, the dimension of the embeddings and the temperature, and may leave one out.
METHODS: dict[str, Callable[[keras.Model, int, float], methods.SelfSupervised]] = {
    "simclr": lambda backbone, embedding, temperature: methods.SimCLR(
        backbone, ProjectionHead(embedding), temperature
    ),
}

POLICIES: dict[str, Callable[[int], augment.Policy]] = {
    "simclr": augment.simclr,
    "simclr-small": lambda size: augment.simclr(size, strength=0.5, blur=False),
    "centred": augment.centred,
}

_RESNETS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152, 200)}
_TRAIN_FOLDERS = ("train",)
_TEST_FOLDERS = ("val", "test", "validation", "valid")


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a word that is not in the table, with the nearest that are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return ValueError(
        f"Unknown {what}.{hint} Expected one of: {', '.join(known)}. Received: {name!r}"
    )


def _known(what: str, name: str, table: dict) -> Any:
    if name not in table:
        raise unknown(what, name, table)
    return table[name]


def method(
    name: str, backbone: keras.Model, embedding: int, temperature: float
) -> methods.SelfSupervised:
    """Returns a method, such as "simclr", around a backbone.

    Args:
        name: of the method.
        backbone: network to train.
        embedding: dimension of the embeddings that the loss compares.
        temperature: of the loss.
    """
    return _known("method", name, METHODS)(backbone, embedding, temperature)


def policy(name: str, size: int) -> augment.Policy:
    """Returns the policy of a name, such as "simclr", for views of `size` pixels."""
    return _known("policy of views", name, POLICIES)(size)


def backbone(name: str, width: float, input_shape: tuple[int, int, int]) -> keras.Model:
    """Returns an untrained network: "resnet18" to "resnet200", "tiny", or of `keras.applications`.

    Args:
        name: of the network, such as "resnet50" or "MobileNetV2".
        width: factor on the number of filters of a ResNet, and on the 64 features of "tiny".
        input_shape: (height, width, channels) of the images.
    """
    if name in _RESNETS:
        return backbones.ResNet(_RESNETS[name], width=width, input_shape=input_shape)
    if name == "tiny":
        return backbones.Tiny(input_shape, features=round(64 * width))
    application = getattr(keras.applications, name, None)
    if not callable(application):
        of_keras = [word for word in dir(keras.applications) if word[0].isupper()]
        raise unknown("backbone", name, [*_RESNETS, "tiny", *of_keras])
    if width != 1.0:
        raise ValueError(
            "`width` is for resnet and tiny; networks of keras.applications have a width of their "
            f"own. Received: width={width}, backbone={name!r}"
        )
    return application(weights=None, include_top=False, pooling="avg", input_shape=input_shape)


def optimizer(
    name: str,
    learning_rate: float | None,
    weight_decay: float | None,
    batch_size: int,
    total_steps: int,
    warmup_steps: int,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer with a linear warm-up and a cosine schedule.

    Args:
        name: "lars", "sgd" or "adam".
        learning_rate: peak; `None` takes the reference's, scaled by the batch: LARS 0.075 *
            sqrt(batch) (SimCLR), SGD 0.06 * batch / 128 (lightly), Adam 0.001.
        weight_decay: `None` takes the reference's: LARS 1e-6, SGD 5e-4, Adam none.
        batch_size: images per step.
        total_steps: steps of the whole run.
        warmup_steps: steps of the warm-up.
    """
    peaks = {
        "lars": optimizers.scaled_learning_rate(0.075, batch_size, rule="sqrt"),
        "sgd": optimizers.scaled_learning_rate(0.12, batch_size, rule="linear"),
        "adam": 1e-3,
    }
    if name not in peaks:
        raise unknown("optimizer", name, peaks)
    peak = peaks[name] if learning_rate is None else learning_rate
    schedule = optimizers.WarmupCosine(peak, total_steps, warmup_steps)
    if name == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=weight_decay)
    if name == "lars":
        return optimizers.LARS(
            schedule, weight_decay=1e-6 if weight_decay is None else weight_decay
        )
    return optimizers.SGD(schedule, weight_decay=5e-4 if weight_decay is None else weight_decay)


def sources(
    name: str, data_dir: pathlib.Path | None = None, channels: int = 3
) -> tuple[Source, Source | None]:
    """Opens a data set: its images for training, and its own test images where it has them.

    Args:
        name: "digits"; "tfds:<name>"; the path of an .npz file; the path of a folder of images, which
            may have the sub-folders `train` and `val` (or `test`).
        data_dir: where TFDS keeps its data sets.
        channels: of a folder's images: 3, or 1 for grey.

    Raises:
        FileNotFoundError: if `name` is neither a known word nor a path that exists.
        ValueError: if the data set cannot be used.
    """
    if name == "digits":
        return data.digits("train"), data.digits("test")
    if name.startswith("tfds:"):
        return _tfds(name.removeprefix("tfds:"), data_dir)
    path = pathlib.Path(name)
    if not path.exists():
        near = difflib.get_close_matches(name, ["digits", "tfds:cifar10"], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FileNotFoundError(
            "Data must be 'digits', 'tfds:<name>', an .npz file, or a folder of images."
            f"{hint} Received: {name!r}, and there is no such file or folder"
        )
    if path.is_file():
        return _npz(path)
    train_folder = _first_folder(path, _TRAIN_FOLDERS)
    test_folder = _first_folder(path, _TEST_FOLDERS)
    if train_folder is None:
        return data.image_folder(path, channels=channels), None
    test = None if test_folder is None else data.image_folder(test_folder, channels=channels)
    return data.image_folder(train_folder, channels=channels), test


def _tfds(name: str, data_dir: pathlib.Path | None) -> tuple[Source, Source | None]:
    train = data.tfds(name, "train", data_dir=data_dir)
    for split in ("test", "validation"):
        try:
            return train, data.tfds(name, split, data_dir=data_dir)
        except ValueError:
            continue  # the training split was fine, so this set has no such split
    return train, None


def _npz(path: pathlib.Path) -> tuple[Source, Source | None]:
    train = data.npz(path, "train")
    with np.load(path) as file:
        has_test = "x_test" in file.files
    return train, data.npz(path, "test") if has_test else None


def _first_folder(path: pathlib.Path, names: Iterable[str]) -> pathlib.Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)
