"""Fine-tuning: trains all layers of an encoder on labeled images, with all labels or only a few."""

import keras

from keras_ssl import augment
from keras_ssl.data import views
from keras_ssl.evaluate.fine_tuning import FineTuning, prepare_finetune, prepare_supervised
from keras_ssl.evaluate.finetuned import Finetuned
from keras_ssl.evaluate.inputs import Images

__all__ = ["finetune", "supervised"]


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
    prepared = prepare_finetune(
        model,
        train,
        test,
        labels,
        from_layer,
        epochs,
        batch_size,
        optimizer,
        learning_rate,
        weight_decay,
        warmup_epochs,
        augmentation,
        every,
        seed,
    )
    return _fit(prepared, seed, callbacks)


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
    callbacks: list[keras.callbacks.Callback] | None = None,
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
        callbacks: additional callbacks for `fit`.
        **settings: further arguments of `finetune`.

    Returns:
        A `Finetuned` result, with the protocol "supervised".

    Raises:
        ValueError: see `finetune`.

    Source: He et al. 2015, section 4.2, for rate, momentum and weight decay (1e-4 there; 5e-4 is the
    usual value for a ResNet-18 on CIFAR-10).
    """
    prepared = prepare_supervised(
        backbone,
        train,
        test,
        labels,
        epochs,
        batch_size,
        learning_rate,
        weight_decay,
        seed,
        **settings,
    )
    return _fit(prepared, seed, callbacks)


def _fit(
    prepared: FineTuning, seed: int, callbacks: list[keras.callbacks.Callback] | None
) -> Finetuned:
    batches = views(prepared.images, prepared.crops, prepared.batch_size, seed, labels=True)
    prepared.classifier.fit(
        batches,
        epochs=prepared.epochs,
        verbose=0,
        callbacks=[prepared.monitor, *(callbacks or [])],
    )
    return prepared.result()
