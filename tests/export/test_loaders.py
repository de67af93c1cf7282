"""Loads an export with every loader, each in a process that cannot import keras_ssl."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_ssl import export
from keras_ssl.backbones import Tiny
from tests.tiers import rest_large

LEGACY = pathlib.Path(__file__).parents[1] / "oracles" / "legacy_finetune.py"

SCRIPT = """
import sys, warnings

sys.modules["keras_ssl"] = None  # makes importing it an error
warnings.simplefilter("ignore")  # from pkg_resources, which TensorFlow Hub imports
import numpy as np

path, samples, out = sys.argv[1:]
with np.load(samples) as file:
    images, pixels = file["images"], file["pixels"]
{body}
np.savez(out, features=features, of_pixels=of_pixels)
"""

BODIES = {
    "tf.saved_model.load": """
import tensorflow as tf
network = tf.saved_model.load(path)
features, of_pixels = network(images), network(tf.constant(pixels))
""",
    "hub.load": """
import tensorflow_hub as hub
network = hub.load(path)
features, of_pixels = network(images), network(pixels)
""",
    "hub.KerasLayer": """
import tensorflow_hub as hub
layer = hub.KerasLayer(path, trainable=True)
features, of_pixels = layer(images), layer(pixels)
assert layer.trainable_weights
""",
    "keras.layers.TFSMLayer": """
import keras
features = keras.layers.TFSMLayer(path, call_endpoint="serving_default")(images)["features"]
of_pixels = keras.layers.TFSMLayer(path, call_endpoint="uint8", dtype="uint8")(pixels)["features"]
""",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export, a file with images, and the features of its backbone for them."""
    backbone = Tiny((16, 16, 3), features=16)
    random = np.random.default_rng(0)
    for _ in range(3):
        backbone(random.uniform(size=(8, 16, 16, 3)).astype("float32"), training=True)
    images = random.uniform(size=(6, 16, 16, 3)).astype("float32")
    pixels = random.integers(0, 256, images.shape, np.uint8)
    folder = tmp_path_factory.mktemp("artefact")
    expected = {
        "features": backbone(images).numpy(),
        "of_pixels": backbone(pixels.astype("float32") / 255).numpy(),
    }
    np.savez(folder / "samples.npz", images=images, pixels=pixels, **expected)
    return export.saved_model(backbone, folder / "tiny"), folder / "samples.npz", expected


def run(command):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd="/"
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


@pytest.mark.parametrize("loader", rest_large(BODIES))
def test_an_export_loads_without_keras_ssl(loader, exported, tmp_path):
    for needed in ("tensorflow_hub", "tf_keras") if loader.startswith("hub") else ():
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
    path, samples, expected = exported
    run(
        [
            sys.executable,
            "-c",
            SCRIPT.format(body=BODIES[loader]),
            path,
            samples,
            tmp_path / "o.npz",
        ]
    )
    with np.load(tmp_path / "o.npz") as received:
        for name, value in expected.items():
            np.testing.assert_allclose(received[name], value, atol=1e-5)


@pytest.mark.skipif(
    "KERAS_SSL_LEGACY_PYTHON" not in os.environ,
    reason="set KERAS_SSL_LEGACY_PYTHON to a Python with TensorFlow 2.15 and tensorflow-addons",
)
def test_an_export_fine_tunes_in_tensorflow_2_15_with_addons(exported):
    path, samples, _ = exported
    printed = run([os.environ["KERAS_SSL_LEGACY_PYTHON"], LEGACY, path, samples])
    report = json.loads(printed.splitlines()[-1])
    assert report["tensorflow"].startswith("2.15.")
    assert report["difference"] < 1e-5
    assert report["files_difference"] < 1e-5
    for optimizer in ("tfa.optimizers.LAMB", "tfa.optimizers.AdamW"):
        losses = report[optimizer]
        assert losses[-1] < 0.8 * losses[0], losses


def test_the_scripts_cannot_import_keras_ssl():
    command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['keras_ssl'] = None; import keras_ssl",
    ]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert "ModuleNotFoundError: import of keras_ssl halted" in finished.stderr
