"""Convolution as a matrix product, for small feature maps with many filters."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ssl.layers.devices import trains_on_cpu

# From this many filters per output pixel, a matrix product is faster than oneDNN, which reads the
# entire kernel for every image. Measured on CPUs with AVX-512 and AMX, see docs/performance.md.
_FILTERS_PER_PIXEL = 16
_FILTERS_PER_PIXEL_FOR_KERNEL = 4  # for the kernel's gradient, in half precision


@keras.saving.register_keras_serializable(package="keras_ssl")
class Conv2D(keras.layers.Conv2D):
    """Convolution with the variables and results of Keras' layer, but faster to train on CPUs.

    The last stages of a residual network have small maps and many filters: 4 x 4 pixels and 512
    filters for images of 32 pixels. When such a layer is trained on a CPU, the patches under the kernel
    are copied into the rows of a matrix, and the convolution and its gradients become matrix products.
    The results are equal up to rounding. Everything else, including inference, falls back to
    `keras.layers.Conv2D`.

    The arguments are those of `keras.layers.Conv2D`.

    Example:
        >>> Conv2D(512, 3, padding="same")(keras.ops.ones((2, 4, 4, 8)), training=True).shape
        TensorShape([2, 4, 4, 512])

    Source: Chellapilla et al. 2006, "High Performance Convolutional Neural Networks for Document
    Processing", section 3.
    """

    def call(self, inputs, training=None):
        """Maps (batch, height, width, channels) to (batch, height, width, filters)."""
        products = self._products(inputs) if training else None
        if products is None:
            return super().call(inputs)
        outputs = tf.custom_gradient(products.convolve)(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs += ops.cast(self.bias, outputs.dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def _products(self, inputs) -> "_Products | None":
        """Returns the convolution as matrix products, or `None` where that is not faster."""
        height, width = inputs.shape[1:3]
        is_plain = self.data_format == "channels_last" and self.dilation_rate == (1, 1)
        if not is_plain or self.groups > 1 or None in (height, width) or not trains_on_cpu():
            return None
        side = self.compute_output_shape(inputs.shape)[1:3]
        filters_per_pixel = self.filters / (side[0] * side[1])
        forwards = filters_per_pixel >= _FILTERS_PER_PIXEL
        is_half = inputs.dtype in (tf.bfloat16, tf.float16)
        if not forwards and not (is_half and filters_per_pixel >= _FILTERS_PER_PIXEL_FOR_KERNEL):
            return None
        return _Products((height, width), side, self.strides, self.padding.upper(), forwards)


@dataclasses.dataclass(frozen=True)
class _Products:
    """A convolution of fixed sizes and its gradients, as matrix products.

    Attributes:
        inputs: (height, width) of the inputs.
        outputs: (height, width) of the outputs.
        strides: along height and width.
        padding: "SAME" or "VALID".
        forwards: whether the convolution is a matrix product too, not just the kernel's gradient.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    strides: tuple[int, int]
    padding: str
    forwards: bool

    def convolve(self, x: tf.Tensor, kernel: tf.Tensor):
        """Returns the outputs, and a function that computes the gradients."""
        size, (channels, filters) = tuple(kernel.shape[:2]), kernel.shape[2:]
        strides = (1, *self.strides, 1)

        def gradients(dy):
            # Wait for dy. Otherwise the forward pass's rows would be shared and stay in memory.
            with tf.control_dependencies([dy]):
                rows = self._rows(tf.identity(x), size)
            # (filters, h * w * channels): transposing dy costs less than transposing the rows.
            d_kernel = tf.matmul(tf.reshape(dy, (-1, filters)), rows, transpose_a=True)
            d_kernel = tf.reshape(tf.transpose(d_kernel), kernel.shape)
            if self.forwards and self.strides == (1, 1):
                transposed = tf.transpose(kernel, (0, 1, 3, 2))
                transposed = tf.reshape(transposed, (-1, channels))
                dx = tf.reshape(self._gradient_rows(dy, size) @ transposed, tf.shape(x))
            else:
                dx = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(x),
                    filter=kernel,
                    out_backprop=dy,
                    strides=strides,
                    padding=self.padding,
                )
            return dx, d_kernel

        if self.forwards:
            y = self._rows(x, size) @ tf.reshape(kernel, (-1, filters))
            return tf.reshape(y, (-1, *self.outputs, filters)), gradients
        return tf.nn.conv2d(x, kernel, strides, self.padding), gradients

    def _rows(self, x: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
        """Returns the patch under the kernel for each output pixel."""
        return _gather_patches(x, *(self._input_indices(axis, size[axis]) for axis in (0, 1)))

    def _gradient_rows(self, dy: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
        """Returns, for each input pixel, the gradients of the output pixels that it contributed to."""
        return _gather_patches(dy, *(self._output_indices(axis, size[axis]) for axis in (0, 1)))

    def _input_indices(self, axis: int, size: int) -> np.ndarray:
        """Returns (outputs, size) input positions along an axis; -1 for padding."""
        padding = self._padding_before(axis, size)
        first = np.arange(self.outputs[axis]) * self.strides[axis] - padding
        return _mask_outside(first[:, None] + np.arange(size), self.inputs[axis])

    def _output_indices(self, axis: int, size: int) -> np.ndarray:
        """Returns (inputs, size) output positions along an axis, for strides of 1; -1 for none."""
        last = np.arange(self.inputs[axis]) + self._padding_before(axis, size)
        return _mask_outside(last[:, None] - np.arange(size), self.outputs[axis])

    def _padding_before(self, axis: int, size: int) -> int:
        """Returns how many zeros TensorFlow pads before the first pixel."""
        if self.padding == "VALID":
            return 0
        span = (self.outputs[axis] - 1) * self.strides[axis] + size
        return max(0, span - self.inputs[axis]) // 2


def _mask_outside(indices: np.ndarray, count: int) -> np.ndarray:
    return np.where((indices >= 0) & (indices < count), indices, -1)


def _gather_patches(x: tf.Tensor, rows: np.ndarray, columns: np.ndarray) -> tf.Tensor:
    """Returns (batch * pixels, height * width * channels) patches of feature maps.

    Args:
        x: (batch, map_height, map_width, channels).
        rows: (pixels_high, height) row indices, -1 for zeros.
        columns: (pixels_wide, width) column indices, -1 for zeros.
    """
    height, width, channels = x.shape[1:]
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    outside = height * width  # index of an extra pixel of zeros
    indices = np.where((rows < 0) | (columns < 0), outside, rows * width + columns)
    pixels = tf.reshape(x, (-1, outside, channels))
    if (indices == outside).any():
        pixels = tf.pad(pixels, [[0, 0], [0, 1], [0, 0]])
    patches = tf.gather(pixels, tf.constant(indices.reshape(-1), tf.int32), axis=1)
    return tf.reshape(patches, (-1, indices[0, 0].size * channels))
