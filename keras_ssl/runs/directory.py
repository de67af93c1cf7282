"""A run directory: the settings of a run, its state, and its results."""

import contextlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_ssl.callbacks.checkpoint_files import find_newest
from keras_ssl.data import Source
from keras_ssl.data.value_range import ValueRange
from keras_ssl.export.class_names import read_class_names
from keras_ssl.export.value_range import read_value_range
from keras_ssl.methods import SelfSupervised
from keras_ssl.presets import ImageFacts, Preset
from keras_ssl.runs import paths
from keras_ssl.runs.evaluation import evaluate_run
from keras_ssl.runs.export_run import export_run, warn_if_unfinished
from keras_ssl.runs.history import read_history, write_epoch
from keras_ssl.runs.json_files import write_json
from keras_ssl.runs.lock import lock_directory
from keras_ssl.runs.networks import (
    build_untrained_encoder,
    load_encoder,
    load_method,
    load_network,
)
from keras_ssl.runs.pictures import draw_run
from keras_ssl.runs.preset_of_run import check_preset_class
from keras_ssl.runs.settings import PretrainSettings, read_pretrain_settings
from keras_ssl.runs.versions import read_versions

_METRICS = "metrics.json"


class Run:
    """A run directory, and what people do next with a run.

    ```
    config.json    settings, and the versions of the packages
    checkpoints/   step-<steps taken>, one directory each
    .lock          held by the process that trains
    logs/          TensorBoard
    history.jsonl  one line per epoch: the loss, and what callbacks measured
    metrics.json   results of evaluations
    by_block.png   accuracy of each block, if it was measured
    pictures.png   what the method does with images, if it was drawn
    export/        SavedModel
    network.keras  a fine-tuned or distilled network until it is exported
    ```

    Args:
        path: the directory. It need not exist yet.
        preset: class of the run's preset, if that is defined outside of this package. Only needed if
            this process has not defined or imported it.

    Raises:
        TypeError: if `preset` is no preset class.

    Example:
        ```python
        run = keras_ssl.pretrain("photos", out="runs/photos")  # or, later: keras_ssl.Run("runs/photos")
        run.evaluate("labeled")
        encoder = run.encoder()
        ```
    """

    def __init__(self, path: str | os.PathLike, preset: type[Preset] | None = None):
        if preset is not None:
            check_preset_class(preset)
        self.path = pathlib.Path(path)
        self.preset = preset
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self.history_file = self.path / "history.jsonl"
        self.export_path = self.path / "export"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(cls, path: str | os.PathLike, settings: Mapping[str, Any]) -> "Run":
        """Creates a run directory.

        Args:
            path: a directory that does not exist or is empty.
            settings: JSON-serializable settings.

        Raises:
            FileExistsError: if there is something at `path`.
        """
        run = cls(path)
        run.check_new()
        run.path.mkdir(parents=True, exist_ok=True)
        write_json(
            run.path / paths.CONFIG, {"settings": dict(settings), "versions": read_versions()}
        )
        return run

    def check_new(self):
        """Checks that there is nothing yet at the path.

        Raises:
            FileExistsError: if a run would overwrite something.
        """
        paths.check_new(self.path)

    def encoder(self) -> keras.Model:
        """Returns the trained encoder: images in [0, 1] to features.

        For a pretraining run, this is the backbone of the newest checkpoint; for a fine-tuned or
        distilled run, its classifier without the classification layer; for other runs, the network
        that they exported.

        Raises:
            FileNotFoundError: if this is no run directory, or the run has no checkpoint or, for other
                runs than pretraining, no export yet.
            ValueError: if another program wrote it.
        """
        return load_encoder(self)

    def network(self) -> keras.Model:
        """Returns the network that `export` writes.

        It maps images to features for a pretraining run, as `encoder` does, and to the scores of
        classes for a fine-tuned or distilled run.

        Raises:
            FileNotFoundError: as for `encoder`.
            ValueError: if another program wrote the directory.
        """
        return load_network(self)

    @property
    def class_names(self) -> list[str] | None:
        """The class names of a fine-tuned or distilled run; `None` if it has none."""
        return read_class_names(self.export_path) or self.config.get("class_names")

    def untrained_encoder(self) -> keras.Model:
        """Returns the encoder of a run before training; sets the global random seed.

        The encoder of a fine-tuned or distilled run has new random weights.
        """
        return build_untrained_encoder(self)

    def method(self) -> SelfSupervised:
        """Returns the method of a pretraining run, including heads, from the newest checkpoint.

        Raises:
            FileNotFoundError: if the run has no checkpoint yet.
            ValueError: if another program wrote it.
        """
        return load_method(self)

    def evaluate(
        self,
        data: str | os.PathLike | Source | tuple[Source, Source],
        labels_per_class: Sequence[int] = (1, 5, 10),
        draws: int = 10,
        baselines: bool = False,
        batch_size: int = 256,
        seed: int = 0,
        data_dir: str | os.PathLike | None = None,
        verify: bool = True,
        console: Any = None,
        by_block: bool = False,
    ) -> dict[str, dict[str, Any]]:
        """Measures the encoder by kNN and linear accuracy, prints a table, and writes `metrics.json`.

        The scores of a fine-tuned or distilled run are measured too. `metrics.json` keeps every
        evaluation in the list "evaluations", with its data, their fingerprints, the date and the
        training step; "data" and "rows" are those of the newest.

        Args:
            data: labeled images: a name or path, as for `keras_ssl.pretrain`; a source, of which a
                fifth is held out for testing; or a training and a test source.
            labels_per_class: numbers of labeled images per class; numbers that a class does not have
                are left out.
            draws: random draws of few labels, over which mean and standard deviation are taken.
            baselines: also measure raw pixels and the untrained encoder.
            batch_size: images per forward pass.
            seed: seed of the draws, and of the split if there are no test images.
            data_dir: directory of TensorFlow Datasets.
            verify: decode all files of a folder first, and leave out those that are damaged.
            console: `rich.console.Console` to print to.
            by_block: also measure the untrained encoder and each block of both, print a table, and draw
                it to `by_block.png`; see `keras_ssl.evaluate.by_block`.

        Returns:
            Row name ("trained", ...) -> {"knn": result, "linear": result, "few_labels": [results]}.
            With `by_block`, also "by_block": {block: {"knn": result, "linear": result}}.

        Raises:
            ValueError: if the images have no labels, or `by_block` is used for an encoder without
                blocks.
        """
        warn_if_unfinished(self, "evaluated")
        return evaluate_run(
            self,
            data,
            labels_per_class,
            draws,
            baselines,
            batch_size,
            seed,
            data_dir,
            verify,
            console,
            by_block,
        )

    def export(
        self, path: str | os.PathLike | None = None, block: str | None = None
    ) -> pathlib.Path:
        """Writes the network as a SavedModel with the run's settings and metrics, and checks it.

        This is the encoder of a pretraining run, and the classifier of a fine-tuned or distilled run,
        with its class names. The recipe of an unfinished run has an entry "unfinished". An earlier
        export at the same path is replaced.

        Args:
            path: directory to write; by default `export/` in the run directory, or `export-<block>/`.
            block: export the encoder up to this block only, such as "block3"; its features are those of
                `keras_ssl.backbones.cut`, and its metrics those of `evaluate(by_block=True)`.

        Returns:
            The directory. `keras_ssl.export.load` loads it.

        Raises:
            ValueError: if the encoder has no such block.
        """
        return export_run(self, path, block)

    def pictures(
        self,
        data: str | os.PathLike | Source | None = None,
        count: int = 8,
        path: str | os.PathLike | None = None,
        data_dir: str | os.PathLike | None = None,
    ) -> pathlib.Path:
        """Draws what the method of a pretraining run does with images: `panels` of the method.

        The rows are the views of the images or, for a pretext task, the task and the predictions.

        Args:
            data: images: a name or path, as for `keras_ssl.pretrain`, or a source; by default those of
                the run.
            count: number of images, which are spread over the data.
            path: PNG file to write; by default `pictures.png` in the run directory.
            data_dir: directory of TensorFlow Datasets; by default that of the run.

        Returns:
            The file.

        Raises:
            FileNotFoundError: if the run has no checkpoint yet.
            ValueError: if `count` is not positive, another program wrote the run, or the images of the
                run were passed as a source and `data` is missing.

        Example:
            ```python
            keras_ssl.Run("runs/photos").pictures()
            ```
        """
        return draw_run(self, data, count, path, data_dir)

    @property
    def value_range(self) -> ValueRange | None:
        """The pixel values that become 0 and 1; `None` for the range of the type."""
        if "method" not in self.config:
            # A run of `keras-ssl simclrv2` has both: the option, and what was measured.
            name = "measured_range" if "measured_range" in self.config else "value_range"
            found = self.config.get(name)
            return (
                read_value_range(self.export_path) if found is None else ValueRange.from_json(found)
            )
        _, images = self.pretrain_settings
        if images.value_low is None or images.value_high is None:
            return None
        return ValueRange(images.value_low, images.value_high, images.pixel_type)

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """What `export.saved_model` takes as `preprocessing`."""
        pixels = self.value_range
        return None if pixels is None else {"value_range": pixels.to_json()}

    @property
    def exists(self) -> bool:
        """Whether there is a run in the directory."""
        return paths.is_run(self.path)

    @property
    def pretrain_settings(self) -> tuple[PretrainSettings, ImageFacts]:
        """The settings of a pretraining run, and the facts about its images.

        Raises:
            FileNotFoundError: if this is no run directory.
            ValueError: if another program or command wrote it, or its preset is defined elsewhere; see
                `preset`.
        """
        return read_pretrain_settings(self.config, self.path, self.preset)

    @property
    def config(self) -> dict[str, Any]:
        """The settings in `config.json`.

        Raises:
            FileNotFoundError: if this is no run directory.
        """
        return paths.read_config(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """Results of evaluations; empty before the first one."""
        file = self.path / _METRICS
        return json.loads(file.read_text()) if file.is_file() else {}

    def update_settings(self, changed: Mapping[str, Any]):
        """Changes settings in `config.json`, when a run goes on with more epochs or moved images."""
        content = json.loads((self.path / paths.CONFIG).read_text())
        content["settings"] = {**content["settings"], **changed}
        write_json(self.path / paths.CONFIG, content)

    def progress(self) -> tuple[int, int | None]:
        """Returns the steps of the newest checkpoint, and those of the whole run.

        The first is 0 without a checkpoint. The second is `None` if it is unknown.
        """
        newest = find_newest(self.checkpoints)
        epochs = self.config.get("epochs")
        if newest is None:
            return 0, None
        steps = newest.state.get("steps_per_epoch")
        return newest.step, epochs * steps if epochs and steps else None

    def add_metrics(self, metrics: Mapping[str, Any]):
        """Adds results to `metrics.json`. Results with other names are kept."""
        write_json(self.path / _METRICS, {**self.metrics, **metrics})

    @property
    def history(self) -> list[dict[str, float]]:
        """The values of each finished epoch, in order."""
        return read_history(self.history_file)

    def add_epoch(self, epoch: int, values: Mapping[str, Any]):
        """Writes the values of an epoch to `history.jsonl`, and removes those of this and later epochs.

        Args:
            epoch: number of the epoch, counted from 1.
            values: name -> number.
        """
        write_epoch(self.history_file, epoch, values)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Prevents other processes from training in this directory. The lock ends with the process.

        Raises:
            BlockingIOError: if another process holds the lock.
        """
        return lock_directory(self.path)
