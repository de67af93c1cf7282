import numpy as np
from PIL import Image

from keras_ssl import augment, data
from keras_ssl.backbones import Tiny
from keras_ssl.runs.plots import demo_picture


def test_a_picture_is_written(tmp_path):
    train = data.digits("train").subset(np.arange(40))
    test = data.digits("test").subset(np.arange(60))
    history = [{"epoch": epoch, "loss": 5.0 / epoch} for epoch in (1, 2, 3)]
    encoders = [Tiny((8, 8, 1), features=8) for _ in range(2)]
    path = demo_picture(history, *encoders, train, test, augment.centred(8), tmp_path / "demo.png")
    assert path == tmp_path / "demo.png"
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width > 1000
        pixels = np.asarray(picture.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50  # it is not empty


def test_colour_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    source = data.arrays(pixels, np.arange(30) % 3, ["a", "b", "c"])
    encoder = Tiny((8, 8, 3), features=8)
    history = [{"epoch": 1, "loss": 1.0}]
    path = demo_picture(
        history, encoder, encoder, source, source, augment.simclr(8), tmp_path / "demo.png"
    )
    assert path.stat().st_size > 10_000
