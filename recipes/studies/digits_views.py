"""Which views teach an encoder handwriting? The demo's set-up with different policies.

    python recipes/studies/digits_views.py
    python recipes/studies/digits_views.py --smoke

Hardware: two CPU cores. Result: docs/results.md.
"""

import keras
import tyro

from keras_ssl import augment, backbones, data, methods, optimizers
from keras_ssl.augment import Augmentation, Policy, RandomCrop, RandomFlip, RandomWarp
from keras_ssl.runs.report import measure, show

SIDE = 8  # pixels
WARP: dict = {"rotation": 15, "zoom": 0.15, "shear": 0.2, "shift": 0.1, "elastic": 0.05}


def both(*layers) -> Policy:
    """Returns a policy with the same layers for both views."""
    augmentation = Augmentation(list(layers))
    return Policy(augmentation, augmentation)


def warp(strength: float) -> RandomWarp:
    """Returns the warp of `augment.centred`, scaled by a factor."""
    return RandomWarp(**{name: strength * value for name, value in WARP.items()})


POLICIES = {
    "centred": augment.centred(SIDE),
    "centred, no elastic bend": both(RandomWarp(**{**WARP, "elastic": 0.0})),
    "half as strong": both(warp(0.5)),
    "half as strong again": both(warp(1.5)),
    "centred and crops from .5": both(RandomCrop(SIDE, area=(0.5, 1.0)), warp(1.0)),
    "SimCLR's crops and flips": both(RandomCrop(SIDE), RandomFlip()),
}


def main(epochs: int = 100, seed: int = 0, smoke: bool = False):
    """Trains one encoder per policy and prints the table."""
    epochs = 1 if smoke else epochs
    train, test = data.digits("train"), data.digits("test")
    keras.utils.set_random_seed(seed)
    encoders: dict[str, keras.Model] = {"untrained": backbones.Tiny((SIDE, SIDE, 1), features=128)}
    for name, policy in POLICIES.items():
        keras.utils.set_random_seed(seed)
        encoders[name] = backbones.Tiny((SIDE, SIDE, 1), features=128)
        model = methods.SimCLR(encoders[name], temperature=0.5)
        views = data.views(train, policy, batch_size=256, seed=seed)
        steps = epochs * len(views)
        model.compile(keras.optimizers.Adam(optimizers.WarmupCosine(5e-3, steps, steps // 10)))
        model.fit(views, epochs=epochs, verbose=0)
        print(f"trained with: {name}")
    show(measure(encoders, train, test, seed=seed, progress=False))


if __name__ == "__main__":
    tyro.cli(main)
