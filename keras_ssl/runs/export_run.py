"""Exports the network of a run with its settings and metrics."""

import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_ssl import export
from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.export.class_names import complete_class_names
from keras_ssl.runs import network_file

_LOG = logging.getLogger("keras_ssl")


def export_run(run: Any, path: str | os.PathLike | None, block: str | None = None) -> pathlib.Path:
    """Does what `Run.export` says.

    Args:
        run: a `Run`, whose module imports this one.
        path: directory to write; `None`: that of the run.
        block: block at which the encoder ends; `None`: the whole network.
    """
    if path is None:
        target = run.export_path if block is None else run.path / f"export-{block}"
    else:
        target = pathlib.Path(path)
    recipe, network = run.config, run.network()
    if (part := _unfinished(run)) is not None:
        warn_if_unfinished(run, "exported")
        recipe["unfinished"] = part
    names, metrics = None, run.metrics
    if block is not None:
        recipe["block"] = block
        metrics = _metrics_of_block(metrics, block)
    elif encoder_of_classifier(network) is not None:
        names = complete_class_names(run.class_names, network.output_shape[-1])
    written = export.saved_model(
        network,
        target,
        metrics=metrics,
        recipe=recipe,
        preprocessing=run.preprocessing,
        overwrite=True,
        class_names=names,
        block=block,
    )
    if path is None and block is None:
        network_file.remove_kept(run.path)
    return written


def _metrics_of_block(metrics: Mapping[str, Any], block: str) -> dict[str, Any]:
    """Returns the evaluations in which a block was measured, with its results only."""
    kept = []
    for each in metrics.get("evaluations", []):
        rows = {
            name: row["by_block"][block]
            for name, row in each["rows"].items()
            if block in row.get("by_block", {})
        }
        if rows:
            kept.append({**{k: v for k, v in each.items() if k != "classifier"}, "rows": rows})
    return {"evaluations": kept} if kept else {}


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
