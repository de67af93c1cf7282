import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import ResNet, SelectiveKernel
from keras_ssl.layers import BatchNorm
from tests.tiers import rest_large


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.fixture
def shapes_only():
    """Creates variables without values: the largest model has 795 million parameters."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.backend.clear_session()  # drops the uninitialized variables


# Depth, width, selective kernels, millions of parameters: google-research/simclr, README.
PUBLISHED = [
    (50, 1, False, 24),
    (50, 1, True, 35),
    (50, 2, False, 94),
    (50, 2, True, 140),
    (101, 1, False, 43),
    (101, 1, True, 65),
    (101, 2, False, 170),
    (101, 2, True, 257),
    (152, 1, False, 58),
    (152, 1, True, 89),
    (152, 2, False, 233),
    (152, 2, True, 354),
    (152, 3, True, 795),
]


@pytest.mark.parametrize(("depth", "width", "selective", "millions"), rest_large(PUBLISHED, 3))
def test_size_is_that_of_simclr_v2(shapes_only, depth, width, selective, millions):
    # The published numbers count the backbone without a classifier, moving statistics included: the
    # trainable variables alone would give 232 and 353 for 152 layers of double width, and a
    # classifier of 1000 classes 26 for the smallest.
    sk_ratio = 0.0625 if selective else 0.0
    model = ResNet(depth, width, sk_ratio, input_shape=(224, 224, 3))
    assert round(count(model.variables) / 1e6) == millions


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [
        (18, 11_689_512),
        (50, 25_557_032),
        *(
            pytest.param(*case, marks=pytest.mark.large)
            for case in ((34, 21_797_672), (101, 44_549_160), (152, 60_192_808), (200, 64_673_832))
        ),
    ],
)
def test_size_is_that_of_pytorch(shapes_only, depth, parameters):
    # torchvision (200: timm) counts trainable parameters with a classifier of 1000 classes.
    model = ResNet(depth, input_shape=(224, 224, 3))
    classifier = (model.output_shape[-1] + 1) * 1000
    assert count(model.trainable_variables) + classifier == parameters


def feature_map_sides(model):
    names = ("stem", "block1", "block2", "block3", "block4")
    return [model.get_layer(name).output.shape[1] for name in names]


@pytest.mark.parametrize(
    ("shape", "stem", "sides"),
    [
        ((32, 32, 3), "auto", [32, 32, 16, 8, 4]),
        ((64, 64, 3), "auto", [64, 64, 32, 16, 8]),
        ((96, 96, 3), "auto", [24, 24, 12, 6, 3]),
        ((32, 32, 3), "imagenet", [8, 8, 4, 2, 1]),
        ((96, 96, 1), "small", [96, 96, 48, 24, 12]),
        ((33, 33, 6), "small", [33, 33, 17, 9, 5]),
        ((225, 225, 3), "imagenet", [57, 57, 29, 15, 8]),
    ],
)
@pytest.mark.parametrize("sk_ratio", rest_large([0.0, 0.0625]))
def test_feature_maps_have_names_and_pytorch_sizes(shapes_only, shape, stem, sides, sk_ratio):
    model = ResNet(18, width=0.125, sk_ratio=sk_ratio, stem=stem, input_shape=shape)
    assert feature_map_sides(model) == sides
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, 64)


@pytest.mark.parametrize(
    ("depth", "sk_ratio", "features"), [(18, 0.0, 64), (50, 0.0, 256), (50, 0.0625, 256)]
)
def test_block_outputs_are_reachable_and_the_features_their_mean(depth, sk_ratio, features):
    model = ResNet(depth, width=0.125, sk_ratio=sk_ratio, input_shape=(16, 16, 3))
    maps = keras.Model(model.input, [model.get_layer("block4").output, model.output])
    block4, pooled = maps(np.random.default_rng(0).random((2, 16, 16, 3)).astype("float32"))
    assert pooled.shape == (2, features)
    np.testing.assert_allclose(pooled, np.mean(block4, axis=(1, 2)), rtol=1e-5)


def test_unknown_image_size():
    model = ResNet(18, width=0.125, stem="small", input_shape=(None, None, 3))
    for side in (8, 12):
        assert model(np.ones((1, side, side, 3), "float32")).shape == (1, 64)


def test_strided_convolutions_pad_as_pytorch():
    model = ResNet(18, width=0.125, input_shape=(8, 8, 3))
    layer = model.get_layer("block2_1_conv1")
    kernel = np.zeros(layer.kernel.shape, "float32")
    kernel[0, 0, 0, 0] = 1  # picks the pixel above and to the left
    layer.kernel.assign(kernel)
    inputs = model.get_layer("block1").output
    both = keras.Model(model.input, [inputs, layer.output])
    before, after = both(np.random.default_rng(0).random((1, 8, 8, 3)).astype("float32"))
    padded = np.pad(before[0, :, :, 0], 1)
    np.testing.assert_allclose(after[0, :, :, 0], padded[0:8:2, 0:8:2])


def test_max_pool_pads_as_pytorch():
    model = ResNet(18, width=0.125, stem="imagenet", input_shape=(16, 16, 3))
    both = keras.Model(
        model.input, [model.get_layer("stem_relu").output, model.get_layer("stem").output]
    )
    before, after = both(np.random.default_rng(0).random((1, 16, 16, 3)).astype("float32"))
    padded = np.pad(before[0], ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    expected = [
        [padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((0, 1)) for j in range(4)]
        for i in range(4)
    ]
    np.testing.assert_array_equal(after[0], expected)


@pytest.mark.parametrize(("depth", "last_norm"), [(18, "norm2"), (50, "norm3")])
def test_residual_blocks_start_as_their_shortcut(depth, last_norm):
    model = ResNet(depth, width=0.125, input_shape=(8, 8, 3))
    gammas = {
        layer.name: np.asarray(layer.gamma) for layer in model.layers if hasattr(layer, "gamma")
    }
    assert all(isinstance(model.get_layer(name), BatchNorm) for name in gammas)
    zero = {name for name, gamma in gammas.items() if not gamma.any()}
    assert zero == {name for name in gammas if name.endswith(last_norm) and "stem" not in name}
    assert len(zero) == {18: 8, 50: 16}[depth]
    first, second = model.get_layer("block1_1_relu"), model.get_layer("block1_2_add")
    both = keras.Model(model.input, [first.output, second.output])
    before, after = both(np.random.default_rng(0).random((1, 8, 8, 3)).astype("float32"))
    np.testing.assert_array_equal(before, after)


def test_kernels_start_with_he_over_outputs_and_no_biases():
    keras.utils.set_random_seed(0)
    model = ResNet(18, width=0.5, input_shape=(8, 8, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert not any(layer.use_bias for layer in convolutions)
    for layer in convolutions:
        height, width, _, filters = layer.kernel.shape
        expected = np.sqrt(2 / (height * width * filters))
        np.testing.assert_allclose(np.std(layer.kernel), expected, rtol=0.15)
    same_shape = [model.get_layer(f"block1_{n}_conv2").kernel for n in (1, 2)]
    assert not np.array_equal(*same_shape)


def test_selective_kernel_is_a_softmax_over_two_streams():
    keras.utils.set_random_seed(0)
    layer = SelectiveKernel(8, ratio=0.0625)
    maps = np.random.default_rng(0).normal(size=(8, 3, 4, 16)).astype("float32")
    received = layer(maps, training=True)

    streams = np.stack([maps[..., :8], maps[..., 8:]])  # (2, batch, height, width, filters)
    hidden = streams.sum(0).mean((1, 2)) @ np.asarray(layer.squeeze.kernel)
    assert hidden.shape == (8, 32)
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    logits = np.maximum(hidden, 0) @ np.asarray(layer.excite.kernel)
    shares = np.exp(np.stack([logits[:, :8], logits[:, 8:]]))
    shares = shares / shares.sum(0)
    expected = (streams * shares[:, :, None, None, :]).sum(0)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_selective_kernel_has_the_same_gradient_under_xla():
    keras.utils.set_random_seed(0)
    layer = SelectiveKernel(8)
    maps = tf.constant(np.random.default_rng(0).random((4, 3, 3, 16)).astype("float32"))
    layer.build(maps.shape)

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(maps, training=True) ** 2)
        return tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    plain, compiled = gradients(), tf.function(gradients, jit_compile=True)()
    assert len(plain) == 4  # two kernels, gamma and beta
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize("sk_ratio", [0.0, 0.0625])
def test_features_are_float32_under_mixed_precision(sk_ratio):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ResNet(50, width=0.0625, sk_ratio=sk_ratio, input_shape=(8, 8, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("block4").output.dtype == "bfloat16"
    assert model(np.ones((2, 8, 8, 3), "float32"), training=True).dtype == "float32"


@pytest.mark.parametrize(
    ("depth", "sk_ratio"), [(18, 0.0), pytest.param(50, 0.0625, marks=pytest.mark.large)]
)
def test_saves_loads_and_clones(tmp_path, depth, sk_ratio):
    model = ResNet(depth, width=0.0625, sk_ratio=sk_ratio, input_shape=(8, 8, 3))
    assert model.name == f"resnet{depth}"
    for weight in model.weights:  # zero gammas would hide the residuals
        weight.assign(np.random.default_rng(0).uniform(0.1, 0.5, weight.shape))
    images = np.random.default_rng(1).random((2, 8, 8, 3)).astype("float32")

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))

    clone = keras.models.clone_model(model)
    assert not np.array_equal(clone(images), model(images))
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(images), model(images))


@pytest.mark.parametrize(
    ("depth", "sk_ratio", "jit_compile"), rest_large([(18, 0.0, True), (50, 0.0625, False)])
)
def test_trains(depth, sk_ratio, jit_compile):
    keras.utils.set_random_seed(0)
    model = ResNet(depth, width=0.0625, sk_ratio=sk_ratio, input_shape=(8, 8, 3))
    images = tf.constant(np.random.default_rng(0).random((4, 8, 8, 3)).astype("float32"))
    targets = tf.constant(np.eye(4, model.output_shape[-1], dtype="float32"))
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(images, training=True) - targets) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(5)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 20}, "one of 18, 34, 50, 101, 152, 200. Received: depth=20"),
        ({"width": 0}, "`width` must be positive .* Received: width=0"),
        ({"width": 0.01}, "`width` must be positive and leave at least 2"),
        ({"sk_ratio": -0.1}, "`sk_ratio` must be 0 .* Received: sk_ratio=-0.1"),
        ({"stem": "cifar"}, "`stem` must be one of auto, small, imagenet. Received: stem='cifar'"),
        ({"input_shape": (32, 32)}, r"\(height, width, channels\).* Received: input_shape="),
        ({"input_shape": (32, 32, None)}, "with a known number of channels"),
        ({"input_shape": (None, None, 3)}, "`stem` must be 'small' or 'imagenet'"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"filters": 0}, "`filters` must be at least 1. Received: filters=0"),
        ({"filters": 8, "ratio": 0}, "`ratio` must be positive. Received: ratio=0"),
    ],
)
def test_selective_kernel_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SelectiveKernel(**kwargs)


def test_selective_kernel_checks_its_input():
    with pytest.raises(ValueError, match=r"filters=8. Received: input_shape=\(2, 4, 4, 8\)"):
        SelectiveKernel(8).build((2, 4, 4, 8))


def test_strides_of_the_blocks_can_be_chosen():
    network = ResNet(18, 0.0625, input_shape=(96, 96, 1), strides=(1, 2, 1, 1))
    sides = [network.get_layer(f"block{n}").output.shape[1] for n in (1, 2, 3, 4)]
    assert sides == [24, 12, 12, 12]
    usual = ResNet(18, 0.0625, input_shape=(96, 96, 1))
    assert network.count_params() == usual.count_params()
    for strides in ((1, 2, 2), (1, 2, 2, 3)):
        with pytest.raises(ValueError, match="`strides` must be four numbers of 1 or 2"):
            ResNet(18, strides=strides)
