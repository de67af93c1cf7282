"""The settings of a run: completed when it begins, kept in config.json, and read from there."""

import pathlib
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import keras
import numpy as np

from keras_ssl import cli, names
from keras_ssl.data import Source
from keras_ssl.layers import LinearProbe
from keras_ssl.methods import SelfSupervised
from keras_ssl.run import Run
from keras_ssl.saved_settings import refuse_others, saved_settings

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Runs from before these came do without them.
_ADDED_LATER = (
    "momentum",
    "final_momentum",
    "queue_size",
    "groups",
    "probe",
    "chunks",
    "views_on",
    "head_layers",
)


@dataclass(frozen=True)
class Images:
    """What the form of a network takes from the images: kept in config.json beside the settings.

    Args:
        image_channels: channels of an image.
        image_count: number of images; 0 where a run did not write it down.
        class_count: number of classes, where there is a probe; otherwise 0.
    """

    image_channels: int
    image_count: int = 0
    class_count: int = 0


def images_of(source: Source, settings: cli.Pretrain) -> Images:
    """Returns what a run must remember of its images.

    Raises:
        ValueError: if there is to be a probe, and there are no labels of two classes or more.
    """
    classes = 0
    if settings.probe:
        if not source.has_labels:
            raise ValueError(
                "--probe needs labels: class sub-folders, or arrays with labels. "
                f"Received: {source.name!r}, without labels"
            )
        named = len(source.class_names or ())
        classes = named or int(np.max(source.labels)) + 1  # type: ignore[arg-type]
        if classes < 2:
            raise ValueError(
                f"--probe needs two classes or more. Received: {source.name!r} with {classes}"
            )
    return Images(source.image_shape[2], len(source), classes)


def completed(command: cli.Pretrain, source: Source, replicas: int) -> cli.Pretrain:
    """Fills in what the method, the images and the devices decide.

    Raises:
        ValueError: if a setting is not one of the method's, or makes no sense.
    """
    check_numbers(command)
    if command.chunks > 1 and command.batch_size % (command.chunks * replicas):
        raise ValueError(
            "--chunks must divide the batch of each device evenly. Received: "
            f"--chunks {command.chunks}, --batch-size {command.batch_size}, {replicas} devices"
        )
    height, width, _ = source.image_shape
    size = command.image_size or (height if height is not None and height == width else 224)
    own = "centred" if command.data == "digits" else names.default_policy(command.method, size)
    word = pathlib.Path(str(command.data).removeprefix("tfds:")).stem
    out = pathlib.Path("runs", f"{command.method}-{word}-{time.strftime('%Y%m%d-%H%M%S')}")
    options = names.options(command.method, _options(command, len(source), replicas))
    return replace(
        command,
        image_size=size,
        policy=command.policy or own,
        out=command.out or out,
        optimizer=command.optimizer or names.known_method(command.method).optimizer,
        **{name: getattr(options, name) for name in names.OPTIONS},
    )


def check_numbers(settings: cli.Pretrain):
    """Refuses settings that nothing else refuses before the training.

    Raises:
        ValueError: if a number or the precision makes no sense.
    """
    positive = ("epochs", "batch_size", "image_size", "embedding", "queue_size", "groups")
    _check_least(settings, 1, (*positive, "steps_per_execution", "chunks"), "be at least 1")
    _check_least(settings, 0, ("warmup_epochs", "knn_every", "head_layers"), "not be negative")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"--seed must lie in 0 to 2**32 - 1. Received: {settings.seed}")
    if settings.precision not in _PRECISIONS:
        raise names.unknown("precision", settings.precision, _PRECISIONS)
    if settings.views_on not in ("host", "step"):
        raise ValueError(f"--views-on must be host or step. Received: {settings.views_on!r}")


def _check_least(settings: cli.Pretrain, least: int, options: Iterable[str], rule: str):
    for name in options:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must {rule}. Received: {value}")


def network(settings: cli.Pretrain, images: Images) -> SelfSupervised:
    """Returns the untrained method of completed settings."""
    probe = LinearProbe(images.class_count, name="probe") if settings.probe else None
    # A run from before an option came has its default.
    options = names.options(settings.method, _options(settings, images.image_count))
    options = replace(options, probe=probe)
    return names.method(settings.method, backbone(settings, images), options)


def backbone(settings: cli.Pretrain, images: Images) -> keras.Model:
    """Returns the untrained backbone of completed settings, its batch normalisation not split."""
    return names.backbone(settings.backbone, settings.width, image_shape(settings, images))


def image_shape(settings: cli.Pretrain, images: Images) -> tuple[int, int, int]:
    """Returns (height, width, channels) of the views."""
    side = settings.image_size or 0  # a number since `completed`
    return side, side, images.image_channels


def as_config(settings: cli.Pretrain, images: Images) -> dict[str, Any]:
    """Returns what a run's config.json holds."""
    return {**asdict(settings), **asdict(images)}


def of_run(run: Run) -> tuple[cli.Pretrain, Images]:
    """Returns a run's settings, and what it remembers of its images, from its config.json.

    Raises:
        ValueError: if another program wrote it.
    """
    wanted = (
        "The run must be one of `keras-ssl`, whose config.json says how its network is built. Of "
        "another program's run, evaluate the export."
    )
    optional = [field.name for field in fields(Images) if field.name != "image_channels"]
    return (
        saved_settings(run, cli.Pretrain, wanted, _ADDED_LATER),
        saved_settings(run, Images, wanted, optional),
    )


def resumed(command: cli.Pretrain, run: Run) -> tuple[cli.Pretrain, Images]:
    """Returns a run's own settings, with the command's strategy, and its images.

    Raises:
        ValueError: if the command says otherwise.
    """
    settings, images = of_run(run)
    check_numbers(settings)
    refuse_others(settings, command)
    return replace(settings, strategy=command.strategy), images


def _options(settings: cli.Pretrain, images: int, replicas: int = 1) -> names.Options:
    given = {name: getattr(settings, name) for name in names.OPTIONS}
    return names.Options(images, settings.batch_size, replicas, settings.chunks, **given)
