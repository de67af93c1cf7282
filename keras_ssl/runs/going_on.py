"""Checks and records what may differ when a run goes on: its images' place, and its length."""

from collections.abc import Mapping
from typing import Any

from keras_ssl.callbacks import checkpoint_files
from keras_ssl.data import Source
from keras_ssl.methods import Learner
from keras_ssl.runs.directory import Run

FINGERPRINT = "image_fingerprint"
_PLACES = {"data", "data_dir", "knn_data"}  # settings that may differ when a run goes on


def check_images(run: Run, images: Source):
    """Checks that images are those that a run started with, wherever they are now.

    Their number and their fingerprint are compared with those in `config.json`, or, for a run of an
    earlier version, with those in its checkpoint. Without either, every image is accepted.

    Raises:
        ValueError: if they are other images.
    """
    config = run.config
    count = config.get("image_count") or len(images)  # 0: the run did not record it
    expected: str | None = _describe(count, config.get(FINGERPRINT))
    if FINGERPRINT not in config:
        newest = checkpoint_files.find_newest(run.checkpoints)
        expected = None if newest is None else newest.state.get("settings", {}).get("images")
    received = _describe(len(images), images.fingerprint())
    if expected is not None and expected != received:
        raise ValueError(
            "A run resumes with the images that it started with, whose contents are compared. "
            f"Expected: {expected}. Received: {received} in {images.name!r}"
        )


def record(run: Run, settings: Mapping[str, Any]):
    """Writes the new place of the images and the new number of epochs to `config.json`.

    `lengthened` lists each earlier number of epochs, and the step until which its schedule applied.

    Args:
        run: run directory.
        settings: settings by name. Only the place of the images and the epochs are written.
    """
    config = run.config
    places = {name: settings[name] and str(settings[name]) for name in _PLACES & settings.keys()}
    changed: dict[str, Any] = {}
    changed |= {name: value for name, value in places.items() if value != config.get(name)}
    if settings["epochs"] != config["epochs"]:
        step, _ = run.progress()
        earlier = {"epochs": config["epochs"], "until_step": step}
        changed["epochs"] = settings["epochs"]
        changed["lengthened"] = [*config.get("lengthened", []), earlier]
    if changed:
        run.update_settings(changed)


def describe_lengthening(run: Run, model: Learner, after: int) -> str | None:
    """Returns what a larger number of epochs means for the schedules; `None` if it is not larger.

    Args:
        run: run directory, whose `config.json` still has the old number of epochs.
        model: method or other learner, compiled with the optimizer of the longer run.
        after: epochs of the longer run.
    """
    before = run.config["epochs"]
    if after <= before:
        return None
    step, _ = run.progress()
    optimizer: Any = model.optimizer
    schedule = getattr(optimizer, "inner_optimizer", optimizer)._learning_rate
    rate = float(schedule(step)) if callable(schedule) else float(schedule)
    return (
        f"Lengthened from {before} to {after} epochs. From step {step:,} on, the learning rate and all "
        f"other schedules are those of a run of {after} epochs: the next learning rate is {rate:.4g}."
    )


def _describe(count: int, fingerprint: str | None) -> str:
    return f"{count} images ({str(fingerprint)[:8]})"
