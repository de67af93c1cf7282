"""Third-party networks as backbones: trained for one step, exported and reloaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import pooled
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SimCLR
from keras_ssl.untrusted import check_saved_model


def pictures(side, seed=0, batch=4):
    return np.random.default_rng(seed).uniform(size=(batch, side, side, 3)).astype("float32")


def train_export_reload(network, path, side=32):
    """Pretrains one step, exports, reloads; returns the number of features."""
    backbone = pooled(network)
    model = SimCLR(backbone, ProjectionHead(8))
    model.compile(keras.optimizers.Adam(1e-3))
    before = [w.numpy() for w in backbone.trainable_weights]
    views = tf.data.Dataset.from_tensors((pictures(side), pictures(side, 1)))
    history = model.fit(views, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    moved = [
        np.any(a != b.numpy()) for a, b in zip(before, backbone.trainable_weights, strict=True)
    ]
    assert np.mean(moved) > 0.5
    loaded = export.load(export.saved_model(model, path))
    check_saved_model(path)
    images = pictures(side, 2)
    expected = backbone(images).numpy()
    np.testing.assert_allclose(
        loaded(images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    assert len(loaded.trainable_weights) == len(backbone.trainable_weights)
    return expected.shape[1]


def small(outputs, inputs=(8, 8, 3)):
    images = keras.Input(inputs)
    maps = keras.layers.Conv2D(4, 3, name="maps")(images)
    return keras.Model(images, outputs(maps), name="small")


def test_maps_tokens_and_vectors():
    images = pictures(8)
    maps = small(lambda x: x)
    expected = maps(images).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(pooled(maps)(images), expected, atol=1e-6)
    tokens = small(keras.layers.Reshape((36, 4)))
    expected = tokens(images).numpy().mean(axis=1)
    np.testing.assert_allclose(pooled(tokens)(images), expected, atol=1e-6)
    vectors = small(keras.layers.GlobalMaxPooling2D())
    np.testing.assert_array_equal(pooled(vectors)(images), vectors(images))
    assert pooled(maps).get_layer("maps") is maps.get_layer("maps")


def test_dictionary_output_needs_a_key():
    network = small(lambda x: {"P2": x, "P3": keras.layers.MaxPooling2D()(x)})
    assert pooled(network, "P3").output_shape == (None, 4)
    with pytest.raises(ValueError, match=r"`output` must be one of P2, P3. Received: output=None"):
        pooled(network)
    with pytest.raises(ValueError, match="must return one tensor, or a dictionary"):
        pooled(small(lambda x: x), "P3")


def test_half_precision_gives_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert pooled(small(lambda x: x)).output.dtype == "float32"


def test_subclass_needs_an_input_shape():
    @keras.saving.register_keras_serializable(package="test_pooled")
    class Network(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.maps = keras.layers.Conv2D(4, 3)

        def call(self, images):
            return self.maps(images)

    assert pooled(Network(), input_shape=(8, 8, 3)).output_shape == (None, 4)
    with pytest.raises(ValueError, match="`input_shape` must be given"):
        pooled(Network())


def test_other_networks_are_rejected():
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        pooled("resnet")
    with pytest.raises(ValueError, match="must return feature maps"):
        pooled(small(lambda x: keras.ops.expand_dims(x, 1)))
    images = [keras.Input((4, 4, 3)), keras.Input((4, 4, 3))]
    with pytest.raises(ValueError, match="must have one input"):
        pooled(keras.Model(images, keras.layers.Add()(images)))


APPLICATIONS: dict = {
    "ConvNeXtTiny": {"include_preprocessing": False},
    "MobileNetV2": {"alpha": 0.35},
    "ResNet50": {},
    "VGG16": {},
}


@pytest.mark.large
@pytest.mark.parametrize("name", APPLICATIONS)
def test_keras_applications(name, tmp_path):
    build = getattr(keras.applications, name)
    network = build(input_shape=(32, 32, 3), include_top=False, weights=None, **APPLICATIONS[name])
    assert train_export_reload(network, tmp_path / name) >= 512


def hub_networks():
    """Small versions of KerasHub networks, built with the arguments that presets use."""
    return {
        "ResNetBackbone": {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [3],
            "stackwise_num_filters": [64, 128],
            "stackwise_num_blocks": [1, 1],
            "stackwise_num_strides": [1, 2],
            "block_type": "basic_block",
            "image_shape": (32, 32, 3),
        },
        "DenseNetBackbone": {
            "stackwise_num_repeats": [2, 2],
            "growth_rate": 8,
            "image_shape": (32, 32, 3),
        },
        "VGGBackbone": {
            "stackwise_num_repeats": [1, 1],
            "stackwise_num_filters": [8, 16],
            "image_shape": (32, 32, 3),
        },
        "ViTBackbone": {
            "image_shape": (32, 32, 3),
            "patch_size": (8, 8),
            "num_layers": 2,
            "num_heads": 2,
            "hidden_dim": 16,
            "mlp_dim": 32,
        },
    }


@pytest.mark.large
@pytest.mark.parametrize("name", hub_networks())
def test_keras_hub(name, tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    network = getattr(keras_hub.models, name)(**hub_networks()[name])
    assert train_export_reload(network, tmp_path / name) >= 8


def cv_networks():
    """Small versions of KerasCV networks; their presets would need a download."""
    stages = {
        "stackwise_filters": [64, 128],
        "stackwise_blocks": [1, 1],
        "stackwise_strides": [1, 2],
    }
    return {
        "ResNetBackbone": {**stages, "block_type": "basic_block"},
        "DenseNetBackbone": {"stackwise_num_repeats": [2, 2], "growth_rate": 8},
        "CSPDarkNetBackbone": {
            "stackwise_channels": [16, 32],
            "stackwise_depth": [1, 1],
            "use_depthwise": False,
        },
    }


@pytest.mark.large
@pytest.mark.parametrize("name", cv_networks())
def test_keras_cv(name, tmp_path):
    keras_cv = pytest.importorskip("keras_cv")
    network = getattr(keras_cv.models, name)(
        input_shape=(32, 32, 3), include_rescaling=False, **cv_networks()[name]
    )
    assert train_export_reload(network, tmp_path / name) >= 8
