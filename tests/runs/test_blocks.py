"""The table and the picture of the accuracy by block."""

import io

import numpy as np
from PIL import Image
from rich.console import Console

from keras_ssl.evaluate import BlockResults, Result
from keras_ssl.runs.blocks import draw_blocks, show_blocks


def results(*accuracies):
    blocks = [f"block{number}" for number in range(1, len(accuracies) + 1)]
    return BlockResults(
        {
            block: {
                p: Result(p, value + add, None, 9, 9) for p, add in (("knn", 0), ("linear", 0.1))
            }
            for block, value in zip(blocks, accuracies, strict=True)
        }
    )


def test_the_table_has_a_row_for_each_block():
    console = Console(file=io.StringIO(), width=120)
    show_blocks({"untrained": results(0.1, 0.2), "trained": results(0.3, 0.405)}, console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["block1", "10.0", "30.0", "20.0", "40.0"] in lines
    assert ["block2", "20.0", "40.5", "30.0", "50.5"] in lines


def test_the_picture_shows_four_lines(tmp_path):
    found = {"untrained": results(0.1, 0.2, 0.3), "trained": results(0.3, 0.5, 0.4)}
    path = draw_blocks(found, tmp_path / "by_block.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for color in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first two
        assert np.sum(np.all(pixels == color, axis=1)) > 300
