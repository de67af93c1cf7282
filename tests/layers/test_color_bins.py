"""ColorBins: the bins of sRGB, codes and their decoding."""

import numpy as np
import pytest

from keras_ssl.layers import ColorBins, RGBToLab


def random_colors(count=500):
    rgb = np.random.default_rng(0).random((count, 3), np.float32)
    return RGBToLab()(rgb).numpy()[:, 1:]


def test_the_bins_are_the_cells_that_hold_a_color_of_srgb():
    centers = ColorBins().centers
    assert centers.shape == (262, 2)
    assert np.all(centers % 10 == 0)
    levels = np.stack(np.meshgrid(*[np.linspace(0, 1, 48)] * 3), axis=-1).reshape(-1, 3)
    cells = np.unique(np.round(RGBToLab()(levels).numpy()[:, 1:] / 10), axis=0) * 10
    known = {tuple(center) for center in centers}
    assert {tuple(cell) for cell in cells} <= known
    # The rest touch the body of all colors with less than the spacing of these levels.
    assert len(known) - len(cells) <= 6


def test_a_code_equals_its_definition():
    bins = ColorBins()
    ab = random_colors(50)
    for color, code in zip(ab, bins(ab).numpy(), strict=True):
        distances = np.linalg.norm(bins.centers.astype("float64") - color, axis=1)
        nearest = np.argsort(distances)[:10]
        expected = np.zeros(262)
        expected[nearest] = np.exp(-(distances[nearest] ** 2) / (2 * 5**2))
        np.testing.assert_allclose(code, expected / expected.sum(), atol=1e-5)


def test_codes_have_ten_bins_and_sum_to_one_for_any_color():
    far = [[0, 0], [500, -500], [-128, 127]]
    for ab in (random_colors(), np.array(far, np.float32)):
        codes = ColorBins()(ab).numpy()
        np.testing.assert_allclose(codes.sum(axis=-1), 1, atol=1e-5)
        assert np.all(codes >= 0)
        assert np.all(np.sum(codes > 0, axis=-1) <= 10)
    assert np.all(np.sum(ColorBins()(random_colors()).numpy() > 0, axis=-1) == 10)


def test_the_mean_of_a_code_is_near_its_color():
    ab = random_colors()
    bins = ColorBins()
    # Inside: all neighbors of the color's cell are bins.
    known = {tuple(center) for center in bins.centers}
    steps = [(x, y) for x in (-20, -10, 0, 10, 20) for y in (-20, -10, 0, 10, 20)]
    cells = 10 * np.round(ab / 10)
    inside = np.array([all((a + x, b + y) in known for x, y in steps) for a, b in cells])
    assert inside.sum() > 100
    means = bins(ab).numpy() @ bins.centers
    assert np.linalg.norm(means - ab, axis=1)[inside].max() < 1


def test_one_neighbor_is_the_nearest_bin():
    ab = random_colors()
    codes = ColorBins(neighbors=1)(ab).numpy()
    np.testing.assert_array_equal(np.argmax(codes, axis=1), ColorBins().nearest(ab))
    np.testing.assert_array_equal(codes.max(axis=1), 1)


def test_decoding_goes_from_the_mean_to_the_likeliest_color():
    bins = ColorBins()
    probabilities = np.full(262, 1e-6)
    probabilities[[100, 200]] = 0.6, 0.4
    logits = np.log(probabilities).astype("float32")
    mean = 0.6 * bins.centers[100] + 0.4 * bins.centers[200]
    np.testing.assert_allclose(bins.decode(logits, 1.0), mean, atol=0.05)
    np.testing.assert_allclose(bins.decode(logits, 0.01), bins.centers[100], atol=1e-3)


def test_shapes_and_configuration():
    bins = ColorBins(neighbors=3, sigma=2.0)
    assert bins(np.zeros((2, 4, 5, 2))).shape == (2, 4, 5, 262)
    assert bins.compute_output_shape((2, 4, 5, 2)) == (2, 4, 5, 262)
    copy = ColorBins.from_config(bins.get_config())
    assert (copy.neighbors, copy.sigma) == (3, 2.0)


def test_bad_arguments_are_refused():
    for neighbors in (0, 263):
        with pytest.raises(ValueError, match=rf"`neighbors` must lie in \[1, 262\].*{neighbors}"):
            ColorBins(neighbors=neighbors)
    with pytest.raises(ValueError, match=r"`sigma` must be positive\. Received: sigma=0"):
        ColorBins(sigma=0)
