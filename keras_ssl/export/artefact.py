"""What an artefact runs: a Keras network as a reusable TF-Hub module with serving signatures."""

import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.export.preprocessing import Preprocessing

_BLOCK_NAME = re.compile(r"stem|block\d+")


class Artefact(tf.Module):
    """A Keras network in the form that `tf.saved_model.save` writes and that can still be trained.

    Calling it maps images `(batch, height, width, channels)` to float32 features
    `(batch, features)`, whatever precision the network computes in; `training=True` normalises by
    the batch and updates the moving statistics. float32 images are what the network was trained
    on; uint8 images are pixels, which are scaled and normalised first. `variables`,
    `trainable_variables` and `regularization_losses` (functions without arguments) are what
    TensorFlow Hub expects of a reusable module.

    Args:
        backbone: built `keras.Model`; its variables become the artefact's.
        image_shape: `(height, width, channels)` of the images; `None` leaves a side free.
        preprocessing: what turns pixels into what the network takes.

    Example:
        >>> contract = model_card.preprocessing_contract((32, 32, 3))
        >>> backbone = keras_ssl.backbones.Tiny()
        >>> artefact = Artefact(backbone, (32, 32, 3), Preprocessing(contract))
        >>> artefact(tf.zeros((2, 32, 32, 3)), training=True).shape
        TensorShape([2, 64])

    Source: the reusable SavedModel interface, tensorflow.org/hub/reusable_saved_models.
    """

    # `tf.Module` computes these, but only attributes become part of a SavedModel.
    variables: Any = ()
    trainable_variables: Any = ()
    regularization_losses: Any = ()

    def __init__(
        self,
        backbone: keras.Model,
        image_shape: tuple[int | None, int | None, int],
        preprocessing: Preprocessing,
    ):
        """Traces the network for inference and for training: only these traces are written."""
        super().__init__()
        self._images = tf.TensorSpec((None, *image_shape), tf.float32, name="images")
        self._uint8 = tf.TensorSpec((None, *image_shape), tf.uint8, name="images")
        self._preprocessing = preprocessing
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
        # float32 first: a loaded artefact tries them in this order with what is no tensor.
        for images in (self._images, self._uint8):
            for training in (False, True):
                self.__call__.get_concrete_function(images, training=training)

    @tf.function
    def __call__(self, images, training=False):
        """Maps images to features, `(batch, features)`."""
        if images.dtype == tf.uint8:
            # The float32 traces, which are there already: the network is written once for each.
            return self(self._preprocessing.scaled(images), training=training)
        return tf.cast(self._network(images, training), tf.float32)

    def serving_signatures(self) -> dict[str, Any]:
        """Returns what a server calls by name; "blocks" and "encoded" only where they can be.

        "serving_default" takes what the network was trained on, float32; "uint8" pixels of the
        network's size; "pixels" uint8 images of any size, of which it does the whole
        preprocessing; "encoded" the bytes of image files.
        """
        height, width, channels = self._preprocessing.shape
        raw = tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")

        @tf.function(input_signature=[self._images])
        def serving_default(images):
            return {"features": self(images, training=False)}

        @tf.function(input_signature=[self._uint8])
        def uint8(images):
            return {"features": self(images, training=False)}

        @tf.function(input_signature=[raw])
        def pixels(images):
            prepared = tf.ensure_shape(self._preprocessing(images), (None, height, width, channels))
            return {"features": self(prepared, training=False)}

        signatures = {"serving_default": serving_default, "uint8": uint8, "pixels": pixels}
        if self._preprocessing.decodes:
            signatures["encoded"] = self._encoded()
        if block_network := self._blocks:

            @tf.function(input_signature=[self._images])
            def blocks(images):
                outputs = block_network(images, False)
                return {name: tf.cast(output, tf.float32) for name, output in outputs.items()}

            signatures["blocks"] = blocks
        return signatures

    def _encoded(self) -> Callable:
        """Returns the signature that decodes image files, each of a size of its own."""
        prepare = self._preprocessing.of_file
        shape = self._preprocessing.shape

        def features_of_one(file):
            return self(prepare(file)[None], training=False)[0]

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="images")])
        def encoded(images):
            if None in shape:  # images of several sizes make no batch
                features = self.__call__.get_concrete_function(self._images, training=False)
                spec = tf.TensorSpec(features.output_shapes[1:], tf.float32)
                return {"features": tf.map_fn(features_of_one, images, fn_output_signature=spec)}
            spec = tf.TensorSpec(shape, tf.float32)
            prepared = tf.map_fn(prepare, images, fn_output_signature=spec)
            return {"features": self(prepared, training=False)}

        return encoded


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
