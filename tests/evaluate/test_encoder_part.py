"""What fine-tuning begins with: equal to the pretrained networks, and apart from them."""

import keras
import numpy as np
import pytest

from keras_ssl.backbones import Tiny
from keras_ssl.evaluate.encoder_part import encoder
from keras_ssl.layers import MLPHead, ProjectionHead, SplitBatchNorm, split_batch_norm
from keras_ssl.methods import BYOL, MoCo, SimCLR

SHAPE = (8, 8, 3)


def images(count=5):
    return np.random.default_rng(0).random((count, *SHAPE), np.float32)


def trained(model):
    """Gives every weight a value of its own, also moving statistics and offsets that begin at zero."""
    random = np.random.default_rng(1)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(weight + random.uniform(0.1, 0.5, weight.shape))
    return model


def simclr(depth=3):
    return trained(SimCLR(Tiny(SHAPE, features=16), ProjectionHead(6, 10, depth)))


def moco(depth=2):
    backbone = split_batch_norm(Tiny(SHAPE, features=16), groups=4)
    return trained(MoCo(backbone, MLPHead(6, 10, depth), queue_size=8))


def byol():
    heads = (MLPHead(6, 10, batch_norm=True, name=name) for name in ("projector", "predictor"))
    return trained(BYOL(Tiny(SHAPE, features=16), *heads))


def application():
    """Resembles a network of `keras.applications`: Keras' own layers, a Rescaling, a frozen part."""
    layers = keras.layers
    inputs = keras.Input(SHAPE)
    x = layers.Rescaling(2.0, offset=-1.0)(inputs)
    x = layers.Conv2D(6, 3, name="first")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Add()([x, layers.Conv2D(6, 3, padding="same")(layers.ReLU()(x))])
    return trained(keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="application"))


def sequential():
    layers = [keras.Input(SHAPE), keras.layers.Conv2D(4, 3), keras.layers.GlobalMaxPooling2D()]
    return trained(keras.Sequential(layers, name="sequential"))


@keras.saving.register_keras_serializable(package="test_encoder_part")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(4, 3)
        self.norm = keras.layers.BatchNormalization()
        self.pool = keras.layers.GlobalAveragePooling2D()

    def call(self, images, training=False):
        return self.pool(self.norm(self.convolution(images), training=training))


def subclassed():
    model = Subclassed()
    model(images())
    return trained(model)


def twin(model, from_layer):
    """Returns the features in inference mode, through the layers of the head by their names."""
    x = getattr(model, "backbone", model)(images(), training=False)
    if from_layer:
        last = f"dense_{from_layer + 1}"
        for layer in model.projector.stack:
            if layer.name == last:
                break
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            x = layer(x, training=False) if is_norm else layer(x)
    return np.asarray(x)


CASES = {
    **{f"simclr {layer}": (simclr, layer, 10) for layer in (1, 2)},
    "simclr 0": (simclr, 0, 16),
    "simclr 3": (simclr, 3, 6),
    "simclr of two layers": (lambda: simclr(2), 2, 6),
    "simclr of four layers": (lambda: simclr(4), 3, 10),
    "moco 0": (moco, 0, 16),
    "moco 1": (moco, 1, 10),
    "moco 2": (moco, 2, 6),
    "moco v1": (lambda: moco(1), 1, 6),
    "byol 1": (byol, 1, 10),
    "application": (application, 0, 6),
    "sequential": (sequential, 0, 4),
    "subclassed": (subclassed, 0, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_original_also_from_a_file(case, tmp_path):
    make, from_layer, dim = CASES[case]
    model = make()
    part = encoder(model, from_layer)
    assert type(part) is keras.src.models.Functional
    assert part.output_shape == (None, dim)
    expected = twin(model, from_layer)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(part(images(), training=False), expected, rtol=1e-5, atol=1e-6)
    part.save(tmp_path / "part.keras")
    loaded = keras.saving.load_model(tmp_path / "part.keras")
    np.testing.assert_allclose(loaded(images(), training=False), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [simclr, moco, application, subclassed])
def test_training_the_copy_leaves_the_original_as_it_is(make):
    model = make()
    before = [np.asarray(weight).copy() for weight in model.weights]
    part = encoder(model, from_layer=1 if hasattr(model, "projector") else 0)
    start = [np.asarray(weight).copy() for weight in part.weights]
    classifier = keras.Sequential([part, keras.layers.Dense(3)])
    classifier.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
    classifier.fit(images(), np.arange(5) % 3, epochs=2, batch_size=5, verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old, err_msg=weight.path)
    moved = [not np.array_equal(*pair) for pair in zip(part.weights, start, strict=True)]
    names = [weight.path for weight in part.weights]
    assert any("norm" in name and has for name, has in zip(names, moved, strict=True))
    # The bias before a batch normalisation is taken away by it.
    assert sum(moved) > 0.8 * len(moved)


def test_everything_can_be_trained_also_what_was_frozen():
    for make, layer in ((simclr, 3), (moco, 1), (application, 0)):
        model = make()
        wanted = len(encoder(model, layer).trainable_weights)
        network = model if make is application else model.backbone
        network.trainable = False
        part = encoder(model, layer)
        assert all(each.trainable for each in part._flatten_layers())
        assert len(part.trainable_weights) == wanted > 0
        assert not network.trainable  # the original stays frozen


def test_the_copy_keeps_the_heads_batch_normalisation():
    part = encoder(simclr(), from_layer=2)
    names = ["dense_1", "norm_1", "relu_1", "dense_2", "norm_2", "relu_2"]
    assert [layer.name for layer in part.layers[-6:]] == [f"projector_{name}" for name in names]
    moving = part.get_layer("projector_norm_1").moving_mean
    before = np.asarray(moving).copy()
    part(images(), training=True)
    assert np.abs(moving - before).max() > 1e-3


def test_the_split_of_batch_normalisation_is_undone():
    model = moco()
    part = encoder(model, from_layer=1)
    assert any(isinstance(layer, SplitBatchNorm) for layer in model.backbone._flatten_layers())
    assert not any(isinstance(layer, SplitBatchNorm) for layer in part._flatten_layers())
    assert part(images(7), training=True).shape == (7, 10)  # four groups would not divide them


def test_two_replicas(two_replicas):
    with two_replicas.scope():
        model = simclr()
    inside = twin(model, 1)
    np.testing.assert_allclose(encoder(model, 1)(images(), training=False), inside, rtol=1e-5)
    with two_replicas.scope():
        part = encoder(model, 1)
    assert all(len(weight.value.values) == 2 for weight in part.weights)
    np.testing.assert_allclose(part(images(), training=False), inside, rtol=1e-5)


@pytest.mark.parametrize("layer", [-1, 4, True, 1.0, None])
def test_layers_that_the_head_does_not_have(layer):
    message = (
        "`from_layer` must be an integer from 0.* "
        f"Received: from_layer={layer}, a SimCLR with a ProjectionHead of depth 3"
    )
    with pytest.raises(ValueError, match=message):
        encoder(simclr(), layer)


def test_a_network_has_no_head():
    with pytest.raises(ValueError, match="from_layer=1, a Functional without projector"):
        encoder(application(), 1)
    model = SimCLR(Tiny(SHAPE, features=16), keras.layers.Dense(4))
    assert encoder(model, 0).output_shape == (None, 16)
    with pytest.raises(ValueError, match="from_layer=1, a SimCLR with a Dense of depth 0"):
        encoder(model, 1)


def test_what_is_no_network():
    with pytest.raises(TypeError, match=r"`model` must be .* Received: model='resnet18'"):
        encoder("resnet18")
    with pytest.raises(ValueError, match=r"must be built: .* Received: the unbuilt model 'new'"):
        encoder(Subclassed(name="new"))


@pytest.mark.parametrize(
    ("inputs", "layers", "received"),
    [
        (SHAPE, [keras.layers.Conv2D(4, 3)], r"\[\(None, 8, 8, 3\)\] to \[\(None, 6, 6, 4\)\]"),
        ((7,), [keras.layers.Dense(4)], r"\[\(None, 7\)\] to \[\(None, 4\)\]"),
        (
            SHAPE,
            [keras.layers.Flatten(), keras.layers.GlobalMaxPooling2D()],
            r"\[\(None, 8, 8, 3\)\] to \[\(None, 192\), \(None, 3\)\]",
        ),
    ],
)
def test_what_does_not_map_images_to_vectors(inputs, layers, received):
    x = keras.Input(inputs)
    model = keras.Model(x, [layer(x) for layer in layers], name="maps")
    with pytest.raises(ValueError, match=f"to vectors.* Received: 'maps' from {received}"):
        encoder(model)
