"""Finishes views in the training step, so that an accelerator does part of the augmentation."""

from typing import Any

import tensorflow as tf

from keras_ssl.augment.augmentation import Augmentation

_ATTRIBUTE = "_keras_ssl_finish"


class Finish:
    """Makes batches of views from batches of crops.

    The host draws the random numbers, and sends each crop with the numbers of its remaining layers. The
    result equals the host's up to rounding.

    Args:
        chains: one for each view.
        labels: whether batches contain labels.
    """

    def __init__(self, chains: tuple[Augmentation, ...], labels: bool):
        self.chains = chains
        self.labels = labels

    def __call__(self, batch: tuple) -> tuple:
        """Returns the batch that `data.views` would make on the host.

        Args:
            batch: crops, or (crops, labels). Crops are a tuple of (images, numbers) for each view,
                optionally followed by the image indices.
        """
        crops, label = batch if self.labels else (batch, None)
        count = len(self.chains)
        views = map(self._view, self.chains, crops[:count])
        finished = (*views, *crops[count:])
        return (finished, label) if self.labels else finished

    @staticmethod
    def _view(chain: Augmentation, crop: tuple) -> tf.Tensor:
        images, numbers = crop
        done = count_host_layers(chain)
        counts = [layer.draws for layer in chain.layers[done:]]
        remaining = tf.split(numbers, counts, axis=1) if counts else []  # no split into 0 parts
        return chain.transform(images, [None] * done + remaining, done)


def count_host_layers(chain: Augmentation) -> int:
    """Returns how many of a chain's layers run on the host: the crop, if it has one."""
    return int(chain.begins_with_crop)


def set_finish(batches: tf.data.Dataset, finish: Finish) -> None:
    """Attaches a `Finish` to a data set. Data sets derived from it do not have it."""
    setattr(batches, _ATTRIBUTE, finish)


def finished_spec(batches: tf.data.Dataset) -> Any:
    """Returns the element spec of a data set after its batches are finished."""
    finish, spec = get_finish(batches), batches.element_spec
    if finish is None:
        return spec
    in_graph = tf.function(lambda *parts: finish(tf.nest.pack_sequence_as(spec, parts)))
    finished = in_graph.get_concrete_function(*tf.nest.flatten(spec)).structured_outputs
    return tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), finished)


def get_finish(batches: object) -> Finish | None:
    """Returns the `Finish` that `set_finish` attached, or `None`."""
    return getattr(batches, _ATTRIBUTE, None)
