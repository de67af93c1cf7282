"""Loads an artefact under TensorFlow 2.15 with tensorflow-addons, and fine-tunes it there.

It runs without keras_ssl, in an environment of its own:

    python3.11 -m venv legacy
    legacy/bin/pip install "tensorflow-cpu==2.15.1" "tensorflow-addons==0.23.0" "numpy<2" \
        "tensorflow-metadata<1.16" "tensorflow-hub==0.16.1" "setuptools<81"
    legacy/bin/python tests/oracles/legacy_finetune.py ARTEFACT SAMPLES

or, as a test, KERAS_SSL_LEGACY_PYTHON=legacy/bin/python pytest tests/export/test_loaders.py

ARTEFACT is the directory of an artefact for 16-pixel images, SAMPLES an .npz file with `images`,
float32 (batch, 16, 16, 3), and the `features` that the backbone has for them.
"""

import json
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
import tensorflow_hub as hub

STEPS = 10


def own_loop(path, images, targets):
    """A GradientTape around `tf.saved_model.load`, moving statistics and penalties included."""
    network = tf.saved_model.load(path)
    head = tf.Variable(tf.zeros((network(images).shape[-1], 1)))
    variables = [*network.trainable_variables, head]
    optimizer = tfa.optimizers.LAMB(learning_rate=0.1)
    losses = []
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            outputs = network(images, training=True) @ head
            loss = tf.reduce_mean(tf.square(outputs - targets))
            loss += sum(penalty() for penalty in network.regularization_losses)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables))  # noqa: B905
        losses.append(float(loss))
    return losses


def keras_2(path, images, targets):
    """`hub.KerasLayer` in a Keras 2 model that `fit` trains."""
    layer = hub.KerasLayer(path, trainable=True)
    model = tf.keras.Sequential([tf.keras.Input(images.shape[1:]), layer, tf.keras.layers.Dense(1)])
    model.compile(tfa.optimizers.AdamW(learning_rate=0.01, weight_decay=1e-4), "mse")
    return model.fit(images, targets, epochs=STEPS, verbose=0).history["loss"]


def main():
    path, samples = sys.argv[1:]
    with np.load(samples) as file:
        images, expected = file["images"], file["features"]
    pixels = np.round(images * 255).astype(np.uint8)
    network = tf.saved_model.load(path)
    files = tf.constant([tf.io.encode_png(image).numpy() for image in pixels])
    of_pixels = network(tf.constant(pixels)).numpy()
    of_files = network.signatures["encoded"](images=files)["features"].numpy()
    targets = images.mean((1, 2))[:, :1] * 4
    report = {
        "tensorflow": tf.__version__,
        "tensorflow_addons": tfa.__version__,
        "difference": float(np.abs(network(images).numpy() - expected).max()),
        "files_difference": float(np.abs(of_pixels - of_files).max()),
        "tfa.optimizers.LAMB": own_loop(path, images, targets),
        "tfa.optimizers.AdamW": keras_2(path, images, targets),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
