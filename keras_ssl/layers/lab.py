"""Conversion of sRGB images to the CIE Lab color space and back, and its channels for networks."""

import keras
import numpy as np
from keras import ops

# IEC 61966-2-1: XYZ of the three primaries, in the columns.
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _TO_XYZ.sum(axis=1)  # of D65; the sums of the rows, so that a and b of a gray are 0
_TO_RELATIVE = _TO_XYZ / _WHITE[:, None]
_FROM_RELATIVE = np.linalg.inv(_TO_RELATIVE)
_KNEE = 6 / 29  # below the cube of it, Lab replaces the cube root by its tangent
_LIGHTNESS_SCALE = 100.0  # lightness of white
_COLOR_SCALE = 110.0  # a and b of sRGB lie in -108 to 99
GRAY = 5.0
"""An image whose |a| and |b| nowhere exceed this counts as gray (richzhang/colorization)."""


def rgb_to_lab(images):
    """Returns Lab values `(..., 3)` of sRGB values `(..., 3)` in [0, 1]; see `RGBToLab`."""
    rgb = ops.clip(ops.cast(images, "float32"), 0.0, 1.0)
    # The power is evaluated for dark values too, so its base must not be 0.
    linear = ops.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mix(linear, _TO_RELATIVE)
    root = ops.maximum(xyz, _KNEE**3) ** (1 / 3)
    x, y, z = _channels(ops.where(xyz > _KNEE**3, root, xyz / (3 * _KNEE**2) + 4 / 29))
    return ops.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab):
    """Returns sRGB values `(..., 3)` in [0, 1] of Lab values `(..., 3)`; see `LabToRGB`."""
    lightness, a, b = _channels(ops.cast(lab, "float32"))
    y = (lightness + 16) / 116
    root = ops.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = ops.where(root > _KNEE, root**3, 3 * _KNEE**2 * (root - 4 / 29))
    linear = ops.clip(_mix(xyz, _FROM_RELATIVE), 0.0, 1.0)
    bright = 1.055 * ops.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return ops.clip(ops.where(linear > 0.0031308, bright, 12.92 * linear), 0.0, 1.0)


class _ColorConversion(keras.layers.Layer):
    """A conversion of RGB values, in float32 also under mixed precision.

    Half precision has fewer levels than the images: bfloat16 has 128 between 0.5 and 1.
    """

    def __init__(self, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape):
        """Checks the number of channels."""
        if input_shape[-1] != 3:
            raise ValueError(
                f"`{type(self).__name__}` needs images with 3 channels, (..., 3). "
                f"Received: an input of shape {tuple(input_shape)}"
            )


@keras.saving.register_keras_serializable(package="keras_ssl")
class RGBToLab(_ColorConversion):
    """Converts sRGB images to CIE Lab (D65).

    Lightness L lies in 0 to 100. The colors a (green to red) and b (blue to yellow) of sRGB lie in -87
    to 99 and -108 to 95; both are 0 for a gray. Distances in Lab approximate differences that people
    see.

    Call arguments:
        images: (..., 3) sRGB values. Values outside of [0, 1] are clipped.

    Returns:
        (..., 3) float32, also under mixed precision.

    Raises:
        ValueError: when called, if the last axis does not have 3 values.

    Example:
        >>> RGBToLab()(np.array([[1.0, 0.0, 0.0]])).numpy().round(1)
        array([[53.2, 80.1, 67.2]], dtype=float32)

    Source: IEC 61966-2-1 (sRGB); CIE 15:2004 (Lab).
    """

    def call(self, images):
        """Returns the Lab values of images."""
        return rgb_to_lab(images)


@keras.saving.register_keras_serializable(package="keras_ssl")
class LabToRGB(_ColorConversion):
    """Converts CIE Lab (D65) to sRGB: the inverse of `RGBToLab`.

    Call arguments:
        lab: (..., 3) values of L, a and b.

    Returns:
        (..., 3) float32 in [0, 1]. Colors that sRGB cannot show are clipped.

    Raises:
        ValueError: when called, if the last axis does not have 3 values.

    Example:
        >>> LabToRGB()(np.array([[100.0, 0.0, 0.0]])).numpy().round(3)
        array([[1., 1., 1.]], dtype=float32)

    Source: IEC 61966-2-1 (sRGB); CIE 15:2004 (Lab).
    """

    def call(self, lab):
        """Returns the sRGB values of Lab values."""
        return lab_to_rgb(lab)


@keras.saving.register_keras_serializable(package="keras_ssl")
class Lightness(_ColorConversion):
    """The lightness L of sRGB images, divided by 100.

    Call arguments:
        images: (..., 3) sRGB values in [0, 1].

    Returns:
        (..., 1) float32 in [0, 1].

    Raises:
        ValueError: when called, if the last axis does not have 3 values.

    Example:
        >>> Lightness()(np.ones((1, 8, 8, 3))).shape
        TensorShape([1, 8, 8, 1])
    """

    def call(self, images):
        """Returns the lightness of images."""
        return rgb_to_lab(images)[..., :1] / _LIGHTNESS_SCALE

    def compute_output_shape(self, input_shape):
        """Returns the shape with 1 channel."""
        return (*input_shape[:-1], 1)


@keras.saving.register_keras_serializable(package="keras_ssl")
class ABChannels(_ColorConversion):
    """The colors a and b of sRGB images, divided by 110, without their lightness.

    Call arguments:
        images: (..., 3) sRGB values in [0, 1].

    Returns:
        (..., 2) float32 in [-1, 1]; 0 for a gray.

    Raises:
        ValueError: when called, if the last axis does not have 3 values.

    Example:
        >>> ABChannels()(np.ones((1, 8, 8, 3))).shape
        TensorShape([1, 8, 8, 2])
    """

    def call(self, images):
        """Returns the colors of images."""
        return rgb_to_lab(images)[..., 1:] / _COLOR_SCALE

    def compute_output_shape(self, input_shape):
        """Returns the shape with 2 channels."""
        return (*input_shape[:-1], 2)


def _channels(values):
    return [values[..., channel] for channel in range(3)]


def _mix(values, matrix: np.ndarray):
    """Returns `values @ matrix.T`, in full float32 on devices that multiply with fewer bits."""
    channels = _channels(values)
    rows = [sum(c * float(w) for c, w in zip(channels, row, strict=True)) for row in matrix]
    return ops.stack(rows, axis=-1)
