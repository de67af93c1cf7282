"""InfoNCE against a slow twin written from equation 1 of the MoCo paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.losses import InfoNCE


def twin(queries, keys, negatives, temperature, excluded=None):
    """Query by query: -log(exp(q.k+ / T) / (exp(q.k+ / T) + sum of exp(q.k_i / T)))."""

    def unit(vectors):
        vectors = np.asarray(vectors, "float64")
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    q, k, others = unit(queries), unit(keys), unit(negatives)
    losses = []
    for i in range(len(q)):
        positive = np.exp(q[i] @ k[i] / temperature)
        total = positive
        for j in range(len(others)):
            if excluded is None or not excluded[i][j]:
                total += np.exp(q[i] @ others[j] / temperature)
        losses.append(-np.log(positive / total))
    return np.array(losses)


def embeddings(batch=4, count=7, dim=5, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(n, dim)).astype("float32") for n in (batch, batch, count)]


EXCLUDED = np.random.default_rng(9).random((4, 7)) < 0.3


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("excluded", [None, EXCLUDED])
def test_value_is_the_papers(temperature, excluded):
    values = embeddings()
    expected = twin(*values, temperature, excluded)
    assert excluded is None or 0 < EXCLUDED.sum() < EXCLUDED.size
    loss = InfoNCE(temperature)(*values, excluded=excluded)
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-5)
    by_image = InfoNCE(temperature, reduction="none")(*values, excluded=excluded)
    np.testing.assert_allclose(by_image, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["queries", "keys", "negatives"])
def test_gradients_are_those_of_the_twin(which):
    values = embeddings(batch=4)
    variables = [tf.Variable(value) for value in values]
    with tf.GradientTape() as tape:
        loss = InfoNCE(0.5)(*variables, excluded=EXCLUDED)
    gradient = tape.gradient(loss, variables[which]).numpy()

    exact = [value.astype("float64") for value in values]
    for place in np.ndindex(*values[which].shape):
        around = []
        for step in (1e-5, -1e-5):
            moved = [value.copy() for value in exact]
            moved[which][place] += step
            around.append(twin(*moved, 0.5, EXCLUDED).mean())
        assert gradient[place] == pytest.approx((around[0] - around[1]) / 2e-5, abs=2e-6)


def test_does_not_depend_on_lengths():
    q, k, negatives = embeddings()
    assert float(InfoNCE(0.2)(10 * q, k / 10, 3 * negatives)) == pytest.approx(
        float(InfoNCE(0.2)(q, k, negatives)), rel=1e-5
    )


def test_one_point_gives_the_logarithm_of_the_candidates():
    point = [np.ones((n, 4), "float32") for n in (3, 3, 9)]
    assert float(InfoNCE(0.07)(*point)) == pytest.approx(np.log(10), rel=1e-5)


def test_without_negatives_left_the_loss_vanishes():
    everything = np.ones((4, 7), bool)
    assert float(InfoNCE(0.07)(*embeddings(), excluded=everything)) == pytest.approx(0.0, abs=1e-6)


def test_negatives_behind_the_excluded_columns_count():
    some = EXCLUDED[:, :3]
    others = np.concatenate([some, np.zeros((4, 4), bool)], axis=1)
    expected = twin(*embeddings(), 0.2, others).mean()
    assert float(InfoNCE(0.2)(*embeddings(), excluded=some)) == pytest.approx(expected, rel=1e-5)


def test_images_can_be_weighted():
    values, weights = embeddings(), np.array([0.0, 1.0, 2.0, 0.5], "float32")
    loss = float(InfoNCE(0.2)(*values, sample_weight=weights))
    assert loss == pytest.approx((twin(*values, 0.2) * weights).mean(), rel=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_embeddings_are_compared_in_float32(dtype):
    low = [tf.cast(value, dtype) for value in embeddings()]
    loss = InfoNCE(0.07)(*low, excluded=EXCLUDED)
    assert loss.dtype == tf.float32
    exact = twin(*(tf.cast(value, "float32") for value in low), 0.07, EXCLUDED).mean()
    assert float(loss) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("excluded", [None, EXCLUDED])
def test_embeddings_of_length_zero_have_a_finite_gradient(jit_compile, excluded):
    zeros = [tf.Variable(tf.zeros((n, 3))) for n in (4, 4, 7)]

    @tf.function(jit_compile=jit_compile)
    def gradients():
        with tf.GradientTape() as tape:
            loss = InfoNCE(0.07)(*zeros, excluded=excluded)
        return loss, tape.gradient(loss, zeros)

    loss, values = gradients()
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(value)) for value in values)


def test_replicas_sum_to_the_full_loss(two_replicas):
    values = embeddings()
    loss = InfoNCE(0.2)

    def local(context):
        rows = slice(2 * context.replica_id_in_sync_group, 2 * context.replica_id_in_sync_group + 2)
        return tf.constant(values[0][rows]), tf.constant(values[1][rows])

    pairs = two_replicas.experimental_distribute_values_from_function(local)
    shares = two_replicas.run(lambda pair: loss(*pair, tf.constant(values[2])), args=(pairs,))
    total = sum(float(share) for share in two_replicas.experimental_local_results(shares))
    assert total == pytest.approx(twin(*values, 0.2).mean(), rel=1e-5)


def test_round_trip():
    loss = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(InfoNCE(0.3)))
    assert loss.temperature == 0.3


@pytest.mark.parametrize("temperature", [0, -1])
def test_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=f"positive. Received: temperature={temperature}"):
        InfoNCE(temperature)


@pytest.mark.parametrize(
    "shapes",
    [((4, 3), (5, 3), (7, 3)), ((4, 3), (4, 3), (7, 2)), ((4, 3), (4, 3), (7,))],
    ids=["batches", "dimensions", "ranks"],
)
def test_rejects_mismatched_shapes(shapes):
    with pytest.raises(ValueError, match=r"same shape \(batch, dim\), `negatives` \(count, dim\)"):
        InfoNCE(0.2)(*(np.ones(shape, "float32") for shape in shapes))
