"""The accuracy of each block of a run's encoder, as a table and a picture."""

import pathlib
from collections.abc import Mapping

import keras
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from keras_ssl import evaluate
from keras_ssl.data import Source
from keras_ssl.evaluate import BlockResults
from keras_ssl.runs.report import count_neighbours

PICTURE = "by_block.png"


def measure_blocks(
    encoders: Mapping[str, keras.Model],
    train: Source,
    test: Source,
    batch_size: int = 256,
    progress: bool = True,
) -> dict[str, BlockResults]:
    """Measures each block of each encoder by kNN and linear accuracy.

    Args:
        encoders: row name -> network with blocks.
        train: labeled training images.
        test: labeled test images.
        batch_size: images per forward pass.
        progress: show progress bars.

    Returns:
        Row name -> results.

    Raises:
        ValueError: if an encoder has no blocks.

    Example: `keras_ssl/runs/evaluation.py`.
    """
    k = count_neighbours(np.asarray(train.labels))
    return {
        name: evaluate.by_block(encoder, train, test, k=k, batch_size=batch_size, progress=progress)
        for name, encoder in encoders.items()
    }


def show_blocks(results: Mapping[str, BlockResults], console: Console):
    """Prints a table with a row for each block, and kNN and linear accuracy of each encoder.

    Args:
        results: from `measure_blocks`.
        console: where to print.
    """
    table = Table(title="Accuracy by block in %, with all labels", box=box.SIMPLE_HEAD)
    table.add_column("block")
    columns = {
        f"{title}, {name}" if len(results) > 1 else title: column
        for title in ("kNN", "linear")
        for name, each in results.items()
        for column in [each.columns()[title]]
    }
    for title in columns:
        table.add_column(title, justify="right")
    first = next(iter(results.values()))
    for block in first.pooled:
        table.add_row(block, *[f"{100 * each[block].accuracy:.1f}" for each in columns.values()])
    console.print(table)


def draw_blocks(results: Mapping[str, BlockResults], path: pathlib.Path) -> pathlib.Path:
    """Draws the accuracy against the blocks: solid lines for the last encoder, dashed for others.

    Args:
        results: from `measure_blocks`; the last one is the trained encoder.
        path: PNG file to write.

    Returns:
        `path`.

    Example: `keras_ssl/runs/evaluation.py`.
    """
    from matplotlib.figure import Figure

    blocks = list(next(iter(results.values())).pooled)
    figure = Figure(figsize=(1.2 * len(blocks) + 3.5, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, each) in enumerate(reversed(list(results.items()))):
        for color, title in enumerate(("kNN", "linear")):
            percent = [100 * each.columns()[title][block].accuracy for block in blocks]
            style = "--" if number else "-"
            axes.plot(
                blocks, percent, style, marker="o", color=f"C{color}", label=f"{title}, {name}"
            )
    axes.set(title="Accuracy by block", ylabel="accuracy on test images in %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)
    return path
