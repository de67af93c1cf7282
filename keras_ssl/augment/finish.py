"""The part of the views that is left to the training step, where an accelerator makes it."""

from typing import Any

import tensorflow as tf

from keras_ssl.augment.augmentation import Augmentation

_ATTRIBUTE = "_keras_ssl_finish"


class Finish:
    """Makes batches of views out of batches of crops.

    The pixels are those that the host would have made, to a rounding of the last bits: the host draws
    the numbers, and sends each crop with those of its further layers.

    Args:
        chains: that of each view.
        labels: whether labels come with a batch.
    """

    def __init__(self, chains: tuple[Augmentation, ...], labels: bool):
        self.chains = chains
        self.labels = labels

    def __call__(self, batch: tuple) -> tuple:
        """Returns what `data.views` would have made on the host.

        Args:
            batch: (crops, labels), or crops alone; crops are a tuple of (images, numbers) for each
                view, perhaps with the numbers of the images behind them.
        """
        crops, label = batch if self.labels else (batch, None)
        count = len(self.chains)
        views = map(self._view, self.chains, crops[:count])
        finished = (*views, *crops[count:])
        return (finished, label) if self.labels else finished

    @staticmethod
    def _view(chain: Augmentation, crop: tuple) -> tf.Tensor:
        images, numbers = crop
        done = cropped(chain)
        counts = [layer.draws for layer in chain.layers[done:]]
        further = tf.split(numbers, counts, axis=1) if counts else []  # it splits into one or more
        return chain.transform(images, [None] * done + further, done)


def cropped(chain: Augmentation) -> int:
    """Returns how many of a chain's layers stay on the host: a crop, which makes images of one size."""
    return int(chain.begins_with_crop)


def set_finish(batches: tf.data.Dataset, finish: Finish) -> None:
    """Notes on a data set what its batches lack; data sets derived from it do not know."""
    setattr(batches, _ATTRIBUTE, finish)


def finished_spec(batches: tf.data.Dataset) -> Any:
    """Returns the specification of a data set's batches, once they are finished."""
    finish, spec = finish_of(batches), batches.element_spec
    if finish is None:
        return spec
    in_graph = tf.function(lambda *parts: finish(tf.nest.pack_sequence_as(spec, parts)))
    made = in_graph.get_concrete_function(*tf.nest.flatten(spec)).structured_outputs
    return tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), made)


def finish_of(batches: object) -> Finish | None:
    """Returns what `set_finish` noted, or `None`."""
    return getattr(batches, _ATTRIBUTE, None)
