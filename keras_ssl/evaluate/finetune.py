"""Fine-tuning: the whole encoder trained further, with all of the labels or with few."""

from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_ssl import augment, data, distribute
from keras_ssl.data import Source, views
from keras_ssl.evaluate.accuracy_monitor import AccuracyMonitor
from keras_ssl.evaluate.classifier import CLASSES, Classifier, with_classes
from keras_ssl.evaluate.encoder_part import encoder
from keras_ssl.evaluate.inputs import Images, check_labels, image_dataset
from keras_ssl.evaluate.label_subset import label_subset
from keras_ssl.evaluate.result import Result
from keras_ssl.optimizers import LARS, SGD, WarmupCosine

__all__ = ["Finetuned", "finetune", "supervised"]

# Share of the labels up to which SimCLRv2's 60 epochs hold, above it 30. Its LARS moves a layer by
# about rate * steps / 1000 of its length: with few labels that little is best, with more it is too
# little in the few steps of a small data set (docs/results.md), and SimCLR's SGD is taken.
_FEW = 0.05
_LEAST_STEPS = 1000  # where the set is small, that many epochs would be few steps
# Beside biases and batch normalisation the reference leaves the new layer out: its weights begin near
# zero, and LARS moves a layer in proportion to its weights.
_NOT_ADAPTED = (r"gamma$", r"beta$", r"bias$", rf"(^|/){CLASSES}/")


@dataclass(frozen=True)
class Finetuned(Result):
    """The outcome of fine-tuning; `accuracy` is that of the last epoch.

    Attributes:
        best_accuracy: the highest accuracy that was measured after an epoch, 0 to 1. The test images
            chose it: report `accuracy`.
        history: for each epoch "epoch", "loss" and "train_accuracy", and "accuracy" where it was
            measured.
        labelled: numbers of the training images whose labels were used.
        network: `keras.Model` from images to the scores of classes 0, 1, ..., before the softmax,
            `(batch, classes)`.
    """

    best_accuracy: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    labelled: list[int] = field(default_factory=list)
    network: keras.Model | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes, but for the network, as a dictionary that JSON can hold."""
        return {name: value for name, value in vars(self).items() if name != "network"}


def finetune(
    model: keras.Model,
    train: Images,
    test: Images,
    labels: float = 1.0,
    from_layer: int | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    weight_decay: float = 0.0,
    warmup_epochs: int = 0,
    augmentation: augment.Augmentation | None = None,
    every: int = 1,
    seed: int = 0,
    callbacks: list[keras.callbacks.Callback] | None = None,
) -> Finetuned:
    """Trains a copy of an encoder, all of its layers, on labelled images.

    The encoder may keep the first layers of its projection head: with few labels SimCLRv2 fine-tunes
    from the first (`from_layer=1`), its ReLU included. The model that is passed stays as it is. Called
    within the scope of a distribution strategy, it trains on all of its devices.

    Args:
        model: a method of `keras_ssl.methods`, or a built `keras.Model` from square images to
            features.
        train: labelled images to train on: a source of `keras_ssl.data`, a pair of arrays, or a
            `tf.data.Dataset` of (image, label), whose images are then held in memory.
        test: labelled images to test on.
        labels: share of the training labels that is used, above 0 and at most 1; the same number of
            every class, the same images for the same seed (see `label_subset`).
        from_layer: layers of the head that are kept; 0 for the backbone alone. `None` keeps one where
            there is a head of two layers or more, otherwise none.
        epochs: passes over the labelled images; `None` takes SimCLRv2's 60 (up to 5% of the labels) or
            30, and more where those would be fewer than 1,000 steps.
        batch_size: images per step, over all devices; where there are fewer labelled images all of
            them, or as many as divide evenly among the devices.
        optimizer: "lars", SimCLRv2's, which leaves the new layer out of its adaptation as the
            reference does; "sgd", SimCLR's, with Nesterov's momentum; `None` takes LARS up to 5% of
            the labels and SGD above.
        learning_rate: peak of the cosine schedule; `None` takes SimCLRv2's 0.005 * sqrt(batch) for
            LARS, SimCLR's 0.05 * batch / 256 for SGD.
        weight_decay: L2 penalty in the gradient; 0 in SimCLRv2.
        warmup_epochs: epochs of linear warm-up, fewer than `epochs`.
        augmentation: of the training images; `None` for crops and flips, as in the papers.
        every: epochs from one test to the next; the last epoch is always tested.
        seed: of the labels, the new layer, the order and the crops.
        callbacks: further callbacks of `fit`.

    Returns:
        A `Result` that has the trained network, the report of each epoch and the images used.

    Raises:
        TypeError: if `train` or `test` is of no known kind, or a streamed source.
        ValueError: if a setting is out of range, or labels are missing.

    Example:
        ```python
        result = keras_ssl.evaluate.finetune(simclr, train, test, labels=0.01)
        print(result.accuracy, result.labelled)
        ```

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners", section
    2 and appendix B.1; for SGD, SimCLR, appendix B.5.
    """
    numbers = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    _check(optimizer, {**numbers, "every": every}, weight_decay, warmup_epochs)
    check_labels(train, "train")
    check_labels(test, "test")
    source = _as_source(train)
    labelled = label_subset(np.asarray(source.labels), labels, seed)
    shown = source.subset(labelled)
    if from_layer is None:
        from_layer = 1 if getattr(getattr(model, "projector", None), "depth", 0) > 1 else 0
    network = with_classes(encoder(model, from_layer), _class_count(source), seed)

    size = _size_of_a_batch(batch_size, len(shown))
    steps = len(shown) // size
    if epochs is None:
        epochs = max(60 if labels <= _FEW else 30, -(-_LEAST_STEPS // steps))
    if optimizer is None:
        optimizer = "lars" if labels <= _FEW else "sgd"
    if learning_rate is None:
        learning_rate = 0.005 * size**0.5 if optimizer == "lars" else 0.05 * size / 256
    schedule = WarmupCosine(learning_rate, epochs * steps, warmup_epochs * steps)
    classifier = Classifier(network)
    classifier.compile(_optimizer(optimizer, schedule, weight_decay))
    crops = augmentation or augment.crop_and_flip(network.input_shape[1])
    report = AccuracyMonitor(network, test, every, epochs)
    classifier.fit(
        views(shown, crops, size, seed=seed, labels=True),
        epochs=epochs,
        verbose=0,
        callbacks=[report, *(callbacks or [])],
    )
    settings = {
        "labels": labels,
        "from_layer": from_layer,
        "epochs": epochs,
        "steps": epochs * steps,
        "batch_size": size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup_epochs": warmup_epochs,
        "augmentation": [type(layer).__name__ for layer in crops.layers],
        "seed": seed,
    }
    return Finetuned(
        "finetune",
        report.accuracy,
        report.top5,
        len(shown),
        report.test_size,
        settings,
        best_accuracy=max(line.get("accuracy", 0.0) for line in report.history),
        history=report.history,
        labelled=labelled.tolist(),
        network=network,
    )


def supervised(
    backbone: keras.Model,
    train: Images,
    test: Images,
    labels: float = 1.0,
    epochs: int | None = None,
    batch_size: int = 128,
    learning_rate: float | None = None,
    weight_decay: float = 5e-4,
    seed: int = 0,
    **settings,
) -> Finetuned:
    """Trains an untrained network of a backbone's form with labels alone: the row to beat.

    Args:
        backbone: built `keras.Model`; its form counts, not its weights.
        train: labelled images, as for `finetune`, which takes the same of them for the same seed.
        test: labelled images to test on.
        labels: share of the labels, as for `finetune`.
        epochs: passes over the labelled images; `None` for 100, and more where those would be fewer
            than 2,000 steps: an untrained network needs more of them than a pretrained one.
        batch_size: images per step.
        learning_rate: peak of the cosine schedule of SGD with Nesterov's momentum; `None` takes 0.1 *
            batch / 128.
        weight_decay: L2 penalty in the gradient.
        seed: of the weights too: Keras' global seed is set to it.
        **settings: further arguments of `finetune`.

    Returns:
        As `finetune`, with the protocol "supervised".

    Raises:
        ValueError: as `finetune`.

    Source: He et al. 2015, section 4.2, for rate, momentum and weight decay (1e-4 there; 5e-4 is the
    usual one of CIFAR-10's ResNet-18).
    """
    keras.utils.set_random_seed(seed)
    untrained = keras.models.clone_model(backbone)
    check_labels(train, "train")
    source = _as_source(train)
    count = label_subset(np.asarray(source.labels), labels, seed).size
    size = _size_of_a_batch(batch_size, count)
    result = finetune(
        untrained,
        source,
        test,
        labels,
        from_layer=0,
        epochs=epochs or max(100, -(-2 * _LEAST_STEPS // (count // size))),
        batch_size=size,
        optimizer="sgd",
        learning_rate=0.1 * size / 128 if learning_rate is None else learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        **settings,
    )
    return replace(result, protocol="supervised")


def _as_source(train: Images) -> Source:
    if isinstance(train, Source):
        return train
    if not isinstance(train, tuple):
        pairs = list(image_dataset(train, "train").as_numpy_iterator())
        shapes = {image.shape for image, _ in pairs}
        if len(shapes) > 1:
            raise ValueError(
                "The images of a tf.data.Dataset must have one size here; a folder of images of any "
                f"size is read by keras_ssl.data.image_folder. Received: the sizes {sorted(shapes)}"
            )
        train = tuple(np.stack(column) for column in zip(*pairs, strict=True))
    images, labels = train
    return data.arrays(images, labels, name="train")


def _size_of_a_batch(wanted: int, images: int) -> int:
    if images >= wanted:
        return wanted
    devices = distribute.replica_count()
    if images < devices:
        raise ValueError(
            "There must be a labelled image for each device: more `labels`, or fewer devices. "
            f"Received: {images} labelled images, and {devices} devices"
        )
    return images // devices * devices


def _class_count(source: Source) -> int:
    return max(len(source.class_names or ()), int(np.max(np.asarray(source.labels))) + 1)


def _optimizer(name: str, schedule: Any, weight_decay: float) -> keras.optimizers.Optimizer:
    if name == "sgd":
        return SGD(schedule, weight_decay=weight_decay, nesterov=True)
    return LARS(schedule, weight_decay=weight_decay, exclude=_NOT_ADAPTED)


def _check(
    optimizer: str | None, positive: dict[str, Any], weight_decay: float, warmup_epochs: int
):
    if optimizer not in ("lars", "sgd", None):
        raise ValueError(f"`optimizer` must be 'lars' or 'sgd'. Received: optimizer={optimizer!r}")
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    for name, value in (("weight_decay", weight_decay), ("warmup_epochs", warmup_epochs)):
        if not value >= 0:
            raise ValueError(f"`{name}` must not be negative. Received: {name}={value}")
