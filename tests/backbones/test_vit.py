import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

from keras_ssl import export
from keras_ssl.backbones import ViT
from keras_ssl.backbones.positions import resize_positions, sincos_positions

SMALL = {"patch": 4, "dim": 16, "depth": 2, "heads": 4}


def random_weights(model, seed=0):
    """Weights for which no part of the network is without effect."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(0.5 * (weight.name == "gamma"), 0.3, weight.shape))
    return model


@pytest.fixture(scope="module")
def vit():
    return random_weights(ViT(**SMALL, mlp_dim=24, grid=(3, 2)))


def images(height, width, count=2):
    return np.random.default_rng(1).uniform(-1, 1, (count, height, width, 3)).astype("float32")


def twin(model, image, heads, pooling="token", patch=4):
    """A vision transformer on one image of as many patches as there are position embeddings."""
    found = {
        f"{layer.name}.{w.path.partition(layer.name + '/')[2]}": w.numpy().astype("float64")
        for layer in model.layers
        for w in layer.weights
    }

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * found[f"{name}.gamma"] + found[f"{name}.beta"]

    def dense(x, name):
        return x @ found[f"{name}kernel"] + found[f"{name}bias"]

    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    patches = [
        image[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].ravel()
        for r in range(rows)
        for c in range(columns)
    ]
    kernel = found["patches.kernel"].reshape(patch * patch * 3, -1)
    x = np.stack(patches) @ kernel + found["patches.bias"]
    x = np.concatenate([found["tokens.class_token"][0], x]) + found["tokens.positions"][0]
    size = x.shape[1] // heads
    block = 1
    while f"block{block}_norm1.gamma" in found:
        y = dense(norm(x, f"block{block}_norm1"), f"block{block}_attention.qkv/")
        q, k, v = y.reshape(len(x), 3, heads, size).transpose(1, 2, 0, 3)
        out = []
        for head in range(heads):
            scores = np.exp(q[head] @ k[head].T / np.sqrt(size))
            out.append(scores / scores.sum(1, keepdims=True) @ v[head])
        x = x + dense(np.concatenate(out, axis=1), f"block{block}_attention.proj/")
        y = dense(norm(x, f"block{block}_norm2"), f"block{block}_dense1.")
        y = y * (1 + erf(y / np.sqrt(2))) / 2
        x = x + dense(y, f"block{block}_dense2.")
        block += 1
    return norm(x[0] if pooling == "token" else x[1:].mean(0), "features")


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_features_are_those_of_the_twin(vit, pooling):
    model = ViT(**SMALL, mlp_dim=24, grid=(3, 2), pooling=pooling)
    model.set_weights(vit.get_weights())
    batch = images(12, 8)
    expected = np.stack([twin(model, image, 4, pooling) for image in batch])
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(model(batch), expected, rtol=1e-4, atol=1e-5)
    cropped = np.pad(batch, [(0, 0), (0, 3), (0, 2), (0, 0)])  # no further patch
    np.testing.assert_allclose(model(cropped), expected, rtol=1e-4, atol=1e-5)


def cubic(distance, a=-0.75):
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0


def resized(maps, size, offset):
    """Cubic convolution, pixel by pixel."""
    result = np.zeros((*size, maps.shape[2]))
    for r, c in np.ndindex(size):
        y, x = (
            (i + 0.5) * old / (new + offset) - 0.5
            for i, old, new in zip((r, c), maps.shape, size, strict=False)
        )
        for i in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
            for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                near = np.clip(i, 0, maps.shape[0] - 1), np.clip(j, 0, maps.shape[1] - 1)
                result[r, c] += cubic(y - i) * cubic(x - j) * maps[near]
    return result


@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize("size", [(3, 4), (5, 7), (2, 9), (1, 1)])
def test_positions_are_resized(size, offset):
    maps = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    flat = tf.constant(maps.reshape(12, 5))
    expected = resized(maps, size, offset if size != (3, 4) else 0).reshape(-1, 5)
    received = resize_positions(flat, size, (3, 4), offset)
    np.testing.assert_allclose(received, expected, atol=2e-5)
    dynamic = resize_positions(flat, [tf.constant(side) for side in size], (3, 4), offset)
    np.testing.assert_allclose(dynamic, expected, atol=2e-5)
    if size == (3, 4):
        np.testing.assert_array_equal(dynamic, flat)


def test_images_of_other_sizes(vit):
    wide = ViT(**SMALL, mlp_dim=24, grid=(2, 5))
    weights = vit.get_weights()
    place = next(i for i, w in enumerate(vit.weights) if w.name == "positions")
    maps = weights[place][0, 1:].reshape(3, 2, 16)
    flat = resized(maps, (2, 5), 0).reshape(1, 10, 16)
    weights[place] = np.concatenate([weights[place][:, :1], flat], axis=1)
    wide.set_weights(weights)
    batch = images(8, 20)
    np.testing.assert_allclose(vit(batch), wide(batch), rtol=1e-3, atol=1e-4)
    fixed = ViT(**SMALL, mlp_dim=24, grid=(3, 2), input_shape=(8, 20, 3))
    fixed.set_weights(vit.get_weights())
    np.testing.assert_allclose(vit(batch), fixed(batch), rtol=1e-4, atol=1e-5)


def test_fixed_positions():
    table = sincos_positions(2, 3, 8)
    row, column = 1, 2
    expected = [
        *(np.sin([column, column / 100]), np.cos([column, column / 100])),
        *(np.sin([row, row / 100]), np.cos([row, row / 100])),
    ]
    np.testing.assert_allclose(table[row * 3 + column], np.concatenate(expected), atol=1e-6)
    model = ViT(**SMALL, positions="sincos", input_shape=(8, 12, 3))
    layer = model.get_layer("tokens")
    assert not layer.embeddings.trainable
    np.testing.assert_array_equal(layer.embeddings[0, 0], np.zeros(16))
    np.testing.assert_array_equal(layer.embeddings[0, 1:], sincos_positions(2, 3, 16))
    assert len(model.trainable_weights) == len(model.weights) - 1


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ({"dim": 192, "heads": 3}, 5_717_416),
        ({"dim": 384, "heads": 6}, 22_050_664),
        ({"dim": 768, "heads": 12}, 86_567_656),
    ],
)
def test_size_is_that_of_the_papers(sizes, parameters):
    # DeiT's and timm's numbers of parameters include a classifier of 1000 classes.
    with keras.StatelessScope(initialize_variables=False):
        model = ViT(**sizes)
    keras.backend.clear_session()
    count = sum(int(np.prod(w.shape)) for w in model.weights)
    assert count + (sizes["dim"] + 1) * 1000 == parameters


def test_names_and_shapes():
    model = ViT(**SMALL, input_shape=(8, 12, 1))
    assert (model.name, model.output_shape) == ("vit", (None, 16))
    assert model.get_layer("block2").output.shape == (None, 7, 16)
    assert ViT(**SMALL).get_layer("block1").output.shape == (None, None, 16)
    assert ViT(patch=16, dim=8, depth=1, heads=1).get_layer("tokens").grid == (14, 14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 10, "heads": 4}, "multiple of `heads`. Received: dim=10, heads=4"),
        ({"dim": 6, "heads": 2, "positions": "sincos"}, "multiple of 4 .* Received: dim=6"),
        ({"depth": 0}, "`depth` must be positive. Received: depth=0"),
        ({"pooling": "max"}, "`pooling` must be one of token, mean. Received: 'max'"),
        ({"positions": "none"}, "`positions` must be one of learned, sincos"),
        ({"input_shape": (8, 8, 3), "patch": 16}, r"one patch. Received: input_shape=\(8, 8, 3\)"),
        ({"input_shape": (32, 32)}, "must be .height, width, channels."),
        ({"grid": (0, 1)}, "`grid` must be two positive numbers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ViT(**{**SMALL, **arguments})


def test_mixed_precision(vit):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ViT(**SMALL, mlp_dim=24, grid=(3, 2))
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(vit.get_weights())
    assert model.get_layer("block2").output.dtype == "bfloat16"
    batch = images(12, 8)
    features, expected = model(batch).numpy(), vit(batch).numpy()
    assert features.dtype == np.float32
    cosines = np.sum(features * expected, 1) / (
        np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
    )
    assert cosines.min() > 0.99


def test_saves_loads_and_clones(vit, tmp_path):
    batch = images(8, 16)
    vit.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "model.keras")(batch), vit(batch)
    )
    clone = keras.models.clone_model(vit)
    clone.set_weights(vit.get_weights())
    np.testing.assert_array_equal(clone(batch), vit(batch))


@pytest.mark.large
def test_the_same_gradient_under_xla(vit):
    batch = tf.constant(images(8, 16))

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(vit(batch, training=True) ** 3)
        return tape.gradient(loss, [w.value for w in vit.trainable_variables])

    plain, compiled = gradients(), tf.function(gradients, jit_compile=True)()
    for a, b in zip(compiled, plain, strict=True):
        assert b is not None
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max() + 1e-6)


@pytest.mark.large
def test_exports_as_a_saved_model_for_any_size(vit, tmp_path):
    path = export.saved_model(vit, tmp_path / "vit")
    loaded = export.load(path)
    for size in ((12, 8), (8, 20)):
        np.testing.assert_allclose(loaded(images(*size)), vit(images(*size)), atol=1e-5)


@pytest.mark.large
def test_exports_as_onnx_for_any_size(vit, tmp_path):
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export.onnx(vit, tmp_path / "vit.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in ((12, 8), (8, 20)):
        (received,) = session.run(["features"], {"images": images(*size)})
        np.testing.assert_allclose(received, vit(images(*size)), atol=1e-4)


@pytest.mark.large
@pytest.mark.parametrize(
    ("quantize", "least"), [(None, 0.9999), ("float16", 0.999), ("int8", 0.97)]
)
def test_exports_as_litert(vit, tmp_path, quantize, least):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    model = ViT(**SMALL, mlp_dim=24, grid=(3, 2), input_shape=(16, 8, 3))
    model.set_weights(vit.get_weights())
    path = export.lite(model, tmp_path / "vit.tflite", quantize, images(16, 8, 40))
    batch = images(16, 8, 7)[3:]
    run = interpreter(str(path)).get_signature_runner("serving_default")
    received, expected = run(images=batch)["features"], model(batch).numpy()
    cosines = np.sum(received * expected, 1) / (
        np.linalg.norm(received, axis=1) * np.linalg.norm(expected, axis=1)
    )
    assert cosines.min() > least


def test_int8_needs_images_of_one_size(vit, tmp_path):
    with pytest.raises(ValueError, match=r"one size.*'vit' with images of \(None, None, 3\)"):
        export.lite(vit, tmp_path / "vit.tflite", "int8", images(16, 8, 40))
