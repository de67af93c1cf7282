"""TensorFlow Datasets as a source; the data sets are made here, without network access."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets

from keras_ssl.augment import Augmentation, Policy
from keras_ssl.data.tfds import tfds
from keras_ssl.data.views import views

FEATURES = tensorflow_datasets.features
NAMES = ["ant", "bee", "cat"]


class TinyBase(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Random images, eight in the train split and three in the test split."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    code_path = None  # the file of download checksums: there are no downloads

    def _info(self):
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            features=FEATURES.FeaturesDict(self.kinds),
            supervised_keys=getattr(self, "keys", None),
        )

    def _split_generators(self, _):
        return {"train": self._generate_examples(8), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        rng = np.random.default_rng(count)
        for number in range(count):
            yield number, {key: self.value(key, rng, number) for key in self.kinds}

    def value(self, key, rng, number):
        kind = self.kinds[key]
        if isinstance(kind, FEATURES.ClassLabel):
            return number % 3
        if isinstance(kind, FEATURES.Text):
            return str(number)
        shape = [6 if side is None else side for side in kind.shape]
        if kind.np_dtype == np.float32:
            return rng.random(shape, np.float32)
        return rng.integers(0, 256, shape).astype(kind.np_dtype)


class TinyShapes(TinyBase):
    kinds = {
        "id": FEATURES.Text(),
        "label": FEATURES.ClassLabel(names=NAMES),
        "image": FEATURES.Image(shape=(5, 4, 3)),
    }
    keys = ("image", "label")


class TinySeveral(TinyBase):
    """Two images and two labels; the supervised keys select one of each."""

    kinds = {
        "fine": FEATURES.ClassLabel(names=NAMES),
        "coarse": FEATURES.ClassLabel(num_classes=4),
        "photo": FEATURES.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "depth": FEATURES.Image(shape=(5, 4, 1), dtype=np.uint16),
    }
    keys = ("photo", "fine")


class TinyUnlabelled(TinyBase):
    kinds = {"depth": FEATURES.Image(shape=(5, 4, 1), dtype=np.uint16)}


class TinyHidden(TinyShapes):
    """A data set whose labels are all missing."""

    def value(self, key, rng, number):
        return -1 if key == "label" else super().value(key, rng, number)


class TinyFloat(TinyBase):
    kinds = {"image": FEATURES.Image(shape=(5, 4, 1), dtype=np.float32)}


class TinyText(TinyBase):
    kinds = {"id": FEATURES.Text()}


class TinyPair(TinyBase):
    kinds = {name: FEATURES.Image(shape=(5, 4, 3)) for name in ("left", "right")}


BUILDERS = [
    TinyShapes, TinySeveral, TinyUnlabelled, TinyHidden, TinyFloat, TinyText, TinyPair,
]  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for builder in BUILDERS:
        builder(data_dir=folder, file_format="tfrecord").download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("A prepared data set must not be downloaded.")

    monkeypatch.setattr(tensorflow_datasets.core.DatasetBuilder, "download_and_prepare", refuse)


def loaded(name, split, data_dir):
    builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    return list(builder.as_dataset(split=split).as_numpy_iterator())


def test_in_memory_equals_tfds_load(data_dir):
    source = tfds("tiny_shapes", "train", data_dir=data_dir)
    expected = loaded("tiny_shapes", "train", data_dir)
    assert source.random_access
    assert len(source) == 8
    assert source.image_shape == (5, 4, 3)
    assert source.class_names == NAMES
    assert source.labels.dtype == np.int64
    np.testing.assert_array_equal(source.labels, [example["label"] for example in expected])
    assert source.dataset().element_spec[0] == tf.TensorSpec((5, 4, 3), tf.uint8)
    for (image, label), example in zip(source.dataset(), expected, strict=True):
        np.testing.assert_array_equal(image, example["image"])
        assert label == example["label"]
    read = tf.function(source.read, input_signature=[tf.TensorSpec((), tf.int64)])
    np.testing.assert_array_equal(read(6), expected[6]["image"])


def test_streamed_equals_in_memory(data_dir):
    source = tfds("tiny_shapes", "train", data_dir=data_dir, in_memory_limit=10)
    memory = tfds("tiny_shapes", "train", data_dir=data_dir)
    assert not source.random_access
    assert len(source) == 8
    assert source.dataset().element_spec == memory.dataset().element_spec
    for (image, label), (expected, number) in zip(source.dataset(), memory.dataset(), strict=True):
        np.testing.assert_array_equal(image, expected)
        assert label == number
    np.testing.assert_array_equal(source.labels, memory.labels)
    for refused in (lambda: source.read(0), lambda: source.subset([0]), lambda: source.split(0.5)):
        with pytest.raises(TypeError, match="random access"):
            refused()


@pytest.mark.parametrize("limit", [10, 2**20])
def test_shuffled_keeps_images_with_their_indices(data_dir, limit):
    source = tfds("tiny_shapes", "train", data_dir=data_dir, in_memory_limit=limit)
    images = [image for image, _ in source.dataset().as_numpy_iterator()]

    def order(seed):
        # In a graph, because the pipeline computes the seed from the epoch in a graph.
        seeds = tf.data.Dataset.from_tensors(tf.constant(seed, tf.int64))
        return list(seeds.flat_map(lambda seed: source.shuffled(seed, 4)).as_numpy_iterator())

    assert sorted(index for index, _ in order(0)) == list(range(8))
    assert [index for index, _ in order(1)] == [index for index, _ in order(1)]
    assert any([a for a, _ in order(1)] != [b for b, _ in order(seed)] for seed in (2, 3, 4))
    for index, image in order(5):
        np.testing.assert_array_equal(image, images[index])


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("limit", [10, 2**20])
def test_views_with_labels_and_indices(data_dir, limit, start, caplog):
    caplog.set_level("INFO", "keras_ssl")
    expected = loaded("tiny_shapes", "train", data_dir)
    source = tfds("tiny_shapes", "train", data_dir=data_dir, in_memory_limit=limit)
    assert source.random_access == (limit > 10)
    assert source.has_labels
    same = Policy(Augmentation([]), Augmentation([]))
    batches = views(source, same, 3, seed=4, start=start, labels=True, indices=True)
    orders = []
    for epoch in range(3):
        order = []
        for (view, _, index), label in batches.as_numpy_iterator():
            for pixels, number, found in zip(view, index, label, strict=True):
                np.testing.assert_array_equal(np.rint(pixels * 255), expected[number]["image"])
                assert found == expected[number]["label"]
            order += index.tolist()
        assert len(order) == len(set(order)) == (3 if epoch == 0 and start else 6)
        orders.append(order)
    assert orders[1] != orders[2]
    assert "Reading the labels" not in caplog.text  # labels are read with the images
    assert len(source.labels) == 8
    assert ("Reading the labels" in caplog.text) == (limit == 10)


@pytest.mark.parametrize("limit", [10, 2**20])
def test_views_with_labels_need_labels(data_dir, limit):
    source = tfds("tiny_unlabelled", "train", data_dir=data_dir, in_memory_limit=limit)
    assert not source.has_labels
    same = Policy(Augmentation([]), Augmentation([]))
    with pytest.raises(ValueError, match=r"needs images with labels.*<tiny_unlabelled train: 8"):
        views(source, same, 2, labels=True)


def test_a_streamed_split_with_missing_labels(data_dir):
    source = tfds("tiny_hidden", "train", data_dir=data_dir, in_memory_limit=10)
    assert source.has_labels  # no file has been read yet
    same = Policy(Augmentation([]), Augmentation([]))
    _, label = next(iter(views(source, same, 2, labels=True)))
    np.testing.assert_array_equal(label, [-1, -1])
    assert source.labels is None
    assert not source.has_labels


def test_slices_of_splits(data_dir):
    whole = tfds("tiny_shapes", "train", data_dir=data_dir)
    part = tfds("tiny_shapes", "train[2:5]", data_dir=data_dir)
    np.testing.assert_array_equal(part.labels, whole.labels[2:5])
    np.testing.assert_array_equal(part.read(0), whole.read(2))
    assert len(tfds("tiny_shapes", "train+test", data_dir=data_dir)) == 11


def test_supervised_keys_choose_among_several_features(data_dir):
    source = tfds("tiny_several", "train", data_dir=data_dir)
    expected = loaded("tiny_several", "train", data_dir)
    assert source.image_shape == (None, None, 3)
    assert source.class_names == NAMES
    np.testing.assert_array_equal(source.read(3), expected[3]["photo"])
    np.testing.assert_array_equal(source.labels, [example["fine"] for example in expected])


@pytest.mark.parametrize("limit", [10, 2**20])
def test_16_bit_images_without_labels(data_dir, limit):
    source = tfds("tiny_unlabelled", "test", data_dir=data_dir, in_memory_limit=limit)
    expected = loaded("tiny_unlabelled", "test", data_dir)
    assert source.labels is None
    assert source.class_names is None
    for (image, label), example in zip(source.dataset(), expected, strict=True):
        assert image.dtype == tf.uint16
        np.testing.assert_array_equal(image, example["depth"])
        assert label == -1


@pytest.mark.parametrize("limit", [10, 2**20])
def test_missing_labels(data_dir, limit):
    assert tfds("tiny_hidden", "test", data_dir=data_dir, in_memory_limit=limit).labels is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_text", r"Received: none among the features id \(Text\)"),
        ("tiny_pair", "Received: several, left, right"),
        ("tiny_float", "Received: 'image' of float32"),
    ],
)
def test_data_sets_without_a_usable_image(data_dir, name, message):
    with pytest.raises(ValueError, match=message):
        tfds(name, "train", data_dir=data_dir)


@pytest.mark.parametrize("split", ["validation", "train[", ""])
def test_unknown_split(data_dir, split):
    with pytest.raises(ValueError, match=r"one of 'test', 'train'|one of 'train', 'test'"):
        tfds("tiny_shapes", split, data_dir=data_dir)


def test_empty_split(data_dir):
    with pytest.raises(ValueError, match="empty"):
        tfds("tiny_shapes", "train[:0]", data_dir=data_dir)


@pytest.mark.parametrize(
    ("name", "near"),
    [("cifar11", "cifar10"), ("CIFAR-10", "cifar10"), ("tiny_shape", "tiny_shapes")],
)
def test_unknown_name_lists_the_nearest(data_dir, name, near):
    with pytest.raises(ValueError, match=rf"nearest names: .*\b{near}\b.*Received: name='{name}'"):
        tfds(name, "train", data_dir=data_dir)


def test_not_prepared(tmp_path):
    with pytest.raises(FileNotFoundError, match="Received: name='mnist'"):
        tfds("mnist", "train", data_dir=tmp_path, download=False)
    with pytest.raises(OSError, match="must not be downloaded"):
        tfds("mnist", "train", data_dir=tmp_path)
