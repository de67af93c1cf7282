"""The settings of a run: how `config.json` is written and read, and what may change on resume."""

import pathlib
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from keras_ssl.presets import ImageFacts, Preset, SimCLR, is_of_package
from keras_ssl.runs.paths import absolute_path
from keras_ssl.runs.preset_of_run import PRESET_CLASS, preset_class, preset_of_run

# What may differ each time that a run is started. The images may have moved: training compares their
# contents, see `keras_ssl.runs.identity`.
_CHANGEABLE = {"resume", "strategy", "recipe", "evaluate", "baselines", "labels_per_class", "smoke"}
_CHANGEABLE |= {"data", "data_dir", "knn_data"}

# Values of options that runs of earlier versions lack, if they are not today's defaults.
_AS_BEFORE = {"input_scale": 1.0}

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class PretrainSettings:
    """The settings of a pretraining run: its images, its preset, and how it is watched."""

    data: str | None = None
    """digits, tfds:<name>, an .npz file (x_train, ... or images, labels), a folder of
    images (flat, or with one sub-folder per class, or with train and val folders, or
    with a labels.csv), or such a .csv file (columns file, label and optionally split).
    For video-colorization: a folder of videos, GIFs or folders of frames."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    channels: int = 3
    """Channels of the images of a folder: 3, or 1 for grayscale."""
    value_range: Literal["full", "auto"] | tuple[float, float] = "full"
    """Pixel values that become 0 and 1: two numbers, LOW HIGH; auto, measured for each
    channel (0.5th and 99.5th percentile of a sample); or full, the range of the type:
    0 to 255, 0 to 65535, floats 0 to 1."""
    verify: bool = True
    """Decode all files of a folder before training, and leave out those that are
    damaged."""
    knn_every: int = 10
    """Epochs between kNN evaluations during training, if the data have labels; 0 for
    none."""
    knn_data: str | None = None
    """Labeled data for the kNN evaluation, if they are not the training data."""
    strategy: str = "auto"
    """Distribution: none, mirrored (all GPUs of this machine), multi_worker (TF_CONFIG
    or SLURM), tpu, or auto, which takes what is there."""
    preset: Preset = field(default_factory=SimCLR)

    def flat(self) -> dict[str, Any]:
        """Returns all settings in one dictionary: the method, its options, and those of the run."""
        own = {each.name: getattr(self, each.name) for each in fields(PretrainSettings)}
        preset = own.pop("preset")
        return {"method": preset.method, **asdict(preset), **own}

    def to_config(self, images: ImageFacts) -> dict[str, Any]:
        """Returns the content of `config.json`."""
        own = {} if is_of_package(type(self.preset)) else {PRESET_CLASS: preset_class(self.preset)}
        return {**self.flat(), **asdict(images), **own}


def read_pretrain_settings(
    config: Mapping[str, Any], path: pathlib.Path, preset: type[Preset] | None = None
) -> tuple[PretrainSettings, ImageFacts]:
    """Returns the settings of a pretraining run, and the facts about its images.

    Args:
        config: content of its `config.json`.
        path: run directory, for the error message.
        preset: class of its preset; by default the one that `preset_of_run` finds.

    Raises:
        ValueError: if another program or command wrote the file, or its preset is unknown.
    """
    config = upgrade(config)
    required = {"method", "data", "epochs", "batch_size", "backbone", "image_channels"}
    if missing := sorted(required.difference(config)):
        raise ValueError(
            "The run must be one of `keras-ssl pretrain`, whose config.json describes its network. "
            "Export a run of another program and evaluate the export. "
            f"Received: {str(path)!r}, without the settings {', '.join(missing)}"
        )
    own = _from_config(preset_of_run(config, path, preset), config)
    images = _from_config(ImageFacts, config)
    return replace(_from_config(PretrainSettings, config), preset=own), images


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of any version's `config.json` as today's version writes them.

    Earlier versions wrote `null` for the options of other methods and for options that the method
    did not have. Options that did not exist yet are missing and take their defaults, except for
    those whose default would change the run.
    """
    upgraded = {name: value for name, value in config.items() if value is not None}
    upgraded = {**_AS_BEFORE, **upgraded}
    # These have always been written, and may be null.
    return {"data": None, **upgraded} if "data" in config else upgraded


def read_settings(
    kind: type[Settings],
    config: Mapping[str, Any],
    path: pathlib.Path,
    required: Collection[str],
    expected: str,
) -> Settings:
    """Returns the settings of another command's run.

    Args:
        kind: dataclass of the command.
        config: content of the run's `config.json`.
        path: run directory, for the error message.
        required: settings that distinguish the runs of this command. Others may be missing: a run of an
            earlier version has their defaults.
        expected: what the run should be, for the error message.

    Raises:
        ValueError: if a setting is missing.
    """
    if missing := sorted(set(required).difference(config)):
        raise ValueError(
            f"{expected} Received: {str(path)!r}, without the settings {', '.join(missing)}"
        )
    return _from_config(kind, {**_AS_BEFORE, **config})


def resume_settings(
    config: Mapping[str, Any],
    path: pathlib.Path,
    given: PretrainSettings,
    explicit: Collection[str] = (),
) -> PretrainSettings:
    """Returns the settings with which a pretraining run goes on.

    These are its own, except for the data, which may have moved, and the number of epochs, which may be
    larger than before: then every schedule is that of the longer run, from the next step on.

    Args:
        config: content of the run's `config.json`.
        path: run directory.
        given: settings of the new command.
        explicit: names of the given settings that count although they have their default.

    Raises:
        ValueError: if other settings differ, or there would be fewer epochs than before.
    """
    is_own = not is_of_package(type(given.preset)) and given.preset.method == config.get("method")
    saved, _ = read_pretrain_settings(config, path, type(given.preset) if is_own else None)
    saved.preset.check()
    defaults = PretrainSettings(preset=type(given.preset)())
    epochs = saved.preset.epochs
    if given.preset.epochs != defaults.preset.epochs or "epochs" in explicit:
        epochs = lengthened_epochs(epochs, given.preset.epochs)
    given = replace(given, preset=replace(given.preset, epochs=saved.preset.epochs))
    check_unchanged(
        saved.flat(), given.flat(), {**defaults.flat(), "method": SimCLR.method}, explicit
    )
    return replace(
        saved,
        data=given.data or absolute_path(saved.data),  # earlier versions stored relative paths
        data_dir=given.data_dir or saved.data_dir,
        knn_data=given.knn_data or absolute_path(saved.knn_data),
        preset=replace(saved.preset, epochs=epochs),
    )


def lengthened_epochs(before: int, given: int) -> int:
    """Returns the number of epochs with which a run goes on: the given one.

    Args:
        before: epochs of the run.
        given: epochs of the new command.

    Raises:
        ValueError: if there would be fewer epochs than before.
    """
    if given < before:
        raise ValueError(
            "A run can be lengthened, but not shortened. Expected: `epochs` of at least "
            f"{before}. Received: epochs={given}"
        )
    return given


def check_unchanged(
    saved: Mapping[str, Any],
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    explicit: Collection[str] = (),
):
    """Refuses to resume a run with different settings.

    Args:
        saved: settings of the run.
        given: settings of the new command. Those that have their default are ignored.
        defaults: default of each of them.
        explicit: names of the given settings that count although they have their default.

    Raises:
        ValueError: if settings differ.
    """
    differences = [
        f"{name}: {saved.get(name)!r} in the run, {new!r} now"
        for name, new in given.items()
        if name not in _CHANGEABLE and new not in (None, "auto")
        if name in explicit or new != defaults[name]
        if not _is_same(saved.get(name), new)
    ]
    if differences:
        raise ValueError(
            "A run resumes with its own settings. Expected: `resume` (--resume) alone, or the same "
            f"settings. Received: {'; '.join(differences)}"
        )


def _is_same(saved: Any, new: Any) -> bool:
    if (
        isinstance(new, pathlib.Path) and saved is not None
    ):  # earlier versions stored relative paths
        return pathlib.Path(saved).absolute() == new.absolute()
    return saved == new


def _from_config(kind: type[Settings], config: Mapping[str, Any]) -> Settings:
    """Returns a dataclass from JSON values: strings become paths, lists become tuples."""
    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]
        name = each.name
        if name in config:
            value = config[name]
            if value is not None and pathlib.Path in (types[name], *typing.get_args(types[name])):
                value = pathlib.Path(value)
            values[name] = tuple(value) if isinstance(value, list) else value
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ValueError(f"`config.json` must have {name!r}. Received: {sorted(config)}")
    return kind(**values)
