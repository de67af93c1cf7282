import math

import numpy as np
import pytest

from keras_ssl.evaluate.feature_statistics import (
    alignment,
    effective_rank,
    feature_std,
    main_direction_share,
    uniformity,
)


@pytest.fixture
def features():
    """(12, 5), with a mean as large as the spread, and one row of zeros."""
    values = np.random.default_rng(0).normal(1.0, 1.0, (12, 5))
    values[3] = 0.0
    return values.astype(np.float32)


def unit(vector):
    length = math.sqrt(sum(float(x) ** 2 for x in vector))
    return [float(x) / length if length else 0.0 for x in vector]


def mean(values):
    return sum(values) / len(values)


def test_feature_std(features):
    rows = [unit(row) for row in features]
    deviations = []
    for k in range(5):
        column = [row[k] for row in rows]
        deviations.append(math.sqrt(mean([(x - mean(column)) ** 2 for x in column])))
    assert feature_std(features) == pytest.approx(mean(deviations) * math.sqrt(5))
    assert feature_std(3.0 * features) == pytest.approx(feature_std(features))


def test_feature_std_at_its_ends():
    directions = np.random.default_rng(0).normal(size=(20_000, 16))
    assert feature_std(directions) == pytest.approx(1.0, abs=0.01)
    assert feature_std(np.full((10, 16), 0.1, np.float32)) < 1e-7
    assert feature_std(np.zeros((10, 16))) == 0.0


def test_alignment(features):
    others = features[::-1] * np.linspace(0.5, 2.0, 12)[:, None]
    expected = mean(
        [
            sum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True))
            for a, b in zip(features, others, strict=True)
        ]
    )
    assert alignment(features, others) == pytest.approx(expected)
    assert alignment(features, 2 * features) == pytest.approx(0.0, abs=1e-12)
    assert alignment(np.eye(3), -np.eye(3)) == 4.0


def test_uniformity(features):
    rows = [unit(row) for row in features]
    potentials = [
        math.exp(-2.0 * sum((x - y) ** 2 for x, y in zip(rows[i], rows[j], strict=True)))
        for i in range(12)
        for j in range(i)
    ]
    assert uniformity(features) == pytest.approx(math.log(mean(potentials)))


def test_uniformity_at_its_ends():
    assert uniformity(np.full((10, 16), 0.1, np.float32)) == pytest.approx(0.0, abs=1e-12)
    assert uniformity(np.array([[1.0], [-1.0]])) == pytest.approx(-8.0)
    # On a sphere of many dimensions all distances are near sqrt(2).
    directions = np.random.default_rng(0).normal(size=(500, 2000))
    assert uniformity(directions) == pytest.approx(-4.0, abs=0.02)


def test_uniformity_needs_a_pair():
    with pytest.raises(ValueError, match=r"at least two images\. Received: 1 images"):
        uniformity(np.ones((1, 4)))


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_effective_rank(shape):
    values = np.random.default_rng(0).normal(0.5, 1.0, shape)
    singular_values = np.linalg.svd(values, compute_uv=False)
    shares = singular_values / singular_values.sum()
    entropy = -sum(p * math.log(p) for p in shares)
    assert effective_rank(values) == pytest.approx(math.exp(entropy))
    assert 1 < effective_rank(values) < 6


def test_effective_rank_at_its_ends():
    assert effective_rank(7 * np.eye(9)) == pytest.approx(9.0)
    line = np.outer(np.linspace(-1, 1, 300), np.ones(200)).astype(np.float32)
    assert effective_rank(line) == pytest.approx(1.0, abs=0.01)
    assert effective_rank(np.zeros((5, 3))) == 0.0


def test_main_direction_share(features):
    centred = features - features.mean(axis=0)
    eigenvalues = np.linalg.eigvalsh(np.cov(centred.T))
    expected = eigenvalues.max() / eigenvalues.sum()
    assert main_direction_share(features) == pytest.approx(expected, rel=1e-5)
    # The mean does not count: it is no variance.
    assert main_direction_share(features + 100.0) == pytest.approx(expected, rel=1e-3)


def test_main_direction_share_of_a_line():
    line = 5.0 + np.outer(np.linspace(-1, 1, 30), [1.0, -2.0, 3.0])
    assert main_direction_share(line) == pytest.approx(1.0)
    assert main_direction_share(np.full((10, 3), 0.1)) == pytest.approx(1.0)
    assert main_direction_share(np.zeros((10, 3))) == 1.0
    assert main_direction_share(np.eye(3)) == pytest.approx(0.5)
