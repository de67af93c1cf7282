"""What an artefact runs: a Keras network as a reusable TF-Hub module with serving signatures."""

import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

_BLOCK_NAME = re.compile(r"stem|block\d+")


class Artefact(tf.Module):
    """A Keras network in the form that `tf.saved_model.save` writes and that can still be trained.

    Calling it maps float32 images `(batch, height, width, channels)` to float32 features
    `(batch, features)`, whatever precision the network computes in; `training=True` normalises by
    the batch and updates the moving statistics. `variables`, `trainable_variables` and
    `regularization_losses` (functions without arguments) are what TensorFlow Hub expects of a
    reusable module.

    Args:
        backbone: built `keras.Model`; its variables become the artefact's.
        image_shape: `(height, width, channels)` of the images; `None` leaves a side free.

    Example:
        >>> artefact = Artefact(keras_ssl.backbones.Tiny(), (32, 32, 3))
        >>> artefact(tf.zeros((2, 32, 32, 3)), training=True).shape
        TensorShape([2, 64])

    Source: the reusable SavedModel interface, tensorflow.org/hub/reusable_saved_models.
    """

    # `tf.Module` computes these, but only attributes become part of a SavedModel.
    variables: Any = ()
    trainable_variables: Any = ()
    regularization_losses: Any = ()

    def __init__(self, backbone: keras.Model, image_shape: tuple[int | None, int | None, int]):
        """Traces the network for inference and for training: only these traces are written."""
        super().__init__()
        self._images = tf.TensorSpec((None, *image_shape), tf.float32, name="images")
        # Functions hold the models: TensorFlow would write every layer of one that is an attribute.
        self._network = _hidden(backbone)
        outputs = block_outputs(backbone)
        self._blocks = _hidden(keras.Model(backbone.inputs[0], outputs)) if outputs else None
        self.variables = [variable.value for variable in backbone.variables]
        self.trainable_variables = [variable.value for variable in backbone.trainable_variables]
        self.regularization_losses = [
            _penalty(variable)
            for variable in backbone.trainable_variables
            if variable.regularizer is not None
        ]
        for training in (False, True):
            self.__call__.get_concrete_function(self._images, training=training)

    @tf.function
    def __call__(self, images, training=False):
        """Maps images to features, `(batch, features)`."""
        return tf.cast(self._network(images, training), tf.float32)

    def serving_signatures(self) -> dict[str, Any]:
        """Returns what a server calls by name: "serving_default", and "blocks" if there are any."""

        @tf.function(input_signature=[self._images])
        def serving_default(images):
            return {"features": self(images, training=False)}

        signatures = {"serving_default": serving_default}
        if block_network := self._blocks:

            @tf.function(input_signature=[self._images])
            def blocks(images):
                outputs = block_network(images, False)
                return {name: tf.cast(output, tf.float32) for name, output in outputs.items()}

            signatures["blocks"] = blocks
        return signatures


def block_outputs(backbone: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns the outputs of a functional model's layers `stem`, `block1`, `block2`... by name.

    Other models, and models without such layers, give an empty dictionary.

    Example:
        >>> sorted(block_outputs(keras_ssl.backbones.Tiny()))
        ['block1', 'block2', 'block3']
    """
    layers = backbone.layers if getattr(backbone, "inputs", None) else []
    return {layer.name: layer.output for layer in layers if _BLOCK_NAME.fullmatch(layer.name)}


def _hidden(network: keras.Model) -> Callable[[tf.Tensor, bool], Any]:
    def call(images, training):
        return network(images, training=training)

    return call


def _penalty(variable: keras.Variable) -> Callable[[], tf.Tensor]:
    @tf.function(input_signature=[])
    def penalty():
        return variable.regularizer(variable.value)

    return penalty
