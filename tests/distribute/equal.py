"""Trains the same model on any number of devices and processes.

The workers of a cluster run this script with `multi_worker`. To run it by hand on one device:
`python tests/distribute/equal.py none OUT simclr/1`.
"""

import sys

import keras
import numpy as np

from keras_ssl import data, distribute
from keras_ssl.augment import Augmentation, Policy, RandomCrop, RandomFlip
from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.distill import Distiller
from keras_ssl.evaluate.classifier import Classifier, with_classes
from keras_ssl.layers import MLPHead, ProjectionHead, split_batch_norm
from keras_ssl.methods import BYOL, MemoryBank, MoCo, SimCLR, SimCLRMemory
from keras_ssl.methods.momentum import MomentumMethod
from keras_ssl.optimizers import LARS, SGD
from tests import cluster

BATCH, STEPS, EPOCHS = 16, 5, 2  # 5 steps are not divisible by 4 steps per execution
IMAGES = BATCH * STEPS + 3  # the incomplete last batch is dropped
METHODS = ("simclr", "moco", "byol")
# Methods with split batch normalization, or with image indices, gather other tensors.
FURTHER_METHODS = ("moco_split", "memory_bank")
# Methods for few labels: these use a queue, a teacher with labels, or labels only.
FEW_LABEL_METHODS = ("simclr_memory", "distiller", "classifier")
CLASSES = 3


def policy():
    return Policy(*[Augmentation([RandomCrop(6), RandomFlip()]) for _ in range(2)])


def source():
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8, 3), np.uint8)
    return data.arrays(pixels, np.arange(IMAGES) % CLASSES)


def make(method):
    keras.utils.set_random_seed(1)
    backbone = Tiny((6, 6, 3), features=8)
    if method == "simclr":
        return SimCLR(backbone, ProjectionHead(4), temperature=0.5)
    if method == "moco":
        return MoCo(backbone, MLPHead(4), queue_size=3 * BATCH // 2)
    if method == "moco_split":
        return MoCo(split_batch_norm(backbone, groups=4), MLPHead(4), queue_size=3 * BATCH // 2)
    if method == "simclr_memory":
        return SimCLRMemory(backbone, ProjectionHead(4, depth=3), queue_size=3 * BATCH // 2)
    if method == "distiller":
        teacher = with_classes(Tiny((6, 6, 3), features=12), CLASSES, seed=2)
        student = with_classes(backbone, CLASSES, seed=3)
        return Distiller(teacher, student, temperature=0.5, labelled_weight=0.3)
    if method == "classifier":
        return Classifier(with_classes(backbone, CLASSES, seed=3))
    if method == "memory_bank":
        return MemoryBank(backbone, MLPHead(4, depth=1), size=IMAGES, negatives=8)
    heads = (MLPHead(4, 8, batch_norm=True, name=name) for name in ("projector", "predictor"))
    return BYOL(backbone, *heads)


def train(strategy, method, steps_per_execution):
    """Trains under a strategy; returns the weights, and the loss of each epoch."""
    with strategy.scope():
        model = make(method)
        optimizer = LARS(0.1) if method in ("simclr", "byol") else SGD(0.05)
        model.compile(optimizer, steps_per_execution=steps_per_execution)
    batches = data.views(
        source(),
        policy(),
        BATCH,
        seed=3,
        labels=model.takes_labels,
        indices=model.takes_indices,
        keys=model.takes_keys,
    )
    # Explicit, because the default momentum logs a warning.
    callbacks = [MomentumEncoder(0.5, 1.0)] if isinstance(model, MomentumMethod) else []
    history = model.fit(batches, epochs=EPOCHS, verbose=0, callbacks=callbacks).history
    weights = [np.asarray(weight) for weight in model.weights if "loss" not in weight.path]
    return [*weights, np.array(history["loss"])]


def main():
    """Runs trainings such as "simclr/4" (four steps per execution) and writes their results."""
    name, out, *trainings = sys.argv[1:]
    cluster.make_logical_cpus()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    strategy = distribute.strategy(name)
    found = {}
    for training in trainings:
        method, steps_per_execution = training.split("/")
        weights = train(strategy, method, int(steps_per_execution))
        for index, weight in enumerate(weights):
            found[f"{training}/{index}"] = weight
    np.savez(f"{out}-{distribute.worker_id(strategy)}.npz", **found)


if __name__ == "__main__":
    main()
