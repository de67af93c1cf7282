"""Evaluates the network of a run, and keeps the results in its `metrics.json`."""

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from rich.console import Console

from keras_ssl import evaluate
from keras_ssl.data import Source
from keras_ssl.data.classes import match_source
from keras_ssl.data.kinds import check_kind
from keras_ssl.data.open_source import open_labeled
from keras_ssl.data.scaled import scale
from keras_ssl.evaluate.by_block import check_blocks
from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.presets.option_types import convert_option
from keras_ssl.runs.blocks import PICTURE, draw_blocks, measure_blocks, show_blocks
from keras_ssl.runs.classification import measure_classifier, show_classifier
from keras_ssl.runs.paths import absolute_path
from keras_ssl.runs.report import measure, show
from keras_ssl.runs.verdict import describe_classes, is_unbalanced, verdict


def evaluate_run(
    run: Any,  # a `Run`, whose module imports this one
    data: str | os.PathLike | Source | tuple[Source, Source],
    labels_per_class: Sequence[int],
    draws: int,
    baselines: bool,
    batch_size: int,
    seed: int,
    data_dir: str | os.PathLike | None,
    verify: bool,
    console: Console | None,
    by_block: bool = False,
) -> dict[str, dict[str, Any]]:
    """Does what `Run.evaluate` says, whose arguments these are."""
    check_kind(data)
    labels_per_class = convert_option("labels_per_class", labels_per_class, tuple[int, ...])
    draws, batch_size, seed = (
        convert_option(name, value, int)
        for name, value in (("draws", draws), ("batch_size", batch_size), ("seed", seed))
    )
    network = run.network()
    encoder = encoder_of_classifier(network)
    trained = network if encoder is None else encoder
    if by_block:
        check_blocks(trained)
    encoders: dict[str, keras.Model] = {}
    if baselines:
        encoders["raw pixels"] = evaluate.pixels(trained.input_shape[1:])
    if baselines or by_block:
        encoders["untrained"] = run.untrained_encoder()
    encoders["trained"] = trained
    value_range = run.value_range or "full"
    console = console or Console()
    if isinstance(data, tuple):
        train, test = (scale(source, value_range) for source in data)
        test = match_source(train, test)
    else:
        channels = trained.input_shape[-1]
        train, test = open_labeled(
            data, data_dir, channels, seed, console, verify, value_range=value_range
        )
    for line in describe_classes(train, test, labels_per_class):
        console.print(line)
    rows = measure(encoders, train, test, labels_per_class, draws, seed, batch_size)
    blocks: dict[str, evaluate.BlockResults] = {}
    if by_block:
        with_blocks = {name: encoders[name] for name in ("untrained", "trained")}
        blocks = measure_blocks(with_blocks, train, test, batch_size)
    for name, results in blocks.items():
        rows[name]["by_block"] = results.to_dict()["pooled"]
    is_source = isinstance(data, (tuple, Source))
    found = {"data": train.name if is_source else absolute_path(str(data)), "rows": rows}
    show(rows, console, is_unbalanced(test))
    if blocks:
        show_blocks(blocks, console)
    if encoder is not None:
        result = measure_classifier(network, run.class_names, test, batch_size)
        if result is not None:
            found["classifier"] = result.to_dict()
            show_classifier(result, console)
    _add_evaluation(run, found, train, test)
    if blocks:
        console.print(f"Picture: {draw_blocks(blocks, run.path / PICTURE)}")
    for line in verdict(rows, test):
        console.print(line)
    return rows


def _add_evaluation(run: Any, found: Mapping[str, Any], train: Source, test: Source):
    """Adds an evaluation to those in `metrics.json`."""
    step, _ = run.progress()
    evaluation = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step or None,
        "train": {"images": len(train), "fingerprint": train.fingerprint()},
        "test": {"images": len(test), "fingerprint": test.fingerprint()},
        **found,
    }
    metrics = run.metrics
    earlier = metrics.get("evaluations", [])
    if not earlier and "rows" in metrics and "data" in metrics:  # of an earlier version
        earlier = [{"data": metrics["data"], "rows": metrics["rows"]}]
    run.add_metrics({**found, "evaluations": [*earlier, evaluation]})
