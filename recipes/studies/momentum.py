"""How slowly should the target follow? MoCo and BYOL over six constant momenta, on CIFAR-10.

    python recipes/studies/momentum.py --data-dir ~/tensorflow_datasets
    python recipes/studies/momentum.py --smoke

Hardware: two CPU cores. Result: docs/results.md and the picture it shows.

Momentum 0 makes the target a copy of the online network, 1 leaves it as it began. The runs are short: a
target of momentum m moves by the last 1 / (1 - m) steps, so that the best m grows with their length.
"""

import json
import pathlib
from dataclasses import dataclass, replace

import keras
import matplotlib.pyplot as plt
import numpy as np
import tyro
from keras_ssl.run import write_json

from keras_ssl import augment, backbones, callbacks, data, evaluate, methods, optimizers
from keras_ssl.layers import MLPHead, split_batch_norm

MOMENTA = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    data_dir: pathlib.Path | None = None
    """Where TensorFlow Datasets keeps CIFAR-10; it is downloaded if it is not there."""
    out: pathlib.Path = pathlib.Path("runs/momentum")
    """Directory of the results; those that are there are not measured again."""
    images: int = 10_000
    epochs: int = 8
    batch_size: int = 64
    filters: int = 24
    queue_size: int = 1024
    seed: int = 0
    smoke: bool = False
    """A few steps on noise, to see that everything runs."""


def moco(settings: Settings) -> methods.MoCo:
    """Returns MoCo as in recipes/moco_v2_cifar10_cpu.py."""
    backbone = split_batch_norm(backbones.SmallResNet(settings.filters), groups=4)
    return methods.MoCo(backbone, MLPHead(128), queue_size=settings.queue_size)


def byol(settings: Settings) -> methods.BYOL:
    """Returns BYOL as in recipes/byol_cifar10_cpu.py."""
    return methods.BYOL(
        backbones.SmallResNet(settings.filters),
        projector=MLPHead(128, 512, batch_norm=True),
        predictor=MLPHead(128, 512, batch_norm=True),
    )


METHODS = {
    "MoCo": (moco, augment.moco_v2(32, blur=False), 0.1, 5e-4),
    "BYOL": (byol, augment.byol(32, blur=False), 0.1, 1e-3),
}


def accuracies(backbone: keras.Model, train: data.Source, test: data.Source) -> dict:
    """Returns what is measured of an encoder, in percent."""
    features, test_features = evaluate.extract(backbone, train), evaluate.extract(backbone, test)
    return {
        "knn": 100 * evaluate.knn(None, features, test_features).accuracy,
        "linear": 100 * evaluate.linear(None, features, test_features).accuracy,
    }


def trained(name: str, momentum: float, settings: Settings, train: data.Source) -> keras.Model:
    """Returns the encoder after a training with a constant momentum."""
    make, policy, learning_rate, weight_decay = METHODS[name]
    keras.utils.set_random_seed(settings.seed)
    model = make(settings)
    views = data.views(train, policy, settings.batch_size, settings.seed)
    steps = settings.epochs * len(views)
    schedule = optimizers.WarmupCosine(learning_rate, steps, warmup_steps=steps // 20)
    model.compile(optimizers.SGD(schedule, weight_decay=weight_decay))
    encoder = callbacks.MomentumEncoder(momentum, final=momentum)
    model.fit(views, epochs=settings.epochs, verbose=0, callbacks=[encoder])
    return model.backbone


def plot(results: dict, path: pathlib.Path):
    """Draws linear accuracy against momentum, with the untrained encoder as the base line."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, marker in zip(METHODS, "os", strict=True):
        heights = [results[f"{name} {momentum:g}"]["linear"] for momentum in MOMENTA]
        axes.plot(range(len(MOMENTA)), heights, marker=marker, label=name)
    axes.axhline(results["untrained"]["linear"], color="grey", linestyle="--", label="untrained")
    axes.set_xticks(range(len(MOMENTA)), [f"{momentum:g}" for momentum in MOMENTA])
    axes.set_xlabel("momentum of the target network")
    axes.set_ylabel("linear accuracy, %")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(settings: Settings):
    """Trains one encoder for each method and momentum, prints and plots what they are worth."""
    if settings.smoke:
        settings = replace(settings, epochs=1, batch_size=16, filters=8, queue_size=40)
        pixels = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), np.uint8)
        train = data.arrays(pixels[:32], np.arange(32) % 4)
        test = data.arrays(pixels[32:], np.arange(16) % 4)
    else:
        train = data.tfds("cifar10", "train", data_dir=settings.data_dir)
        train = train.subset(np.arange(settings.images))
        test = data.tfds("cifar10", "test", data_dir=settings.data_dir)

    path = settings.out / "results.json"
    asked = {
        name: value for name, value in vars(settings).items() if name not in ("data_dir", "out")
    }
    found = json.loads(path.read_text()) if path.exists() else {"settings": asked, "rows": {}}
    if found["settings"] != asked:
        raise ValueError(
            f"{path} holds results of other settings. Expected: another --out. "
            f"Received: {asked}, and {found['settings']} in the file"
        )
    settings.out.mkdir(parents=True, exist_ok=True)
    results = found["rows"]
    wanted = {f"{name} {momentum:g}": (name, momentum) for name in METHODS for momentum in MOMENTA}
    if "untrained" not in results:
        keras.utils.set_random_seed(settings.seed)
        untrained = backbones.SmallResNet(settings.filters)
        results["untrained"] = accuracies(untrained, train, test)
    for row, (name, momentum) in wanted.items():
        if row not in results:
            encoder = trained(name, momentum, settings, train)
            results[row] = accuracies(encoder, train, test)
            write_json(path, found)
        print(f"{row}: kNN {results[row]['knn']:.1f}, linear {results[row]['linear']:.1f}")
    print(
        f"untrained: kNN {results['untrained']['knn']:.1f}, "
        f"linear {results['untrained']['linear']:.1f}"
    )
    plot(results, settings.out / "momentum.png")
    print(f"Written: {path} and {settings.out / 'momentum.png'}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
