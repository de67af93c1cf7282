"""What do methods learn in equal time? The accuracy of each block, trained and untrained.

    python recipes/studies/equal_time.py --data-dir ~/tensorflow_datasets
    python recipes/studies/equal_time.py --smoke

Time is that of the processor, so that what else runs on the machine does not matter: 20 minutes are
ten minutes on two cores. A stopped study continues.
"""

import pathlib
import tempfile
import time
from dataclasses import replace

import numpy as np
import tyro

import keras_ssl
from keras_ssl.cli.smoke import noise
from keras_ssl.presets import PRESETS, Preset

SHARED: dict = {"backbone": "small-resnet", "width": 0.5, "batch_size": 128}


def epochs_in(minutes: float, preset: Preset, images: keras_ssl.data.Source) -> int:
    """Returns how many epochs take some minutes of processor time, from a long and a short training."""
    few, times = images.subset(np.arange(1024)), [time.process_time()]
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (1, 5):
            own = replace(preset, epochs=epochs)
            keras_ssl.pretrain(few, own, f"{folder}/{epochs}", knn_every=0)
            times.append(time.process_time())
    seconds = (times[2] - 2 * times[1] + times[0]) * len(images) / (4 * len(few))  # of an epoch
    return max(1, round(60 * minutes / seconds))


def main(
    data_dir: pathlib.Path | None = None,
    out: pathlib.Path = pathlib.Path("runs/equal_time"),
    minutes: float = 20.0,
    methods: tuple[str, ...] = tuple(PRESETS),
    seed: int = 0,
    smoke: bool = False,
):
    """Trains each method for equal processor time, and measures the accuracy of each block."""
    train, test = noise() if smoke else keras_ssl.data.open_source("tfds:cifar10", data_dir)
    for method in methods:
        path, preset = out / f"{method}-{seed}", PRESETS[method](**SHARED, seed=seed)
        preset = preset.shrink() if smoke else preset
        if not keras_ssl.Run(path).exists:
            epochs = 1 if smoke else epochs_in(minutes, preset, train)
            keras_ssl.pretrain(train, replace(preset, epochs=epochs), path, knn_every=0)
        run = keras_ssl.pretrain(train, resume=path)
        if not run.metrics:  # prints a table; also in metrics.json, with the picture by_block.png
            run.evaluate((train, test), labels_per_class=(), by_block=True)


if __name__ == "__main__":
    tyro.cli(main)
