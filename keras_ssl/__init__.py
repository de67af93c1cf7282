"""keras_ssl: self-supervised pretraining for Keras 3 on TensorFlow."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "keras_ssl runs with the TensorFlow backend of Keras only. Expected: KERAS_BACKEND unset or "
        f"'tensorflow', set before Keras is imported. Received: backend={keras.backend.backend()!r}"
    )
