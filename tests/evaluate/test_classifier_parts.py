"""The encoder of a classifier, also after distillations."""

import keras
import numpy as np

from keras_ssl import evaluate
from keras_ssl.backbones import Tiny
from keras_ssl.distill import calibrated
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.evaluate.encoder_part import encoder

IMAGES = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)


def test_the_encoder_is_the_network_before_the_classes(tmp_path):
    backbone = Tiny((8, 8, 1), features=8)
    classifier = with_classes(backbone, 5)
    twice = calibrated(encoder(calibrated(classifier, 0.1)), 0.5)
    twice.save(tmp_path / "twice.keras")
    loaded = keras.models.load_model(tmp_path / "twice.keras", compile=False)
    for network in (classifier, calibrated(classifier, 0.1), twice, loaded):
        found = encoder_of_classifier(network)
        assert network.output_shape == (None, 5)
        np.testing.assert_allclose(found(IMAGES), backbone(IMAGES), atol=1e-6)


def test_other_networks_are_no_classifiers():
    assert encoder_of_classifier(Tiny((8, 8, 1), features=8)) is None
    assert encoder_of_classifier(evaluate.pixels((8, 8, 1))) is None
    assert encoder_of_classifier(keras.Sequential()) is None
