"""The parallelism of data pipelines."""

import numpy as np
import pytest

from keras_ssl import augment, data, distribute
from keras_ssl.data import parallel
from keras_ssl.evaluate.inputs import image_dataset, prepare


def test_parallelism_is_positive():
    assert 1 <= parallel.BATCHES <= parallel.IMAGES


def endless_batches(source):
    shares = distribute.get_shares(data.views(source, augment.simclr(8), batch_size=4, seed=0))
    return shares.batches_of(distribute.Share())


@pytest.mark.parametrize(
    "batches",
    [
        lambda source: data.views(source, augment.simclr(8), batch_size=4, seed=0),
        lambda source: data.views(source, augment.simclr(8), 4, seed=0, finish="step"),
        lambda source: data.views(source.dataset(), augment.simclr(8), batch_size=4, seed=0),
        endless_batches,
        lambda source: prepare(image_dataset(source, "train"), (None, 8, 8, 3), 4, None, "train")[
            0
        ],
    ],
    ids=["views", "finished in the step", "a plain data set", "in fit", "evaluation"],
)
def test_pipelines_have_no_autotuner(batches):
    found = batches(data.arrays(np.zeros((8, 8, 8, 3), np.uint8)))
    assert found.options().autotune.enabled is False  # the default, `None`, means that there is one
    assert found.options().threading.private_threadpool_size == parallel.IMAGES
