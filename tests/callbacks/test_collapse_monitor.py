import csv
import logging
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_ssl import augment, data
from keras_ssl.backbones import ResNet, Tiny
from keras_ssl.callbacks import CollapseMonitor
from keras_ssl.data.parallel import with_threads
from keras_ssl.evaluate import feature_statistics as statistics
from keras_ssl.layers import MLPHead, ProjectionHead
from keras_ssl.losses import CosineRegression
from keras_ssl.methods import BYOL, Rotation, SelfSupervised, SimCLR

KEYS = ["feature_std", "alignment", "uniformity", "effective_rank"]


class NoContrast(SelfSupervised):
    """BYOL without target network, predictor and stopped gradient, which collapses."""

    def __init__(self, backbone, projector=None):
        super().__init__(backbone)
        self.projector = self.build_head(projector or layers.Identity())
        self.regression = CosineRegression()

    def ssl_loss(self, view_1, view_2):
        z_1, z_2 = (
            self.projector(self.backbone(view, training=True), training=True)
            for view in (view_1, view_2)
        )
        return self.regression(z_1, z_2)


class Still(keras.Model):
    """A model with a `backbone` that is not one of our methods."""

    def __init__(self, backbone, last_batch=None):
        super().__init__()
        self.backbone = backbone
        if last_batch is not None:
            self.last_batch = last_batch

    def call(self, images, training=False):
        return self.backbone(images, training=training)


@pytest.fixture(scope="module")
def digits():
    """One epoch of views, the same in every epoch."""
    views = list(data.views(data.digits("train"), augment.centred(8), batch_size=256, seed=0))
    stacked = tuple(tf.concat(parts, axis=0) for parts in zip(*views, strict=True))
    return with_threads(tf.data.Dataset.from_tensor_slices(stacked).batch(256))


@pytest.fixture(scope="module")
def batch(digits):
    """Two views of 256 digits."""
    return next(iter(digits))


def noise(batch_size=8, batches=4, side=4):
    """Views of noise, for tests that need no real images."""
    images = tf.random.stateless_uniform((batches * batch_size, side, side, 3), [0, 1])
    pairs = with_threads(tf.data.Dataset.from_tensor_slices((images, tf.reverse(images, [2]))))
    return pairs.batch(batch_size, drop_remainder=True)


def simclr(seed=3, backbone=None, head=None, optimizer="sgd", **settings):
    keras.utils.set_random_seed(seed)
    model = SimCLR(backbone or Tiny((4, 4, 3), features=8), head or ProjectionHead(4))
    model.compile(optimizer, **settings)
    return model


def measure(model, monitor=None):
    """Returns a monitor after one epoch without training."""
    monitor = monitor or CollapseMonitor()
    monitor.set_model(model)
    monitor.on_train_begin()
    monitor.on_epoch_end(len(monitor.history), {})
    return monitor


def warnings_in(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


class Poison(keras.callbacks.Callback):
    """Sets a variable to NaN before a batch of the second epoch."""

    def __init__(self, variable, batch=0, value=np.nan):
        super().__init__()
        self.variable, self.batch, self.value = variable, batch, value
        self.epoch, self.seen = 0, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.seen += 1
        if (self.epoch, batch) == (1, self.batch):
            self.variable.assign(keras.ops.full_like(self.variable, self.value))


# Measurements


def test_the_logs_hold_the_statistics(tmp_path):
    model = simclr()
    monitor = CollapseMonitor()
    csv_logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = model.fit(noise(), epochs=2, verbose=0, callbacks=[monitor, csv_logger]).history
    features = [np.asarray(model.backbone(view, training=False)) for view in model.last_batch]
    embeddings = [np.asarray(model.projector(h, training=False)) for h in features]
    expected = {
        "feature_std": statistics.feature_std(np.concatenate(features)),
        "alignment": statistics.alignment(*features),
        "uniformity": sum(statistics.uniformity(h) for h in features) / 2,
        "effective_rank": statistics.effective_rank(np.concatenate(features)),
        "embedding_std": statistics.feature_std(np.concatenate(embeddings)),
    }
    assert monitor.history[1] == pytest.approx(expected, rel=1e-4)
    assert expected["feature_std"] > 0.05
    assert sorted(monitor.history) == [0, 1]
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for key in expected:
        assert history[key] == [monitor.history[0][key], monitor.history[1][key]]
        assert [float(row[key]) for row in rows] == history[key]


def test_tensorboard_shows_them(tmp_path):
    tensorboard = keras.callbacks.TensorBoard(tmp_path)
    history = simclr().fit(noise(), verbose=0, callbacks=[CollapseMonitor(), tensorboard]).history
    found = {}
    for file in (tmp_path / "train").glob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found[value.tag] = float(tf.make_ndarray(value.tensor))
    for key in (*KEYS, "embedding_std"):
        assert found[f"epoch_{key}"] == pytest.approx(history[key][0])


def test_every_and_images():
    monitor = CollapseMonitor(every=2, images=5)
    model = simclr()
    history = model.fit(noise(), epochs=5, verbose=0, callbacks=[monitor]).history
    assert sorted(monitor.history) == [1, 3]
    assert len(history["alignment"]) == 2
    last = CollapseMonitor(images=5)
    measured = measure(model, last).history[0]
    few = [np.asarray(model.backbone(view[:5], training=False)) for view in model.last_batch]
    assert measured["alignment"] == pytest.approx(statistics.alignment(*few), rel=1e-4)


def test_training_is_the_same_with_and_without_it():
    def fit(callbacks):
        keras.utils.set_random_seed(1)  # also of dropout
        images = keras.Input((4, 4, 3))
        x = layers.BatchNormalization()(layers.Flatten()(images))
        model = simclr(backbone=keras.Model(images, layers.Dropout(0.5)(layers.Dense(8)(x))))
        model.fit(noise(), epochs=3, verbose=0, callbacks=callbacks)
        return [*model.get_weights(), *model.optimizer.variables, keras.random.normal((3,))]

    for plain, watched in zip(fit([]), fit([CollapseMonitor()]), strict=True):
        np.testing.assert_array_equal(plain, watched)


def test_functions_are_traced_once():
    monitor = CollapseMonitor()
    model = simclr()
    for _ in range(2):
        model.fit(noise(), epochs=2, verbose=0, callbacks=[monitor])
    assert monitor._forward.experimental_get_tracing_count() == 1
    assert monitor._weights_finite.experimental_get_tracing_count() == 1
    other = simclr(seed=4)
    other.fit(noise(), verbose=0, callbacks=[monitor])
    assert monitor.history[0] == measure(other).history[0]


def test_several_replicas(two_replicas):
    monitor = CollapseMonitor()
    with two_replicas.scope():
        model = simclr()
    model.fit(noise(), epochs=2, verbose=0, callbacks=[monitor])
    assert len(model.last_batch[0]) == 4  # of the first replica
    assert monitor.history[1] == measure(model).history[0]
    model.projector.stack[0].kernel.assign(np.full((8, 8), np.nan))
    with pytest.raises(FloatingPointError, match=r"epoch 1; layer 'block1_conv' of the backbone"):
        model.fit(noise(), verbose=0, callbacks=[monitor])


# Detecting a collapse


def constant(value):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(16, kernel_initializer="zeros", bias_initializer=value),
        ]
    )


def of_rank_one(bias):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(1, kernel_initializer="random_normal"),
            layers.Dense(16, bias_initializer=bias),
        ]
    )


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (lambda: constant("ones"), r"features of different images are nearly equal .feature_std="),
        (
            lambda: constant("zeros"),
            r"features of different images are nearly equal .feature_std=0\)",
        ),
        (lambda: of_rank_one("zeros"), r"lie on a line, with 100.00% of their variance along"),
        (lambda: of_rank_one("random_normal"), r"lie on a line, with 100.00%"),
    ],
    ids=["constant", "zero", "line through zero", "line"],
)
def test_a_collapsed_encoder(batch, caplog, encoder, message):
    monitor = measure(Still(encoder(), batch))
    assert monitor.collapsed
    assert len(warnings_in(caplog)) == 1
    assert "Collapse in epoch 1: the " in caplog.text
    assert "Common causes" in caplog.text
    assert re.search(message, caplog.text)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "encoder", [lambda: Tiny((8, 8, 1), 64), lambda: Tiny((8, 8, 1), 8)], ids=["64", "8"]
)
def test_an_untrained_encoder_has_not_collapsed(batch, caplog, encoder, seed):
    keras.utils.set_random_seed(seed)
    monitor = measure(Still(encoder(), batch))
    assert monitor.history[0]["feature_std"] < 0.3  # ReLU gives the features a common mean
    assert not monitor.collapsed
    assert warnings_in(caplog) == []


def test_an_untrained_resnet_has_not_collapsed(batch, caplog):
    large = tuple(tf.image.resize(view[:64], (32, 32)) for view in batch)
    backbone = ResNet(18, input_shape=(32, 32, 1))
    monitor = measure(Still(backbone, large))
    assert monitor.history[0]["feature_std"] < 0.1
    assert not monitor.collapsed
    assert warnings_in(caplog) == []


@pytest.mark.parametrize(
    "method",
    [
        lambda: SimCLR(Tiny((8, 8, 1), 32), ProjectionHead(32), temperature=0.5),
        lambda: BYOL(Tiny((8, 8, 1), 32), *(MLPHead(32, 64, batch_norm=True) for _ in range(2))),
    ],
    ids=["SimCLR", "BYOL"],
)
def test_methods_do_not_collapse(digits, caplog, method):
    model = method()
    model.compile(keras.optimizers.Adam(5e-3))
    monitor = CollapseMonitor()
    model.fit(digits, epochs=4, verbose=0, callbacks=[monitor])
    assert not monitor.collapsed
    assert not any("ollapse" in message for message in warnings_in(caplog))
    assert monitor.history[3]["embedding_std"] > 0.3


def test_a_collapse_in_training_warns_once(digits, caplog):
    model = NoContrast(Tiny((8, 8, 1), 32), MLPHead(32, 64))
    model.compile(keras.optimizers.Adam(5e-3))
    monitor = CollapseMonitor()
    model.fit(digits, epochs=8, verbose=0, callbacks=[monitor])
    assert monitor.collapsed
    (warning,) = warnings_in(caplog)
    assert "embeddings of different images are nearly equal" in warning
    # Only the head has collapsed, which is enough to minimize the loss.
    assert monitor.history[7]["feature_std"] > 5 * monitor.history[7]["embedding_std"]


def test_without_a_head_the_features_collapse(digits):
    model = NoContrast(Tiny((8, 8, 1), 32))
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(digits, epochs=10, verbose=0, callbacks=[CollapseMonitor()]).history
    assert history["feature_std"][-1] < history["feature_std"][0] / 4
    assert history["effective_rank"][-1] < history["effective_rank"][0] / 2
    assert history["uniformity"][-1] > history["uniformity"][0]


def test_it_warns_again_after_a_recovery(batch, caplog):
    caplog.set_level(logging.INFO, "keras_ssl")
    model = Still(constant("ones"), batch)
    kernel = model.backbone.layers[-1].kernel
    sound = keras.random.normal(kernel.shape, stddev=0.1)
    # The last but one is above the threshold, but not far enough.
    scales = [1.0, 0.0, 0.0, 1.0, 0.0, 0.08, 1.0]
    monitor, collapsed = CollapseMonitor(threshold=0.01), []
    for scale in scales:
        kernel.assign(scale * sound)
        collapsed.append(measure(model, monitor).collapsed)
    assert monitor.history[5]["feature_std"] == pytest.approx(0.015, abs=0.005)
    assert collapsed == [False, True, True, False, True, True, False]
    assert [message.split(":")[0] for message in caplog.messages] == [
        "Collapse in epoch 2",
        "Epoch 4",
        "Collapse in epoch 5",
        "Epoch 7",
    ]


class Narrow(layers.Layer):
    """Features that differ by about `spread`, like those of a network with a layer scale."""

    def __init__(self, spread):
        super().__init__()
        self.spread = self.add_weight(shape=(), initializer=keras.initializers.Constant(spread))

    def call(self, x):
        return keras.ops.ones_like(x) + self.spread * x


def narrow(spread, batch):
    images = keras.Input((8, 8, 1))
    x = layers.Dense(16, kernel_initializer="random_normal")(layers.Flatten()(images))
    return Still(keras.Model(images, Narrow(spread)(x)), batch)


def begin(model, epochs=1):
    """Returns a monitor after the first batch of a training."""
    monitor = CollapseMonitor()
    monitor.set_model(model)
    monitor.set_params({"epochs": epochs})
    monitor.on_train_begin()
    monitor.on_train_batch_end(0, {"loss": 1.0})
    return monitor


def test_features_that_begin_nearly_equal_have_not_collapsed(batch, caplog):
    model = narrow(0.01, batch)
    monitor = begin(model, epochs=20)
    scales = [1.0, 0.5, 0.2, 0.4, 1.0]
    collapsed = []
    for epoch, scale in enumerate(scales):
        model.backbone.layers[-1].spread.assign(0.01 * scale)
        monitor.on_epoch_end(epoch, {})
        collapsed.append(monitor.collapsed)
    assert monitor.history[0]["feature_std"] < monitor.threshold / 2
    assert collapsed == [False, False, True, True, False]  # below a quarter; above half of it
    start, collapse = warnings_in(caplog)
    assert re.match(
        r"Epoch 2: the features of different images are nearly equal .*, as at the beginning of the "
        r"training .*has not learned to distinguish images yet",
        start,
    )
    assert collapse.startswith(
        "Collapse in epoch 3: the features of different images are nearly eq"
    )


def test_features_that_begin_apart_collapse_at_the_threshold(batch, caplog):
    model = narrow(1.0, batch)
    monitor = begin(model)
    model.backbone.layers[-1].spread.assign(0.01)
    monitor.on_epoch_end(0, {})
    assert monitor.collapsed
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("training_too", [False, True])
def test_moving_statistics_that_lag_behind_are_named(batch, caplog, training_too):
    # In inference mode, a variance of 1e12 divides all differences away.
    images = keras.Input((8, 8, 1))
    x = layers.Flatten()(images)
    x = layers.Dense(16, kernel_initializer="zeros" if training_too else "random_normal")(x)
    norm = layers.BatchNormalization(momentum=0.999, beta_initializer="ones")
    model = Still(keras.Model(images, norm(x)), batch)
    norm.moving_variance.assign(keras.ops.full_like(norm.moving_variance, 1e12))
    before = [np.asarray(weight) for weight in model.weights]
    monitor = measure(model)
    assert (monitor.collapsed, monitor.outdated) == (training_too, not training_too)
    (warning,) = warnings_in(caplog)
    if training_too:
        assert "Collapse in epoch 1" in warning
    else:
        assert re.match(
            r"Epoch 1: in inference mode, the features .*in training mode, they", warning
        )
        assert "momentum of the layers (the largest is 0.999)" in warning
        assert measure(model, monitor).outdated
        assert len(warnings_in(caplog)) == 1  # once
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_few_images(batch, caplog):
    model = Still(Tiny((8, 8, 1), 8), tuple(view[:2] for view in batch))
    assert not measure(model).collapsed  # any two points lie on a line
    model.last_batch = tuple(view[:1] for view in batch)
    assert measure(model).history == {}
    assert warnings_in(caplog) == []


# Values that are not finite


def test_the_first_layer_in_order_is_named():
    model = simclr()
    poison = Poison(model.trainable_variables[-1], batch=3)  # the step spreads it to all weights
    with pytest.raises(
        FloatingPointError,
        match=r"must be finite\. Received: loss=nan in epoch 2; layer 'block1_conv' of the backbone: "
        r"its weights 'block1_conv/kernel' are not finite\. If the images are valid",
    ):
        model.fit(noise(), epochs=3, verbose=0, callbacks=[CollapseMonitor(), poison])


def test_a_loss_that_is_not_finite_stops_after_its_batch():
    model = simclr()
    poison = Poison(model.trainable_variables[-1], batch=1)
    with pytest.raises(FloatingPointError, match="loss=nan in epoch 2"):
        model.fit(noise(), epochs=3, verbose=0, callbacks=[CollapseMonitor(), poison])
    assert poison.seen == 4 + 2


def test_weights_are_checked_if_the_loss_is_finite():
    model = simclr()
    variance = model.backbone.get_layer("block2_norm").moving_variance  # unused in training mode
    poison = Poison(variance, value=np.inf)
    with pytest.raises(
        FloatingPointError,
        match=r"loss=\d.* in epoch 2; layer 'block2_norm' of the backbone: its weights "
        r"'block2_norm/moving_variance' are not finite",
    ):
        model.fit(noise(), epochs=3, verbose=0, callbacks=[CollapseMonitor(every=5), poison])


def test_steps_per_execution():
    model = simclr(steps_per_execution=3)
    monitor = CollapseMonitor()
    model.fit(noise(), epochs=2, verbose=0, callbacks=[monitor])
    assert monitor.history[1] == measure(model).history[0]
    poison = Poison(model.backbone.trainable_variables[0], batch=0)
    with pytest.raises(FloatingPointError, match=r"epoch 2; layer 'block1_conv'"):
        model.fit(noise(), epochs=2, verbose=0, callbacks=[monitor, poison])


def test_steps_skipped_by_loss_scaling_are_no_error():
    keras.config.set_dtype_policy("mixed_float16")
    inner = keras.optimizers.SGD(0.01)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**40)
    model = simclr(optimizer=optimizer)
    model.fit(noise(), epochs=2, verbose=0, callbacks=[CollapseMonitor()])
    assert int(inner.iterations) == 0  # each step was skipped
    assert np.isfinite(model.backbone.get_weights()[0]).all()


def test_an_output_that_overflows():
    keras.config.set_dtype_policy("mixed_float16")
    model = simclr(head=MLPHead(4))
    kernel = model.projector.stack[0].kernel
    kernel.assign(keras.ops.full_like(kernel, 1e30))  # finite, but not in float16
    with pytest.raises(
        FloatingPointError,
        match=r"layer 'mlp_head\S*' of the projector: its output is, with finite weights, not",
    ):
        model.fit(noise(), verbose=0, callbacks=[CollapseMonitor()])


def test_features_are_checked_if_loss_and_weights_are_finite(batch):
    images = keras.Input((8, 8, 1))
    scaled = layers.Rescaling(np.inf, name="scaled")(images)
    model = Still(keras.Model(images, layers.Flatten()(scaled)), batch)
    with pytest.raises(
        FloatingPointError, match=r"loss=0.0 in epoch 1; layer 'scaled' of the backb"
    ):
        measure(model)


# Models that are not methods of keras_ssl


def test_a_model_without_last_batch():
    model = Still(Tiny((4, 4, 3), 8))
    model.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match=r"needs a model with an attribute `last_batch`.*Received: Still without"
    ):
        model.fit(np.zeros((8, 4, 4, 3)), np.zeros((8, 8)), callbacks=[CollapseMonitor()])


def test_a_pretext_task_has_one_view_and_no_alignment():
    model = Rotation(Tiny((8, 8, 1), 8))
    model.compile("sgd")
    images = np.random.default_rng(0).random((16, 8, 8, 1), np.float32)
    monitor = CollapseMonitor()
    batches = tf.data.Dataset.from_tensor_slices((images,)).batch(8)
    model.fit(with_threads(batches), verbose=0, callbacks=[monitor])
    assert list(monitor.history[0]) == [key for key in KEYS if key != "alignment"]
    features = np.asarray(model.backbone(images[8:], training=False))
    assert monitor.history[0]["feature_std"] == pytest.approx(
        statistics.feature_std(features), abs=1e-5
    )


def test_a_fixed_last_batch():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).uniform(size=(16, 4, 4, 3)).astype(np.float32)
    model = Still(Tiny((4, 4, 3), 8), (images, images[:, ::-1]))
    model.compile("sgd", "mse")
    history = model.fit(
        images, np.zeros((16, 8)), epochs=2, verbose=0, callbacks=[CollapseMonitor()]
    ).history
    features = [np.asarray(model.backbone(view, training=False)) for view in model.last_batch]
    assert history["alignment"][1] == pytest.approx(statistics.alignment(*features), rel=1e-4)


@pytest.mark.parametrize(
    ("last_batch", "received"),
    [
        ((np.zeros((8, 4, 4, 3)),), r"\[\(8, 4, 4, 3\)\]"),
        ((np.zeros((8, 4)), np.zeros((8, 4))), r"\[\(8, 4\), \(8, 4\)\]"),
        ("images", "'images'"),
    ],
)
def test_a_wrong_last_batch(last_batch, received):
    model = Still(Tiny((4, 4, 3), 8), last_batch)
    with pytest.raises(
        ValueError, match=rf"`last_batch` of the model must hold two views.*last_batch={received}"
    ):
        measure(model)
    monitor = CollapseMonitor()
    monitor.set_model(model)
    monitor.on_train_begin()
    with pytest.raises(FloatingPointError, match=r"loss=nan.*all weights are finite"):
        monitor.on_epoch_end(0, {"loss": np.nan})


def test_a_subclassed_backbone(batch):
    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(8)

        def call(self, images):
            return self.dense(keras.ops.reshape(images, (-1, 64)))

    encoder = Encoder()
    features = [np.asarray(encoder(view)) for view in batch]
    monitor = measure(Still(encoder, batch))
    assert list(monitor.history[0]) == KEYS
    assert monitor.history[0]["alignment"] == pytest.approx(
        statistics.alignment(*features), rel=1e-4
    )


def test_feature_maps_are_refused(batch):
    maps = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3)], name="maps")
    with pytest.raises(ValueError, match=r"needs one vector per image.*Received: .* from 'maps'"):
        measure(Still(maps, batch))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "`every` must be at least 1. Received: every=0"),
        ({"images": 1}, "`images` must be at least 2. Received: images=1"),
        ({"threshold": 1.0}, r"`threshold` must lie in \[0, 1\). Received: threshold=1.0"),
        ({"threshold": -0.1}, "Received: threshold=-0.1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        CollapseMonitor(**settings)
