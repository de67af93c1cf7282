"""Compares the replacements of tensorflow-addons with its own outputs."""

import importlib
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tensorflow_addons.md").read_text()


@pytest.fixture(scope="module")
def golden():
    with np.load(ROOT / "tests" / "oracles" / "golden" / "tensorflow_addons.npz") as file:
        return dict(file)


def run_steps(golden, optimizer):
    """Runs the five steps, and returns the two variables."""
    values = [keras.Variable(golden[f"start_{number}"]) for number in range(2)]
    gradients = [golden[f"gradients_{number}"] for number in range(2)]
    for step in range(5):
        optimizer.apply([tf.constant(g[step]) for g in gradients], values)
    return [value.numpy() for value in values]


def max_difference(golden, name, optimizer):
    found = run_steps(golden, optimizer)
    return max(np.abs(found[n] - golden[f"{name}_{n}"]).max() for n in range(2))


def test_lamb(golden):
    lamb = keras.optimizers.Lamb
    assert max_difference(golden, "lamb", lamb(0.01, epsilon=1e-6)) < 1e-6
    # Weight decay is applied at a different place, as the page says.
    decayed = max_difference(golden, "lamb_decay", lamb(0.01, epsilon=1e-6, weight_decay=0.1))
    assert decayed > 1e-4


def test_decoupled_weight_decay(golden):
    adamw = keras.optimizers.AdamW(0.01, weight_decay=1e-3 / 0.01, epsilon=1e-7)
    assert max_difference(golden, "adamw", adamw) < 1e-6
    sgdw = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-3 / 0.1)
    assert max_difference(golden, "sgdw", sgdw) < 1e-6


@pytest.mark.parametrize("side", [20, 40])
@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_blur(golden, side, sigma):
    images = golden[f"blur_images_{side}"].astype("float32") / 255
    blur = augment.RandomBlur(probability=1.0, sigma=(sigma, sigma))
    np.testing.assert_allclose(blur(images), golden[f"blur_{side}_{sigma}"], atol=2e-6)


def jitter(images, strengths, number):
    """Applies ColorJitter; `number` 0 selects the smallest factors, 1 the largest."""
    layer = augment.ColorJitter(
        **{"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0} | strengths
    )
    numbers = np.full((len(images), layer.draws), 0.5, "float32")
    numbers[:, 1:5] = number
    return layer.change(tf.constant(images), tf.constant(numbers)).numpy()


def test_colors(golden):
    images = golden["hsv_images"].astype("float32") / 255
    darker = jitter(images, {"brightness": 0.4}, 0.0)  # the smallest factor, 0.6
    np.testing.assert_allclose(darker, golden["hsv_value"], atol=1e-3)

    grey = augment.RandomGrayscale(probability=1.0)(images)
    np.testing.assert_allclose(grey, golden["hsv_grey"], atol=1e-3)

    hue = 0.6 / (2 * np.pi)  # radians to a fraction of the circle
    rotated = jitter(images, {"hue": hue}, 1.0)
    saturated = jitter(images, {"saturation": 0.5}, 1.0)
    pairs = ((rotated, golden["hsv_hue"]), (saturated, golden["hsv_saturation"]))
    for ours, theirs in pairs:
        # Gray pixels do not change in either. Other pixels differ, as the page says.
        np.testing.assert_allclose(ours[:, 0], images[:, 0], atol=1e-6)
        np.testing.assert_allclose(theirs[:, 0], images[:, 0], atol=2e-3)
        assert np.abs(ours - np.clip(theirs, 0, 1)).mean() > 0.02


def test_cycles(golden):
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names = {}
    exec(example, names)
    for name in ("triangular", "triangular2", "exponential"):
        rates = [float(names[name](step)) for step in range(50)]
        np.testing.assert_allclose(rates, golden[f"cycle_{name}"], rtol=1e-5)
    schedule = names["Cyclical"].from_config(names["exponential"].get_config())
    assert float(schedule(3)) == float(names["exponential"](3))


def test_losses_and_layers(golden):
    labels, scores = golden["loss_labels"], golden["loss_scores"]
    focal = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, reduction=None)
    np.testing.assert_allclose(focal(labels, scores) * 4, golden["loss_focal"], rtol=1e-4)
    f1 = keras.metrics.F1Score(average="macro", threshold=0.5)
    assert float(f1(labels, scores)) == pytest.approx(float(golden["loss_f1"]), rel=1e-5)
    r2 = keras.metrics.R2Score()
    found = float(r2(labels[:, :1], scores[:, :1]))
    assert found == pytest.approx(float(golden["loss_r2"]), rel=1e-4)
    # Keras' function of the same name is different, as the page says.
    np.testing.assert_allclose(golden["loss_sparsemax"].sum(axis=1), 1.0, atol=1e-6)
    sparse = np.array(keras.activations.sparsemax(golden["loss_features"]))
    several = (golden["loss_sparsemax"] > 0).sum(axis=1) > 1
    assert several.any()
    assert (np.abs(sparse.sum(axis=1)[several] - 1) > 0.01).all()
    norm = keras.layers.GroupNormalization(groups=-1, epsilon=1e-3)
    np.testing.assert_allclose(norm(golden["loss_images"]), golden["loss_instance_norm"], atol=1e-5)


def table_rows(page):
    """Yields (tensorflow-addons symbols, replacements) for each table row."""
    for line in page.splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")]
        if len(cells) == 5 and any(word.startswith("tfa.") for word in cells[1]):
            yield cells[1], [word for cell in cells[2:4] for word in cell]


def is_missing(name):
    """Returns whether a dotted name cannot be imported."""
    words = re.sub(r"^tf\b", "tensorflow", name).split(".")
    for split in range(len(words) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(words[:split]))
        except ImportError:
            continue
        for word in words[split:]:
            found = getattr(found, word, None)
        return found is None
    return True


def test_every_replacement_exists():
    dotted = re.compile(r"(keras|tf|keras_ssl|scipy|sklearn)(\.\w+)+")
    names = {word for _, words in table_rows(PAGE) for word in words if dotted.fullmatch(word)}
    assert len(names) > 50
    assert [name for name in sorted(names) if is_missing(name)] == []
    assert is_missing("keras.layers.NoSuchLayer")
    assert is_missing("keras.no_such_module.Layer")


def test_every_symbol_is_on_the_page(golden):
    listed = {symbol for symbols, _ in table_rows(PAGE) for symbol in symbols}
    groups = {symbol.removesuffix("*") for symbol in listed if symbol.endswith("*")}
    symbols = set(golden["symbols"].tolist())
    assert len(symbols) > 150
    absent = [s for s in symbols - listed if not any(s.startswith(group) for group in groups)]
    assert sorted(absent) == []
    assert sorted(listed - symbols - {f"{group}*" for group in groups}) == []
