"""The heads, layer by layer, against matrix products."""

import keras
import numpy as np
import pytest

from keras_ssl.layers import BatchNorm, MLPHead, ProjectionHead


def features(count=6, dim=5, seed=0):
    return np.random.default_rng(seed).normal(1, 2, (count, dim)).astype("float32")


def randomize(head, dim=5):
    head.build((None, dim))
    random = np.random.default_rng(1)
    head.set_weights([random.uniform(0.5, 2, w.shape) - (w.ndim > 1) for w in head.get_weights()])
    return head


def twin(head, x, training):
    """Applies dense layers, normalizations and ReLUs in the order of their names."""
    x = x.astype("float64")
    for layer in head.stack:
        weights = {weight.name: np.asarray(weight, "float64") for weight in layer.weights}
        if isinstance(layer, keras.layers.Dense):
            x = x @ weights["kernel"] + weights.get("bias", 0.0)
        elif isinstance(layer, BatchNorm):
            mean = x.mean(axis=0) if training else weights["moving_mean"]
            variance = x.var(axis=0) if training else weights["moving_variance"]
            x = weights["gamma"] * (x - mean) / np.sqrt(variance + 1e-5) + weights.get("beta", 0.0)
        else:
            x = np.maximum(x, 0)
    return x


def names(head):
    """Returns each layer's name with the names of its trainable weights."""
    return [(layer.name, *(w.name for w in layer.trainable_weights)) for layer in head.stack]


DENSE = ("kernel", "bias")
STRUCTURES = {
    "simclr": (
        ProjectionHead(4),
        [
            ("dense_1", "kernel"),
            ("norm_1", "gamma", "beta"),
            ("relu_1",),
            ("dense_2", "kernel"),
            ("norm_2", "gamma"),
        ],
    ),
    "simclr_linear": (ProjectionHead(4, depth=1), [("dense_1", "kernel"), ("norm_1", "gamma")]),
    "simclr_none": (ProjectionHead(4, depth=0), []),
    "moco_v1": (MLPHead(4, depth=1), [("dense_1", *DENSE)]),
    "moco_v2": (MLPHead(4), [("dense_1", *DENSE), ("relu_1",), ("dense_2", *DENSE)]),
    "byol": (
        MLPHead(4, hidden_units=7, batch_norm=True),
        [("dense_1", *DENSE), ("norm_1", "gamma", "beta"), ("relu_1",), ("dense_2", "kernel")],
    ),
    "three_layers": (
        MLPHead(4, hidden_units=7, depth=3),
        [
            ("dense_1", *DENSE),
            ("relu_1",),
            ("dense_2", *DENSE),
            ("relu_2",),
            ("dense_3", *DENSE),
        ],
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("training", [True, False])
def test_layers_and_values(name, training):
    head, structure = STRUCTURES[name]
    head = randomize(type(head).from_config(head.get_config()))
    assert names(head) == structure
    expected = twin(head, features(), training)
    outputs = head(features(), training=training)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    assert head.compute_output_shape((None, 5)) == (None, 4 if structure else 5)


@pytest.mark.parametrize("head", [ProjectionHead, MLPHead])
def test_hidden_layers_have_the_width_of_the_input(head):
    assert randomize(head(4, depth=3)).stack[0].units == 5
    assert randomize(head(4, hidden_units=7, depth=3)).stack[0].units == 7


def test_batch_norm_is_synchronized_by_default():
    norms = [v for v in randomize(MLPHead(4, 7, batch_norm=True)).stack if isinstance(v, BatchNorm)]
    assert [norm.synchronized for norm in norms] == [True]


@pytest.mark.parametrize(
    "head",
    [ProjectionHead(4, 7, 3, name="head"), MLPHead(4, 7, 3, batch_norm=True, name="head")],
    ids=lambda head: type(head).__name__,
)
def test_configuration_round_trip(head, tmp_path):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()
    model = keras.Sequential([keras.Input((5,)), head])
    model.save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras")
    np.testing.assert_array_equal(loaded(features()), model(features()))


@pytest.mark.parametrize("head", [ProjectionHead, MLPHead])
@pytest.mark.parametrize(("name", "value"), [("units", 0), ("hidden_units", -1)])
def test_rejects_units_that_are_not_positive(head, name, value):
    with pytest.raises(
        ValueError, match=rf"`{name}` must be at least 1\. Received: {name}={value}"
    ):
        head(**{"units": 4, name: value})


def test_rejects_an_invalid_depth():
    with pytest.raises(ValueError, match=r"`depth` must be at least 1\. Received: depth=0"):
        MLPHead(4, depth=0)
    with pytest.raises(ValueError, match=r"`depth` must not be negative\. Received: depth=-1"):
        ProjectionHead(4, depth=-1)


HIDDEN, HIDDEN_2 = ["dense_1", "norm_1", "relu_1"], ["dense_2", "norm_2", "relu_2"]


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (ProjectionHead(4, depth=0), [[]]),
        (ProjectionHead(4, depth=2), [[], HIDDEN, [*HIDDEN, "dense_2", "norm_2"]]),
        (
            ProjectionHead(4, depth=3),
            [[], HIDDEN, HIDDEN + HIDDEN_2, [*HIDDEN, *HIDDEN_2, "dense_3", "norm_3"]],
        ),
        (MLPHead(4, depth=1), [[], ["dense_1"]]),
        (MLPHead(4), [[], ["dense_1", "relu_1"], ["dense_1", "relu_1", "dense_2"]]),
        (MLPHead(4, batch_norm=True), [[], HIDDEN, [*HIDDEN, "dense_2"]]),
    ],
)
def test_first_layers_end_after_a_relu_or_the_last_layer(head, kept):
    head = randomize(type(head).from_config(head.get_config()))
    assert [[layer.name for layer in head.first_layers(i)] for i in range(len(kept))] == kept
    own = {id(layer) for layer in head.stack}
    assert {id(layer) for layer in head.first_layers(head.depth)} == own


def test_first_layers_are_a_new_list():
    head = randomize(ProjectionHead(4))
    head.first_layers(2).clear()
    assert len(head.stack) == 5


@pytest.mark.parametrize("head", [ProjectionHead, MLPHead])
@pytest.mark.parametrize("count", [-1, 3, True, 1.0])
def test_first_layers_outside_the_head(head, count):
    message = (
        r"`count` must be an integer from 0 to the head's depth\. "
        rf"Received: count={count}, depth=2"
    )
    with pytest.raises(ValueError, match=message):
        randomize(head(4)).first_layers(count)


@pytest.mark.parametrize("head", [ProjectionHead, MLPHead])
def test_an_unbuilt_head_has_no_layers(head):
    with pytest.raises(ValueError, match=r"must be built: .*Received: the unbuilt 'head'"):
        head(4, name="head").first_layers(1)
