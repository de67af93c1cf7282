"""Fine-tuning on handwritten digits: it learns, it repeats, and it leaves the model alone."""

import json

import keras
import numpy as np
import pytest

from keras_ssl import augment, data
from keras_ssl.backbones import Tiny
from keras_ssl.evaluate import finetune, fingerprint, supervised
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SimCLR
from tests.tiers import rest_large

TRAIN = data.digits("train")
TEST = data.digits("test")
PLAIN = augment.Augmentation([augment.RandomFlip(0.1)])


def simclr():
    return SimCLR(Tiny((8, 8, 1), features=32), ProjectionHead(16, depth=3))


def quick(model, train=TRAIN, **settings):
    few = {"labels": 0.2, "epochs": 2, "batch_size": 64, "optimizer": "sgd", "augmentation": PLAIN}
    return finetune(model, train, TEST, **{**few, **settings})


def test_it_learns_and_the_model_stays_as_it_is():
    model = simclr()
    before = fingerprint(model)
    result = quick(model, epochs=12, learning_rate=0.3)
    assert result.accuracy > 0.6
    assert fingerprint(model) == before
    assert result.network.output_shape == (None, 10)


def test_the_report_has_every_epoch_and_the_images():
    result = quick(simclr(), epochs=3, every=2)
    assert [line["epoch"] for line in result.history] == [1, 2, 3]
    assert ["accuracy" in line for line in result.history] == [False, True, True]
    assert result.accuracy == result.history[-1]["accuracy"]
    assert result.best_accuracy == max(line.get("accuracy", 0) for line in result.history)
    assert np.bincount(TRAIN.labels[result.labelled]).tolist() == [29] * 10
    assert result.train_size == 290
    assert result.test_size == len(TEST)
    assert json.loads(json.dumps(result.to_dict()))["settings"]["from_layer"] == 1


def test_the_accuracy_is_that_of_the_network():
    result = quick(simclr())
    images = np.stack([image for image, _ in TEST.dataset().as_numpy_iterator()]) / 255
    scores = result.network(images.astype("float32"), training=False)
    found = np.mean(np.argmax(scores, axis=1) == TEST.labels)
    assert found == pytest.approx(result.accuracy, abs=0.003)


@pytest.mark.large
def test_the_seed_decides():
    model = simclr()
    first, again, other = (quick(model, seed=seed).history for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("model", "layer"), [(simclr(), 1), (simclr().backbone, 0)])
def test_default_layer(model, layer):
    assert quick(model, epochs=1).settings["from_layer"] == layer


@pytest.mark.large
def test_a_set_of_few_images_is_trained_for_a_thousand_steps():
    result = finetune(Tiny((8, 8, 1), features=4), TRAIN, TEST, labels=0.01, every=1000)
    assert result.settings["steps"] >= 1000
    assert result.settings["learning_rate"] == pytest.approx(0.005 * 10**0.5)
    assert len(result.labelled) == 10


@pytest.mark.large
@pytest.mark.parametrize("form", ["arrays", "tf.data"])
def test_other_forms_of_images(form):
    images = np.stack([image for image, _ in TRAIN.dataset().as_numpy_iterator()])
    train = (images, TRAIN.labels) if form == "arrays" else TRAIN.dataset()
    model = simclr()
    assert quick(model, train).history == quick(model, TRAIN).history


def test_lars_leaves_the_new_layer_out():
    """Of weights near zero LARS would make steps near zero."""
    result = quick(simclr(), optimizer="lars", epochs=8, learning_rate=0.2)
    start = 0.01 * np.sqrt(10 * result.network.layers[-1].kernel.shape[0])
    assert np.linalg.norm(result.network.layers[-1].kernel) > 2 * start


@pytest.mark.parametrize(("labels", "expected"), rest_large([(0.05, "lars"), (0.2, "sgd")]))
def test_few_labels_take_small_steps(labels, expected):
    result = quick(simclr(), labels=labels, epochs=1, optimizer=None)
    assert result.settings["optimizer"] == expected


def test_the_defaults_follow_the_share_that_is_used():
    """The smallest class has 3 of 1,294 images, so that half of the labels are 30."""
    labels = np.asarray(TRAIN.labels)
    kept = np.sort(np.append(np.flatnonzero(labels < 9), np.flatnonzero(labels == 9)[:3]))
    result = quick(simclr(), TRAIN.subset(kept), labels=0.5, epochs=1, optimizer=None)
    assert result.settings["labels"] == 0.5
    assert result.settings["share_of_labels"] == pytest.approx(30 / len(kept))
    assert result.settings["optimizer"] == "lars"


@pytest.mark.large
@pytest.mark.parametrize("labels", [0.02, 0.2])
def test_two_devices_do_what_one_does(labels, two_replicas):
    # 30 and 290 images: fewer than a batch, and several of them.
    model = simclr()
    one = quick(model, labels=labels)
    with two_replicas.scope():
        two = quick(model, labels=labels)
    assert one.settings == two.settings
    # Rounded otherwise, and amplified: tests/distribute has the proof, in float64.
    for weight, other in zip(one.network.weights, two.network.weights, strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-3, err_msg=weight.path)
    assert two.accuracy == pytest.approx(one.accuracy, abs=0.01)


@pytest.mark.large
def test_batches_divide_among_devices(two_replicas):
    few = TRAIN.subset(range(11))
    settings = {"epochs": 1, "augmentation": PLAIN}
    test = TEST.subset(np.isin(TEST.labels, few.labels))
    with two_replicas.scope():
        result = supervised(simclr().backbone, few, test, **settings)
        assert result.settings["batch_size"] == 10
        with pytest.raises(ValueError, match="batch_size=7, and 2 devices"):
            supervised(simclr().backbone, few, test, batch_size=7, **settings)
        with pytest.raises(ValueError, match="Received: 1 labeled images and 2 replicas"):
            finetune(simclr(), few.subset([0]), few.subset([0]), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": 0.0}, r"`labels` must be in \(0, 1\]. Received: labels=0"),
        ({"optimizer": "adam"}, "must be 'lars' or 'sgd'. Received: optimizer='adam'"),
        ({"epochs": 0}, "`epochs` must be positive. Received: epochs=0"),
        ({"weight_decay": -1}, "`weight_decay` must not be negative. Received"),
        ({"from_layer": 4}, "`from_layer` must be an integer from 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        quick(simclr(), **settings)


def test_images_need_labels():
    unlabelled = data.arrays(np.zeros((5, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="`train` must have labels"):
        finetune(simclr(), unlabelled, TEST)


@pytest.mark.large
def test_keras_models_of_the_applications():
    network = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, include_top=False, pooling="avg"
    )
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    pair = (images, np.arange(8) % 2)
    result = finetune(network, pair, pair, epochs=1)
    assert result.network.output_shape == (None, 2)


def named(source, names, numbers):
    """Returns some digits, relabeled: digit i is class numbers[i] with that class's name."""
    chosen = source.subset(np.flatnonzero(np.isin(source.labels, list(numbers)))[:60])
    images = np.stack([image for image, _ in chosen.dataset().as_numpy_iterator()])
    labels = np.array([numbers[int(label)] for label in chosen.labels])
    return data.arrays(images, labels, names)


def test_test_images_are_matched_by_class_name():
    model = simclr()
    train = named(TRAIN, ["zero", "one", "two"], {0: 0, 1: 1, 2: 2})
    few = {"labels": 1.0, "epochs": 1, "batch_size": 20, "optimizer": "sgd", "augmentation": PLAIN}
    same = finetune(model, train, named(TEST, ["zero", "one", "two"], {0: 0, 1: 1, 2: 2}), **few)
    other = finetune(model, train, named(TEST, ["two", "zero", "one"], {0: 1, 1: 2, 2: 0}), **few)
    assert other.per_class == same.per_class
    assert set(same.per_class) == {"zero", "one", "two"}
    assert same.mean_per_class == pytest.approx(np.mean(list(same.per_class.values())))
    assert same.class_names == ["zero", "one", "two"]


def test_a_class_that_the_network_lacks_is_refused():
    train = named(TRAIN, ["zero", "one"], {0: 0, 1: 1})
    with pytest.raises(ValueError, match=r"must be a class of the network\. Received: two in"):
        finetune(simclr(), train, named(TEST, ["zero", "two"], {0: 0, 2: 1}), epochs=1)
    images = np.zeros((4, 8, 8, 1), np.uint8)
    with pytest.raises(ValueError, match=r"0 to 1\. Received: label 2"):
        finetune(simclr(), (images, np.array([0, 1, 0, 1])), (images, np.array([0, 1, 2, 0])))
