"""Arrays and .npz files as sources, and methods of all sources."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.data import npz_size, open_source
from keras_ssl.data.arrays import arrays, npz
from keras_ssl.data.open_source import open_labeled


def random_images(shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_reads_every_image_unchanged(dtype, channels):
    images = random_images((6, 5, 4, channels), dtype)
    source = arrays(images)
    assert len(source) == 6
    assert source.image_shape == (5, 4, channels)
    assert source.labels is None
    expected = images.astype(np.float32) if np.issubdtype(dtype, np.floating) else images
    for index in range(6):
        image = source.read(index).numpy()
        assert image.dtype == expected.dtype
        np.testing.assert_array_equal(image, expected[index])


def test_images_without_channel_axis_get_one():
    images = random_images((3, 5, 4))
    source = arrays(images)
    assert source.image_shape == (5, 4, 1)
    np.testing.assert_array_equal(source.read(2)[..., 0], images[2])


def test_source_keeps_its_own_copy():
    images = random_images((3, 4, 4, 1))
    source, before = arrays(images), images.copy()
    images[:] = 0
    np.testing.assert_array_equal(source.read(1), before[1])


def test_dataset_yields_images_and_labels_in_order():
    images = random_images((7, 4, 4, 3))
    labels = np.array([2, 0, 1, -1, 0, 2, 2], np.int32)
    source = arrays(images, labels, class_names=["a", "b", "c"])
    assert source.labels.dtype == np.int64
    dataset = source.dataset()
    assert dataset.cardinality() == 7
    assert dataset.element_spec[0] == tf.TensorSpec((4, 4, 3), tf.uint8)
    assert dataset.element_spec[1] == tf.TensorSpec((), tf.int64)
    read = list(dataset.as_numpy_iterator())
    np.testing.assert_array_equal([image for image, _ in read], images)
    np.testing.assert_array_equal([label for _, label in read], labels)


def test_dataset_without_labels_yields_minus_one():
    source = arrays(random_images((3, 4, 4, 3)))
    assert [label for _, label in source.dataset().as_numpy_iterator()] == [-1, -1, -1]


def test_labels_of_keras_datasets_and_missing_labels():
    images = random_images((3, 4, 4, 3))
    np.testing.assert_array_equal(arrays(images, [[1], [0], [2]]).labels, [1, 0, 2])
    assert arrays(images, [-1, -1, -1]).labels is None


def test_a_graph_that_reads_holds_no_copy_of_the_images():
    images = random_images((64, 32, 32, 3))
    source = arrays(images)
    read = tf.function(source.read, input_signature=[tf.TensorSpec((), tf.int64)])
    np.testing.assert_array_equal(read(5), images[5])
    definition = read.get_concrete_function().graph.as_graph_def()
    assert definition.ByteSize() < 10_000 < images.nbytes


def test_read_out_of_range():
    source = arrays(random_images((3, 4, 4, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        source.read(3)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((4, 4), np.uint8), ValueError, r"Received: images of shape \(4, 4\)"),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), ValueError, "Received: images of shape"),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, "at least one image"),
        (np.zeros((2, 4, 4, 3), np.int64), TypeError, "Received: int64"),
        (np.zeros((2, 4, 4, 3), bool), TypeError, "Received: bool"),
        (np.full((2, 4, 4, 3), 255.0), ValueError, "Received: values from 255 to 255"),
        (np.full((2, 4, 4, 3), -0.5), ValueError, "Received: values from -0.5 to -0.5"),
        (np.full((2, 4, 4, 3), np.nan), ValueError, "Received: values from nan"),
    ],
)
def test_wrong_images(images, error, message):
    with pytest.raises(error, match=message):
        arrays(images)


def test_one_nan_is_found():
    images = random_images((3, 4, 4, 3), np.float32)
    images[1, 2, 3, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        arrays(images)


@pytest.mark.parametrize(
    ("labels", "names", "error", "message"),
    [
        ([0, 1], None, ValueError, "2 labels and 3 images"),
        ([0.0, 1.0, 2.0], None, TypeError, "Received: float64"),
        ([None, "b", "c"], None, TypeError, "must be integers or strings"),
        (["a", "b", "c"], ["a", "b"], ValueError, r"`class_names` must contain .* without 'c'"),
        ([[0, 1], [1, 0], [0, 1]], None, ValueError, r"shape \(3, 2\)"),
        ([0, -2, 1], None, ValueError, "Received: -2"),
        ([0, 1, 2], ["a", "b"], ValueError, "Received: 2 names"),
    ],
)
def test_wrong_labels(labels, names, error, message):
    with pytest.raises(error, match=message):
        arrays(random_images((3, 4, 4, 3)), labels, names)


@pytest.mark.parametrize("kind", [list, np.array, lambda labels: np.array(labels, object)])
def test_labels_that_are_strings(kind):
    images = random_images((4, 4, 4, 3))
    source = arrays(images, kind(["dog", "cat", "", "dog"]))
    assert source.class_names == ["cat", "dog"]
    np.testing.assert_array_equal(source.labels, [1, 0, -1, 1])
    source = arrays(images, kind(["dog", "cat", "", "dog"]), ["dog", "ant", "cat"])
    assert source.class_names == ["dog", "ant", "cat"]
    np.testing.assert_array_equal(source.labels, [0, 2, -1, 0])
    assert arrays(images, kind(["10", "9", "9", "10"])).class_names == ["9", "10"]
    assert arrays(images, kind([""] * 4)).labels is None


@pytest.mark.parametrize("dtype", ["U", "S"])
def test_an_npz_of_labels_that_are_strings(tmp_path, dtype):
    images = random_images((4, 4, 4, 3))
    labels = np.array([["dog"], ["cat"], ["dog"], ["dog"]], dtype)
    np.savez(
        tmp_path / "x.npz", x_train=images, y_train=labels, x_test=images[:1], y_test=labels[:1]
    )
    train, test = npz(tmp_path / "x.npz"), npz(tmp_path / "x.npz", "test")
    assert (train.class_names, test.class_names) == (["cat", "dog"], ["dog"])
    np.testing.assert_array_equal(train.labels, [1, 0, 1, 1])
    _, matched = open_labeled(tmp_path / "x.npz")  # by name
    np.testing.assert_array_equal(matched.labels, [1])


def test_subset_by_numbers_and_by_mask():
    images, labels = random_images((8, 4, 4, 3)), np.arange(8) % 3
    source = arrays(images, labels, class_names=["a", "b", "c"])
    chosen = [5, 0, 5, 7]
    subset = source.subset(chosen)
    np.testing.assert_array_equal(subset.labels, labels[chosen])
    read = [image for image, _ in subset.dataset().as_numpy_iterator()]
    np.testing.assert_array_equal(read, images[chosen])
    np.testing.assert_array_equal(subset.subset([3, 1]).read(0), images[7])
    mask = source.subset(labels == 1)
    np.testing.assert_array_equal(mask.read(2), images[7])
    assert (len(mask), mask.class_names, mask.image_shape) == (3, ["a", "b", "c"], (4, 4, 3))


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([], ValueError, "at least one"),
        ([[0, 1]], ValueError, r"shape=\(1, 2\)"),
        ([0, 3], ValueError, "0 to 2"),
        ([-1], ValueError, "0 to 2"),
        ([0.5], TypeError, "Received: float64"),
        ([True, False], ValueError, "Received: 2 values"),
        ([False, False, False], ValueError, "0 of them true"),
    ],
)
def test_wrong_indices(indices, error, message):
    with pytest.raises(error, match=message):
        arrays(random_images((3, 4, 4, 3))).subset(indices)


def test_split_divides_each_class_in_proportion():
    labels = np.repeat([0, 1, 2], [40, 20, 60])
    images = np.arange(120, dtype=np.uint8)[:, None, None]
    source = arrays(images, labels)
    train, test = source.split(0.25, seed=3)
    np.testing.assert_array_equal(np.bincount(test.labels), [10, 5, 15])
    np.testing.assert_array_equal(np.bincount(train.labels), [30, 15, 45])

    def numbers(part):
        return [int(image[0, 0, 0]) for image, _ in part.dataset().as_numpy_iterator()]

    assert numbers(train) == sorted(numbers(train))
    assert sorted(numbers(train) + numbers(test)) == list(range(120))
    assert numbers(source.split(0.25, seed=3)[1]) == numbers(test)
    assert numbers(source.split(0.25, seed=4)[1]) != numbers(test)


def test_split_without_labels():
    train, test = arrays(random_images((10, 4, 4, 3))).split(0.3)
    assert (len(train), len(test)) == (7, 3)
    assert test.labels is None


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1, float("nan")])
def test_split_by_a_wrong_fraction(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        arrays(random_images((10, 4, 4, 3))).split(fraction)


def test_split_of_a_class_with_one_image(caplog):
    """The image stays in the first part: a test of a class without training images is useless."""
    source = arrays(random_images((5, 4, 4, 3)), [0, 0, 0, 0, 1])
    train, test = source.split(0.4)
    assert sorted(train.labels) == [0, 0, 1]
    assert list(test.labels) == [0, 0]
    assert "the second part has no image of: 1" in caplog.text


def test_split_of_fewer_test_images_than_classes():
    source = arrays(random_images((20, 4, 4, 3)), np.repeat(np.arange(10), 2))
    train, test = source.split(0.2)
    assert sorted(test.labels) == sorted(train.labels) == list(range(10))


def test_split_of_classes_with_one_image_each():
    source = arrays(random_images((5, 4, 4, 3)), np.arange(5))
    with pytest.raises(ValueError, match="of every class that has several"):
        source.split(0.4)


def test_shuffled_is_a_permutation_of_the_seed():
    images = random_images((20, 4, 4, 3))
    source = arrays(images)

    def order(seed):
        return [int(index) for index, _ in source.shuffled(seed, 8)]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(20))
    for index, image in source.shuffled(1, 8):
        np.testing.assert_array_equal(image, images[index])


@pytest.mark.parametrize("labels", [None, np.arange(20) * 7 % 11 - 1])
def test_shuffled_with_labels(labels):
    images = random_images((20, 4, 4, 3))
    source = arrays(images, labels)
    assert source.has_labels == (labels is not None)
    for index, image, label in source.shuffled(1, 8, labels=True):
        np.testing.assert_array_equal(image, images[index])
        assert label.dtype == tf.int64
        assert label == (-1 if labels is None else labels[index])
    assert [int(i) for i, _ in source.shuffled(1, 8)] == [
        int(i) for i, _, _ in source.shuffled(1, 8, labels=True)
    ]


def test_label_by_number_also_in_a_graph():
    labels = np.array([4, -1, 2])
    source = arrays(random_images((3, 4, 4, 3)), labels)
    in_graph = tf.function(source.label, input_signature=[tf.TensorSpec((), tf.int64)])
    assert [int(in_graph(number)) for number in range(3)] == [4, -1, 2]
    assert [int(source.label(number)) for number in range(3)] == [4, -1, 2]
    assert int(source.subset([2, 0]).label(1)) == 4
    assert int(arrays(random_images((3, 4, 4, 3))).label(1)) == -1


def write_npz(path, compression, **members):
    """`np.savez` cannot choose the compression."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for key, values in members.items():
            with file.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(values))
    return path


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]
)
def test_npz_reads_splits(tmp_path, compression):
    train, test = random_images((5, 4, 4, 3)), random_images((3, 4, 4, 3), seed=1)
    path = write_npz(
        tmp_path / "set.npz",
        compression,
        x_train=train,
        y_train=np.arange(5) % 2,
        x_test=test,
        y_test=[[1], [0], [1]],
        class_names=["cat", "dog"],
    )
    source = npz(path)
    np.testing.assert_array_equal(source.read(4), train[4])
    np.testing.assert_array_equal(source.labels, [0, 1, 0, 1, 0])
    source = npz(str(path), "test")
    np.testing.assert_array_equal(source.read(2), test[2])
    np.testing.assert_array_equal(source.labels, [1, 0, 1])
    assert source.class_names == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"Expected the key: 'x_val'. Received the keys: 'x_tr"):
        npz(path, "val")


def test_npz_reads_only_what_it_needs_once(tmp_path, monkeypatch):
    few = random_images((2, 4, 4, 3))
    path = write_npz(
        tmp_path / "set.npz",
        zipfile.ZIP_LZMA,
        x_train=few,
        y_train=[0, 1],
        x_test=few,
        y_test=[0, 1],
    )
    read, read_array = [], np.lib.npyio.NpzFile.__getitem__

    def counted(self, key):
        read.append(key)
        return read_array(self, key)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", counted)
    npz(path, "test")
    assert sorted(read) == ["x_test", "y_test"]


def test_npz_of_images_without_labels(tmp_path):
    images = random_images((5, 4, 4), np.uint16)
    np.savez(tmp_path / "set.npz", images=images)
    source = npz(tmp_path / "set.npz")
    assert source.labels is None
    np.testing.assert_array_equal(source.read(3)[..., 0], images[3])
    with pytest.raises(ValueError, match=r"'x_test'. Received the keys: 'images'"):
        npz(tmp_path / "set.npz", "test")


@pytest.mark.parametrize(
    ("dtype", "bytes_per_value"), [(np.uint16, 4), (np.float64, 16), (np.int8, 5), (np.int32, 12)]
)
def test_npz_that_does_not_fit_into_memory_is_not_read(
    dtype, bytes_per_value, tmp_path, monkeypatch
):
    """In memory are the array, its conversion to the type of the source, and the source's copy."""
    images = np.zeros((5, 4, 6, 1), dtype)
    np.savez(tmp_path / "set.npz", x_train=images, x_test=images[:3])
    peak = images.size * bytes_per_value
    monkeypatch.setattr(npz_size, "free_host_memory", lambda: peak)
    npz_size.check_fits(tmp_path / "set.npz", ["x_train"])
    monkeypatch.setattr(npz_size, "free_host_memory", lambda: peak - 1)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", None)
    with pytest.raises(ValueError, match=r"do not fit into memory.*\(5, 4, 6, 1\)"):
        npz(tmp_path / "set.npz")


def test_both_parts_of_an_npz_must_fit(tmp_path, monkeypatch):
    images = random_images((5, 4, 6, 1))  # 120 bytes
    np.savez(tmp_path / "set.npz", x_train=images, x_test=images)
    monkeypatch.setattr(npz_size, "free_host_memory", lambda: 360)
    train, test = open_source(tmp_path / "set.npz")
    assert len(train) == len(test) == 5
    monkeypatch.setattr(npz_size, "free_host_memory", lambda: 359)
    with pytest.raises(ValueError, match=r"'x_train' of shape .* and 'x_test' of shape"):
        open_source(tmp_path / "set.npz")


def test_files_that_are_not_npz(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        npz(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="another format"):
        npz(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    with pytest.raises(ValueError, match=r"'x_train' or 'images'. Received the keys: 'pixels'"):
        npz(tmp_path / "other.npz")


def first(channels, height, width, **options):
    return arrays(np.zeros((2, channels, height, width), np.uint8), **options)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 28, 28), (13, 64, 64), (3, 48, 64)])
def test_channels_first_are_refused(shape):
    channels, height, width = shape
    message = (
        rf"look like {height} x {width} images whose {channels} channels come first\. Expected: "
        rf"`images\.transpose\(0, 2, 3, 1\)`, which has the shape "
        rf"\(2, {height}, {width}, {channels}\)"
    )
    with pytest.raises(ValueError, match=message):
        first(*shape)
    assert first(*shape, data_format="channels_first").image_shape == (height, width, channels)
    assert first(*shape, data_format="channels_last").image_shape == shape


@pytest.mark.parametrize("shape", [(16, 16, 3), (8, 8, 13), (4, 4, 1), (2, 32, 2), (20, 30, 4)])
def test_channels_last_are_accepted(shape):
    assert first(*shape).image_shape == shape


def test_channels_first_are_transposed():
    images = np.arange(2 * 3 * 5 * 7, dtype=np.uint8).reshape(2, 3, 5, 7)
    source = arrays(images, data_format="channels_first")
    np.testing.assert_array_equal(source.read(1), images[1].transpose(1, 2, 0))


def test_a_file_names_its_data_format(tmp_path):
    images = np.zeros((2, 3, 16, 16), np.uint8)
    for name in ("channels_first", "channels_last"):
        np.savez(tmp_path / f"{name}.npz", images=images, data_format=name)
    assert npz(tmp_path / "channels_first.npz").image_shape == (16, 16, 3)
    assert npz(tmp_path / "channels_last.npz").image_shape == (3, 16, 16)
    np.savez(tmp_path / "unknown.npz", images=images)
    with pytest.raises(ValueError, match=r"np\.savez\(\.\.\., data_format='channels_last'\)"):
        npz(tmp_path / "unknown.npz")
