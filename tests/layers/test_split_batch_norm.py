"""Split batch normalization: groups of the batch with separate statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.backbones import ResNet, Tiny
from keras_ssl.layers import BatchNorm, MLPHead, SplitBatchNorm, split_batch_norm

SHAPE = (8, 8, 3)


def inputs(shape=(8, 4, 3, 5), seed=0):
    # Each image has a different offset, so that the groups have different statistics.
    random = np.random.default_rng(seed)
    level = random.normal(size=(shape[0], *[1] * (len(shape) - 1)))
    return (random.normal(2, 3, shape) + 4 * level).astype("float32")


def built(layer, shape, seed=1):
    layer.build(shape)
    random = np.random.default_rng(seed)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layer


def twin(x, groups, layer):
    """Returns the normalized batch and the updated moving statistics."""
    gamma, beta, mean, variance = (np.asarray(weight) for weight in layer.weights)
    axes = tuple(range(x.ndim - 1))
    parts = np.split(x.astype("float64"), groups)
    means, variances = ([f(part, axis=axes) for part in parts] for f in (np.mean, np.var))
    normalised = [
        gamma * (part - m) / np.sqrt(v + layer.epsilon) + beta
        for part, m, v in zip(parts, means, variances, strict=True)
    ]
    keep, take = layer.momentum, 1 - layer.momentum
    moved = keep * mean + take * np.mean(means, axis=0)
    return np.concatenate(normalised), moved, keep * variance + take * np.mean(variances, axis=0)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("shape", [(8, 4, 3, 5), (8, 5), (8, 7, 5)])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_groups_are_normalized_separately(groups, shape, mode):
    x = inputs(shape)
    layer = built(SplitBatchNorm(groups), shape)
    expected, mean, variance = twin(x, groups, layer)

    def call(x):
        return layer(x, training=True)

    run = call if mode == "eager" else tf.function(call, jit_compile=mode == "xla")
    np.testing.assert_allclose(run(x), expected, atol=5e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)


def test_gradients_equal_those_of_one_layer_per_group():
    x, weights = inputs(), tf.constant(inputs(seed=5))
    split = built(SplitBatchNorm(2), x.shape)
    plain = built(BatchNorm(), x.shape)

    def by_parts(x):
        return tf.concat([plain(part, training=True) for part in tf.split(x, 2)], axis=0)

    gradients = []
    for layer, call in ((split, lambda x: split(x, training=True)), (plain, by_parts)):
        values = [tf.Variable(x), *[v.value for v in layer.trainable_variables]]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(call(values[0]) * weights)
        gradients.append(tape.gradient(loss, values))
    for own, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(own, theirs, atol=1e-6)


def test_inference_is_batch_norms():
    split, plain = (built(layer, (8, 4, 3, 5)) for layer in (SplitBatchNorm(3), BatchNorm()))
    np.testing.assert_array_equal(split(inputs()), plain(inputs()))
    np.testing.assert_array_equal(split(inputs(), training=False), plain(inputs()))
    split.trainable = plain.trainable = False
    np.testing.assert_array_equal(split(inputs(), training=True), plain(inputs()))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(dtype):
    x = inputs()
    layer = built(SplitBatchNorm(2, dtype=dtype), x.shape)
    expected, mean, _ = twin(x, 2, layer)
    outputs = layer(x, training=True)
    assert outputs.dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.cast(outputs, "float32"), expected, atol=0.05)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-2)


def test_replicas_share_the_groups(two_replicas):
    x = inputs()
    single = built(SplitBatchNorm(4), x.shape)
    expected = single(x, training=True)
    with two_replicas.scope():
        layer = built(SplitBatchNorm(4), x.shape)
    halves = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(x[4 * context.replica_id_in_sync_group :][:4])
    )

    @tf.function
    def step(halves):
        return two_replicas.run(lambda x: layer(x, training=True), args=(halves,))

    outputs = np.concatenate(two_replicas.experimental_local_results(step(halves)))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for theirs, own in zip(single.weights, layer.weights, strict=True):
        for value in own.value.values:
            np.testing.assert_allclose(value, theirs, rtol=1e-5)


def test_replicas_must_divide_the_groups(two_replicas):
    with two_replicas.scope():
        layer = built(SplitBatchNorm(3), (None, 5))
    with pytest.raises(
        ValueError, match=r"multiple of the number of replicas.* Received: groups=3, 2 replicas"
    ):
        two_replicas.run(lambda: layer(tf.ones((6, 5)), training=True))


def test_groups_must_divide_the_batch():
    with pytest.raises(ValueError, match="groups=3, 1 replicas, batch per replica 8"):
        SplitBatchNorm(3)(inputs(), training=True)


def test_the_batch_may_be_unknown_when_the_graph_is_made():
    layer = built(SplitBatchNorm(2), (None, 4, 3, 5))
    run = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, 4, 3, 5))]
    )
    for shape in ((8, 4, 3, 5), (4, 4, 3, 5)):
        expected, _, _ = twin(inputs(shape), 2, layer)
        np.testing.assert_allclose(run(inputs(shape)), expected, atol=2e-5)


def test_rejects_less_than_one_group():
    with pytest.raises(ValueError, match=r"`groups` must be at least 1\. Received: groups=0"):
        SplitBatchNorm(0)


def test_configuration_makes_the_same_layer():
    layer = SplitBatchNorm(4, momentum=0.8, epsilon=1e-3, scale=False)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is SplitBatchNorm
    assert again.get_config() == layer.get_config()


# Models


def mobile_net():
    return keras.applications.MobileNetV2((32, 32, 3), 0.35, False, None, pooling="avg")


MODELS = {
    "tiny": lambda: Tiny(SHAPE, features=16),
    "resnet": lambda: ResNet(18, width=0.125, input_shape=SHAPE),
    "mobile_net": mobile_net,
}


@pytest.mark.parametrize("name", MODELS)
def test_splits_every_batch_norm_of_a_model(name):
    model = MODELS[name]()
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + 0.1 * random.random(weight.shape))
    before = [np.asarray(weight).copy() for weight in model.weights]
    copy = split_batch_norm(model, groups=2)

    norms = [v for v in copy._flatten_layers() if isinstance(v, keras.layers.BatchNormalization)]
    plain = [v for v in model._flatten_layers() if isinstance(v, keras.layers.BatchNormalization)]
    assert len(norms) == len(plain) > 0
    for split, old in zip(norms, plain, strict=True):
        assert type(split) is SplitBatchNorm
        assert not isinstance(old, SplitBatchNorm)
        assert split.groups == 2
        assert split.name == old.name
        assert (split.momentum, split.epsilon) == (old.momentum, old.epsilon)
    assert [v.path for v in copy.trainable_weights] == [v.path for v in model.trainable_weights]

    images = np.random.default_rng(1).random((8, *model.input_shape[1:]), np.float32)
    np.testing.assert_allclose(copy(images), model(images), atol=1e-5)
    halves = [model(half, training=True) for half in np.split(images, 2)]
    np.testing.assert_allclose(
        copy(images, training=True), np.concatenate(halves), rtol=1e-3, atol=1e-3
    )
    model.set_weights(before)
    for weight, other in zip(model.trainable_weights, copy.trainable_weights, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_a_split_model_can_be_split_again():
    model = split_batch_norm(split_batch_norm(Tiny(SHAPE), groups=2), groups=4)
    assert model.get_layer("block1_norm").groups == 4


@pytest.mark.parametrize("name", ["tiny", "mobile_net"])
def test_one_group_undoes_a_split(name):
    model = MODELS[name]()
    whole = split_batch_norm(split_batch_norm(model, groups=2), groups=1)
    norms = [v for v in whole._flatten_layers() if isinstance(v, keras.layers.BatchNormalization)]
    assert {type(norm) for norm in norms} == {BatchNorm}
    images = np.random.default_rng(1).random((3, *model.input_shape[1:]), np.float32)
    np.testing.assert_allclose(whole(images), model(images), atol=1e-6)
    whole(images, training=True)  # three images cannot be split into two groups
    again = split_batch_norm(model, groups=1)  # nothing to undo
    np.testing.assert_allclose(again(images), model(images), atol=1e-6)


def test_rejects_less_than_one_group_in_a_model():
    with pytest.raises(ValueError, match=r"`groups` must be at least 1\. Received: groups=0"):
        split_batch_norm(Tiny(SHAPE), groups=0)


def test_nested_models_are_split():
    model = keras.Sequential([keras.Input(SHAPE), Tiny(SHAPE, features=16)])
    norms = [v for v in split_batch_norm(model)._flatten_layers() if isinstance(v, BatchNorm)]
    assert [type(norm) for norm in norms] == [SplitBatchNorm] * 3


def test_a_split_backbone_is_saved_and_exported(tmp_path):
    model = split_batch_norm(Tiny(SHAPE, features=16), groups=2)
    images = np.random.default_rng(1).random((8, *SHAPE), np.float32)
    model(images, training=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    exported = export.load(export.saved_model(model, tmp_path / "artefact"))
    for copy in (again, exported):
        np.testing.assert_allclose(copy(images), model(images), atol=1e-6)
    assert again.get_layer("block2_norm").groups == 2
    # The fine-tuned model accepts batches of any size.
    assert type(exported.get_layer("block2_norm")) is BatchNorm


def test_rejects_batch_norm_inside_another_layer():
    model = ResNet(50, width=0.125, sk_ratio=0.0625, input_shape=SHAPE)
    with pytest.raises(
        ValueError, match=r"among its own layers, not inside layers of other classes"
    ):
        split_batch_norm(model)
    images = keras.Input((5,))
    with pytest.raises(ValueError, match=r"with 1 batch normalizations, of which 0 were split"):
        split_batch_norm(keras.Model(images, MLPHead(3, batch_norm=True)(images)))


def test_rejects_a_subclassed_model():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match=r"whose layers can be replaced.*'own' of type Own"):
        split_batch_norm(Own(name="own"))


def test_rejects_a_model_without_batch_norm():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="groups=8, and 'plain' with 0 batch normalizations"):
        split_batch_norm(model)
