"""The base class of methods that make an image of what the encoder found in a changed one."""

import keras
import tensorflow as tf

from keras_ssl.layers.decoder import Decoder
from keras_ssl.methods.base import SelfSupervised


class Reconstruction(SelfSupervised):
    """A method with a decoder, which makes an image of features or of the feature map of a block.

    Args:
        backbone: see `SelfSupervised`.
        decoder: layer that maps `(batch, features)`, or the feature map of `block`, to images of the
            size of the backbone's; `None` for a `Decoder`.
        block: name of the backbone's block whose feature map the decoder takes, such as "block4";
            `None` for the features.
        activation: activation of the pixels of a `Decoder` that is made here.
        **kwargs: other arguments of `SelfSupervised`.

    Raises:
        ValueError: if the backbone has no fixed input shape and there is no decoder, if it has no such
            block, or if the decoder returns images of another size.
    """

    def __init__(
        self,
        backbone: keras.Model,
        decoder: keras.layers.Layer | None,
        block: str | None,
        activation: str | None,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        image = tuple(backbone.input_shape[1:])
        network = backbone if block is None else self._map_network(block)
        if decoder is None:
            if None in image:
                raise ValueError(
                    "A decoder makes images of one size. Expected: a backbone with a fixed input "
                    "shape, or `decoder`. Received: no decoder, and the input shape "
                    f"{backbone.input_shape}"
                )
            decoder = Decoder(image, activation=activation)
        if not decoder.built:
            decoder.build(network.output_shape)
        made = tuple(decoder.compute_output_shape(network.output_shape))[1:]
        if made != image and None not in image:
            raise ValueError(
                "The decoder must make images of the size of the backbone's. "
                f"Expected: {image}. Received: {decoder.name!r}, which makes {made}"
            )
        self.decoder = decoder
        self.block = block

    def reconstruct(self, images: tf.Tensor, training: bool = True) -> tf.Tensor:
        """Returns the images that the decoder makes of `(batch, height, width, channels)` images."""
        if self.block is None:
            code = self.features(images, training=training)
        else:
            code = self.feature_maps(images, self.block, training=training)
        return self.decoder(code, training=training)
