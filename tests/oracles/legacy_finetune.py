"""Loads and fine-tunes an exported model with TensorFlow 2.15 and tensorflow-addons.

It does not use keras_ssl. Run it in a separate environment:

    python3.11 -m venv legacy
    legacy/bin/pip install "tensorflow-cpu==2.15.1" "tensorflow-addons==0.23.0" "numpy<2" \
        "tensorflow-metadata<1.16" "tensorflow-hub==0.16.1" "setuptools<81"
    legacy/bin/python tests/oracles/legacy_finetune.py EXPORT SAMPLES

or, as a test, KERAS_SSL_LEGACY_PYTHON=legacy/bin/python pytest tests/export/test_loaders.py

EXPORT is the directory of an exported model for 16-pixel images. SAMPLES is an .npz file with `images`,
float32 (batch, 16, 16, 3), and their `features`, computed by the backbone.
"""

import json
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
import tensorflow_hub as hub

STEPS = 10


def train_with_tape(path, images, targets):
    """Trains a `tf.saved_model.load` network in a GradientTape loop, with regularization losses."""
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


def train_with_keras_2(path, images, targets):
    """Trains a `hub.KerasLayer` in a Keras 2 model with `fit`."""
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
    pixel_features = network(tf.constant(pixels)).numpy()
    file_features = network.signatures["encoded"](images=files)["features"].numpy()
    targets = images.mean((1, 2))[:, :1] * 4
    report = {
        "tensorflow": tf.__version__,
        "tensorflow_addons": tfa.__version__,
        "difference": float(np.abs(network(images).numpy() - expected).max()),
        "files_difference": float(np.abs(pixel_features - file_features).max()),
        "tfa.optimizers.LAMB": train_with_tape(path, images, targets),
        "tfa.optimizers.AdamW": train_with_keras_2(path, images, targets),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
