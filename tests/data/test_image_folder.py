"""Image files as a source: layouts, formats, and files that cannot be decoded."""

import logging
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl.data.image_folder import image_folder
from tests.tiers import rest_large


def smooth(height=24, width=16, seed=0):
    """Returns an RGB image that JPEG hardly changes."""
    slopes = np.random.default_rng(seed).uniform(0, 4, (3, 2))
    y, x = np.mgrid[:height, :width]
    image = [slope_y * y + slope_x * x for slope_y, slope_x in slopes]
    return Image.fromarray(np.stack(image, axis=-1).clip(0, 255).astype(np.uint8))


def write(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (smooth() if image is None else image).save(path, **options)
    return path


def damage(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


@pytest.fixture
def classes(tmp_path):
    """Three classes; the images of a class differ in height."""
    for name, count in {"cat": 3, "ant": 2, "bee": 1}.items():
        for number in range(count):
            write(tmp_path / name / f"{number}.png", smooth(height=20 + number))
    return tmp_path


def test_class_folders(classes):
    source = image_folder(classes)
    assert source.class_names == ["ant", "bee", "cat"]
    np.testing.assert_array_equal(source.labels, [0, 0, 1, 2, 2, 2])
    assert source.labels.dtype == np.int64
    assert source.image_shape == (None, None, 3)
    assert source.dataset().element_spec[0] == tf.TensorSpec((None, None, 3), tf.uint8)
    read = list(source.dataset().as_numpy_iterator())
    assert [image.shape[0] for image, _ in read] == [20, 21, 20, 20, 21, 22]
    assert [label for _, label in read] == [0, 0, 1, 2, 2, 2]
    assert source.skipped == {}


def test_deeper_folders_belong_to_the_class_above(classes):
    write(classes / "ant" / "2020" / "may" / "x.png")
    source = image_folder(classes)
    np.testing.assert_array_equal(source.labels, [0, 0, 0, 1, 2, 2, 2])
    assert [os.path.relpath(file, classes) for file in source.files][2] == "ant/2020/may/x.png"


def test_flat_folder_is_unlabelled_and_sorted(tmp_path):
    for name in ["b.PNG", "a.jpg", "C.JPEG", "d.Bmp", "e.gif"]:
        write(tmp_path / name)
    source = image_folder(str(tmp_path))
    assert source.labels is None
    assert source.class_names is None
    assert [os.path.basename(file) for file in source.files] == [
        "C.JPEG", "a.jpg", "b.PNG", "d.Bmp", "e.gif",
    ]  # fmt: skip
    assert [label for _, label in source.dataset().as_numpy_iterator()] == [-1] * 5


def test_a_folder_with_images_directly_in_it_is_unlabelled(classes):
    write(classes / "loose.png")
    source = image_folder(classes)
    assert len(source) == 7
    assert source.labels is None
    with pytest.raises(ValueError, match=r"1 images directly in .*'loose.png'"):
        image_folder(classes, labelled=True)


def test_labels_can_be_ignored(classes):
    source = image_folder(classes, labelled=False)
    assert len(source) == 6
    assert source.labels is None


def test_hidden_files_folders_without_images_and_links(classes):
    (classes / "ant" / "._0.png").write_bytes(b"macOS")
    (classes / "ant" / "notes.txt").write_text("no image")
    write(classes / ".thumbnails" / "0.png")
    (classes / "empty").mkdir()
    (classes / "bee" / "loop").symlink_to(classes, target_is_directory=True)
    (classes / "dog").symlink_to(write(classes.parent / "elsewhere" / "0.png").parent)
    source = image_folder(classes)
    assert source.class_names == ["ant", "bee", "cat", "dog"]
    assert len(source) == 7


def test_folders_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        image_folder(tmp_path / "absent")
    with pytest.raises(NotADirectoryError, match="which is a file"):
        image_folder(write(tmp_path / "image.png"))
    (tmp_path / "texts").mkdir()
    with pytest.raises(ValueError, match=r"\.jpg, \.jpeg, \.png, \.bmp, \.gif.*no file"):
        image_folder(tmp_path / "texts")
    for name in ["a.txt", "b.TXT", "c.raw", "README"]:
        (tmp_path / "texts" / name).write_text("")
    with pytest.raises(ValueError, match=r"holds 2 \*\.txt, 1 "):
        image_folder(tmp_path / "texts")


@pytest.mark.parametrize("argument", [{"channels": 2}, {"channels": 4}, {"labelled": "yes"}])
def test_wrong_arguments(classes, argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        image_folder(classes, **argument)


@pytest.mark.parametrize("channels", rest_large([3, 1]))
@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("rgb.jpg", "RGB", {"quality": 95}),
        ("progressive.jpg", "RGB", {"quality": 95, "progressive": True}),
        ("grey.jpg", "L", {"quality": 95}),
        ("rgb.png", "RGB", {}),
        ("grey.png", "L", {}),
        ("palette.png", "P", {}),
        ("transparent.png", "RGBA", {}),
        ("grey_alpha.png", "LA", {}),
        ("black_and_white.png", "1", {}),
        ("rgb.bmp", "RGB", {}),
        ("grey.bmp", "L", {}),
        ("palette.gif", "P", {}),
    ],
)
def test_formats_decode_as_pillow_does(tmp_path, name, mode, options, channels):
    image = smooth().convert(mode)
    write(tmp_path / name, image, **options)
    decoded = image_folder(tmp_path, channels=channels).read(0).numpy()
    assert decoded.shape == (24, 16, channels)
    assert decoded.dtype == np.uint8
    expected = np.asarray(image.convert("RGB"), np.float64)
    if channels == 1:
        expected = expected @ [[0.299], [0.587], [0.114]]
    assert np.abs(decoded - expected).max() < (6 if name.endswith("jpg") else 1.01)


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk_jpeg_16_bit_png_and_animated_gif(tmp_path, channels):
    write(tmp_path / "cmyk.jpg", smooth().convert("CMYK"), quality=95)
    sixteen = np.linspace(0, 65535, 24 * 16).reshape(24, 16).astype(np.uint16)
    write(tmp_path / "depth.png", Image.fromarray(sixteen))
    frames = [Image.new("RGB", (16, 24), color) for color in ("red", "lime", "blue")]
    write(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    source = image_folder(tmp_path, channels)
    assert [os.path.basename(file) for file in source.files] == [
        "cmyk.jpg", "depth.png", "moving.gif",
    ]  # fmt: skip
    cmyk, depth, moving = (image for image, _ in source.dataset().as_numpy_iterator())
    weights = [[0.299], [0.587], [0.114]] if channels == 1 else np.eye(3)
    assert source.dtype == cmyk.dtype == depth.dtype == np.uint16
    assert np.abs(cmyk / 257 - np.asarray(smooth(), np.float64) @ weights).max() < 10
    # The weights of grayscale add up to 0.9999.
    expected = np.repeat(sixteen[..., None], channels, axis=-1)
    np.testing.assert_allclose(depth, expected, atol=7 if channels == 1 else 0)
    red = np.full((24, 16, 3), [255, 0, 0]) @ weights
    np.testing.assert_allclose(moving / 257, red, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_rules_read_16_bits_as_8(tmp_path, channels):
    sixteen = np.linspace(0, 65535, 24 * 16).reshape(24, 16).astype(np.uint16)
    write(tmp_path / "depth.png", Image.fromarray(sixteen))
    write(tmp_path / "new.webp")
    source = image_folder(tmp_path, channels, rules=1)
    assert len(source) == 1
    assert source.image_shape == (None, None, channels)
    expected = np.repeat(sixteen[..., None] >> 8, channels, axis=-1)
    np.testing.assert_array_equal(source.read(0), expected)


def test_reading_in_a_graph(classes):
    source = image_folder(classes)
    read = tf.function(source.read, input_signature=[tf.TensorSpec((), tf.int64)])
    assert read(5).shape == (22, 16, 3)
    assert read.get_concrete_function().output_shapes.as_list() == [None, None, 3]


def test_damaged_files_are_skipped_and_named(classes, caplog):
    damage(write(classes / "ant" / "half.jpg", smooth(200, 200)), keep=0.5)
    damage(write(classes / "bee" / "tail.jpg", smooth(200, 200)), keep=0.98)
    damage(write(classes / "bee" / "half.png", smooth(200, 200)), keep=0.5)
    damage(write(classes / "bee" / "half.bmp"), keep=0.5)
    damage(write(classes / "bee" / "half.gif"), keep=0.5)
    (classes / "cat" / "0_empty.jpg").write_bytes(b"")
    (classes / "cat" / "0_text.png").write_text("<html>not found</html>")
    (classes / "cat" / "0_gone.png").symlink_to(classes / "nowhere.png")
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        source = image_folder(classes)
    names = {os.path.relpath(file, classes) for file in source.skipped}
    assert names == {
        "ant/half.jpg", "bee/tail.jpg", "bee/half.png", "bee/half.bmp", "bee/half.gif",
        "cat/0_empty.jpg", "cat/0_text.png", "cat/0_gone.png",
    }  # fmt: skip
    np.testing.assert_array_equal(source.labels, [0, 0, 1, 2, 2, 2])
    assert [image.shape[0] for image, _ in source.dataset()] == [20, 21, 20, 20, 21, 22]
    assert source.skipped[str(classes / "cat" / "0_empty.jpg")] == "empty file"
    assert source.skipped[str(classes / "ant" / "half.jpg")] == "JPEG file that ends too early"
    assert "PNG" in source.skipped[str(classes / "bee" / "half.png")]
    assert "No such file" in source.skipped[str(classes / "cat" / "0_gone.png")]
    [record] = caplog.records
    assert "8 of 14 image files" in record.getMessage()
    for file, reason in source.skipped.items():
        assert f"{file}: {reason}" in record.getMessage()
        assert "{{" not in reason
        assert "[Op:" not in reason


@pytest.mark.parametrize("progressive", [False, True])
def test_verification_finds_the_same_truncated_files_as_reading(tmp_path, progressive):
    """The fast check of JPEG files agrees with the decoder, for any truncation."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    whole = write(
        tmp_path / "whole.jpg", Image.fromarray(noise), quality=90, progressive=progressive
    ).read_bytes()
    ends = [1, 3, 20, 200, len(whole) // 2, len(whole) - 40, len(whole) - 3, len(whole) - 2]
    for end in ends:
        (tmp_path / f"cut_{end}.jpg").write_bytes(whole[:end])
    everything = image_folder(tmp_path, verify=False)
    undecodable = set()
    for index, file in enumerate(everything.files):
        try:
            everything.read(index)
        except tf.errors.InvalidArgumentError:
            undecodable.add(file)
    assert len(undecodable) >= len(ends) - 1
    assert set(image_folder(tmp_path).skipped) == undecodable


def test_a_class_keeps_its_number_when_all_its_files_are_damaged(classes):
    (classes / "bee" / "0.png").write_bytes(b"")
    source = image_folder(classes)
    assert source.class_names == ["ant", "bee", "cat"]
    np.testing.assert_array_equal(source.labels, [0, 0, 2, 2, 2])


def test_all_files_damaged(tmp_path):
    for name in ["a.jpg", "b.png"]:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"all 2 files fail.*a.jpg': empty file"):
        image_folder(tmp_path)


def test_without_verification_reading_a_damaged_file_fails(tmp_path):
    damage(write(tmp_path / "half.jpg", smooth(200, 200)), keep=0.5)
    source = image_folder(tmp_path, verify=False)
    assert source.skipped == {}
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG"):
        source.read(0)


def test_the_log_stays_short(tmp_path, caplog):
    write(tmp_path / "good.png")
    for number in range(150):
        (tmp_path / f"{number}.png").write_bytes(b"")
    source = image_folder(tmp_path)
    assert len(source.skipped) == 150
    [record] = caplog.records
    assert len(record.getMessage().splitlines()) == 102
    assert "and 50 more" in record.getMessage()


def test_progress(classes, capfd):
    image_folder(classes)
    assert "Verifying" not in capfd.readouterr().err
    image_folder(classes, progress=True)
    assert "6/6" in capfd.readouterr().err


def test_subset_and_split(classes):
    source = image_folder(classes)
    train, test = source.subset([0, 1, 3, 4]).split(0.5)
    np.testing.assert_array_equal(np.bincount(train.labels), [1, 0, 1])
    np.testing.assert_array_equal(np.bincount(test.labels), [1, 0, 1])
    assert test.class_names == ["ant", "bee", "cat"]
