"""Which views teach an encoder handwriting? The demo's set-up with different policies.

    python recipes/studies/digits_views.py
    python recipes/studies/digits_views.py --smoke

Hardware: two CPU cores. Result: docs/results.md.
"""

from dataclasses import dataclass, replace

import keras
import tyro
from keras_ssl.report import measure, show

from keras_ssl import augment, backbones, data, methods, optimizers
from keras_ssl.augment import Augmentation, Policy, RandomCrop, RandomFlip, RandomWarp

SIDE = 8  # pixels


@dataclass(frozen=True)
class Settings:
    """What can be set on the command line."""

    epochs: int = 100
    batch_size: int = 256
    seed: int = 0
    smoke: bool = False
    """One epoch of each, to see that everything runs."""


def both(*layers) -> Policy:
    """Returns a policy with the same chain for both views."""
    chain = Augmentation(list(layers))
    return Policy(chain, chain)


POLICIES = {
    "centred": augment.centred(SIDE),
    "centred, no elastic bend": both(RandomWarp(rotation=15, zoom=0.15, shear=0.2, shift=0.1)),
    "half as strong": both(
        RandomWarp(rotation=7.5, zoom=0.075, shear=0.1, shift=0.05, elastic=0.025)
    ),
    "half as strong again": both(
        RandomWarp(rotation=22.5, zoom=0.225, shear=0.3, shift=0.15, elastic=0.075)
    ),
    "centred and crops from .5": both(
        RandomCrop(SIDE, area=(0.5, 1.0)),
        RandomWarp(rotation=15, zoom=0.15, shear=0.2, shift=0.1, elastic=0.05),
    ),
    "SimCLR's crops and flips": both(RandomCrop(SIDE), RandomFlip()),
}


def main(settings: Settings):
    """Trains one encoder for each policy and prints the table."""
    if settings.smoke:
        settings = replace(settings, epochs=1)
    train, test = data.digits("train"), data.digits("test")
    encoders: dict[str, keras.Model] = {}
    for name, policy in POLICIES.items():
        keras.utils.set_random_seed(settings.seed)
        backbone = backbones.Tiny((SIDE, SIDE, 1), features=128)
        if not encoders:  # the seed is the same, so all begin as this one
            encoders["untrained"] = keras.models.clone_model(backbone)
            encoders["untrained"].set_weights(backbone.get_weights())
        model = methods.SimCLR(backbone, temperature=0.5)
        views = data.views(train, policy, settings.batch_size, settings.seed)
        steps = settings.epochs * len(views)
        model.compile(keras.optimizers.Adam(optimizers.WarmupCosine(5e-3, steps, steps // 10)))
        model.fit(views, epochs=settings.epochs, verbose=0)
        print(f"trained with: {name}")
        encoders[name] = backbone
    show(measure(encoders, train, test, seed=settings.seed, progress=False))


if __name__ == "__main__":
    main(tyro.cli(Settings))
