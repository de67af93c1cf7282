"""The base class of all methods, tested with a small method that counts its updates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.augment import random
from keras_ssl.backbones import Tiny
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import LinearProbe, ProjectionHead
from keras_ssl.losses import NTXent
from keras_ssl.methods import MemoryBank, SelfSupervised, SimCLR
from tests.tiers import rest_large

SHAPE = (8, 8, 3)


def views(count=4, batch=8, seed=0):
    return np.random.default_rng(seed).random((2, count * batch, *SHAPE), np.float32)


def batches(count=4, batch=8):
    values = views(count, batch)
    return with_threads(
        tf.data.Dataset.from_tensor_slices((values[0], values[1])).batch(batch, True)
    )


def simclr(optimizer=None, probe=None, **compile_arguments):
    keras.utils.set_random_seed(1)
    model = SimCLR(Tiny(SHAPE, features=8), ProjectionHead(4), temperature=0.5, probe=probe)
    model.compile(optimizer or keras.optimizers.SGD(0.01), **compile_arguments)
    return model


def values_of(variables):
    return [np.asarray(variable).copy() for variable in variables]


def assert_equal(first, second, tolerance=0.0):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=0)


# Deferred updates


class Counts(keras.layers.Layer):
    """Counts steps and batches, and stores the largest value of the last batch."""

    def build(self, input_shape):
        for name in ("steps", "batches", "largest"):
            weight = self.add_weight(name=name, initializer="zeros", trainable=False)
            setattr(self, name, weight)

    def add_step(self, moved):
        self.steps.assign_add(tf.cast(moved, "float32"))

    def add_batch(self, *values_and_accepted):
        *values, accepted = values_and_accepted
        self.batches.assign_add(tf.cast(accepted, "float32"))
        largest = tf.reduce_max(tf.stack([tf.reduce_max(value) for value in values]))
        self.largest.assign(tf.where(accepted, largest, self.largest))


class Counting(SelfSupervised):
    """A contrastive method without a head that counts its updates."""

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        self.counts = Counts()
        self.counts.build(None)
        self.nt_xent = NTXent(0.5)

    def ssl_loss(self, view_1, view_2):
        h_1, h_2 = (self.backbone(view, training=True) for view in (view_1, view_2))
        self.after_step(self.counts.add_step)
        self.after_batch(self.counts.add_batch, view_1, view_2)
        return self.nt_xent(h_1, h_2)


def count_updates(optimizer, data=None, **compile_arguments):
    model = Counting(Tiny(SHAPE, features=8))
    model.compile(optimizer, **compile_arguments)
    model.fit(batches() if data is None else data, epochs=2, verbose=0)
    return [float(np.asarray(value)) for value in (model.counts.steps, model.counts.batches)]


def accumulating():
    return keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)


def scaling(optimizer, scale):
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)


OPTIMIZERS = {
    "plain": (lambda: keras.optimizers.SGD(0.01), [8, 8]),
    "accumulating": (accumulating, [4, 8]),
    "skipping": (lambda: scaling(keras.optimizers.SGD(0.01), float("inf")), [0, 0]),
    "skipping_accumulating": (lambda: scaling(accumulating(), float("inf")), [0, 0]),
    "scaling_accumulating": (lambda: scaling(accumulating(), 1.0), [4, 8]),
}
# One step per execution with every optimizer, and the others with that which does everything.
DEFAULT_TIER = [(name, {}) for name in OPTIMIZERS]
DEFAULT_TIER += [("scaling_accumulating", {"steps_per_execution": 4})]
DEFAULT_TIER += [("scaling_accumulating", {"run_eagerly": True})]


@pytest.mark.parametrize(
    ("name", "compile_arguments"),
    [
        pytest.param(
            name, arguments, marks=[] if (name, arguments) in DEFAULT_TIER else pytest.mark.large
        )
        for name in OPTIMIZERS
        for arguments in ({}, {"steps_per_execution": 4}, {"run_eagerly": True})
    ],
)
def test_updates_follow_steps_and_batches(name, compile_arguments):
    optimizer, expected = OPTIMIZERS[name]
    assert count_updates(optimizer(), **compile_arguments) == expected


def test_updates_receive_values_from_the_training_step():
    model = Counting(Tiny(SHAPE, features=8))
    model.compile(keras.optimizers.SGD(0.01))
    model.fit(batches(1), verbose=0)
    assert float(model.counts.largest) == views(1).max()


def test_updates_happen_once_on_two_replicas(two_replicas):
    with two_replicas.scope():
        model = Counting(Tiny(SHAPE, features=8))
        model.compile(keras.optimizers.SGD(0.01))
    model.fit(batches(), verbose=0)
    for variable in (model.counts.steps, model.counts.batches):
        assert [float(value.numpy()) for value in variable.value.values] == [4, 4]


@pytest.mark.parametrize("trained", [False, True])
def test_no_update_outside_of_a_training_step(trained):
    model = Counting(Tiny(SHAPE, features=8))
    model.compile(keras.optimizers.SGD(0.01))
    if trained:
        model.fit(batches(), verbose=0)
    before = values_of(model.weights)
    for _ in range(2):
        model.ssl_loss(*views(1))
    assert float(model.counts.steps) == float(model.counts.batches) == 4 * trained
    # The next training step does not make up for them. (The passes have moved batch statistics.)
    model.set_weights(before)
    model.fit(batches(), verbose=0)
    assert float(model.counts.batches) == 4 * trained + 4


# The last batch


class Watching(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.last_batch)


@pytest.mark.parametrize(
    "compile_arguments", [{}, {"steps_per_execution": 3}, {"run_eagerly": True}]
)
def test_last_batch_is_set_after_each_execution(compile_arguments):
    model, watching = simclr(**compile_arguments), Watching()
    assert model.last_batch is None
    model.fit(batches(5), verbose=0, callbacks=[watching])
    expected = [2, 4] if "steps_per_execution" in compile_arguments else range(5)
    both = np.split(views(5), 5, axis=1)
    assert len(watching.seen) == len(expected)
    for seen, number in zip(watching.seen, expected, strict=True):
        assert isinstance(seen, tuple)
        assert_equal(seen, both[number])


def test_last_batch_has_only_views():
    model = simclr(probe=LinearProbe(3))
    model.fit(labelled(batches(1)), verbose=0)
    assert_equal(model.last_batch, views(1))
    bank = MemoryBank(Tiny(SHAPE, features=8), size=8, negatives=4)
    bank.compile("sgd")
    bank.fit(tf.data.Dataset.from_tensors((*views(1), np.arange(8))), verbose=0)
    assert_equal(bank.last_batch, views(1))


def test_last_batch_is_that_of_the_first_replica(two_replicas):
    with two_replicas.scope():
        model = simclr()
    model.fit(batches(2), verbose=0)
    assert_equal(model.last_batch, views(2)[:, 8:12])


# The probe


def labelled(data, classes=3):
    labels = tf.range(8, dtype=tf.int64) % classes
    return data.map(lambda *parts: (parts, labels))


def test_the_probe_learns_and_its_accuracy_is_reset_each_epoch():
    model = simclr(keras.optimizers.SGD(0.5), probe=LinearProbe(2))
    images = np.zeros((8, *SHAPE), "float32")
    labels = np.arange(8) % 2
    images[labels == 1, :4] = 1.0  # a difference that untrained features can separate
    data = tf.data.Dataset.from_tensors(((images, images), labels)).repeat(20)
    logs = model.fit(data, epochs=2, verbose=0).history
    assert set(logs) == {"loss", "probe"}
    assert logs["probe"][1] == 1.0


def test_the_logged_loss_excludes_the_probe():
    alone, both = simclr(), simclr(probe=LinearProbe(3))
    both.backbone.set_weights(alone.backbone.get_weights())
    both.projector.set_weights(alone.projector.get_weights())
    expected = alone.fit(batches(), verbose=0).history["loss"]
    assert both.fit(labelled(batches()), verbose=0).history["loss"] == expected


def test_the_probe_ignores_images_without_a_label():
    model = simclr(probe=LinearProbe(3))
    start = values_of(model.probe.dense.weights)
    unlabelled = batches().map(lambda *parts: (parts, -tf.ones(8, tf.int64)))
    assert model.fit(unlabelled, verbose=0).history["probe"] == [0.0]
    assert_equal(values_of(model.probe.dense.weights), start)


def test_two_replicas_train_the_probe_like_one(two_replicas):
    one = simclr(probe=LinearProbe(3))
    expected = one.fit(labelled(batches()), verbose=0).history
    with two_replicas.scope():
        two = simclr(probe=LinearProbe(3))
    logs = two.fit(labelled(batches()), verbose=0).history
    assert logs["probe"] == pytest.approx(expected["probe"])
    assert_equal(values_of(two.weights), values_of(one.weights), tolerance=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_probe_trains_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = simclr(probe=LinearProbe(3))
    model.fit(labelled(batches()), verbose=0)
    assert all(np.all(np.isfinite(value)) for value in values_of(model.weights))


def test_the_probe_is_saved(tmp_path):
    model = simclr(probe=LinearProbe(3))
    model.fit(labelled(batches()), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.probe.classes == 3
    assert_equal(values_of(loaded.weights), values_of(model.weights))
    again = [m.fit(labelled(batches()), verbose=0).history for m in (model, loaded)]
    assert again[0] == again[1]


def test_a_probe_needs_labels():
    with pytest.raises(
        ValueError, match=r"A model with a probe takes \(\(view_1, view_2\), label\)"
    ):
        simclr(probe=LinearProbe(3)).fit(batches(), verbose=0)


def test_refuses_a_probe_of_another_type():
    with pytest.raises(
        TypeError, match=r"must be a keras_ssl\.layers\.LinearProbe\. Received: prob"
    ):
        simclr(probe=keras.layers.Dense(3))


# Weight penalties, backbones and errors


def penalised(strength, learning_rate=0.1):
    keras.utils.set_random_seed(1)
    conv = keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(strength))
    pooling = keras.layers.GlobalAveragePooling2D()
    model = SimCLR(keras.Sequential([keras.Input(SHAPE), conv, pooling]), ProjectionHead(8))
    model.compile(keras.optimizers.SGD(learning_rate))
    return model


def test_weight_penalties_are_part_of_the_loss():
    plain, model = penalised(0.0), penalised(0.5)
    kernel = np.asarray(model.backbone.layers[0].kernel).copy()
    losses = [m.fit(batches(1), verbose=0).history["loss"][0] for m in (plain, model)]
    assert losses[1] - losses[0] == pytest.approx(0.5 * (kernel**2).sum(), rel=1e-4)
    # The gradient of 0.5 * w**2 is w. At a learning rate of 0.1, the penalty removes a tenth.
    moved = plain.backbone.layers[0].kernel - model.backbone.layers[0].kernel
    np.testing.assert_allclose(moved, 0.1 * kernel, atol=1e-6)


def test_two_replicas_have_the_same_penalties_as_one(two_replicas):
    keras.config.set_dtype_policy("float64")  # so that equal steps do not differ by rounding
    one = penalised(0.5, 0.01)
    expected = one.fit(batches(), verbose=0).history["loss"]
    with two_replicas.scope():
        two = penalised(0.5, 0.01)
    assert two.fit(batches(), verbose=0).history["loss"] == pytest.approx(expected, rel=1e-5)
    assert_equal(values_of(two.weights), values_of(one.weights), tolerance=1e-6)


@pytest.mark.large
@pytest.mark.parametrize("name", rest_large(["MobileNetV2", "EfficientNetB0"]))
def test_keras_applications_work_as_backbones(name):
    network = getattr(keras.applications, name)
    backbone = network(weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3))
    model = SimCLR(backbone, ProjectionHead(8))
    model.compile(keras.optimizers.SGD(0.01))
    values = np.random.default_rng(0).random((2, 4, 32, 32, 3), np.float32)
    data = tf.data.Dataset.from_tensors((values[0], values[1]))
    assert np.isfinite(model.fit(data, verbose=0).history["loss"][0])


def test_refuses_views_of_different_images():
    view_1, view_2 = batches(batch=8), batches(batch=4)
    pairs = tf.data.Dataset.zip(view_1, view_2).map(lambda first, second: (first[0], second[1]))
    with pytest.raises(ValueError, match="must show the same images"):
        simclr().fit(pairs, verbose=0)


def test_refuses_a_single_view():
    with pytest.raises(ValueError, match=r"must be a tuple of views, \(view_1, view_2\)"):
        simclr().fit(batches().map(lambda view_1, _: view_1), verbose=0)


class OneView(SimCLR):
    """Takes one view and a key of each image."""

    view_count, takes_keys = 1, True

    def ssl_loss(self, view, keys):
        turned = view + 0.1 * random.uniform(keys, 1)[:, :, None, None]
        return super().ssl_loss(view, turned)


def one_view():
    model = OneView(Tiny(SHAPE, features=8), ProjectionHead(4))
    model.compile(keras.optimizers.SGD(0.01))
    return model


def keyed_batch(views):
    images = tf.random.stateless_uniform((8, *SHAPE), [0, 1])
    return tf.data.Dataset.from_tensors((*[images] * views, tf.zeros((8, 2), tf.uint32)))


def test_an_exact_number_of_views():
    assert np.isfinite(one_view().fit(keyed_batch(1), verbose=0).history["loss"][0])
    with pytest.raises(ValueError, match=r"exactly 1 view of each image.*Received: 2 views"):
        one_view().fit(keyed_batch(2), verbose=0)


def test_keys_are_needed():
    with pytest.raises(
        ValueError, match=r"\(view, key\), as from keras_ssl.data.views\(.*keys=True"
    ):
        one_view().fit(batches(), verbose=0)


def test_refuses_validation_data():
    with pytest.raises(TypeError, match=r"keras_ssl\.evaluate\.knn"):
        simclr().fit(batches(), validation_data=batches(), verbose=0)


def test_refuses_a_backbone_that_returns_feature_maps():
    backbone = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(4, 3)])
    with pytest.raises(ValueError, match="one vector per image"):
        SimCLR(backbone)


@keras.saving.register_keras_serializable(package="test_base")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(4, 3)
        self.pool = keras.layers.GlobalAveragePooling2D()

    def call(self, images):
        return self.pool(self.convolution(images))


def test_a_subclassed_backbone_must_be_wrapped_in_a_functional_model():
    network = Subclassed(name="own")
    network(np.zeros((1, *SHAPE)))
    message = r"subclasses of keras.Model .* Received: 'own' of type Subclassed"
    with pytest.raises(ValueError, match=message):
        SimCLR(network)
    images = keras.Input(SHAPE)
    model = SimCLR(keras.Model(images, network(images)))
    model.compile("sgd")
    assert np.isfinite(model.fit(batches(), verbose=0).history["loss"]).all()


def test_refuses_a_backbone_that_is_not_built():
    backbone = keras.Sequential([keras.layers.Flatten()], name="flat")
    with pytest.raises(ValueError, match=r"must be built: .* Received: the unbuilt model 'flat'"):
        SimCLR(backbone)


def test_refuses_a_backbone_that_is_not_a_model():
    with pytest.raises(TypeError, match=r"keras\.Model that maps images to features"):
        SimCLR("resnet18")
