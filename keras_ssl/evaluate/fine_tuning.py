"""A fine-tuning that is prepared, to be trained by `fit` or in a run directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ssl import augment, data, distribute
from keras_ssl.data import Source
from keras_ssl.data.classes import match_source
from keras_ssl.evaluate.accuracy_monitor import AccuracyMonitor
from keras_ssl.evaluate.classifier import CLASSES, Classifier, with_classes
from keras_ssl.evaluate.encoder_part import encoder
from keras_ssl.evaluate.finetuned import Finetuned
from keras_ssl.evaluate.inputs import Images, check_classes, check_labels, image_dataset
from keras_ssl.evaluate.label_subset import count_labels, label_subset
from keras_ssl.evaluate.result import mean_accuracy
from keras_ssl.optimizers import LARS, SGD, WarmupCosine

# Share of the labels up to which SimCLRv2's settings for few labels apply: 60 epochs of LARS. Above
# it: 30 epochs of SimCLR's SGD. LARS changes a layer by about rate * steps / 1000 of its norm: that
# is best with few labels, but too little in the few steps of a small dataset (docs/results.md).
_FEW = 0.05
_MIN_STEPS = 1000  # on small datasets, 30 or 60 epochs would be too few steps
# Like the reference, exclude the new layer along with biases and batch normalization: its weights
# start near zero, and LARS steps are proportional to the norm of the weights.
_NOT_ADAPTED = (r"gamma$", r"beta$", r"bias$", rf"(^|/){CLASSES}/")


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning that is ready to be trained.

    Attributes:
        protocol: "finetune" or "supervised".
        classifier: compiled learner, whose `network` is trained.
        images: the labeled images that are used.
        crops: augmentation of these images.
        epochs: passes over the images.
        batch_size: global batch size.
        monitor: callback that measures the test accuracy.
        settings: all settings, for the result.
        labelled: indices of the images among all training images.
        class_names: names of the classes; `None` if the training images have none.

    Example:
        >>> prepared = prepare_finetune(simclr, train, test, labels=0.1, seed=0)
        >>> batches = views(prepared.images, prepared.crops, prepared.batch_size, 0, labels=True)
        >>> prepared.classifier.fit(batches, epochs=prepared.epochs, callbacks=[prepared.monitor])
        >>> prepared.result().accuracy
    """

    protocol: str
    classifier: Classifier
    images: Source
    crops: augment.Augmentation
    epochs: int
    batch_size: int
    monitor: AccuracyMonitor
    settings: dict[str, Any]
    labelled: np.ndarray
    class_names: list[str] | None

    @property
    def network(self) -> keras.Model:
        """The network that is trained: images to the logits of classes 0, 1, ..."""
        return self.classifier.network

    def result(self, history: Sequence[dict[str, float]] | None = None) -> Finetuned:
        """Returns the result, once training has finished.

        Args:
            history: values of all epochs, if some were trained by another process.
        """
        monitor = self.monitor
        monitor.measure_last_epoch()
        history = monitor.complete(history)
        return Finetuned(
            self.protocol,
            monitor.accuracy,
            monitor.top5,
            len(self.images),
            monitor.test_size,
            self.settings,
            mean_per_class=mean_accuracy(monitor.per_class),
            per_class=monitor.per_class,
            best_accuracy=max(line.get("accuracy", 0.0) for line in history),
            history=history,
            labelled=self.labelled.tolist(),
            network=self.network,
            class_names=self.class_names,
        )


def prepare_finetune(
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
    protocol: str = "finetune",
) -> FineTuning:
    """Returns a fine-tuning that is ready to be trained.

    Args and errors are those of `keras_ssl.evaluate.finetune`. `protocol` names the result.
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
    return FineTuning(
        protocol,
        classifier,
        subset,
        crops,
        epochs,
        size,
        monitor,
        settings,
        labelled,
        source.class_names,
    )


def prepare_supervised(
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
) -> FineTuning:
    """Returns a training from scratch that is ready to start.

    Args and errors are those of `keras_ssl.evaluate.supervised`, without `callbacks`.
    """
    keras.utils.set_random_seed(seed)
    untrained = keras.models.clone_model(backbone)
    check_labels(train, "train")
    source = _as_source(train)
    count = label_subset(np.asarray(source.labels), labels, seed).size
    size = _batch_size(batch_size, count)
    return prepare_finetune(
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
        protocol="supervised",
        **settings,
    )


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
