"""The settings that must not change when a run is resumed."""

import json

import keras
import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.augment import Augmentation, Policy, RandomCrop, RandomFlip
from keras_ssl.backbones import Tiny
from keras_ssl.methods import SimCLR
from keras_ssl.optimizers import LARS
from keras_ssl.runs.identity import identity


def model(features=8, temperature=0.5, optimizer=None):
    built = SimCLR(Tiny((4, 4, 1), features=features), temperature=temperature)
    built.compile(optimizer or LARS(0.1))
    return built


def source(seed=0):
    return data.arrays(np.random.default_rng(seed).integers(0, 256, (9, 6, 6, 1), np.uint8))


def policy(*layers, area=(0.2, 1.0)):
    view = Augmentation([RandomCrop(4, area=area), *layers])
    return Policy(view, view)


def of(trained=None, images=None, views=None, batch_size=8, seed=0):
    return identity(trained or model(), images or source(), views or policy(), batch_size, seed)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda: {"trained": model(temperature=0.1)}, ["method"]),
        (lambda: {"trained": model(features=16)}, ["backbone", "projector"]),
        (lambda: {"trained": model(optimizer=keras.optimizers.Adam())}, ["optimizer"]),
        (lambda: {"images": source(seed=1)}, ["images"]),
        (lambda: {"views": policy(RandomFlip())}, ["policy"]),
        (lambda: {"views": policy(area=(0.5, 1.0))}, ["policy"]),
        (lambda: {"batch_size": 4}, ["batch size"]),
        (lambda: {"seed": 1}, ["seed"]),
    ],
)
def test_each_change_is_named(change, names):
    before, after = of(), of(**change())
    assert [name for name in before if before[name] != after[name]] == names


def test_the_precision_is_a_setting():
    before = of()
    keras.config.set_dtype_policy("mixed_bfloat16")
    after = of()
    assert [name for name in before if before[name] != after[name]] == ["precision"]


def test_equal_runs_are_equal():
    # Layers of the second model have other names, and the loss scale wraps its optimizer.
    scaled = keras.optimizers.LossScaleOptimizer(LARS(0.1))
    assert of() == of(trained=model(optimizer=scaled), images=source(), views=policy())
    assert json.loads(json.dumps(of())) == of()
