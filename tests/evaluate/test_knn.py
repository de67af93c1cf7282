import importlib
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny

module = importlib.import_module("keras_ssl.evaluate.knn")  # `evaluate.knn` is the function


def twin(train, train_labels, test, k, temperature, classes):
    """Scores of each class, as written in section 3.4 of Wu et al. 2018, one image at a time."""
    bank = train / np.linalg.norm(train, axis=1, keepdims=True)
    scores = np.zeros((len(test), classes))
    for i, features in enumerate(test):
        similarity = bank @ (features / np.linalg.norm(features))
        for j in np.argsort(-similarity)[:k]:
            scores[i, train_labels[j]] += np.exp(similarity[j] / temperature)
    return scores


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(7, 12))
    labels = rng.integers(0, 7, 400)
    values = centres[labels] + 2 * rng.normal(size=(400, 12))
    features = evaluate.Features(values.astype(np.float32), labels)
    return features.subset(np.arange(250)), features.subset(np.arange(250, 400))


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.1), (200, 0.1), (50, 1.0)])
def test_it_is_the_numpy_twin(sets, k, temperature):
    train, test = sets
    scores = twin(train.values, train.labels, test.values, k, temperature, 7)
    ranks = np.argsort(-scores, axis=1)
    result = evaluate.knn(None, train, test, k=k, temperature=temperature)
    assert result.accuracy == np.mean(ranks[:, 0] == test.labels)
    assert 0.3 < result.accuracy < 0.95
    if k == 200:  # with few neighbours, ties among classes without a vote decide the top 5
        assert result.top5 == np.mean((ranks[:, :5] == test.labels[:, None]).any(axis=1))
        assert result.accuracy < result.top5 < 1


def test_temperature_and_k_change_the_result(sets):
    accuracies = [
        evaluate.knn(None, *sets, k=k, temperature=t).accuracy for k, t in [(1, 1), (250, 5)]
    ]
    assert accuracies[0] != accuracies[1]


@pytest.mark.parametrize(("test_block", "bank_block"), [(1, 250), (64, 100), (1000, 7)])
def test_blocks_do_not_change_a_bit(sets, monkeypatch, test_block, bank_block):
    train, test = sets
    whole, _ = module.vote(train, test, 20, 0.1)
    monkeypatch.setattr(module, "_TEST_BLOCK", test_block)
    monkeypatch.setattr(module, "_BANK_BLOCK", bank_block)
    best, classes = module.vote(train, test, 20, 0.1)
    np.testing.assert_array_equal(best, whole)
    assert classes == 7


def test_k_is_clipped_to_the_bank(sets):
    result = evaluate.knn(None, *sets, k=1000)
    assert result.settings["k"] == 250
    assert result.settings["k_requested"] == 1000
    assert result.accuracy == evaluate.knn(None, *sets, k=250).accuracy


def test_small_temperatures_do_not_overflow(sets):
    nearest = evaluate.knn(None, *sets, k=1).accuracy
    assert evaluate.knn(None, *sets, k=50, temperature=1e-6).accuracy == nearest


def test_scale_does_not_matter(sets):
    train, test = sets
    large = evaluate.Features(train.values * 1e25, train.labels)
    assert evaluate.knn(None, large, test).accuracy == evaluate.knn(None, train, test).accuracy


def test_label_numbers_do_not_matter(sets):
    train, test = sets
    names = np.array([90, 3, 1000, 17, 2, 44, 5])
    renamed = [evaluate.Features(s.values, names[s.labels]) for s in sets]
    assert evaluate.knn(None, *renamed).accuracy == evaluate.knn(None, train, test).accuracy


def test_images_of_a_class_that_is_not_in_train_are_left_out(caplog):
    train = evaluate.Features(np.eye(3), np.array([0, 1, 2]))
    test = evaluate.Features(np.eye(3), np.array([0, 1, 7]))
    result = evaluate.knn(None, train, test, k=1)
    assert (result.accuracy, result.test_size) == (1.0, 2)
    assert "class: class 7" in caplog.text


def test_result_tells_everything(sets):
    result = evaluate.knn(None, *sets, k=20)
    assert result.protocol == "knn"
    assert (result.train_size, result.test_size) == (250, 150)
    assert not result.collapsed
    assert result.settings == {
        "k": 20,
        "k_requested": 20,
        "temperature": 0.1,
        "batch_size": 256,
        "preprocessing": "unknown",
    }


def test_top5_needs_six_classes():
    features = evaluate.Features(np.eye(5), np.arange(5))
    assert evaluate.knn(None, features, features).top5 is None
    features = evaluate.Features(np.eye(6), np.arange(6))
    assert evaluate.knn(None, features, features).top5 == 1


def test_digits_rows():
    train, test = data.digits("train"), data.digits("test")
    pixels = evaluate.knn(evaluate.pixels((8, 8, 1)), train, test)
    untrained = evaluate.knn(Tiny((8, 8, 1)), train, test)
    nearest = evaluate.knn(evaluate.pixels((8, 8, 1)), train, test, k=1)
    assert nearest.accuracy > 0.97  # what 1-NN on the digits' pixels is known to give
    assert 0.85 < pixels.accuracy < nearest.accuracy
    assert 0.3 < untrained.accuracy < pixels.accuracy
    assert pixels.settings["preprocessing"] == "evaluation(8)"


def test_constant_features_are_reported_as_collapsed(caplog):
    model = Tiny((8, 8, 1), features=16)
    for variable in model.variables:
        if variable.path.endswith("kernel"):
            variable.assign(keras.ops.zeros(variable.shape))
        if variable.path.endswith("beta"):
            variable.assign(keras.ops.ones(variable.shape))
    with caplog.at_level(logging.WARNING):
        result = evaluate.knn(model, data.digits("train"), data.digits("test"))
    assert result.collapsed
    assert "the encoder has collapsed" in caplog.text
    assert "collapsed" in str(result)
    assert result.accuracy < 0.15


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_collapse_up_to_rounding(noise):
    rng = np.random.default_rng(0)
    assert module.is_collapsed(evaluate.Features(3 + noise * rng.normal(size=(50, 8))))
    assert not module.is_collapsed(evaluate.Features(3 + 1e-2 * rng.normal(size=(50, 8))))


def test_one_class_image_is_no_collapse():
    assert not module.is_collapsed(evaluate.Features(np.ones((1, 8))))


def test_missing_labels_are_named_before_any_work():
    images = np.zeros((4, 8, 8, 1), np.uint8)
    labelled, plain = (images, np.arange(4)), (images, None)

    def never(image):
        raise AssertionError

    for train, test, name in ((plain, labelled, "train"), (labelled, plain, "test")):
        for make in (
            lambda pair: pair,
            lambda pair: data.arrays(*pair),
            lambda pair: tf.data.Dataset.from_tensor_slices(
                pair if pair[1] is not None else images
            ),
        ):
            with pytest.raises(ValueError, match=f"`{name}` must have labels"):
                evaluate.knn(
                    evaluate.pixels((8, 8, 1)), make(train), make(test), augmentation=never
                )
    partly = (images, np.array([0, -1, 1, -1]))
    for test in (partly, tf.data.Dataset.from_tensor_slices(partly)):
        with pytest.raises(ValueError, match=r"Every image of `test`.*2 of 4"):
            evaluate.knn(evaluate.pixels((8, 8, 1)), labelled, test)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"k": 0}, "`k` must be positive.*k=0"),
        ({"temperature": -1}, "`temperature` must be positive.*-1"),
        ({"temperature": float("nan")}, "`temperature` must be positive"),
    ],
)
def test_settings_out_of_range(sets, settings, match):
    with pytest.raises(ValueError, match=match):
        evaluate.knn(None, *sets, **settings)


def test_widths_and_missing_backbone(sets):
    narrow = evaluate.Features(np.eye(4), np.arange(4))
    with pytest.raises(ValueError, match=r"same dimension.*train=12, test=4"):
        evaluate.knn(None, sets[0], narrow)
    with pytest.raises(ValueError, match=r"`backbone` can be None only.*train="):
        evaluate.knn(None, data.digits("train"), data.digits("test"))
    with pytest.raises(ValueError, match="`batch_size` must be positive"):
        evaluate.knn(
            evaluate.pixels((8, 8, 1)), data.digits("train"), data.digits("test"), batch_size=0
        )


def test_tensor_float_32_is_left_as_it_was(sets):
    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    for enabled in (True, False):
        config.enable_tensor_float_32_execution(enabled)
        evaluate.knn(None, *sets)
        assert config.tensor_float_32_execution_enabled() is enabled
    config.enable_tensor_float_32_execution(before)
