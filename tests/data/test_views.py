"""`data.views`: images, order, pixels, labels and the start of the batches."""

import itertools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ssl import augment, data
from keras_ssl.augment import Augmentation, Policy, random
from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import Checkpoint
from keras_ssl.data.arrays import ArraySource
from keras_ssl.methods import SimCLR
from tests.tiers import rest_large

IDENTITY = Policy(Augmentation([]), Augmentation([]))
CROP = Policy(Augmentation([augment.RandomCrop(8)]), Augmentation([augment.RandomCrop(8)]))
COUNT = 50


def numbered(count=COUNT, shape=(4, 4, 3), dtype=np.uint8):
    """Returns images whose color is their index."""
    numbers = np.arange(count, dtype=dtype).reshape(-1, 1, 1, 1)
    return np.broadcast_to(numbers, (count, *shape)).copy()


def source(count=COUNT, **arguments):
    return data.arrays(numbered(count, **arguments), labels=np.arange(count) % 5)


def noise(count=24, shape=(12, 12, 3)):
    return data.arrays(np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8))


class Streamed(ArraySource):
    """A source without random access."""

    random_access = False


def streamed(count=COUNT):
    return Streamed(numbered(count), None, None, "stream")


def numbers(views):
    """Returns the indices of the images in each batch of a pass; checks that both views are equal."""
    batches = []
    for view_1, view_2 in views.as_numpy_iterator():
        np.testing.assert_array_equal(view_1, view_2)
        batches.append(np.rint(view_1[:, 0, 0, 0] * 255).astype(int).tolist())
    return batches


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


@pytest.mark.parametrize("make", [source, streamed])
def test_an_epoch_has_every_image_once_except_the_remainder(make):
    views = data.views(make(), IDENTITY, batch_size=8, seed=0)
    assert len(views) == 6
    seen = set()
    for _ in range(8):
        batches = numbers(views)
        assert [len(batch) for batch in batches] == [8] * 6
        assert len(set(flat(batches))) == 48
        assert set(flat(batches)) <= set(range(COUNT))
        seen |= set(flat(batches))
    assert seen == set(range(COUNT))  # images dropped in one epoch appear in others


@pytest.mark.parametrize("make", [source, streamed])
def test_the_order_is_a_function_of_seed_and_epoch(make):
    views = {seed: data.views(make(), IDENTITY, batch_size=10, seed=seed) for seed in (0, 1)}
    orders = {(seed, epoch): numbers(views[seed]) for epoch in range(3) for seed in (0, 1)}
    if make is source:  # a stream's order depends on seed + epoch
        assert len({str(order) for order in orders.values()}) == 6
    assert len({str(orders[0, epoch]) for epoch in range(3)}) == 3
    for order in orders.values():
        assert flat(order) != list(range(COUNT))
        assert sorted(flat(order)) == list(range(COUNT))
    tf.random.set_seed(123)  # must not change the order
    again = data.views(make(), IDENTITY, batch_size=10, seed=0)
    for epoch in range(3):
        assert numbers(again) == orders[0, epoch]


def test_the_order_mixes_well():
    """Positions and neighbors of images change between epochs."""
    views = data.views(source(), IDENTITY, batch_size=50, seed=4)
    orders = np.array([flat(numbers(views)) for _ in range(40)])
    first = orders[:, 0]
    assert len(np.unique(first)) > 15
    distance = np.abs(np.diff(orders, axis=1))
    assert distance.mean() == pytest.approx(COUNT / 3, rel=0.1)


def test_the_default_seed_depends_on_the_seed_of_keras():
    def draw():
        return numbers(data.views(source(), IDENTITY, batch_size=10))

    keras.utils.set_random_seed(5)
    first, second = draw(), draw()
    assert first != second
    keras.utils.set_random_seed(5)
    assert draw() == first


def test_pixels_do_not_depend_on_the_number_of_threads():
    passes = []
    for threads in (1, 4):
        views = data.views(noise(), augment.simclr(8), batch_size=6, seed=3)
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = threads
        views = views.with_options(options)
        passes.append([np.stack(batch) for _ in range(2) for batch in views.as_numpy_iterator()])
    np.testing.assert_array_equal(*passes)
    assert np.abs(passes[0][0] - passes[0][4]).max() > 0.1  # the epochs differ


def test_pixels_depend_only_on_image_epoch_and_view():
    """An image has the same views in another position and another batch."""
    found = []
    for batch_size in (6, 8):
        views = data.views(noise(), CROP, batch_size=batch_size, seed=3)
        batches = [np.stack(batch, axis=1) for batch in views.as_numpy_iterator()]
        found.append(np.concatenate(batches))
    np.testing.assert_array_equal(*found)
    single = data.views(noise(), CROP, batch_size=1, seed=3)
    alone = np.concatenate([np.stack(b, axis=1) for b in single.take(4).as_numpy_iterator()])
    np.testing.assert_allclose(alone, found[0][:4], atol=1e-5)


def test_views_of_an_image_differ():
    views = data.views(noise(), CROP, batch_size=24, seed=0)
    view_1, view_2 = next(iter(views))
    assert np.abs(view_1 - view_2).reshape(24, -1).max(axis=1).min() > 1e-2


@pytest.mark.parametrize("start", rest_large([7, 18, 0, 1, 5, 6, 17]))
@pytest.mark.parametrize("make", [source, streamed])
def test_start_skips_batches(make, start):
    views = data.views(make(), IDENTITY, batch_size=8, seed=2)
    whole = [batch for _ in range(5) for batch in numbers(views)]
    resumed = data.views(make(), IDENTITY, batch_size=8, seed=2, start=start)
    first_pass = numbers(resumed)
    assert len(first_pass) == 6 - start % 6  # the rest of the epoch
    assert first_pass + numbers(resumed) == whole[start : start + 12 - start % 6]


def test_start_gives_the_same_pixels():
    views = data.views(noise(), CROP, batch_size=6, seed=3)
    whole = [np.stack(batch) for _ in range(3) for batch in views.as_numpy_iterator()]
    resumed = data.views(noise(), CROP, batch_size=6, seed=3, start=6)
    rest = [np.stack(batch) for _ in range(2) for batch in resumed.as_numpy_iterator()]
    np.testing.assert_array_equal(whole[6:], rest)


def test_labels_are_dropped():
    views = data.views(source(), IDENTITY, batch_size=8, seed=0)
    spec = tf.TensorSpec((8, 4, 4, 3), tf.float32)
    assert views.element_spec == (spec, spec)


def images_and_labels():
    return tf.data.Dataset.from_tensor_slices((numbered(), np.arange(COUNT)))


@pytest.mark.parametrize("labelled", [False, True])
def test_a_plain_dataset(labelled):
    plain = images_and_labels() if labelled else images_and_labels().map(lambda image, _: image)
    views = data.views(plain, IDENTITY, batch_size=8, seed=0)
    spec = tf.TensorSpec((8, 4, 4, 3), tf.float32)
    assert views.element_spec == (spec, spec)
    assert len(views) == 6
    assert flat(numbers(views)) == list(range(48))  # in its own order


def test_a_plain_dataset_gets_new_views_in_each_pass():
    plain = tf.data.Dataset.from_tensors(noise(1).read(0)).repeat(3)
    views = data.views(plain, CROP, batch_size=3, seed=0)
    passes = [np.concatenate(next(iter(views))) for _ in range(2)]
    found = np.concatenate(passes).reshape(12, -1)
    assert len(np.unique(found, axis=0)) == 12  # 3 images, 2 views, 2 epochs


def test_a_plain_dataset_of_infinite_or_unknown_length():
    endless = data.views(images_and_labels().repeat(), IDENTITY, batch_size=8, seed=0)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    assert len(flat(numbers(endless.take(20)))) == 160
    unknown = images_and_labels().filter(lambda image, label: label != 3)
    views = data.views(unknown, IDENTITY, batch_size=7, seed=0)
    assert views.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert len(numbers(views)) == 7


def test_a_batched_dataset_is_refused():
    with pytest.raises(ValueError, match=r"on a batched one.*shape \(None, 4, 4, 3\)"):
        data.views(images_and_labels().batch(8), IDENTITY, batch_size=2)


@pytest.mark.parametrize("shape", [(6, 6, 1), (6, 6, 4)])
def test_grey_and_other_channels(shape):
    views = data.views(noise(8, shape), augment.simclr(6), batch_size=4, seed=0)
    for view in next(iter(views)):
        assert view.shape == (4, *shape)
        assert np.isfinite(view).all()


def test_16_bit_images_are_scaled_to_the_unit_interval():
    images = np.full((4, 4, 4, 1), 65535, np.uint16)
    images[0] = 256
    views = data.views(data.arrays(images), IDENTITY, batch_size=4, seed=0)
    view = next(iter(views))[0].numpy()[:, 0, 0, 0]
    np.testing.assert_allclose(np.sort(view), [256 / 65535, 1, 1, 1], rtol=1e-6)


@pytest.fixture
def folder(tmp_path):
    """Images of different sizes, each of one color, and one truncated file."""
    for number in range(10):
        picture = Image.new("RGB", (20 + number, 30 - number), (20 * number, 0, 0))
        picture.save(tmp_path / f"{number}.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "3.png").read_bytes()[:40])
    return tmp_path


def test_a_folder_of_different_sizes_with_a_broken_file(folder):
    files = data.image_folder(folder)
    views = data.views(files, CROP, batch_size=5, seed=0)
    assert len(views) == 2
    colours = []
    for view_1, view_2 in views:
        assert view_1.shape == (5, 8, 8, 3)
        np.testing.assert_allclose(view_1, view_2, atol=1e-5)  # both of the same image
        colours += np.rint(view_1[:, 0, 0, 0] * 255 / 20).astype(int).tolist()
    assert sorted(colours) == list(range(10))
    assert list(files.skipped) == [str(folder / "broken.png")]


@pytest.mark.large
def test_a_folder_gives_the_same_views_as_an_array(tmp_path):
    images = noise(6)
    for number in range(6):
        tf.io.write_file(str(tmp_path / f"{number}.png"), tf.io.encode_png(images.read(number)))
    policy = augment.simclr(8)
    one_size = data.views(images, policy, batch_size=6, seed=0)
    files = data.views(data.image_folder(tmp_path), policy, batch_size=6, seed=0)
    for of_array, of_file in zip(next(iter(one_size)), next(iter(files)), strict=True):
        np.testing.assert_allclose(of_array, of_file, atol=5e-3)


def test_different_sizes_need_a_crop(folder):
    with pytest.raises(ValueError, match="whose first layer is a RandomCrop"):
        data.views(data.image_folder(folder), IDENTITY, batch_size=2)


@pytest.mark.parametrize("make", [source, streamed, images_and_labels])
def test_a_batch_larger_than_the_data_is_refused(make):
    message = f"not be larger than the data set.*batch_size={COUNT + 1}, and {COUNT} images"
    with pytest.raises(ValueError, match=message):
        data.views(make(), IDENTITY, batch_size=COUNT + 1)
    assert len(data.views(make(), IDENTITY, batch_size=COUNT)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1. Received: batch_size=0"),
        ({"batch_size": 8, "start": -1}, "`start` must not be negative. Received: start=-1"),
    ],
)
def test_bad_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.views(source(), IDENTITY, **arguments)


def test_a_plain_dataset_cannot_start_in_the_middle():
    with pytest.raises(ValueError, match=r"must be 0 for a plain.*Received: start=3"):
        data.views(images_and_labels(), IDENTITY, batch_size=8, start=3)


def test_replicas_split_each_batch(two_replicas):
    views = data.views(source(), IDENTITY, batch_size=10, seed=0)
    alone = [numbers(views) for _ in range(2)]
    views = data.views(source(), IDENTITY, batch_size=10, seed=0)
    distributed = two_replicas.experimental_distribute_dataset(views)
    for expected in alone:
        found = []
        for view_1, view_2 in distributed:
            parts = two_replicas.experimental_local_results(view_1)
            assert [len(part) for part in parts] == [5, 5]
            np.testing.assert_array_equal(
                np.concatenate(parts),
                np.concatenate(two_replicas.experimental_local_results(view_2)),
            )
            found.append(np.rint(np.concatenate(parts)[:, 0, 0, 0] * 255).astype(int).tolist())
        assert found == expected


LABELS = np.arange(COUNT) * 7 % 11 - 1  # unrelated to the index of the image; some are missing


def labelled():
    return data.arrays(numbered(), LABELS)


def labelled_stream():
    return Streamed(numbered(), LABELS, None, "labelled stream")


def labelled_plain():
    return tf.data.Dataset.from_tensor_slices((numbered(), LABELS.astype(np.int32)))


LABELLED = [labelled, labelled_stream, labelled_plain]


@pytest.fixture
def small_buffer(monkeypatch):
    """Shuffles streams in a buffer of 16 images, fewer than they have."""
    monkeypatch.setattr(sys.modules["keras_ssl.data.order"], "_SHUFFLE_BUFFER", 16)


@pytest.mark.parametrize("make", LABELLED)
def test_the_structure_of_batches_with_labels_and_indices(make):
    view, number = tf.TensorSpec((8, 4, 4, 3), tf.float32), tf.TensorSpec((8,), tf.int64)

    def spec(**extras):
        return data.views(make(), IDENTITY, batch_size=8, seed=0, **extras).element_spec

    assert spec() == (view, view)
    assert spec(indices=True) == (view, view, number)
    assert spec(labels=True) == ((view, view), number)
    assert spec(labels=True, indices=True) == ((view, view, number), number)


@pytest.mark.parametrize("start", rest_large([11, 0, 4]))
@pytest.mark.parametrize("make", LABELLED)
@pytest.mark.usefixtures("small_buffer")
def test_labels_and_indices_belong_to_the_images(make, start):
    if make is labelled_plain and start:
        pytest.skip("a plain data set has no start")
    views = data.views(
        make(), IDENTITY, batch_size=8, seed=2, start=start, labels=True, indices=True
    )
    steps, orders = 6, set()
    for epoch in range(3):
        seen = []
        for (view_1, view_2, index), label in views.as_numpy_iterator():
            np.testing.assert_array_equal(np.rint(view_1[:, 0, 0, 0] * 255), index)
            np.testing.assert_array_equal(np.rint(view_2[:, 0, 0, 0] * 255), index)
            np.testing.assert_array_equal(label, LABELS[index])
            seen.append(index)
        assert len(seen) == (steps - start % steps if epoch == 0 else steps)
        assert len(np.unique(seen)) == 8 * len(seen)
        orders.add(str(seen))
    assert len(orders) == (1 if make is labelled_plain else 3)


@pytest.fixture
def many_sizes(tmp_path):
    """A labeled folder of noise images of different sizes."""
    for number in range(24):
        file = tmp_path / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12 + number, 30, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    return data.image_folder(tmp_path)


@pytest.mark.large
@pytest.mark.parametrize("kind", rest_large(["folder", "stream", "plain", "arrays"]))
@pytest.mark.usefixtures("small_buffer")
def test_views_are_the_same_with_labels_and_indices(kind, many_sizes):
    images = np.stack([image.numpy() for image, _ in noise().dataset()])
    source = {
        "arrays": data.arrays(images, np.arange(24) % 3),
        "stream": Streamed(images, np.arange(24) % 3, None, "stream"),
        "plain": tf.data.Dataset.from_tensor_slices((images, np.arange(24) % 3)),
        "folder": many_sizes,
    }[kind]

    classes = np.arange(24) // 12 if kind == "folder" else np.arange(24) % 3
    policy = Policy(CROP.view_1, Augmentation([augment.RandomCrop(8), augment.RandomSolarize(0.5)]))

    def passes(start, **extras):
        views = data.views(source, policy, 6, seed=3, start=start, **extras)
        return [batch for _ in range(2) for batch in views.as_numpy_iterator()]

    start = 0 if kind == "plain" else 2
    alone = [np.stack(batch) for batch in passes(start)]
    with_both = passes(start, labels=True, indices=True)
    np.testing.assert_array_equal(alone, [np.stack(views[:2]) for views, _ in with_both])
    for (_, _, index), label in with_both:
        np.testing.assert_array_equal(label, classes[index])
    with_numbers = passes(start, indices=True)
    np.testing.assert_array_equal(alone, [np.stack(batch[:2]) for batch in with_numbers])
    with_labels = passes(start, labels=True)
    np.testing.assert_array_equal(alone, [np.stack(views) for views, _ in with_labels])


def test_indices_of_a_subset_are_positions_in_the_subset():
    chosen = np.array([41, 3, 3, 17, 8, 30])
    views = data.views(
        labelled().subset(chosen), IDENTITY, batch_size=6, seed=0, labels=True, indices=True
    )
    (view, _, index), label = next(views.as_numpy_iterator())
    assert sorted(index) == list(range(6))
    np.testing.assert_array_equal(np.rint(view[:, 0, 0, 0] * 255), chosen[index])
    np.testing.assert_array_equal(label, LABELS[chosen[index]])


def test_indices_without_labels():
    for make in (streamed, lambda: labelled_plain().map(lambda image, _: image)):
        views = data.views(make(), IDENTITY, batch_size=10, seed=0, indices=True)
        for view, _, index in views.as_numpy_iterator():
            np.testing.assert_array_equal(np.rint(view[:, 0, 0, 0] * 255), index)


def test_indices_of_a_repeated_plain_dataset_continue():
    endless = labelled_plain().repeat()
    views = data.views(endless, IDENTITY, batch_size=40, indices=True, labels=True)
    numbers, labels = zip(*[(b[2], label) for b, label in views.take(2)], strict=True)
    assert np.concatenate(numbers).tolist() == list(range(80))
    np.testing.assert_array_equal(np.concatenate(labels), np.tile(LABELS, 2)[:80])


def test_a_label_of_unknown_shape():
    def unknown(image, label):
        return image, tf.numpy_function(lambda value: value, [label], tf.int32)

    views = data.views(labelled_plain().map(unknown), IDENTITY, batch_size=8, labels=True)
    assert views.element_spec[1] == tf.TensorSpec((8,), tf.int64)
    np.testing.assert_array_equal(next(iter(views))[1], LABELS[:8])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (noise, r"`labels=True` needs images with labels. Received: <arrays: 24 images>"),
        (streamed, r"`labels=True` needs images with labels. Received: <stream: 50 images>"),
        (
            lambda: labelled_plain().map(lambda image, _: image),
            r"needs a tf.data.Dataset of \(image, label\) pairs.*Received: TensorSpec\(shape=\(4,",
        ),
        (
            lambda: labelled_plain().map(lambda image, label: (image, tf.cast(label, tf.float32))),
            r"whose label is one integer. Received: .*dtype=tf.float32",
        ),
        (
            lambda: labelled_plain().map(lambda image, label: (image, tf.one_hot(label, 11))),
            r"whose label is one integer. Received: .*shape=\(11,\)",
        ),
        (
            lambda: labelled_plain().map(lambda image, label: (image, {"class": label})),
            r"whose label is one integer. Received: .*'class'",
        ),
        (
            lambda: labelled_plain().map(lambda image, label: {"image": image, "label": label}),
            r"must yield single images.*Received: images of shape None",
        ),
        (lambda: labelled_plain().batch(8), r"on a batched one.*shape \(None, 4, 4, 3\)"),
    ],
)
def test_missing_or_invalid_labels_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        data.views(make(), IDENTITY, batch_size=8, labels=True)


def test_replicas_split_labels_and_indices_like_images(two_replicas):
    views = data.views(labelled(), IDENTITY, batch_size=10, seed=0, labels=True, indices=True)
    for (view_1, _, index), label in two_replicas.experimental_distribute_dataset(views):
        parts = map(two_replicas.experimental_local_results, (view_1, index, label))
        for view, numbers_of_part, labels_of_part in zip(*parts, strict=True):
            assert len(view) == 5
            np.testing.assert_array_equal(np.rint(view[:, 0, 0, 0] * 255), numbers_of_part)
            np.testing.assert_array_equal(labels_of_part, LABELS[numbers_of_part])


class Seen(SimCLR):
    """Records the images of each batch."""

    def __init__(self, backbone, note):
        super().__init__(backbone)
        self.note = note

    def ssl_loss(self, view_1, view_2):
        def note(images):
            self.note(np.rint(images.numpy()[:, 0, 0, 0] * 255).astype(int).tolist())

        with tf.control_dependencies([tf.py_function(note, [view_1], [])]):
            return super().ssl_loss(view_1, view_2)


def fit(epochs, steps_per_execution=1, start=0, callbacks=(), **fit_arguments):
    seen = []
    model = Seen(Tiny((4, 4, 3), features=4), seen.append)
    model.compile(keras.optimizers.SGD(0.0), steps_per_execution=steps_per_execution)
    views = data.views(source(), IDENTITY, batch_size=10, seed=1, start=start)
    model.fit(views, epochs=epochs, verbose=0, callbacks=callbacks, **fit_arguments)
    return list(seen)


def expected_batches(epochs):
    views = data.views(source(), IDENTITY, batch_size=10, seed=1)
    return [batch for _ in range(epochs) for batch in numbers(views)]


@pytest.mark.parametrize("steps_per_execution", rest_large([3, 1]))
def test_fit_trains_on_all_epochs(steps_per_execution):
    assert fit(4, steps_per_execution) == expected_batches(4)


@pytest.mark.large
@pytest.mark.parametrize("steps_per_execution", [pytest.param(1, marks=pytest.mark.large), 3])
def test_fit_on_two_replicas_trains_on_the_same_epochs(two_replicas, steps_per_execution):
    with two_replicas.scope():
        halves = fit(4, steps_per_execution)
    expected = expected_batches(4)
    assert len(halves) == 2 * len(expected)
    # Replicas record their halves in any order.
    for step, batch in enumerate(expected):
        first, second = halves[2 * step : 2 * step + 2]
        assert sorted((first, second)) == sorted((batch[:5], batch[5:]))


@pytest.mark.parametrize("start", rest_large([7, 5, 9]))
@pytest.mark.parametrize("steps_per_execution", rest_large([2, 1]))
def test_fit_from_the_middle_of_an_epoch(start, steps_per_execution, tmp_path):
    checkpoint = Checkpoint(tmp_path, steps_per_epoch=5, start=start)
    found = fit(4, steps_per_execution, start, [checkpoint], initial_epoch=start // 5)
    assert found == expected_batches(4)[start:]
    assert checkpoint.step == 20


# Keys


def keyed(start=0, **arguments):
    policy = Augmentation([augment.RandomFlip()])
    batches = data.views(source(), policy, 8, seed=0, start=start, keys=True, **arguments)
    return [[np.asarray(part) for part in batch] for batch in batches]


def test_keys_depend_on_seed_epoch_and_image_only():
    batches = keyed(indices=True)
    for view, index, key in batches:
        assert (view.dtype, key.dtype, key.shape) == (np.float32, np.uint32, (8, 2))
        np.testing.assert_array_equal(key, random.image_keys(0, 0, index, random.METHOD))
    again = keyed(start=1, indices=True)
    np.testing.assert_array_equal(again[0][2], batches[1][2])
    without = keyed()
    np.testing.assert_array_equal(without[0][1], batches[0][2])


def test_no_view_uses_the_keys_of_the_method():
    own = random.image_keys(0, 0, np.arange(8), random.METHOD)
    for view in range(9):
        assert not np.any(np.all(own == random.image_keys(0, 0, np.arange(8), view), axis=1))


def test_keys_with_views_finished_in_the_step():
    policy = Augmentation([augment.RandomFlip()])
    batches = data.views(source(), policy, 8, seed=0, finish="step", keys=True)
    (crops, _), keys = next(iter(batches))
    assert crops.shape == (8, 4, 4, 3)
    np.testing.assert_array_equal(keys, keyed()[0][1])


def test_any_number_of_views_of_several_sizes():
    policy = augment.multi_crop(8, 4, small_views=3, blur=False)
    batch = next(iter(data.views(source(), policy, 8, seed=0)))
    assert [view.shape[1] for view in batch] == [8, 8, 4, 4, 4]
    assert np.abs(batch[2] - batch[3]).max() > 1e-3
