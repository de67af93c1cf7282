"""How slowly should the target follow? MoCo and BYOL with six constant momenta, on CIFAR-10.

    python recipes/studies/momentum.py --data-dir ~/tensorflow_datasets
    python recipes/studies/momentum.py --smoke

Hardware: two CPU cores. Result: docs/results.md and its picture. A stopped study continues.

Momentum 0 copies the online network, 1 never moves the target. A target of momentum m averages the last
1 / (1 - m) steps, so the best m grows with the length of training.
"""

import pathlib
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import tyro

import keras_ssl
from keras_ssl import presets
from keras_ssl.cli.smoke import noise

MOMENTA = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
SHARED: dict = {"epochs": 8, "batch_size": 64, "backbone": "small-resnet", "width": 0.5}
SHARED |= {"optimizer": "sgd", "learning_rate": 0.1, "warmup_epochs": 0.4, "embedding": 128}
MOCO = presets.MoCo(
    policy="moco-v2-no-blur", weight_decay=5e-4, queue_size=1024, groups=4, **SHARED
)
BYOL = presets.BYOL(policy="byol-small", weight_decay=1e-3, hidden_units=512, **SHARED)


def main(
    data_dir: pathlib.Path | None = None,
    out: pathlib.Path = pathlib.Path("runs/momentum"),
    smoke: bool = False,
):
    """Trains one encoder per method and momentum, and draws their linear accuracy."""
    train, test = noise() if smoke else keras_ssl.data.open_source("tfds:cifar10", data_dir)
    train = train.subset(np.arange(min(10_000, len(train))))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, preset, marker in (("MoCo", MOCO, "o"), ("BYOL", BYOL, "s")):
        heights, preset = [], preset.shrink() if smoke else preset
        for momentum in MOMENTA:
            own = replace(preset, momentum=momentum, final_momentum=momentum)
            run = keras_ssl.pretrain(train, own, resume=out / f"{name} {momentum:g}", knn_every=0)
            if not run.metrics:
                run.evaluate((train, test), labels_per_class=(), baselines=True)
            heights.append(100 * run.metrics["rows"]["trained"]["linear"]["accuracy"])
        axes.plot(range(len(MOMENTA)), heights, marker=marker, label=name)
    untrained = 100 * run.metrics["rows"]["untrained"]["linear"]["accuracy"]
    axes.axhline(untrained, color="gray", linestyle="--", label="untrained")
    axes.set_xticks(range(len(MOMENTA)), [f"{momentum:g}" for momentum in MOMENTA])
    axes.set(xlabel="momentum of the target network", ylabel="linear accuracy, %")
    axes.legend()
    figure.savefig(out / "momentum.png", dpi=120)
    print(f"Written: {out / 'momentum.png'}")


if __name__ == "__main__":
    tyro.cli(main)
