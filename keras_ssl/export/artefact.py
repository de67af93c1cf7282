"""The TensorFlow module of an export: a reusable TF-Hub module with serving signatures."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.export.preprocessing import Preprocessing

_BLOCK_NAME = re.compile(r"stem|block\d+")


class Artefact(tf.Module):
    """Wraps a Keras network for `tf.saved_model.save`, so that the SavedModel can be trained.

    Calling it maps images `(batch, height, width, channels)` to features `(batch, features)`. The
    features are float32, whatever the precision of the network. `training=True` normalizes with
    batch statistics and updates the moving statistics. float32 images must be preprocessed already;
    uint8 images are scaled and normalized, unless the value range is of another type.

    `training` is the same as a function of images alone, which returns a dictionary like the
    signatures. `keras.layers.TFSMLayer` can call it in training. It is not a signature, so that clients
    of a server cannot change the moving statistics.

    TensorFlow Hub expects the attributes `variables`, `trainable_variables` and
    `regularization_losses` (functions without arguments) in a reusable module.

    Args:
        backbone: built `keras.Model`; its variables become those of the SavedModel.
        image_shape: `(height, width, channels)` of the images; `None` for a free side.
        preprocessing: converts pixels to inputs of the network.
        class_names: for a classifier, the names of the classes whose scores it returns. The
            signatures then return `scores` instead of `features` (see `output_name`), and the
            signature "class_names" returns the names.

    Example:
        >>> contract = model_card.preprocessing_contract((32, 32, 3))
        >>> backbone = keras_ssl.backbones.Tiny()
        >>> artefact = Artefact(backbone, (32, 32, 3), Preprocessing(contract))
        >>> artefact(tf.zeros((2, 32, 32, 3)), training=True).shape
        TensorShape([2, 64])

    Source: the reusable SavedModel interface, tensorflow.org/hub/reusable_saved_models.
    """

    # `tf.Module` has these as properties, but a SavedModel only contains attributes.
    variables: Any = ()
    trainable_variables: Any = ()
    regularization_losses: Any = ()

    def __init__(
        self,
        backbone: keras.Model,
        image_shape: tuple[int | None, int | None, int],
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None = None,
    ):
        """Traces the network for inference and training; the SavedModel contains only these traces."""
        super().__init__()
        self._images = tf.TensorSpec((None, *image_shape), tf.float32, name="images")
        self._uint8 = tf.TensorSpec((None, *image_shape), tf.uint8, name="images")
        self._preprocessing = preprocessing
        self._class_names = list(class_names or ())
        self._output = output_name(backbone, class_names)
        # Closures hold the models: TensorFlow would save every layer of a model that is an attribute.
        self._network = _as_function(backbone)
        outputs = block_outputs(backbone)
        self._blocks = _as_function(keras.Model(backbone.inputs[0], outputs)) if outputs else None
        self.variables = [variable.value for variable in backbone.variables]
        self.trainable_variables = [variable.value for variable in backbone.trainable_variables]
        self.regularization_losses = [
            _penalty(variable)
            for variable in backbone.trainable_variables
            if variable.regularizer is not None
        ]
        # float32 first: a SavedModel tries the traces in this order if the input is not a tensor.
        specs = (self._images, self._uint8) if self._takes_uint8 else (self._images,)
        for images in specs:
            for training in (False, True):
                self.__call__.get_concrete_function(images, training=training)
        self.training = self._training_function()

    @tf.function
    def __call__(self, images, training=False):
        """Maps images to features, `(batch, features)`."""
        if images.dtype == tf.uint8:
            # Calls the float32 trace, so that the SavedModel does not contain the network twice.
            return self(self._preprocessing.scale(images), training=training)
        return tf.cast(self._network(images, training), tf.float32)

    def _training_function(self) -> Callable:
        @tf.function(input_signature=[self._images])
        def training(images):
            return {self._output: self(images, training=True)}

        return training

    @property
    def _takes_uint8(self) -> bool:
        return self._preprocessing.pixel_type == tf.uint8

    def serving_signatures(self) -> dict[str, Any]:
        """Returns the functions that a server calls by name.

        - "serving_default" takes preprocessed float32 images.
        - "uint8" takes uint8 images of the network's size, and scales and normalizes them. It exists
          unless the value range is of another type.
        - "pixels" takes images of any size, uint8 or the type of the value range, and does the full
          preprocessing.
        - "encoded" takes the bytes of image files. It exists if the network has 1 or 3 channels.
        - "blocks" returns the outputs of the blocks. It exists if `block_outputs` finds any.
        - "class_names", of a classifier, takes nothing and returns the names of its classes.
        """
        height, width, channels = self._preprocessing.shape
        pixel_type = self._preprocessing.pixel_type
        raw = tf.TensorSpec((None, None, None, channels), pixel_type, name="images")

        @tf.function(input_signature=[self._images])
        def serving_default(images):
            return {self._output: self(images, training=False)}

        @tf.function(input_signature=[self._uint8])
        def uint8(images):
            return {self._output: self(images, training=False)}

        @tf.function(input_signature=[raw])
        def pixels(images):
            prepared = tf.ensure_shape(self._preprocessing(images), (None, height, width, channels))
            return {self._output: self(prepared, training=False)}

        signatures = {"serving_default": serving_default, "pixels": pixels}
        if self._takes_uint8:
            signatures["uint8"] = uint8
        if self._preprocessing.decodes:
            signatures["encoded"] = self._encoded()
        if block_network := self._blocks:

            @tf.function(input_signature=[self._images])
            def blocks(images):
                outputs = block_network(images, False)
                return {name: tf.cast(output, tf.float32) for name, output in outputs.items()}

            signatures["blocks"] = blocks
        if names := self._class_names:

            @tf.function(input_signature=[])
            def class_names():
                return {"class_names": tf.constant(names)}

            signatures["class_names"] = class_names
        return signatures

    def _encoded(self) -> Callable:
        """Returns the signature that decodes image files, which may differ in size."""
        prepare = self._preprocessing.prepare_file
        shape = self._preprocessing.shape

        def features_of_one(file):
            return self(prepare(file)[None], training=False)[0]

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="images")])
        def encoded(images):
            if None in shape:  # images of different sizes cannot form a batch
                features = self.__call__.get_concrete_function(self._images, training=False)
                spec = tf.TensorSpec(features.output_shapes[1:], tf.float32)
                return {self._output: tf.map_fn(features_of_one, images, fn_output_signature=spec)}
            spec = tf.TensorSpec(shape, tf.float32)
            prepared = tf.map_fn(prepare, images, fn_output_signature=spec)
            return {self._output: self(prepared, training=False)}

        return encoded


def output_name(network: keras.Model, class_names: Sequence[str] | None = None) -> str:
    """Returns the name of an export's output, in all formats: "scores" of a classifier, or "features".

    Args:
        network: the exported network. A fine-tuned or distilled classifier is recognized by its last
            layer.
        class_names: names of the classes, if the network is known to be a classifier.

    Example:
        >>> output_name(keras_ssl.backbones.Tiny())
        'features'
    """
    if class_names is not None or encoder_of_classifier(network) is not None:
        return "scores"
    return "features"


def block_outputs(backbone: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns the outputs of a functional model's layers `stem`, `block1`, `block2`, ... by name.

    The result is empty if the model is not functional or has no such layers.

    Example:
        >>> sorted(block_outputs(keras_ssl.backbones.Tiny()))
        ['block1', 'block2', 'block3']
    """
    layers = backbone.layers if getattr(backbone, "inputs", None) else []
    return {layer.name: layer.output for layer in layers if _BLOCK_NAME.fullmatch(layer.name)}


def _as_function(network: keras.Model) -> Callable[[tf.Tensor, bool], Any]:
    def call(images, training):
        return network(images, training=training)

    return call


def _penalty(variable: keras.Variable) -> Callable[[], tf.Tensor]:
    @tf.function(input_signature=[])
    def penalty():
        return variable.regularizer(variable.value)

    return penalty
