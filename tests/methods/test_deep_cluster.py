"""DeepCluster: the bank, the clusters of each epoch, and the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data
from keras_ssl.augment import Augmentation, Policy, RandomFlip
from keras_ssl.backbones import Tiny
from keras_ssl.layers import MLPHead
from keras_ssl.methods import DeepCluster

SHAPE = (4, 4, 3)
COUNT, BATCH = 24, 8
POLICY = Policy(Augmentation([RandomFlip()]), Augmentation([RandomFlip()]))


def source():
    return data.arrays(np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8))


def model(**arguments):
    keras.utils.set_random_seed(0)
    made = DeepCluster(
        Tiny(SHAPE, features=8), MLPHead(4, depth=1), COUNT, **{"clusters": (3, 4), **arguments}
    )
    made.compile("sgd")
    return made


def views(start=0):
    return data.views(source(), POLICY, BATCH, seed=5, start=start, indices=True)


def test_the_bank_is_filled_before_the_first_epoch():
    trained = model()
    before = np.asarray(trained.bank.embeddings).copy()
    weights = trained.backbone.get_weights()
    trained.fill_bank(views())
    after = np.asarray(trained.bank.embeddings)
    assert np.abs(after - before).max(axis=1).min() > 1e-4  # every image has been entered
    for one, other in zip(trained.backbone.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    *pair, index = next(iter(views()))
    expected = trained.mean_direction([trained.embed(view, training=False) for view in pair])
    np.testing.assert_allclose(after[index], expected, atol=1e-5)


def test_every_epoch_has_new_clusters_and_the_loss_is_that_of_numpy():
    trained = model()
    trained.fit(views(), epochs=2, verbose=0)
    assert int(trained.clusterings.epochs) == 2
    *pair, index = next(iter(views()))
    z = [np.asarray(trained.embed(view)) for view in pair]
    losses = []
    for number, centers in enumerate(trained.clusterings.centers):
        labels = np.asarray(trained.clusterings.labels)[number, index]
        for each in z:
            scores = each @ np.asarray(centers).T / 0.1
            own = scores[np.arange(BATCH), labels]
            losses.append(np.mean(np.log(np.exp(scores).sum(axis=1)) - own))
    np.testing.assert_allclose(trained.ssl_loss(*pair, index), np.mean(losses), rtol=1e-5)


def test_an_image_without_a_cluster_adds_nothing():
    trained = model()
    *pair, index = next(iter(views()))
    assert float(trained.ssl_loss(*pair, index)) == 0


def test_an_interrupted_epoch_keeps_its_clusters(tmp_path):
    trained = model()
    trained.fit(views(), epochs=2, verbose=0)
    expected = trained.get_weights()

    first = model()
    first.fit(views(), epochs=1, verbose=0)
    first.fit(views(start=3), initial_epoch=1, epochs=2, steps_per_epoch=1, verbose=0)
    first.save_weights(tmp_path / "in.weights.h5")
    labels = np.asarray(first.clusterings.labels)
    second = model()
    second.optimizer.build(second.trainable_variables)
    second.load_weights(tmp_path / "in.weights.h5")
    second.fit(views(start=4), initial_epoch=1, epochs=2, verbose=0)
    np.testing.assert_array_equal(second.clusterings.labels, labels)
    for one, other in zip(second.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_panels_name_the_clusters():
    trained = model()
    *pair, index = next(iter(views()))
    assert set(trained.panels(*pair, index)[0].captions) == {"no cluster yet"}
    trained.fill_bank(views())
    trained.cluster(0)
    first, second = trained.panels(*pair, index)
    labels = np.asarray(trained.clusterings.labels)[0, index]
    assert list(first.captions) == [f"cluster {label}" for label in labels]
    assert (first.images.shape, second.captions) == ((BATCH, *SHAPE), ())


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"`temperature` must be positive\. Received: temp.*=0"):
        model(temperature=0)
    with pytest.raises(ValueError, match="from 2 to the number of images"):
        model(clusters=(COUNT + 1,))
    with pytest.raises(ValueError, match=r"\(view_1, view_2, index\).*indices=True"):
        model().fit(tf.data.Dataset.from_tensors((tf.zeros((8, *SHAPE)),) * 2), verbose=0)
