"""The names, files and folders that `--data` accepts."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from keras_ssl import data
from keras_ssl.data import open_source
from keras_ssl.data.open_source import open_labeled, report_skipped
from tests.tiers import rest_large


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
    assert open_source(str(tmp_path), channels=1)[0].image_shape == (8, 8, 1)


@pytest.mark.parametrize("name", ["val", "test", "validation", "valid"])
def test_a_folder_with_train_and_test(tmp_path, name):
    for part, count in (("train", 3), (name, 2)):
        for number in range(count):
            write(tmp_path / part / "cat" / f"{number}.png")
    train, test = open_source(str(tmp_path))
    assert (len(train), len(test)) == (3, 2)
    assert train.class_names == test.class_names == ["cat"]


@pytest.mark.parametrize(
    ("train_name", "test_name"),
    rest_large(
        [
            ("TRAIN", "VAL"),
            ("training", "Testing"),
            ("Train", "Test"),
            ("training", "testing"),
            ("Training", "Validation"),
        ],
        2,
    ),
)
def test_parts_are_recognized_in_any_case(tmp_path, train_name, test_name):
    for part, count in ((train_name, 3), (test_name, 2)):
        for number in range(count):
            write(tmp_path / part / "cat" / f"{number}.png")
    train, test = open_source(tmp_path)
    assert (len(train), len(test)) == (3, 2)
    assert train.class_names == test.class_names == ["cat"]
    train, test = open_source(tmp_path, rules=1)
    if train_name != "train":  # as earlier versions did
        assert (len(train), test) == (5, None)


def test_the_exact_name_comes_first(tmp_path):
    write(tmp_path / "Train" / "a.png")
    for name in ("a", "b"):
        write(tmp_path / "train" / f"{name}.png")
    assert len(open_source(tmp_path)[0]) == 2


def test_float_files_need_their_range(tmp_path):
    Image.new("F", (4, 4), 700.0).save(tmp_path / "a.tif")
    Image.new("F", (4, 4), 100.0).save(tmp_path / "b.tif")
    with pytest.raises(
        ValueError, match="32-bit values need their range: `--value-range LOW HIGH`"
    ):
        open_source(tmp_path)
    train, _ = open_source(tmp_path, value_range=(0, 1000))
    np.testing.assert_allclose(train.read(0), 0.7, atol=1e-6)


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
def test_missing_data_are_refused(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        open_source(name)


def test_a_source_and_a_path_object_are_accepted(tmp_path):
    source = data.digits("test")
    assert open_source(source) == (source, None)
    write(tmp_path / "a.png")
    assert len(open_source(tmp_path)[0]) == 1


def labeled(count=20):
    return data.arrays(np.zeros((count, 4, 4, 1), np.uint8), np.arange(count) % 2)


def test_a_fifth_is_held_out_if_there_are_no_test_images():
    console = Console(file=io.StringIO())
    train, test = open_labeled(labeled(), seed=1, console=console)
    assert (len(train), len(test)) == (16, 4)
    assert "No separate test images: 4 of the images were held out." in console.file.getvalue()
    again = [source.fingerprint() for source in open_labeled(labeled(), seed=1)]
    assert again == [train.fingerprint(), test.fingerprint()]


def test_test_images_are_used_if_there_are_any():
    console = Console(file=io.StringIO())
    train, test = open_labeled("digits", console=console)
    assert (len(train), len(test)) == (1437, 360)
    assert console.file.getvalue() == ""


def test_images_without_labels_cannot_evaluate():
    unlabeled = data.arrays(np.zeros((8, 4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match=r"Evaluation needs labels\..*without labels"):
        open_labeled(unlabeled)


def test_unreadable_files_are_counted_once(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    source, _ = open_source(tmp_path)
    console = Console(file=io.StringIO())
    report_skipped(console, source, source, None)
    assert "Skipped: 1 unreadable image files, named above." in console.file.getvalue()
    console = Console(file=io.StringIO())
    report_skipped(console, labeled(), None)
    assert console.file.getvalue() == ""
