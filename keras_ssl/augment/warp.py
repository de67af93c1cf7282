"""Small geometric distortions, for centred images that are defined by their shape."""

import math

import keras
import tensorflow as tf

from keras_ssl.augment.bicubic import bicubic_weights
from keras_ssl.augment.layer import AugmentationLayer, apply_in_float64, rescale


@keras.saving.register_keras_serializable(package="keras_ssl")
class RandomWarp(AugmentationLayer):
    """Rotates, scales, shears and shifts images, and distorts them elastically.

    Pixels are interpolated bilinearly. Images are padded with black.

    Args:
        rotation: largest angle, in degrees.
        zoom: largest relative change of size, drawn separately for each axis: 0.2 means factors from
            1 / 1.2 to 1.2.
        shear: largest shear, as the tangent of the angle.
        shift: largest shift, as a fraction of the side.
        elastic: standard deviation of the elastic displacement, as a fraction of the side.
        grid: number of control points along each side, at least 2. The elastic displacement is
            interpolated from them.
        seed: see `AugmentationLayer`, also for the call arguments.

    Raises:
        ValueError: if a strength is negative or `grid` is below 2.

    Example:
        >>> RandomWarp(rotation=15, shift=0.1)(np.ones((4, 8, 8, 1), "float32")).shape
        TensorShape([4, 8, 8, 1])

    Source: Simard et al. 2003, "Best Practices for Convolutional Neural Networks Applied to Visual
    Document Analysis" (affine and elastic distortions of handwriting).
    """

    def __init__(
        self,
        rotation: float = 0.0,
        zoom: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        elastic: float = 0.0,
        grid: int = 3,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        strengths = {"rotation": rotation, "zoom": zoom, "shear": shear}
        for name, value in {**strengths, "shift": shift, "elastic": elastic}.items():
            if value < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {name}={value}")
        if grid < 2:
            raise ValueError(f"`grid` must be at least 2. Received: grid={grid}")
        self.rotation = rotation
        self.zoom = zoom
        self.shear = shear
        self.shift = shift
        self.elastic = elastic
        self.grid = grid
        self.draws = 6 + 2 * grid**2  # six for the affine part, two per control point

    def transform(self, images, numbers):
        """Samples each image at the transformed pixel positions."""
        height, width = images.shape[1], images.shape[2]
        affine, elastic = numbers[:, :6], numbers[:, 6:]
        y, x = tf.meshgrid(
            tf.linspace(-0.5, 0.5, height), tf.linspace(-0.5, 0.5, width), indexing="ij"
        )
        positions = tf.reshape(tf.stack([x, y]), (2, -1))  # (2, height * width), centred, side 1
        # `add_n` keeps this order of addition; a graph may reorder a chain of sums.
        moved = tf.add_n(
            [
                tf.einsum("bij,jp->bip", self._matrices(affine), positions),
                tf.repeat(
                    rescale(affine[:, 4:, None], -self.shift, self.shift), height * width, axis=2
                ),
                self._displacements(elastic, height, width),
            ]
        )
        columns = (moved[:, 0] + 0.5) * (width - 1)  # (batch, height * width), in pixels
        rows = (moved[:, 1] + 0.5) * (height - 1)
        return _sample(images, rows, columns)

    def _matrices(self, numbers: tf.Tensor) -> tf.Tensor:
        angle = rescale(numbers[:, 0], -self.rotation, self.rotation) * (math.pi / 180.0)
        log_zoom = math.log1p(self.zoom)
        scale_x = apply_in_float64(tf.exp, rescale(numbers[:, 1], -log_zoom, log_zoom))
        scale_y = apply_in_float64(tf.exp, rescale(numbers[:, 2], -log_zoom, log_zoom))
        shear = rescale(numbers[:, 3], -self.shear, self.shear)
        cos, sin = apply_in_float64(tf.cos, angle), apply_in_float64(tf.sin, angle)
        first = tf.stack([cos * scale_x, (shear * cos - sin) * scale_y], axis=1)
        second = tf.stack([sin * scale_x, (shear * sin + cos) * scale_y], axis=1)
        return tf.stack([first, second], axis=1)  # (batch, 2, 2): rotation, shear, scale

    def _displacements(self, numbers: tf.Tensor, height: int, width: int) -> tf.Tensor:
        # Uniform numbers with the wanted standard deviation at the control points, interpolated.
        bound = self.elastic * math.sqrt(3.0)
        points = tf.reshape(rescale(numbers, -bound, bound), (-1, self.grid, self.grid, 2))
        smooth = tf.einsum("iy,byxc->bixc", self._interpolation(height), points)
        smooth = tf.einsum("jx,bixc->bijc", self._interpolation(width), smooth)
        return tf.transpose(tf.reshape(smooth, (-1, height * width, 2)), (0, 2, 1))

    def _interpolation(self, size: int) -> tf.Tensor:
        return bicubic_weights(tf.zeros(1), tf.fill([1], float(self.grid)), self.grid, size)[0]


def _sample(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    height, width, channels = images.shape[1:]
    flat = tf.reshape(images, (-1, height * width, channels))
    top, left = tf.floor(rows), tf.floor(columns)
    neighbours = []
    for row, row_weight in ((top, top + 1 - rows), (top + 1, rows - top)):
        for column, column_weight in ((left, left + 1 - columns), (left + 1, columns - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = tf.where(inside, row_weight * column_weight, 0.0)
            pixel = tf.where(inside, row * width + column, 0.0)
            values = tf.gather(flat, tf.cast(pixel, tf.int32), batch_dims=1)
            neighbours.append(weight[..., None] * values)
    return tf.reshape(tf.add_n(neighbours), tf.shape(images))
