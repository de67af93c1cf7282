"""Random crops: distribution of the regions, and pixels against TensorFlow's resizing."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_ssl.augment import CenterCrop, RandomCrop, evaluation
from keras_ssl.augment.random import uniform

COUNT = 20_000


def twin(numbers, height, width, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)):
    """The region of one image, drawn attempt by attempt."""
    numbers = numbers.astype(np.float64)
    for attempt in range(10):
        target = (area[0] + (area[1] - area[0]) * numbers[attempt]) * height * width
        low, high = np.log(aspect[0]), np.log(aspect[1])
        ratio = np.exp(low + (high - low) * numbers[10 + attempt])
        box_height, box_width = np.rint(np.sqrt(target / ratio)), np.rint(np.sqrt(target * ratio))
        if 1 <= box_height <= height and 1 <= box_width <= width:
            top = int(numbers[20] * (height - box_height + 1))
            left = int(numbers[21] * (width - box_width + 1))
            return top, left, int(box_height), int(box_width)
    return None


@pytest.fixture(scope="module")
def numbers(keys):
    return uniform(keys(COUNT), RandomCrop.draws)


def test_regions_equal_the_twins(numbers):
    boxes = RandomCrop(32).boxes(numbers[:500], 300, 400).numpy()
    expected = [twin(row, 300, 400) for row in numbers[:500].numpy()]
    # Sides close to a half may round either way, which changes one pixel in a few images.
    differences = np.abs(boxes - np.array(expected)).max(axis=1)
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.02


def test_area_is_uniform(numbers):
    side = 2000
    boxes = RandomCrop(32).boxes(numbers, side, side).numpy()
    area = boxes[:, 2] * boxes[:, 3] / side**2
    assert area.min() == pytest.approx(0.08, abs=2e-3)
    assert area.max() == pytest.approx(1.0, abs=5e-3)
    # Regions of up to 3/4 of a square fit with any aspect ratio, so no attempt fails.
    below = area[area < 0.75]
    assert stats.kstest(below, "uniform", args=(0.08, 0.75 - 0.08)).pvalue > 1e-3
    # Above that some attempts fail, as in the reference: fewer than uniform, but not none.
    assert 0.03 < (area > 0.75).mean() < 0.25 / 0.92


def test_aspect_is_log_uniform(numbers):
    boxes = RandomCrop(32, area=(0.2, 0.7)).boxes(numbers, 2000, 2000).numpy()
    log_aspect = np.log(boxes[:, 3] / boxes[:, 2])
    low, high = np.log(3 / 4), np.log(4 / 3)
    assert log_aspect.min() == pytest.approx(low, abs=3e-3)
    assert log_aspect.max() == pytest.approx(high, abs=3e-3)
    assert stats.kstest(log_aspect, "uniform", args=(low, high - low)).pvalue > 1e-3


def test_area_and_aspect_are_independent(numbers):
    boxes = RandomCrop(32, area=(0.2, 0.7)).boxes(numbers, 2000, 2000).numpy()
    correlation = np.corrcoef(boxes[:, 2] * boxes[:, 3], np.log(boxes[:, 3] / boxes[:, 2]))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(COUNT)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 40), (3, 5), (1, 1), (1, 30)])
def test_regions_lie_inside_and_reach_every_edge(numbers, height, width):
    top, left, box_height, box_width = RandomCrop(32).boxes(numbers, height, width).numpy().T
    assert box_height.min() >= 1
    assert box_width.min() >= 1
    assert top.min() == 0
    assert (top + box_height).max() <= height
    assert (left + box_width).max() <= width
    if min(height, width) > 1:  # a strip has only a central region
        assert left.min() == 0
        assert (top + box_height).max() == height
        assert (left + box_width).max() == width


def test_positions_are_uniform(numbers):
    crop = RandomCrop(32, area=(0.25, 0.25), aspect=(1.0, 1.0))
    top, left, height, _ = crop.boxes(numbers, 18, 18).numpy().T
    assert set(height) == {9}
    for place in (top, left):
        counts = np.bincount(place, minlength=10)
        assert len(counts) == 10
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (30, 3000, (0, 1480, 30, 40)),  # very wide: full height, aspect 4/3, central
        (3000, 30, (1480, 0, 40, 30)),  # very tall: full width, aspect 3/4
    ],
)
def test_fallback_of_extreme_images(numbers, height, width, expected):
    crop = RandomCrop(32, area=(0.5, 1.0))
    boxes = crop.boxes(numbers[:50], height, width).numpy()
    np.testing.assert_array_equal(boxes, np.tile(expected, (50, 1)))


def test_pixels_equal_tensorflows_resizing_of_the_region(noise, keys):
    images, crop = noise(8, 24, 31), RandomCrop(12)
    found = crop(images, keys=keys(8)).numpy()
    boxes = crop.boxes(uniform(keys(8), crop.draws), 24, 31).numpy()
    for image, crop_found, (top, left, height, width) in zip(images, found, boxes, strict=True):
        part = image[top : top + height, left : left + width]
        expected = tf.image.resize(part, (12, 12), method="bicubic")
        np.testing.assert_allclose(crop_found, np.clip(expected, 0, 1), atol=1e-3)


@pytest.mark.parametrize("size", [(20, 20), (64, 40), (9, 33)])
def test_a_batch_equals_one_image_at_a_time(noise, keys, size):
    images, crop = (noise(8, *size) * 255).astype(np.uint8), RandomCrop(16)
    batch = crop(images, keys=keys(8)).numpy()
    numbers = uniform(keys(8), crop.draws)
    for number, image in enumerate(images):
        one = crop.crop_one(tf.constant(image), numbers[number : number + 1])
        assert one.shape == (16, 16, 3)
        np.testing.assert_allclose(batch[number], one, atol=1e-3)


def test_images_of_unknown_size_in_a_graph(noise, keys):
    crop = RandomCrop(12)
    unknown = [tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, 2), tf.uint32)]
    graph = tf.function(lambda images, keys: crop(images, keys=keys), input_signature=unknown)
    found = graph(noise(6, 20, 30), keys(6))
    np.testing.assert_allclose(found, crop(noise(6, 20, 30), keys=keys(6)), atol=1e-6)


def test_the_full_area_is_the_image_itself(noise, keys):
    images = noise(4, 16, 16)
    crop = RandomCrop(16, area=(1.0, 1.0), aspect=(1.0, 1.0))
    np.testing.assert_allclose(crop(images, keys=keys(4)), images, atol=1e-5)


def test_a_flat_image_stays_flat(keys):
    images = np.full((4, 10, 14, 3), 0.3, np.float32)
    np.testing.assert_allclose(RandomCrop(32)(images, keys=keys(4)), 0.3, atol=1e-5)


def test_without_training_the_entire_image_is_resized(noise):
    images = noise(2, 20, 30)
    expected = np.clip(tf.image.resize(images, (16, 16), method="bicubic"), 0, 1)
    np.testing.assert_allclose(RandomCrop(16)(images, training=False), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` must be at least 1 pixel. Received: size=0"),
        ({"size": 8, "area": (0, 1)}, r"`area` must be a range within \(0, 1\].* area=\(0, 1\)"),
        ({"size": 8, "area": (0.5, 1.2)}, "`area` must be"),
        ({"size": 8, "area": (0.9, 0.5)}, "`area` must be"),
        ({"size": 8, "aspect": (0, 1)}, r"`aspect` must be .* Received: aspect=\(0, 1\)"),
        ({"size": 8, "aspect": (2, 1)}, "`aspect` must be"),
    ],
)
def test_rejects_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomCrop(**arguments)


def test_center_crop_takes_seven_eighths_of_the_shorter_side(noise):
    image = (noise(1, 256, 300)[0] * 255).astype(np.uint8)
    found = CenterCrop(224)(image)
    # 224 of 256 pixels, so that nothing is resized.
    expected = image[16:240, 38:262].astype(np.float32) / 255
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_center_crop_antialiases():
    image = np.indices((64, 64)).sum(axis=0)[..., None] % 2  # a checkerboard
    shrunk = CenterCrop(8, share=1.0)(image.astype(np.float32))
    np.testing.assert_allclose(shrunk, 0.5, atol=0.02)


def test_evaluation_crops_large_images_only(noise):
    assert evaluation(65).share == evaluation(224).share == 0.875
    assert evaluation(64).share == evaluation(8).share == 1.0
    images = (noise(3, 32, 32) * 255).astype(np.uint8)
    unchanged = tf.image.convert_image_dtype(images, tf.float32)
    np.testing.assert_array_equal(evaluation(32)(images), unchanged)


def test_evaluation_of_one_image_and_of_a_batch(noise):
    images = noise(3, 50, 40)
    batch = evaluation(32)(images)
    assert batch.shape == (3, 32, 32, 3)
    for image, found in zip(images, batch, strict=True):
        np.testing.assert_allclose(evaluation(32)(image), found, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` must be at least 1"),
        ({"size": 8, "share": 0}, r"`share` must lie in \(0, 1\]. Received: share=0"),
        ({"size": 8, "share": 1.1}, "`share` must lie"),
    ],
)
def test_center_crop_rejects_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CenterCrop(**arguments)


def test_the_aspect_of_the_papers_is_the_default():
    crop = RandomCrop(32)
    assert crop.area == (0.08, 1.0)
    assert crop.aspect == (3 / 4, 4 / 3)
    assert math.isclose(crop.aspect[0] * crop.aspect[1], 1.0)
