"""The table at the end of `keras-ssl simclrv2`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def show(rows: Sequence[Mapping[str, Any]], console: "Console"):
    """Prints the table of a run, with a warning where fine-tuning was worse than the linear probe.

    Args:
        rows: a dictionary per share of the labels and network: "labels", "network", "accuracy",
            "parameters", "flops", "bytes", "images_per_second".
        console: where to print.
    """
    from rich.table import Table

    table = Table(title="SimCLRv2: accuracy in % with a share of the labels, and cost")
    for name in ("labels", "network"):
        table.add_column(name, no_wrap=True)
    for name in ("accuracy", "parameters", "MFLOPs", "MiB", "images/s"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row['labels']:.4g}",
            row["network"],
            f"{100 * row['accuracy']:.1f}",
            f"{row['parameters']:,}",
            f"{row['flops'] / 1e6:,.1f}",
            f"{row['bytes'] / 2**20:.2f}",
            f"{row['images_per_second']:,.0f}",
        )
    table.caption = "\n".join(warnings(rows)) or None
    console.print(table)


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a warning for each share of the labels whose fine-tuning is below its linear probe.

    Fine-tuning starts from the encoder of the linear probe, so it should not be worse.

    Example:
        >>> probe = {"labels": 0.1, "network": "linear probe", "accuracy": 0.82}
        >>> warnings([probe, {"labels": 0.1, "network": "fine-tuned", "accuracy": 0.41}])[0][:59]
        'Warning: with 0.1 of the labels, the fine-tuned network (41'
    """
    accuracy = {(row["labels"], row["network"]): row["accuracy"] for row in rows}
    texts = []
    for share in dict.fromkeys(row["labels"] for row in rows):
        probe, tuned = (accuracy.get((share, name)) for name in ("linear probe", "fine-tuned"))
        if probe is not None and tuned is not None and tuned < probe:
            texts.append(
                f"Warning: with {share:.4g} of the labels, the fine-tuned network "
                f"({100 * tuned:.1f}%) is below the linear probe ({100 * probe:.1f}%), and the "
                "students learn from it. Try more --finetune-epochs or another --finetune-optimizer."
            )
    return texts
