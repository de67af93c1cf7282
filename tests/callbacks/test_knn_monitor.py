import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import KNNMonitor


@pytest.fixture(scope="module")
def digits():
    return data.digits("train").subset(range(300)), data.digits("test").subset(range(100))


class Autoencoder(keras.Model):
    """A minimal model with a backbone, trained without labels."""

    def __init__(self):
        super().__init__()
        self.backbone = Tiny((8, 8, 1), features=16)
        self.decoder = keras.layers.Dense(64)

    def call(self, images, training=False):
        return self.decoder(self.backbone(images, training=training))


def _images(batch_size=50):
    images = tf.random.stateless_uniform((100, 8, 8, 1), [0, 1])
    dataset = tf.data.Dataset.from_tensor_slices((images, tf.reshape(images, (100, 64))))
    return dataset.batch(batch_size)


def _fit(callbacks, epochs=2, **settings):
    keras.utils.set_random_seed(3)
    model = Autoencoder()
    model.compile("sgd", "mse")
    history = model.fit(
        _images(), epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks, **settings
    )
    return model, history.history


def test_logs_reach_history_and_csv(digits, tmp_path):
    monitor = KNNMonitor(*digits, k=20)
    csv_logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    model, history = _fit([monitor, csv_logger])
    expected = evaluate.knn(model.backbone, *digits, k=20)
    assert history["knn"][1] == expected.accuracy
    assert len(history["knn"]) == 2
    assert 0.3 < expected.accuracy < 1
    assert monitor.history[1] == expected
    assert sorted(monitor.history) == [0, 1]
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["knn"]) for row in rows] == history["knn"]


def test_logs_reach_tensorboard(digits, tmp_path):
    _, history = _fit([KNNMonitor(*digits, k=20), keras.callbacks.TensorBoard(tmp_path)])
    assert _scalars(tmp_path / "train", "epoch_knn") == pytest.approx(history["knn"])


def _scalars(folder, tag):
    found = []
    for file in folder.glob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            found += [tf.make_ndarray(v.tensor) for v in event.summary.value if v.tag == tag]
    return [float(value) for value in found]


def test_callbacks_after_it_see_the_value(digits):
    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.saw = "knn" in logs

    before, after = Look(), Look()
    _fit([before, KNNMonitor(*digits), after], epochs=1)
    assert not before.saw
    assert after.saw


def test_every(digits):
    monitor = KNNMonitor(*digits, every=2)
    _, history = _fit([monitor], epochs=5)
    assert sorted(monitor.history) == [1, 3]
    assert len(history["knn"]) == 2


def test_training_is_the_same_with_and_without_it(digits):
    plain, _ = _fit([])
    watched, _ = _fit([KNNMonitor(*digits)])
    assert evaluate.fingerprint(plain.backbone) != evaluate.fingerprint(Tiny((8, 8, 1), 16))
    for a, b in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_without_a_backbone_is_measured_itself(digits):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(64))
    model.compile("sgd", "mse")
    history = model.fit(
        _images(), verbose=0, shuffle=False, callbacks=[KNNMonitor(*digits)]
    ).history
    assert history["knn"] == [evaluate.knn(model, *digits).accuracy]


def test_the_function_is_traced_once(digits):
    monitor = KNNMonitor(*digits, batch_size=100)
    _fit([monitor], epochs=4)
    assert monitor._encoder._forward.experimental_get_tracing_count() == 1


def test_a_second_model_gets_a_new_encoder(digits):
    monitor = KNNMonitor(*digits, k=20)
    first, _ = _fit([monitor], epochs=1)
    second, history = _fit([monitor], epochs=3)
    assert history["knn"][-1] == evaluate.knn(second.backbone, *digits, k=20).accuracy
    assert history["knn"][-1] != evaluate.knn(first.backbone, *digits, k=20).accuracy


def test_several_replicas(digits, two_replicas):
    monitor = KNNMonitor(*digits)
    with two_replicas.scope():
        model, history = _fit([monitor], epochs=1)
    assert history["knn"] == [evaluate.knn(model.backbone, *digits).accuracy]


def test_with_a_method(digits):
    from keras_ssl import augment
    from keras_ssl.methods import SimCLR

    train, _ = digits
    model = SimCLR(Tiny((8, 8, 1), features=16))
    model.compile(optimizer="sgd")
    monitor = KNNMonitor(*digits)
    views = data.views(train, augment.simclr(8, blur=False), batch_size=100, seed=0)
    history = model.fit(views, epochs=1, steps_per_epoch=3, verbose=0, callbacks=[monitor]).history
    assert history["knn"] == [evaluate.knn(model.backbone, *digits).accuracy]


def test_divergence_stops_the_training(digits):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(64))
    model.compile("sgd", "mse")
    broken = _images().map(lambda images, targets: (images, targets * np.nan))
    with pytest.raises(ValueError, match=r"'train' must be finite.* 300 of 300"):
        model.fit(broken, epochs=3, verbose=0, shuffle=False, callbacks=[KNNMonitor(*digits)])


def test_settings_are_checked_at_once(digits):
    train, test = digits
    plain = data.arrays(np.zeros((4, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="`train` must have labels"):
        KNNMonitor(plain, test)
    with pytest.raises(ValueError, match="`test` must have labels"):
        KNNMonitor(train, plain)
    for name in ("every", "k", "temperature", "batch_size"):
        with pytest.raises(ValueError, match=f"`{name}` must be positive. Received: {name}=0"):
            KNNMonitor(train, test, **{name: 0})
