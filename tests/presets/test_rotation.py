"""The preset of rotation warns of images whose turns cannot be told apart."""

from keras_ssl import data
from keras_ssl.presets import Rotation
from tests.evaluate.test_has_upright import blobs


def test_images_without_an_upright_are_named():
    (line,) = Rotation().check_images(blobs())
    assert line.startswith("The images of 'blobs' seem to have no upright")
    assert list(Rotation().check_images(data.digits("train"))) == []
