"""Exports a fine-tuned or distilled classifier into its run directory."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_ssl import export
from keras_ssl.export.class_names import complete_class_names
from keras_ssl.runs.directory import Run


def export_classifier(network: keras.Model, run: Run, measured: Mapping[str, Any]):
    """Exports a classifier into its run directory, with the class names of its `config.json`.

    Args:
        network: images to scores, `(batch, classes)`.
        run: run directory. An earlier export is replaced.
        measured: what was measured, for the model card.
    """
    export.saved_model(
        network,
        run.export_path,
        metrics=measured,
        recipe=run.config,
        preprocessing=run.preprocessing,
        overwrite=True,
        class_names=complete_class_names(run.config.get("class_names"), network.output_shape[-1]),
    )
