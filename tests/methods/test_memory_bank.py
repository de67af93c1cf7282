"""MemoryBank: the loss and the update of its entries. See tests/contract.py for the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import MLPHead
from keras_ssl.methods import MemoryBank, SimCLR

SHAPE = (8, 8, 3)
INDEX = np.array([7, 2, 0, 5])


def views(count=2, seed=0):
    return np.random.default_rng(seed).random((count, 4, *SHAPE), np.float32)


def data(*parts):
    return with_threads(tf.data.Dataset.from_tensors(parts))


def memory_bank(**arguments):
    keras.utils.set_random_seed(1)
    head = MLPHead(6, depth=1)
    sizes = {"size": 9, "negatives": 30}
    return MemoryBank(Tiny(SHAPE, features=8), head, **{**sizes, **arguments})


def unit(vectors):
    vectors = np.asarray(vectors, "float64")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [2, 3])
def test_a_step_uses_the_old_entries_and_then_updates_them(count):
    model = memory_bank(temperature=0.1, bank_momentum=0.25)
    bank = np.asarray(model.bank.embeddings).copy()
    drawn = np.asarray(model.bank.draw(30))
    embeddings = [
        unit(model.projector(model.backbone(view, training=True))) for view in views(count)
    ]
    losses = []
    for z in embeddings:
        for i, image in enumerate(INDEX):
            positive = np.exp(z[i] @ bank[image] / 0.1)
            others = [np.exp(z[i] @ bank[j] / 0.1) for j in drawn if j != image]
            losses.append(-np.log(positive / (positive + sum(others))))
    assert any(image in drawn for image in INDEX)  # otherwise nothing would be excluded

    model.compile(keras.optimizers.SGD(0.1))
    logs = model.fit(data(*views(count), INDEX), verbose=0).history
    assert logs["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)
    expected = bank.astype("float64")
    expected[INDEX] = unit(0.25 * bank[INDEX] + 0.75 * unit(sum(embeddings)))
    np.testing.assert_allclose(model.bank.embeddings, expected, atol=1e-5)
    assert int(model.bank.visits) == 1
    assert not np.array_equal(model.bank.draw(30), drawn)


def test_the_defaults_match_the_paper():
    model = MemoryBank(Tiny(SHAPE, features=8), size=12)
    assert [w.shape for w in model.projector.weights] == [(8, 128), (128,)]
    assert (model.negatives, model.temperature, model.bank_momentum) == (4096, 0.07, 0.5)
    assert model.bank.embeddings.shape == (12, 128)


def test_an_index_beyond_the_bank_is_an_error():
    model = memory_bank()
    model.compile("sgd")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"= 9 is not in \[0, 9\)"):
        model.fit(data(*views(), np.array([0, 1, 2, 9])), verbose=0)


@pytest.mark.parametrize("batch", [views(), (*views(), INDEX.astype("float32"))])
def test_refuses_batches_without_indices(batch):
    model = memory_bank()
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"\(view_1, view_2, index\), .*as .*indices=True"):
        model.fit(data(*batch), verbose=0)


def test_other_methods_refuse_indices():
    model = SimCLR(Tiny(SHAPE, features=8))
    model.compile("sgd")
    with pytest.raises(ValueError, match="must show the same images"):
        model.fit(data(*views(), INDEX), verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1}, r"`temperature` must be positive\. Received: temperature=-1"),
        ({"negatives": 0}, r"`negatives` must be at least 1\. Received: negatives=0"),
        ({"size": 0}, r"`size` must be at least 1\. Received: size=0"),
        ({"bank_momentum": 2}, r"`bank_momentum` must lie in .* Received: bank_momentum=2"),
    ],
)
def test_refuses_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        memory_bank(**arguments)
