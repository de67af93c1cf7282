"""Convolution as a matrix product, against Keras' layer."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import backbones
from keras_ssl.layers import Conv2D, convolution

# Enough filters for maps of 4 x 3 or 2 x 2 pixels, so that everything is a matrix product.
SIZES = {
    "3x3": {"filters": 192, "kernel_size": 3, "padding": "same"},
    "valid": {"filters": 96, "kernel_size": 3, "padding": "valid"},
    "even kernel": {"filters": 192, "kernel_size": (2, 4), "padding": "same"},
    "1x1": {"filters": 192, "kernel_size": 1, "padding": "same"},
    "strided": {"filters": 96, "kernel_size": 3, "strides": 2, "padding": "same"},
    "strided, valid": {"filters": 96, "kernel_size": 2, "strides": (2, 1), "padding": "valid"},
    "strided 1x1": {"filters": 96, "kernel_size": 1, "strides": 2, "padding": "same"},
    "bias": {"filters": 192, "kernel_size": 3, "padding": "same", "activation": "relu"},
}
SHAPE = (2, 4, 3, 5)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype("float32")


def make_pair(dtype="float32", shape=SHAPE, **arguments):
    arguments = {"use_bias": "activation" in arguments, **arguments}
    pair = [cls(dtype=dtype, **arguments) for cls in (Conv2D, keras.layers.Conv2D)]
    for layer in pair:
        layer.build(shape)
        layer.set_weights([random(w.shape, seed=1) for w in layer.weights])
    return pair


def outputs_and_gradients(layer, images, mode="graph"):
    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, **({"training": True} if isinstance(layer, Conv2D) else {}))
            loss = tf.reduce_sum(tf.cast(outputs, "float32") * random(outputs.shape, seed=2))
        return outputs, *tape.gradient(loss, [images, *[v.value for v in layer.weights]])

    function = {
        "eager": step,
        "graph": tf.function(step),
        "xla": tf.function(step, jit_compile=True),
    }[mode]
    results = function(tf.cast(images, layer.compute_dtype))
    return [np.asarray(tf.cast(x, tf.float32)) for x in results]


def operations(layer, shape=SHAPE, training=True):
    if not layer.built:
        layer.build(shape)
    function = tf.function(lambda x: layer(x, training=training))
    graph = function.get_concrete_function(tf.TensorSpec(shape, layer.compute_dtype)).graph
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_keras_in_values_and_gradients(size, mode):
    ours, theirs = make_pair(**SIZES[size])
    assert "MatMul" in operations(ours)
    received = outputs_and_gradients(ours, random(SHAPE), mode)
    for a, b in zip(received, outputs_and_gradients(theirs, random(SHAPE)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(b).max())


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("filters", [192, 48])
def test_equals_keras_in_half_precision(filters, dtype):
    """With 192 filters everything is a matrix product, with 48 only the kernel's gradient."""
    ours, theirs = make_pair(dtype, filters=filters, kernel_size=3, padding="same")
    assert ("MatMul" in operations(ours)) == (filters == 192)
    received = outputs_and_gradients(ours, random(SHAPE))
    precision = 2e-2 if dtype == "mixed_bfloat16" else 2e-3
    for a, b in zip(received, outputs_and_gradients(theirs, random(SHAPE)), strict=True):
        np.testing.assert_allclose(a, b, rtol=precision, atol=precision * np.abs(b).max())


def test_equals_the_definition():
    """NumPy reference: each output pixel as a sum in float64, in loops."""
    ours, _ = make_pair(filters=192, kernel_size=3, padding="same")
    images, kernel = random(SHAPE).astype("float64"), ours.get_weights()[0].astype("float64")
    expected = np.zeros((*SHAPE[:3], 192))
    for row, column in itertools.product(range(4), range(3)):
        for i, j in itertools.product(range(3), range(3)):
            y, x = row + i - 1, column + j - 1
            if 0 <= y < 4 and 0 <= x < 3:
                expected[:, row, column] += images[:, y, x] @ kernel[i, j]
    received = ours(images.astype("float32"), training=True)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_the_batch_may_be_unknown():
    ours, theirs = make_pair(**SIZES["3x3"])
    signature = [tf.TensorSpec((None, *SHAPE[1:]))]
    function = tf.function(lambda x: ours(x, training=True), input_signature=signature)
    np.testing.assert_allclose(function(random(SHAPE)), theirs(random(SHAPE)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"filters": 48}, SHAPE),  # too few filters for this map
        ({"filters": 512}, (2, None, None, 5)),
        ({"filters": 512, "dilation_rate": 2}, SHAPE),
        ({"filters": 512, "groups": 2}, (2, 4, 3, 6)),
    ],
)
def test_falls_back_to_keras(arguments, shape):
    layer = Conv2D(kernel_size=3, padding="same", **arguments)
    assert "MatMul" not in operations(layer, shape)


def test_inference_and_accelerators_fall_back_to_keras(monkeypatch):
    layer = Conv2D(**SIZES["3x3"])
    assert "MatMul" in operations(layer)
    assert "MatMul" not in operations(layer, training=False)
    monkeypatch.setattr(convolution, "trains_on_cpu", lambda: False)
    assert "MatMul" not in operations(layer)


def test_weights_files_of_keras_layers_fit(tmp_path):
    models = []
    for cls in (keras.layers.Conv2D, Conv2D):
        models.append(keras.Sequential([keras.Input(SHAPE[1:]), cls(4, 3), cls(6, 1)]))
    models[0].save_weights(tmp_path / "old.weights.h5")
    models[1].load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_array_equal(*(model(random(SHAPE)) for model in models))


def test_resnets_train_with_it():
    network = backbones.ResNet(18, width=0.5)
    step = tf.function(lambda x: network(x, training=True))
    graph = step.get_concrete_function(tf.TensorSpec((2, 32, 32, 3))).graph
    products = [o for o in graph.get_operations() if o.type == "MatMul"]
    # The last stage: 256 filters on 4 x 4 pixels, five convolutions.
    assert len(products) == 5
