"""The loss of predicted patches against a slow twin."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import SpatialPrediction
from keras_ssl.losses.spatial_prediction import candidate_scores


def twin(patches, predictions):
    """Prediction by prediction: the own patch among other images' and the image's other places."""
    patches, predictions = (np.asarray(each, np.float64) for each in (patches, predictions))
    batch, places, dim = patches.shape
    count = predictions.shape[1]
    rows = []
    for i in range(batch):
        losses = []
        for t in range(count):
            place = places - count + t
            candidates = [patches[j, place] for j in range(batch)]
            candidates += [patches[i, q] for q in range(places) if q != place]
            scores = np.array(candidates) @ predictions[i, t] / np.sqrt(dim)
            losses.append(np.log(np.exp(scores).sum()) - scores[i])
        rows.append(np.mean(losses))
    return rows


def vectors(batch=4, places=6, count=3, dim=5):
    generator = np.random.default_rng(0)
    shapes = (batch, places, dim), (batch, count, dim)
    return [generator.normal(size=shape).astype("float32") for shape in shapes]


def test_value_is_that_of_the_twin():
    patches, predictions = vectors()
    rows = SpatialPrediction().call(tf.constant(patches), tf.constant(predictions))
    np.testing.assert_allclose(rows, twin(patches, predictions), rtol=1e-5)
    total = float(SpatialPrediction()(patches, predictions))
    assert total == pytest.approx(np.mean(twin(patches, predictions)), rel=1e-5)


def test_constant_predictions_give_the_logarithm_of_the_candidates():
    patches, predictions = vectors()
    loss = float(SpatialPrediction()(patches, np.zeros_like(predictions)))
    assert loss == pytest.approx(np.log(4 + 6 - 1), rel=1e-6)


def test_a_repeated_image_costs_at_least_the_logarithm_of_the_batch():
    patches, predictions = vectors(batch=1)
    patches, predictions = (np.repeat(30 * each, 4, axis=0) for each in (patches, predictions))
    predictions[:] = patches[:, -3:]  # perfect predictions
    rows = SpatialPrediction().call(tf.constant(patches), tf.constant(predictions))
    assert np.min(rows) >= np.log(4) - 1e-5


def test_the_right_column_is_the_own_image():
    patches, predictions = vectors()
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True)  # a vector is nearest to itself
    predictions[:] = patches[:, -3:]
    scores, own = candidate_scores(tf.constant(patches), tf.constant(predictions))
    assert scores.shape == (4, 3, 4 + 6)
    np.testing.assert_array_equal(np.argmax(scores, -1), np.repeat(own, 3).reshape(4, 3))


def test_two_replicas_equal_one(two_replicas):
    patches, predictions = vectors()
    loss = SpatialPrediction()

    def local(context):
        rows = slice(2 * context.replica_id_in_sync_group, 2 * context.replica_id_in_sync_group + 2)
        return tf.constant(patches[rows]), tf.constant(predictions[rows])

    inputs = two_replicas.experimental_distribute_values_from_function(local)
    values = two_replicas.experimental_local_results(
        two_replicas.run(lambda pair: loss(*pair), args=(inputs,))
    )
    expected = np.mean(twin(patches, predictions))
    assert sum(float(value) for value in values) == pytest.approx(expected, rel=1e-5)


def test_refuses_shapes_that_do_not_match():
    patches, predictions = vectors()
    for wrong in (predictions[..., :4], np.ones((4, 7, 5), "float32"), predictions[0]):
        with pytest.raises(ValueError, match="with a count of at most `places`"):
            candidate_scores(tf.constant(patches), tf.constant(wrong))


def test_round_trip():
    loss = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(SpatialPrediction(name="below"))
    )
    assert loss.name == "below"
