"""Fine-tuning: trains all layers of an encoder on labeled images, with all labels or only a few."""

from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_ssl import augment, data, distribute
from keras_ssl.data import Source, views
from keras_ssl.data.classes import match_source
from keras_ssl.evaluate.accuracy_monitor import AccuracyMonitor
from keras_ssl.evaluate.classifier import CLASSES, Classifier, with_classes
from keras_ssl.evaluate.encoder_part import encoder
from keras_ssl.evaluate.inputs import Images, check_classes, check_labels, image_dataset
from keras_ssl.evaluate.label_subset import count_labels, label_subset
from keras_ssl.evaluate.result import Result, mean_accuracy
from keras_ssl.optimizers import LARS, SGD, WarmupCosine

__all__ = ["Finetuned", "finetune", "supervised"]

# Share of the labels up to which SimCLRv2's settings for few labels apply: 60 epochs of LARS. Above
# it: 30 epochs of SimCLR's SGD. LARS changes a layer by about rate * steps / 1000 of its norm: that
# is best with few labels, but too little in the few steps of a small dataset (docs/results.md).
_FEW = 0.05
_MIN_STEPS = 1000  # on small datasets, 30 or 60 epochs would be too few steps
# Like the reference, exclude the new layer along with biases and batch normalization: its weights
# start near zero, and LARS steps are proportional to the norm of the weights.
_NOT_ADAPTED = (r"gamma$", r"beta$", r"bias$", rf"(^|/){CLASSES}/")


@dataclass(frozen=True)
class Finetuned(Result):
    """The result of fine-tuning; `accuracy` is the test accuracy after the last epoch.

    Attributes:
        best_accuracy: highest test accuracy measured after any epoch, 0 to 1. It is selected on the
            test images, so report `accuracy` instead.
        history: one dictionary per epoch with "epoch", "loss", "train_accuracy" and, if measured,
            "accuracy" and "mean_per_class".
        labelled: indices of the training images whose labels were used.
        network: `keras.Model` from images to the logits of classes 0, 1, ..., `(batch, classes)`.
        class_names: names of these classes; `None` if the training images have none.
    """

    best_accuracy: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    labelled: list[int] = field(default_factory=list)
    network: keras.Model | None = None
    class_names: list[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns all attributes except the network as a JSON-serializable dictionary."""
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
    """Trains all layers of a copy of an encoder on labeled images.

    The encoder may include the first layers of the projection head. With few labels, SimCLRv2
    fine-tunes from the first of them (`from_layer=1`), including its ReLU. `model` is not changed.
    Inside a distribution strategy's scope, training uses all replicas.

    Args:
        model: a method of `keras_ssl.methods`, or a built `keras.Model` from square images to
            features.
        train: labeled images to train on: a source of `keras_ssl.data`, a pair of arrays, or a
            `tf.data.Dataset` of (image, label), whose images are loaded into memory.
        test: labeled images to test on. Classes are matched by name.
        labels: fraction of the training labels to use, in (0, 1]. Every class keeps the same number of
            labels, at most the size of the smallest class, and the same seed gives the same images
            (see `label_subset`). The defaults below depend on the fraction that is really used.
        from_layer: number of layers of the head to keep; 0 for the backbone alone. `None` keeps one
            layer of a head with two layers or more, otherwise none.
        epochs: passes over the labeled images. `None` uses SimCLRv2's 60 (up to 5% of the labels) or
            30, and more if those would be fewer than 1,000 steps.
        batch_size: global batch size (over all replicas). If there are fewer labeled images, the batch
            is all of them, rounded down to a multiple of the number of replicas.
        optimizer: "lars", as in SimCLRv2, without layer adaptation for the new layer, as in the
            reference; or "sgd", as in SimCLR, with Nesterov momentum. `None` uses LARS up to 5% of the
            labels and SGD above.
        learning_rate: peak of the cosine schedule. `None` uses SimCLRv2's 0.005 * sqrt(batch) for
            LARS, and SimCLR's 0.05 * batch / 256 for SGD.
        weight_decay: L2 penalty added to the gradient; 0 in SimCLRv2.
        warmup_epochs: epochs of linear warm-up, fewer than `epochs`.
        augmentation: augmentation of the training images; `None` for crops and flips, as in the
            papers.
        every: number of epochs between tests. The last epoch is always tested.
        seed: seed of the label subset, the new layer, the order of the images and the crops.
        callbacks: additional callbacks for `fit`.

    Returns:
        A `Finetuned` result with the trained network, per-epoch history and indices of the images used.

    Raises:
        TypeError: if `train` or `test` has an unsupported type, or is a streamed source.
        ValueError: if a setting is out of range, labels are missing, or `test` has a class that `train`
            lacks.

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
    share = count_labels(np.asarray(source.labels), labels).share
    subset = source.subset(labelled)
    if from_layer is None:
        from_layer = 1 if getattr(getattr(model, "projector", None), "depth", 0) > 1 else 0
    classes = _class_count(source)
    if isinstance(test, Source):
        test = match_source(source, test, strict=True)
    test_labels = test[1] if isinstance(test, tuple) else getattr(test, "labels", None)
    if test_labels is not None:  # those of a `tf.data.Dataset` are checked when they are read
        check_classes(np.asarray(test_labels), classes, "test")
    network = with_classes(encoder(model, from_layer), classes, seed)

    size = _batch_size(batch_size, len(subset))
    steps = len(subset) // size
    if epochs is None:
        epochs = max(60 if share <= _FEW else 30, -(-_MIN_STEPS // steps))
    if optimizer is None:
        optimizer = "lars" if share <= _FEW else "sgd"
    if learning_rate is None:
        learning_rate = 0.005 * size**0.5 if optimizer == "lars" else 0.05 * size / 256
    schedule = WarmupCosine(learning_rate, epochs * steps, warmup_epochs * steps)
    classifier = Classifier(network)
    classifier.compile(_optimizer(optimizer, schedule, weight_decay))
    crops = augmentation or augment.crop_and_flip(network.input_shape[1])
    monitor = AccuracyMonitor(network, test, every, epochs, source.class_names)
    classifier.fit(
        views(subset, crops, size, seed=seed, labels=True),
        epochs=epochs,
        verbose=0,
        callbacks=[monitor, *(callbacks or [])],
    )
    settings = {
        "labels": labels,
        "share_of_labels": share,
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
        monitor.accuracy,
        monitor.top5,
        len(subset),
        monitor.test_size,
        settings,
        mean_per_class=mean_accuracy(monitor.per_class),
        per_class=monitor.per_class,
        best_accuracy=max(line.get("accuracy", 0.0) for line in monitor.history),
        history=monitor.history,
        labelled=labelled.tolist(),
        network=network,
        class_names=source.class_names,
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
    """Trains a randomly initialized network with labels only: the supervised baseline.

    Args:
        backbone: built `keras.Model`. Only its architecture is used, not its weights.
        train: labeled images, as for `finetune`. The same seed selects the same images.
        test: labeled images to test on. Classes are matched by name.
        labels: fraction of the training labels to use, as for `finetune`.
        epochs: passes over the labeled images. `None` uses 100, and more if those would be fewer than
            2,000 steps: an untrained network needs more steps than a pretrained one.
        batch_size: global batch size (over all replicas).
        learning_rate: peak of the cosine schedule of SGD with Nesterov momentum. `None` uses
            0.1 * batch / 128.
        weight_decay: L2 penalty added to the gradient.
        seed: seed, as for `finetune`, and of the initial weights. Sets Keras' global seed.
        **settings: further arguments of `finetune`.

    Returns:
        A `Finetuned` result, with the protocol "supervised".

    Raises:
        ValueError: see `finetune`.

    Source: He et al. 2015, section 4.2, for rate, momentum and weight decay (1e-4 there; 5e-4 is the
    usual value for a ResNet-18 on CIFAR-10).
    """
    keras.utils.set_random_seed(seed)
    untrained = keras.models.clone_model(backbone)
    check_labels(train, "train")
    source = _as_source(train)
    count = label_subset(np.asarray(source.labels), labels, seed).size
    size = _batch_size(batch_size, count)
    result = finetune(
        untrained,
        source,
        test,
        labels,
        from_layer=0,
        epochs=epochs or max(100, -(-2 * _MIN_STEPS // (count // size))),
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
                "The images of a tf.data.Dataset must all have the same size; use "
                "keras_ssl.data.image_folder for images of different sizes. "
                f"Received: images of shapes {sorted(shapes)}"
            )
        train = tuple(np.stack(column) for column in zip(*pairs, strict=True))
    images, labels = train
    return data.arrays(images, labels, name="train")


def _batch_size(requested: int, images: int) -> int:
    if images >= requested:
        return requested
    replicas = distribute.replica_count()
    if images < replicas:
        raise ValueError(
            "There must be at least one labeled image per replica: use more `labels` or fewer "
            f"devices. Received: {images} labeled images and {replicas} replicas"
        )
    return images // replicas * replicas


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
