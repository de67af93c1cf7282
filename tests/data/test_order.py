"""The order of the images, and the part of each worker."""

import sys

import numpy as np
import pytest

from keras_ssl import data, distribute
from keras_ssl.augment import Augmentation, Policy, RandomCrop
from keras_ssl.data import parallel
from keras_ssl.distribute import Share
from tests.tiers import rest_large

BATCH, STEPS = 8, 3
SIZE = BATCH * STEPS + 5
POLICY = Policy(Augmentation([RandomCrop(4)]), Augmentation([RandomCrop(4)]))


class Streamed(data.Source):
    """Images that can only be read in order."""

    random_access = False

    def __init__(self, images):
        super().__init__("streamed", len(images), images.shape[1:])
        self._inner = data.arrays(images)

    def read(self, index):
        return self._inner.read(index)


@pytest.fixture(params=["arrays", "stream"])
def source(request, monkeypatch):
    monkeypatch.setattr(sys.modules["keras_ssl.data.order"], "_SHUFFLE_BUFFER", 16)
    images = np.random.default_rng(0).integers(0, 256, (SIZE, 6, 6, 3), np.uint8)
    return data.arrays(images) if request.param == "arrays" else Streamed(images)


def take(batches, count):
    return [[np.asarray(part) for part in batch] for batch in batches.take(count)]


@pytest.mark.parametrize("start", rest_large([2, 0]))
@pytest.mark.parametrize(
    ("workers", "replicas"),
    rest_large([(2, 4), (1, 1), (1, 2), (2, 2), (4, 4)]),
)
def test_the_parts_of_all_workers_make_the_batch_of_one_worker(source, workers, replicas, start):
    batches = data.views(source, POLICY, BATCH, seed=1, start=start, indices=True)
    whole = []
    while len(whole) < 2 * STEPS:  # each pass over the data set is an epoch
        whole += take(batches, -1)
    shares = distribute.get_shares(batches)
    assert (shares.batch_size, shares.steps_per_epoch, shares.start) == (BATCH, STEPS, start)
    per_worker = replicas // workers
    parts = [
        take(shares.batches_of(Share(worker, workers, replicas)), 2 * STEPS * per_worker)
        for worker in range(workers)
    ]
    for step in range(2 * STEPS):
        of_step = slice(step * per_worker, (step + 1) * per_worker)
        found = [part for own in parts for part in own[of_step]]
        for place, expected in enumerate(whole[step]):  # two views and the indices
            joined = np.concatenate([part[place] for part in found])
            np.testing.assert_array_equal(joined, expected)


def test_an_epoch_has_no_image_twice(source):
    shares = distribute.get_shares(data.views(source, POLICY, BATCH, seed=1, indices=True))
    numbers = [
        batch[2]
        for worker in range(2)
        for batch in take(shares.batches_of(Share(worker, 2, 2)), STEPS)
    ]
    assert len(set(np.concatenate(numbers))) == BATCH * STEPS


def test_a_worker_decodes_only_its_own_images(monkeypatch):
    images = np.zeros((SIZE, 6, 6, 3), np.uint8)
    source = data.arrays(images)
    decoded = []
    read = source.read

    def counted(index):
        import tensorflow as tf

        tf.py_function(lambda numbers: decoded.extend(np.ravel(numbers).tolist()), [index], [])
        return read(index)

    monkeypatch.setattr(source, "read", counted)
    monkeypatch.setattr(parallel, "IMAGES", 1)  # in order
    shares = distribute.get_shares(data.views(source, POLICY, BATCH, seed=1, indices=True))
    own = shares.batches_of(Share(1, 2, 2))
    seen = [int(index) for batch in take(own, STEPS) for index in batch[2]]
    # Further images are prefetched from the worker's parts of the next epochs.
    assert decoded[: len(seen)] == seen
