import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.layers.batch_norm import BatchNorm
from tests.tiers import rest_large

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}


def random_images(shape=(4, 6, 5, 8), seed=0):
    return np.random.default_rng(seed).normal(2, 3, shape).astype("float32")


def make_pair(shape=(4, 6, 5, 8), dtype="float32", **kwargs):
    """Returns our layer and Keras' layer with the same random weights."""
    ours = BatchNorm(dtype=dtype, **kwargs)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype, **kwargs)
    generator = np.random.default_rng(1)
    for layer in (ours, theirs):
        layer.build(shape)
    weights = [generator.uniform(0.5, 2, w.shape) for w in ours.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def outputs_and_gradients(layer, images, training, mode):
    weights = tf.constant(random_images(images.shape, seed=2))

    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=training)
            loss = tf.reduce_mean(tf.cast(outputs, "float32") * weights)
        values = [images, *[v.value for v in layer.trainable_variables]]
        return outputs, tape.gradient(loss, values)

    outputs, gradients = MODES[mode](step)(tf.cast(images, layer.compute_dtype))
    return [np.asarray(keras.ops.cast(x, "float32")) for x in (outputs, *gradients)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [True, False])
def test_equals_keras_in_values_gradients_and_moving_statistics(mode, training):
    ours, theirs = make_pair()
    images = random_images()
    for _ in range(2):  # the second step starts from moved statistics
        expected = outputs_and_gradients(theirs, images, training, mode)
        received = outputs_and_gradients(ours, images, training, mode)
        for a, b in zip(received, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize(
    "dtype", rest_large(["mixed_bfloat16", "float16", "mixed_float16", "bfloat16"], 2)
)
@pytest.mark.parametrize("training", [True, False])
def test_equals_keras_in_half_precision(mode, dtype, training):
    ours, theirs = make_pair(dtype=dtype)
    images = random_images()
    expected = outputs_and_gradients(theirs, images, training, mode)
    received = outputs_and_gradients(ours, images, training, mode)
    assert ours(tf.cast(images, ours.compute_dtype)).dtype == ours.compute_dtype
    precision = 2e-2 if "bfloat16" in dtype else 2e-3
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=precision, atol=precision * np.abs(b).max())
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a.astype("float32"), b.astype("float32"), rtol=precision)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_offset_and_factor_are_optional(center, scale):
    ours, theirs = make_pair(center=center, scale=scale)
    assert len(ours.trainable_variables) == center + scale
    for a, b in zip(
        outputs_and_gradients(ours, random_images(), True, "graph"),
        outputs_and_gradients(theirs, random_images(), True, "graph"),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_moving_statistics_follow_the_definition():
    layer = BatchNorm(momentum=0.75)
    mean, variance = np.zeros(8), np.ones(8)
    for seed in range(3):
        images = random_images(seed=seed)
        layer(images, training=True)
        mean = 0.75 * mean + 0.25 * images.mean((0, 1, 2))
        variance = 0.75 * variance + 0.25 * images.var((0, 1, 2))  # divided by n, not n - 1
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_one_value_per_channel_keeps_the_statistics_finite(mode):
    layer = BatchNorm()
    layer.build((1, 1, 1, 3))
    outputs = MODES[mode](lambda x: layer(x, training=True))(tf.ones((1, 1, 1, 3)))
    np.testing.assert_allclose(outputs, np.zeros((1, 1, 1, 3)), atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, np.full(3, 0.9), rtol=1e-6)


def test_unknown_sizes_are_counted_when_the_graph_runs():
    layer = BatchNorm(momentum=0.0)
    layer.build((None, None, None, 8))
    signature = [tf.TensorSpec((None, None, None, 8))]
    function = tf.function(lambda x: layer(x, training=True), input_signature=signature)
    for shape in ((4, 6, 5, 8), (2, 3, 3, 8)):
        images = random_images(shape)
        function(images)
        np.testing.assert_allclose(layer.moving_variance, images.var((0, 1, 2)), rtol=1e-5)


def operations(layer, inputs, training):
    layer.build(inputs.shape)
    function = tf.function(lambda x: layer(x, training=training))
    graph = function.get_concrete_function(inputs).graph
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("training", [True, False])
def test_fuses_feature_maps_only(training):
    maps, rows = tf.ones((4, 3, 3, 8)), tf.ones((4, 8))
    assert "FusedBatchNormV3" in operations(BatchNorm(), maps, training)
    assert "FusedBatchNormV3" not in operations(BatchNorm(), rows, training)
    assert "FusedBatchNormV3" not in operations(BatchNorm(axis=1), maps, training)


@pytest.mark.parametrize("kwargs", [{"dtype": "float64"}, {"axis": 1}])
def test_falls_back_to_keras_where_it_cannot_fuse(kwargs):
    images = random_images()
    ours = BatchNorm(**kwargs)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **kwargs)
    np.testing.assert_allclose(
        ours(images, training=True), theirs(images, training=True), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-6)


def test_rows_are_normalised_as_keras_does():
    rows = random_images((16, 8))
    ours, theirs = make_pair((16, 8))
    np.testing.assert_allclose(
        ours(rows, training=True), theirs(rows, training=True), rtol=1e-6, atol=1e-6
    )


def test_frozen_layer_runs_in_inference_mode():
    layer, _ = make_pair()
    expected = layer(random_images(), training=False)
    before = layer.get_weights()
    layer.trainable = False
    np.testing.assert_array_equal(layer(random_images(), training=True), expected)
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def two_replicas():
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    if len(devices) < 2:
        pytest.skip("needs two logical CPUs")
    # No collective operations: their keys clash between two strategies in one process.
    return tf.distribute.MirroredStrategy(
        devices[:2], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def on_two_replicas(strategy, layer, parts, weights):
    """Returns each replica's outputs, input gradients and weight gradients."""

    def to_replicas(arrays):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(arrays[context.replica_id_in_sync_group])
        )

    def step(images, weights):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, weights.dtype) * weights)
        values = [images, *[v.value for v in layer.trainable_variables]]
        return outputs, *tape.gradient(loss, values)

    results = tf.function(lambda *args: strategy.run(step, args))(
        to_replicas(parts), to_replicas(weights)
    )
    return [
        [
            np.asarray(keras.ops.cast(x, "float64"))
            for x in strategy.experimental_local_results(each)
        ]
        for each in results
    ]


@pytest.mark.parametrize("shape", [(9, 6, 5, 8), (9, 8)])
@pytest.mark.parametrize(
    ("dtype", "precision"), [("float64", 1e-10), ("float32", 2e-5), ("mixed_bfloat16", 2e-2)]
)
def test_two_replicas_equal_one(two_replicas, shape, dtype, precision):
    kind = "float64" if dtype == "float64" else "float32"
    images, weights = (random_images(shape, seed).astype(kind) for seed in (0, 1))
    single, keras_layer = make_pair(shape, dtype)
    compute = tf.as_dtype(single.compute_dtype)
    with tf.GradientTape() as tape:
        inputs = tf.cast(images, compute)
        tape.watch(inputs)
        outputs = single(inputs, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, kind) * weights)
    of_inputs, *of_weights = tape.gradient(
        loss, [inputs, *[v.value for v in single.trainable_variables]]
    )

    with two_replicas.scope():
        layer = BatchNorm(dtype=dtype)
        layer.build(shape)
    layer.set_weights(keras_layer.get_weights())
    parts = [tf.cast(part, compute) for part in (images[:5], images[5:])]  # of different size
    received = on_two_replicas(two_replicas, layer, parts, [weights[:5], weights[5:]])

    def equal(value, expected):
        expected = np.asarray(keras.ops.cast(expected, "float64"))
        np.testing.assert_allclose(value, expected, precision, precision * np.abs(expected).max())

    equal(np.concatenate(received[0]), outputs)
    equal(np.concatenate(received[1]), of_inputs)
    for values, expected in zip(received[2:], of_weights, strict=True):
        equal(sum(values), expected)
    equal(layer.moving_mean, single.moving_mean)
    equal(layer.moving_variance, single.moving_variance)


def test_two_replicas_without_synchronization(two_replicas):
    images = random_images((8, 6, 5, 8))
    with two_replicas.scope():
        layer = BatchNorm(synchronized=False)
        layer.build(images.shape)
    halves = np.split(images, 2)
    outputs, *_ = on_two_replicas(two_replicas, layer, halves, halves)
    alone = [BatchNorm()(half, training=True) for half in halves]
    np.testing.assert_allclose(np.concatenate(outputs), np.concatenate(alone), 1e-5, 1e-5)


def test_configuration_makes_the_same_layer():
    layer = BatchNorm(0.8, 1e-3, scale=False, gamma_initializer="zeros", synchronized=False)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is BatchNorm
    assert copy.get_config() == layer.get_config()


def test_model_saves_and_loads(tmp_path):
    model = keras.Sequential([keras.Input((6, 5, 8)), BatchNorm(gamma_initializer="zeros")])
    model.layers[0].set_weights([np.full(8, value) for value in (1.5, 0.5, 0.1, 2.0)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(random_images()), model(random_images()))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"momentum": 1.5}, r"`momentum` must be in \[0, 1\]. Received: momentum=1.5"),
        ({"epsilon": 0.0}, "`epsilon` must be positive. Received: epsilon=0.0"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BatchNorm(**kwargs)
