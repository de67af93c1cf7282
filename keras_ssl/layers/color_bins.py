"""Bins of the colors a and b, in which methods predict a color as a class."""

import functools

import keras
import numpy as np
from keras import ops

from keras_ssl.layers.lab import rgb_to_lab

_GRID = 10.0  # spacing of the centers, in units of Lab
_ON_FACE, _ON_EDGE = 64, 4096  # samples along the sides of the cube of all sRGB colors


@keras.saving.register_keras_serializable(package="keras_ssl")
class ColorBins(keras.layers.Layer):
    """Soft codes of the colors a and b in the bins that hold a color of sRGB.

    The plane of a and b is divided into squares of 10 x 10 around the multiples of 10. 262 of them
    contain a color that sRGB can show. The code of a color gives each of its nearest bins the weight
    exp(-d^2 / (2 sigma^2)) for a distance d between color and center, divided by the sum.

    Call arguments:
        ab: (..., 2) values of a and b, as from `RGBToLab`; not scaled.

    Returns:
        (..., 262) float32 codes, which are not negative and sum to 1.

    Args:
        neighbors: number of bins in a code, 1 to 262. With 1, the code is that of the nearest bin.
        sigma: width of the Gaussian in units of Lab, positive.

    Attributes:
        centers: (262, 2) float32, a and b of each bin, in ascending order.
        count: number of bins, 262.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> ColorBins()(np.array([[3.0, -20.0]])).shape
        TensorShape([1, 262])

    Source: Zhang et al. 2016, "Colorful Image Colorization", section 2.1: a grid of 10, 5 neighbors,
    sigma 5; richzhang/colorization encodes with 10 neighbors, which is the default here. Both use a
    list of 313 bins of the authors. Here the bins follow from the definition of sRGB.
    """

    def __init__(self, neighbors: int = 10, sigma: float = 5.0, dtype="float32", **kwargs):
        count = len(_centers())
        if not 1 <= neighbors <= count:
            raise ValueError(
                f"`neighbors` must lie in [1, {count}]. Received: neighbors={neighbors}"
            )
        if not sigma > 0:
            raise ValueError(f"`sigma` must be positive. Received: sigma={sigma}")
        super().__init__(dtype=dtype, **kwargs)
        self.centers = _centers()
        self.count = count
        self.neighbors = neighbors
        self.sigma = sigma
        self.built = True

    def call(self, ab):
        """Returns the codes of colors."""
        distance = self._squared_distances(ab)  # (..., 262)
        negative, nearest = ops.top_k(-distance, self.neighbors)  # (..., neighbors)
        # The nearest bin has weight 1 before the division, however far outside of the bins a color is.
        weights = ops.exp((negative - negative[..., :1]) / (2 * self.sigma**2))
        weights = weights / ops.sum(weights, axis=-1, keepdims=True)
        codes = ops.zeros_like(distance)
        for number in range(self.neighbors):  # one at a time: (..., neighbors, 262) would be large
            place = ops.one_hot(nearest[..., number], self.count, dtype="float32")
            codes = codes + weights[..., number, None] * place
        return codes

    def nearest(self, ab):
        """Returns the number of the nearest bin of each color: `(..., 2)` to `(...)` int32."""
        return ops.argmin(self._squared_distances(ab), axis=-1)

    def decode(self, logits, temperature: float = 0.38):
        """Returns the colors `(..., 2)` of logits `(..., 262)`.

        Args:
            logits: unnormalized log probabilities of the bins.
            temperature: divides the logits before the mean of the centers is taken, positive. 1 is the
                mean of the predicted distribution, which is pale; towards 0 the color is that of the
                likeliest bin.

        Source: Zhang et al. 2016, section 2.3, the annealed mean.
        """
        probabilities = ops.softmax(ops.cast(logits, "float32") / temperature, axis=-1)
        return ops.matmul(probabilities, self.centers)

    def compute_output_shape(self, input_shape):
        """Returns `(..., 262)`."""
        return (*input_shape[:-1], self.count)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "neighbors": self.neighbors, "sigma": self.sigma}

    def _squared_distances(self, ab):
        ab = ops.cast(ab, "float32")[..., None]  # (..., 2, 1)
        a, b = self.centers.T
        return (ab[..., 0, :] - a) ** 2 + (ab[..., 1, :] - b) ** 2


@functools.cache
def _centers() -> np.ndarray:
    """Returns the centers of the cells that contain a color of sRGB, (262, 2).

    A line along the lightness through any color leaves the body of all colors at its surface, so the
    colors of the surface occupy the same cells as all colors.
    """
    lab = ops.convert_to_numpy(rgb_to_lab(_surface()))
    cells = np.unique(np.round(lab[:, 1:] / _GRID).astype(np.int64), axis=0)
    return (_GRID * cells).astype(np.float32)


def _surface() -> np.ndarray:
    """Returns colors on the faces and, more densely, on the edges of the cube of sRGB, (n, 3)."""
    face = np.stack(np.meshgrid(*[np.linspace(0, 1, _ON_FACE)] * 2), axis=-1).reshape(-1, 2)
    faces = [np.insert(face, axis, end, axis=1) for axis in range(3) for end in (0, 1)]
    edges = [
        np.insert(
            np.full((_ON_EDGE, 2), ends, np.float64), axis, np.linspace(0, 1, _ON_EDGE), axis=1
        )
        for axis in range(3)
        for ends in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    return np.concatenate(faces + edges)
