"""The words, files and folders that `--data` takes."""

import numpy as np
import pytest
from PIL import Image

from keras_ssl.data import open_source


def write(path, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side)).save(path)


def test_digits_have_test_images():
    train, test = open_source("digits")
    assert (len(train), len(test)) == (1437, 360)


def test_a_folder_of_images_has_no_test_images(tmp_path):
    write(tmp_path / "a.png")
    train, test = open_source(str(tmp_path))
    assert (len(train), test, train.labels) == (1, None, None)
    assert open_source(str(tmp_path), channels=1)[0].image_shape == (None, None, 1)


@pytest.mark.parametrize("name", ["val", "test", "validation", "valid"])
def test_a_folder_with_train_and_test(tmp_path, name):
    for part, count in (("train", 3), (name, 2)):
        for number in range(count):
            write(tmp_path / part / "cat" / f"{number}.png")
    train, test = open_source(str(tmp_path))
    assert (len(train), len(test)) == (3, 2)
    assert train.class_names == test.class_names == ["cat"]


def test_a_folder_with_train_alone(tmp_path):
    write(tmp_path / "train" / "a.png")
    train, test = open_source(str(tmp_path))
    assert (len(train), test) == (1, None)


def test_npz_with_and_without_test_images(tmp_path):
    images = np.zeros((6, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "both.npz", x_train=images, x_test=images[:2])
    np.savez(tmp_path / "one.npz", images=images)
    train, test = open_source(str(tmp_path / "both.npz"))
    assert (len(train), len(test)) == (6, 2)
    train, test = open_source(str(tmp_path / "one.npz"))
    assert (len(train), test) == (6, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", r"Did you mean 'digits'\? Received: 'digit'"),
        ("no/such/folder", "there is no such file or folder"),
    ],
)
def test_what_is_not_there(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        open_source(name)
