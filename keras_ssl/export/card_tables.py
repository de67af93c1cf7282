"""The tables of a model card."""

import json
from collections.abc import Mapping
from typing import Any


def metric_tables(metrics: dict[str, Any]) -> str:
    """Returns the tables of metrics.json in Markdown: one for each data set's newest evaluation."""
    if not metrics:
        return "No metrics were recorded."
    evaluations = metrics.get("evaluations", [])
    repeated = ("data", "rows", "classifier") if evaluations else ()  # of the newest evaluation
    own = {name: value for name, value in metrics.items() if name not in repeated}
    tables = [_metric_table(own)] if _flat(own) else []
    newest = {
        json.dumps([each.get("train", each["data"]), each.get("test")]): each
        for each in evaluations
    }
    for each in newest.values():
        results = {name: each[name] for name in ("rows", "classifier") if name in each}
        tables.append(f"{_describe_evaluation(each)}\n\n{_metric_table(results)}")
    return "\n\n".join([*tables, "Settings and lists are in metrics.json."])


def _metric_table(metrics: Mapping[str, Any]) -> str:
    return table(
        ("metric", "value"), {name: _short(value) for name, value in _flat(metrics).items()}
    )


def _describe_evaluation(evaluation: Mapping[str, Any]) -> str:
    """Returns the data set, its size, and the date and step of an evaluation by `Run.evaluate`."""
    if "train" not in evaluation:  # of an earlier version, which recorded no more
        return f"### {evaluation['data']}"
    train, test = evaluation["train"], evaluation["test"]
    step = evaluation.get("step")
    after = "" if step is None else f", after training step {step:,}"
    return (
        f"### {evaluation['data']}\n\nMeasured {evaluation['date']}{after}: "
        f"{train['images']:,} training images (fingerprint `{train['fingerprint'][:8]}`), "
        f"{test['images']:,} test images (`{test['fingerprint'][:8]}`)."
    )


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens `{"knn": {"accuracy": 0.8}}` to `{"knn.accuracy": 0.8}`, without settings and lists.

    Of lists, only results of `few_labels` are kept, as text with mean and standard deviation.
    """
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            skipped = name in ("settings", "per_class", "by_block")
            flat |= {} if skipped else _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict) and entry.keys() >= {"per_class", "mean", "std"}:
                    key = f"{prefix}{entry['protocol']}, {entry['per_class']} labels per class"
                    spread = "" if entry["std"] is None else f" ± {entry['std']:.4f}"  # of one draw
                    flat[key] = f"{entry['mean']:.4f}{spread}"
        else:
            flat[prefix + name] = value
    return flat


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value)


def table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    """Returns a table of two columns in Markdown."""
    cells = [head, ("---", "---"), *rows.items()]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in cells)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")
