"""The policies' parameters and order, and their pixels against slow NumPy twins."""

import matplotlib.colors
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

from keras_ssl import augment
from keras_ssl.augment import random

# The chains of the papers and their code: each step with its probability or range; the jitter with
# probability, brightness, contrast, saturation and hue.
SIMCLR = [
    ("crop", (0.08, 1.0)), ("flip", 0.5), ("jitter", 0.8, (0.8, 0.8, 0.8, 0.2)), ("grey", 0.2),
    ("blur", 0.5),
]  # fmt: skip
SIMCLR_SMALL = [
    ("crop", (0.08, 1.0)), ("flip", 0.5), ("jitter", 0.8, (0.4, 0.4, 0.4, 0.1)), ("grey", 0.2),
]  # fmt: skip
MOCO_V1 = [
    ("crop", (0.2, 1.0)), ("grey", 0.2), ("jitter", 1.0, (0.4, 0.4, 0.4, 0.4)), ("flip", 0.5),
]  # fmt: skip
MOCO_V2 = [
    ("crop", (0.2, 1.0)), ("jitter", 0.8, (0.4, 0.4, 0.4, 0.1)), ("grey", 0.2), ("blur", 0.5),
    ("flip", 0.5),
]  # fmt: skip
MOCO_CIFAR = [
    ("crop", (0.08, 1.0)), ("jitter", 0.8, (0.4, 0.4, 0.4, 0.1)), ("grey", 0.2), ("flip", 0.5),
]  # fmt: skip
BYOL = [
    ("crop", (0.08, 1.0)), ("flip", 0.5), ("jitter", 0.8, (0.4, 0.4, 0.2, 0.1)), ("grey", 0.2),
]  # fmt: skip
BYOL_1 = [*BYOL, ("blur", 1.0)]
BYOL_2 = [*BYOL, ("blur", 0.1), ("solarize", 0.2)]

# One row per policy: how to make it, and the chains of its first and second view.
POLICIES = {
    "simclr": (augment.simclr, SIMCLR, SIMCLR),
    "simclr small": (
        lambda size: augment.simclr(size, strength=0.5, blur=False), SIMCLR_SMALL, SIMCLR_SMALL,
    ),
    "moco v1": (augment.moco_v1, MOCO_V1, MOCO_V1),
    "moco v2": (augment.moco_v2, MOCO_V2, MOCO_V2),
    "moco cifar": (
        lambda size: augment.moco_v2(size, area=(0.08, 1.0), blur=False), MOCO_CIFAR, MOCO_CIFAR,
    ),
    "byol": (augment.byol, BYOL_1, BYOL_2),
    "byol small": (
        lambda size: augment.byol(size, blur=False), BYOL, [*BYOL, ("solarize", 0.2)],
    ),
}  # fmt: skip

# The small variants leave out or change one layer.
TIERS = [
    name if name in ("simclr", "moco v1", "byol") else pytest.param(name, marks=pytest.mark.large)
    for name in POLICIES
]

DESCRIPTIONS = {
    "RandomCrop": lambda layer: ("crop", layer.area),
    "RandomFlip": lambda layer: ("flip", layer.probability),
    "ColorJitter": lambda layer: (
        "jitter",
        layer.probability,
        (layer.brightness, layer.contrast, layer.saturation, layer.hue),
    ),
    "RandomGrayscale": lambda layer: ("grey", layer.probability),
    "RandomBlur": lambda layer: ("blur", layer.probability),
    "RandomSolarize": lambda layer: ("solarize", layer.probability),
}


def kinds(augmentation):
    return [type(layer).__name__ for layer in augmentation.layers]


def describe(augmentation):
    return [DESCRIPTIONS[type(layer).__name__](layer) for layer in augmentation.layers]


@pytest.mark.parametrize("name", POLICIES)
def test_each_chain_is_that_of_its_source(name):
    make, chain_1, chain_2 = POLICIES[name]
    policy = make(224)
    for augmentation, chain in zip(policy, (chain_1, chain_2), strict=True):
        found = describe(augmentation)
        assert [step[0] for step in found] == [step[0] for step in chain]
        for step, expected in zip(found, chain, strict=True):
            for value, number in zip(step[1:], expected[1:], strict=True):
                assert value == pytest.approx(number)
    # The same in all sources.
    for layer in (*policy.view_1.layers, *policy.view_2.layers):
        if isinstance(layer, augment.RandomCrop):
            assert (layer.size, layer.aspect) == (224, (3 / 4, 4 / 3))
        if isinstance(layer, augment.RandomBlur):
            assert layer.sigma == (0.1, 2.0)
        if isinstance(layer, augment.RandomSolarize):
            assert layer.threshold == 0.5
    assert (policy.view_1 is policy.view_2) == (chain_1 is chain_2)


def twin(image, key, chain, size):
    """Applies the steps to one image in order, with random numbers from its key."""
    for position, (step, *arguments) in enumerate(chain):
        own = random.fold(key, position)
        image = TWINS[step](image.astype(np.float64), own, *arguments, size=size)
    return image


def drawn(key, count):
    return random.uniform(key, count).numpy()[0].astype(np.float64)


def crop(image, key, area, size):
    numbers = random.uniform(key, augment.RandomCrop.draws)
    box = augment.RandomCrop(size, area).boxes(numbers, *image.shape[:2])[0]
    top, left, height, width = box.numpy()
    part = image[top : top + height, left : left + width]
    return tf.clip_by_value(tf.image.resize(part, (size, size), method="bicubic"), 0, 1).numpy()


def flip(image, key, probability, size):
    return image[:, ::-1] if drawn(key, 1)[0] < probability else image


def jitter(image, key, probability, strengths, size):
    numbers = drawn(key, 9)
    if numbers[0] >= probability:
        return image
    for change in np.argsort(numbers[5:]):
        turn = strengths[change] * (2 * numbers[1 + change] - 1)  # in [-s, s]
        if change == 0:
            image = image * (1 + turn)
        elif change == 1:
            mean = image.mean(axis=(0, 1))
            image = mean + (image - mean) * (1 + turn)
        else:
            hsv = matplotlib.colors.rgb_to_hsv(image)
            if change == 2:
                hsv[..., 1] = np.minimum(hsv[..., 1] * (1 + turn), 1)
            else:
                hsv[..., 0] = (hsv[..., 0] + turn) % 1
            image = matplotlib.colors.hsv_to_rgb(hsv)
        image = np.clip(image, 0, 1)
    return image


def grey(image, key, probability, size):
    if drawn(key, 1)[0] >= probability:
        return image
    return np.repeat(image @ np.array([[0.2989], [0.587], [0.114]]), 3, axis=-1)


def blur(image, key, probability, size):
    which, share = drawn(key, 2)
    if which >= probability:
        return image
    reach, sigma = size // 10 // 2, 0.1 + 1.9 * share
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    for axis in (0, 1):
        blurred = (np.convolve(line, taps, mode="same") for line in lines(image, axis))
        image = np.moveaxis(np.stack(list(blurred)).reshape(size, 3, size), 2, axis)
    return image


def lines(image, axis):
    """The rows (or columns) of each channel, as vectors."""
    return np.moveaxis(image, axis, 2).reshape(-1, image.shape[axis])


def solarize(image, key, probability, size):
    return np.where(image < 0.5, image, 1 - image) if drawn(key, 1)[0] < probability else image


TWINS = {
    "crop": crop, "flip": flip, "jitter": jitter, "grey": grey, "blur": blur, "solarize": solarize,
}  # fmt: skip


@pytest.mark.parametrize("name", TIERS)
def test_pixels_equal_the_twins(name, noise, keys):
    make, *chains = POLICIES[name]
    count, size = 12, 24
    images = noise(count, 30, 26)
    for view, (augmentation, chain) in enumerate(zip(make(size), chains, strict=True)):
        found = augmentation(images, keys=keys(count, view=view))
        for number, image in enumerate(images):
            expected = twin(image, keys(1, view=view, first=number), chain, size)
            # TensorFlow's bicubic weights come from a table; the crop computes them.
            np.testing.assert_allclose(found[number], expected, atol=3e-3)


def test_the_order_of_the_steps_matters(noise, keys):
    """Otherwise the test above could not fail."""
    image, size = noise(1, 30, 26)[0], 24
    for chain in (MOCO_V1, MOCO_V2, BYOL_2):
        # Every step has an effect, and only the steps after the crop are reordered.
        chain = [(step[0], 1.0, *step[2:]) if step[0] != "crop" else step for step in chain]
        places = {step: position for position, (step, *_) in enumerate(chain)}
        swapped = [chain[0], *chain[:0:-1]]

        def by_place(chain, places=places):
            result = image
            for step, *arguments in chain:
                own = random.fold(keys(1), places[step])
                result = TWINS[step](result.astype(np.float64), own, *arguments, size=size)
            return result

        assert np.abs(by_place(chain) - by_place(swapped)).max() > 0.05


@pytest.fixture(scope="module")
def photos():
    """Returns 800 crops of two photographs, 48 x 48 pixels: bright sky, dark leaves, edges."""
    rng = np.random.default_rng(0)
    parts = []
    for name in ("china.jpg", "flower.jpg"):
        photo = sklearn.datasets.load_sample_image(name)
        for _ in range(400):
            top, left = rng.integers(0, photo.shape[0] - 48), rng.integers(0, photo.shape[1] - 48)
            parts.append(photo[top : top + 48, left : left + 48])
    return np.stack(parts)


def views_with_the_same_numbers(policy, photos, keys):
    """Returns both views with the same random numbers, so that only the policies differ."""
    return [augmentation(photos, keys=keys(len(photos))).numpy() for augmentation in policy]


def roughness(images):
    """Mean difference of neighbouring pixels of each image, away from the blurred border."""
    return np.abs(np.diff(images[:, 4:-4, 4:-4], axis=2)).mean(axis=(1, 2, 3))


def test_byols_first_view_is_the_smoother_one(photos, keys):
    first, second = map(roughness, views_with_the_same_numbers(augment.byol(48), photos, keys))
    # In nine of ten only the first view is blurred, but hardly if sigma is below 0.3 pixels.
    assert (first < 0.999 * second).mean() > 0.7
    assert (second < 0.999 * first).mean() < 0.05  # a few solarized images
    assert first.mean() < 0.8 * second.mean()
    sharp = views_with_the_same_numbers(augment.byol(48, blur=False), photos, keys)
    np.testing.assert_allclose(roughness(sharp[0]).mean(), roughness(sharp[1]).mean(), rtol=0.15)


def test_byols_second_view_is_the_one_that_is_solarized(photos, keys):
    first, second = views_with_the_same_numbers(augment.byol(48, blur=False), photos, keys)
    bright = first.max(axis=(1, 2, 3)) > 0.5  # a dark image has nothing to invert
    solarized = (first != second).any(axis=(1, 2, 3))
    assert not solarized[~bright].any()
    assert bright.mean() > 0.5
    rate = solarized[bright].mean()
    assert rate == pytest.approx(0.2, abs=4 * 0.4 / np.sqrt(bright.sum()))
    assert second[solarized].max() <= 0.5  # no bright pixel is left
    assert second[solarized].mean() < 0.7 * first[solarized].mean()


@pytest.mark.parametrize(("view", "share"), [("view_1", 1.0), ("view_2", 0.1)])
def test_how_many_of_byols_views_are_blurred(photos, keys, view, share):
    layers = getattr(augment.byol(48), view).layers
    until = kinds(augment.Augmentation(layers)).index("RandomBlur")
    before, after = (
        roughness(augment.Augmentation(layers[:end])(photos, keys=keys(len(photos))).numpy())
        for end in (until, until + 1)
    )
    blurred = (after < 0.9999 * before).mean()
    visible = 1 - 0.15 / 1.9  # with sigma below about 0.25, a neighbour has a weight below 1 / 3000
    deviation = np.sqrt(share * (1 - share) / len(photos))
    assert blurred == pytest.approx(share * visible, abs=4 * deviation + 0.03 * share)


def test_moco_v1_jitters_every_image_and_v2_most(photos, keys):
    for policy, share in ((augment.moco_v1(48), 1.0), (augment.moco_v2(48), 0.8)):
        layers = policy.view_1.layers
        position = kinds(policy.view_1).index("ColorJitter")
        before, after = (
            augment.Augmentation(layers[:end])(photos, keys=keys(len(photos))).numpy()
            for end in (position, position + 1)
        )
        changed = (np.abs(after - before) > 1e-3).any(axis=(1, 2, 3))
        deviation = np.sqrt(share * (1 - share) / len(photos))
        assert changed.mean() == pytest.approx(share, abs=4 * deviation + 1e-9)


@pytest.mark.parametrize("name", TIERS)
def test_pixels_stay_between_0_and_1(name, photos, keys):
    for view in POLICIES[name][0](24):
        found = view(photos[::4], keys=keys(200)).numpy()
        assert found.min() >= 0
        assert found.max() <= 1 + 1e-6
        assert 0.2 < found.mean() < 0.6  # no mean was subtracted


@pytest.mark.parametrize("strength", [-0.1, 2.6])
def test_simclr_rejects_a_strength_out_of_range(strength):
    with pytest.raises(ValueError, match=rf"`strength` must lie in .* strength={strength}"):
        augment.simclr(32, strength=strength)


def test_simclr_takes_the_strongest_jitter():
    assert augment.simclr(32, strength=2.5).view_1.layers[2].hue == 0.5


def test_moco_rejects_an_area_out_of_range():
    with pytest.raises(ValueError, match=r"`area` must be a range within \(0, 1\].*\(0, 1\)"):
        augment.moco_v2(32, area=(0, 1))


def test_centred_neither_crops_nor_flips(noise, keys):
    policy = augment.centred(16)
    assert kinds(policy.view_1) == ["RandomCrop", "RandomWarp"]
    whole = policy.view_1.layers[0]
    np.testing.assert_allclose(whole(noise(), keys=keys(6)), noise(), atol=1e-5)


def test_rejects_a_size_below_one():
    policies = [make for make, _, _ in POLICIES.values()]
    for policy in (*policies, augment.centred, augment.evaluation):
        with pytest.raises(ValueError, match=r"`size` must be at least 1 pixel\. Received: size=0"):
            policy(0)
