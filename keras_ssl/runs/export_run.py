"""Exports the network of a run with its settings and metrics."""

import logging
import os
import pathlib
from typing import Any

from keras_ssl import export
from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.export.class_names import complete_class_names
from keras_ssl.runs import network_file

_LOG = logging.getLogger("keras_ssl")


def export_run(run: Any, path: str | os.PathLike | None) -> pathlib.Path:
    """Does what `Run.export` says.

    Args:
        run: a `Run`, whose module imports this one.
        path: directory to write; `None`: that of the run.
    """
    target = run.export_path if path is None else pathlib.Path(path)
    recipe, network = run.config, run.network()
    if (part := _unfinished(run)) is not None:
        warn_if_unfinished(run, "exported")
        recipe["unfinished"] = part
    names = None
    if encoder_of_classifier(network) is not None:
        names = complete_class_names(run.class_names, network.output_shape[-1])
    written = export.saved_model(
        network,
        target,
        metrics=run.metrics,
        recipe=recipe,
        preprocessing=run.preprocessing,
        overwrite=True,
        class_names=names,
    )
    if path is None:
        network_file.remove_kept(run.path)
    return written


def warn_if_unfinished(run: Any, done: str):
    """Logs a warning if the training of a run is unfinished.

    Args:
        run: a `Run`.
        done: what is done with it, such as "exported".
    """
    if (part := _unfinished(run)) is not None:
        _LOG.warning(
            "The run %s is unfinished: its checkpoint after %s is %s.", run.path, part, done
        )


def _unfinished(run: Any) -> str | None:
    """Returns which part of the training has been done; `None` if it is finished or unknown."""
    step, steps = run.progress()
    return None if steps is None or step >= steps else f"{step:,} of {steps:,} training steps"
