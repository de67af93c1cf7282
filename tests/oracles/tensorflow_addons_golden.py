"""Writes outputs of tensorflow-addons, to compare its replacements in keras_ssl and Keras with.

This script does not use keras_ssl. It is run by hand in a separate environment (tensorflow-addons
ended in May 2024 and needs TensorFlow 2.15 or earlier). Its file is
tests/oracles/golden/tensorflow_addons.npz. tests/test_tensorflow_addons.py compares with it and does
not need tensorflow-addons.

    python3.11 -m venv /tmp/addons
    /tmp/addons/bin/pip install "tensorflow-cpu==2.15.1" "tensorflow-addons==0.23.0" "numpy<2" \
        "tensorflow-metadata<1.16" "setuptools<81"
    /tmp/addons/bin/python tests/oracles/tensorflow_addons_golden.py            # writes the file
    /tmp/addons/bin/python tests/oracles/tensorflow_addons_golden.py --check    # compares instead

Contents of the file:

- `lamb_*`: five steps of `tfa.optimizers.LAMB` on two variables with given gradients, with and without
  weight decay.
- `blur_*`: `tfa.image.gaussian_filter2d` with black outside the image and a kernel of a tenth of
  the side.
- `hsv_*`: `tfa.image.adjust_hsv_in_yiq` with one change at a time.
- `cycle_*`: the three cyclical schedules of `tfa.optimizers` at steps 0 to 49.
- `sgdw_*`, `adamw_*`: five steps of optimizers with decoupled weight decay.
- `loss_*`: losses, metrics and layers that have a counterpart in Keras.
- `symbols`: the names of all public classes and functions.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

FILE = pathlib.Path(__file__).parent / "golden" / "tensorflow_addons.npz"
STEPS = 5
SIDES = (20, 40)
SIGMAS = (0.1, 0.8, 2.0)
CHANGES = {
    "value": {"scale_value": 0.6},
    "grey": {"scale_saturation": 0.0},
    "hue": {"delta_hue": 0.6},
    "saturation": {"scale_saturation": 1.5},
}


def optimizer_steps(name, optimizer, variables, gradients):
    values = [tf.Variable(value) for value in variables]
    for step in range(STEPS):
        optimizer.apply_gradients([(g[step], v) for g, v in zip(gradients, values)])  # noqa: B905
    return {f"{name}_{number}": value.numpy() for number, value in enumerate(values)}


def optimizers(random):
    variables = [random.normal(size=shape).astype("float32") for shape in ((4, 3), (3,))]
    gradients = [random.normal(size=(STEPS, *v.shape)).astype("float32") for v in variables]
    results = {f"start_{number}": value for number, value in enumerate(variables)}
    results |= {f"gradients_{number}": value for number, value in enumerate(gradients)}
    settings = {
        "lamb": tfa.optimizers.LAMB(0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-6),
        "lamb_decay": tfa.optimizers.LAMB(0.01, epsilon=1e-6, weight_decay=0.1),
        "adamw": tfa.optimizers.AdamW(weight_decay=1e-3, learning_rate=0.01, epsilon=1e-7),
        "sgdw": tfa.optimizers.SGDW(weight_decay=1e-3, learning_rate=0.1, momentum=0.9),
    }
    for name, optimizer in settings.items():
        results |= optimizer_steps(name, optimizer, variables, gradients)
    return results


def blurs(random):
    results = {}
    for side in SIDES:
        images = random.integers(0, 256, (1, side, side, 3), np.uint8)
        results[f"blur_images_{side}"] = images
        kernel = 2 * (side // 10 // 2) + 1
        for sigma in SIGMAS:
            blurred = tfa.image.gaussian_filter2d(
                tf.constant(images / 255, tf.float32), kernel, sigma, padding="CONSTANT"
            )
            results[f"blur_{side}_{sigma}"] = blurred.numpy()
    return results


def colours(random):
    images = random.integers(0, 256, (2, 8, 8, 3), np.uint8)
    images[:, 0] = images[:, 0, :, :1]  # a row of grey pixels
    results = {"hsv_images": images}
    for name, change in CHANGES.items():
        changed = tfa.image.adjust_hsv_in_yiq(tf.constant(images / 255, tf.float32), **change)
        results[f"hsv_{name}"] = changed.numpy()
    return results


def schedules():
    settings = {
        "triangular": tfa.optimizers.TriangularCyclicalLearningRate(0.1, 1.0, 8),
        "triangular2": tfa.optimizers.Triangular2CyclicalLearningRate(0.1, 1.0, 8),
        "exponential": tfa.optimizers.ExponentialCyclicalLearningRate(0.1, 1.0, 8, gamma=0.97),
    }
    steps = np.arange(50, dtype="float32")
    return {
        f"cycle_{name}": np.array([schedule(step) for step in steps], "float32")
        for name, schedule in settings.items()
    }


def losses(random):
    labels = random.integers(0, 2, (6, 4)).astype("float32")
    scores = random.uniform(0.05, 0.95, (6, 4)).astype("float32")
    focal = tfa.losses.SigmoidFocalCrossEntropy(alpha=0.25, gamma=2.0, reduction="none")
    f1 = tfa.metrics.F1Score(num_classes=4, average="macro", threshold=0.5)
    f1.update_state(labels, scores)
    r2 = tfa.metrics.RSquare()
    r2.update_state(labels[:, :1], scores[:, :1])
    features = random.normal(size=(6, 5)).astype("float32")
    instance_norm = tfa.layers.InstanceNormalization(epsilon=1e-3)
    images = random.normal(size=(2, 4, 4, 6)).astype("float32")
    return {
        "loss_labels": labels,
        "loss_scores": scores,
        "loss_focal": focal(labels, scores).numpy(),
        "loss_f1": f1.result().numpy(),
        "loss_r2": r2.result().numpy(),
        "loss_features": features,
        "loss_sparsemax": tfa.activations.sparsemax(features).numpy(),
        "loss_images": images,
        "loss_instance_norm": instance_norm(images).numpy(),
    }


def symbols():
    modules = "activations callbacks image layers losses metrics optimizers rnn seq2seq text"
    return [
        f"tfa.{module}.{name}"
        for module in modules.split()
        for name, value in vars(getattr(tfa, module)).items()
        if callable(value) and not name.startswith("_")
    ]


def main():
    random = np.random.default_rng(0)
    results = optimizers(random) | blurs(random) | colours(random) | schedules() | losses(random)
    results["versions"] = np.array([tf.__version__, tfa.__version__, np.__version__])
    results["symbols"] = np.array(sorted(symbols()))
    if "--check" in sys.argv:
        with np.load(FILE) as file:
            assert set(file) == set(results)
            for name in results.keys() - {"versions", "symbols"}:
                np.testing.assert_allclose(file[name], results[name], rtol=1e-5, atol=1e-6)
        print(f"{FILE} matches tensorflow-addons")
    else:
        np.savez_compressed(FILE, **results)
        print(f"{FILE}: {FILE.stat().st_size} bytes, {len(results)} arrays")


if __name__ == "__main__":
    main()
