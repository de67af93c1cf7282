"""Video colorization: a network learns to find the places of a frame in earlier frames."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.backbones.of_lightness import sees_only_lightness
from keras_ssl.layers.lab import rgb_to_lab
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.colorization import paint
from keras_ssl.methods.map_targets import cell_means, last_map
from keras_ssl.methods.panel import Panel

_EMBEDDING = 64  # dimension of the features that are compared (Vondrick et al. 2018, section 3.4)
_AT_INFERENCE = 0.5  # temperature, of the same paper


@keras.saving.register_keras_serializable(package="keras_ssl")
class VideoColorization(SelfSupervised):
    """Copies the colors of three earlier frames of a video to a fourth, of which it sees the lightness.

    Each place of the target frame takes the colors of the places of the reference frames, weighted by a
    softmax of the similarity of their features. The color of a place is the nearest of some cluster
    centers; the loss is the cross-entropy of the copied distribution over these and the color of the
    target. To copy the right color, the network must find where something has been before.

    Batches have four views, the frames of a clip in their order: use
    `keras_ssl.data.views(..., clips=True)` with an augmentation that does not change colors.

    Args:
        backbone: model of `keras_ssl.backbones.of_lightness`, which sees no color; it is evaluated and
            exported, and takes RGB images.
        colors: (count, 2) centers of clusters of the colors a and b of Lab, at least 2, as from
            `keras_ssl.data.color_clusters(source)`.
        head: layer that maps feature maps to the features that are compared, `(batch, h, w, dim)`;
            `None` uses a dense layer with 64 outputs at each place.
        block: name of the backbone's layer whose feature maps the head takes; `None` takes the last.
            Its resolution is that of the copied colors; an eighth of the side in the paper.
        temperature: divides the similarities in training, positive.

    Attributes:
        accuracy: metric, the share of the places that get the right color.
        still_accuracy: metric, the same for copying each place from the same place of the last
            reference. The network has found motion where `accuracy` is larger.

    Raises:
        ValueError: if the backbone sees colors or has no feature maps, or an argument is out of range;
            when training starts, if a batch does not have four frames in color.

    Example:
        ```python
        source = keras_ssl.data.clips("holidays")
        network = keras_ssl.backbones.ResNet(18, stem="small", input_shape=(64, 64, 1))
        backbone = keras_ssl.backbones.of_lightness(network)
        model = VideoColorization(backbone, keras_ssl.data.color_clusters(source))
        model.compile(optimizer="adam")
        augmentation = keras_ssl.augment.crop_and_flip(64)
        model.fit(keras_ssl.data.views(source, augmentation, batch_size=32, clips=True))
        ```

    Source: Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos", sections 3.1 to 3.4.
    """

    view_count = 4
    takes_clips = True

    def __init__(
        self,
        backbone: keras.Model,
        colors: Sequence[Sequence[float]],
        head: keras.layers.Layer | None = None,
        block: str | None = None,
        temperature: float = 1.0,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        if not sees_only_lightness(backbone):
            raise ValueError(
                "`backbone` must see the lightness only, since a frame in color contains the answer. "
                "Expected: keras_ssl.backbones.of_lightness(network of one channel). "
                f"Received: {backbone.name!r}"
            )
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        self.colors = _check_colors(colors)
        self.temperature = temperature
        self.block = block or last_map(backbone)
        self.head = head or keras.layers.Dense(
            _EMBEDDING, use_bias=False, dtype="float32", name="head"
        )
        maps = self._map_network(self.block)
        if not self.head.built:
            self.head.build(maps.output_shape)
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy()
        self.accuracy = keras.metrics.Mean(name="accuracy")
        self.still_accuracy = keras.metrics.Mean(name="still_accuracy")

    def ssl_loss(self, *frames):
        """Returns the cross-entropy of the copied colors of the last of four frames.

        Args:
            *frames: four tensors, `(batch, height, width, 3)`.
        """
        weights = self.compare(frames, self.temperature)  # (batch, places, 3 * places)
        bins = [self.nearest_colors(self.place_colors(frame)) for frame in frames]
        references = tf.one_hot(tf.concat(bins[:-1], axis=1), len(self.colors))
        copied = tf.matmul(weights, references)  # (batch, places, count)
        right = tf.argmax(copied, axis=-1, output_type=tf.int32) == bins[-1]
        self.accuracy.update_state(tf.cast(right, tf.float32))
        self.still_accuracy.update_state(tf.cast(bins[-2] == bins[-1], tf.float32))
        return self.cross_entropy(bins[-1], copied)

    def compare(self, frames, temperature: float, training: bool = True) -> tf.Tensor:
        """Returns from where each place of the last frame takes its color.

        Args:
            frames: reference frames and the target frame, each `(batch, height, width, 3)`.
            temperature: divides the similarities, positive.
            training: passed to the networks.

        Returns:
            `(batch, places, references * places)` float32 weights that sum to 1. Places are rows of the
            feature map, one after the other.
        """
        _check_frames(frames)
        count, (_, height, width, channels) = len(frames), frames[0].shape
        # The frames of a clip are neighbors, so that each chunk of a batch contains whole clips.
        joined = tf.reshape(tf.stack(frames, axis=1), (-1, height, width, channels))
        features = self.head(self.feature_maps(joined, self.block, training), training=training)
        places = features.shape[1] * features.shape[2]
        features = tf.reshape(
            tf.cast(features, tf.float32), (-1, count * places, features.shape[-1])
        )
        references, target = features[:, :-places], features[:, -places:]
        similarity = tf.matmul(target, references, transpose_b=True)
        return tf.nn.softmax(similarity / temperature, axis=-1)

    def place_colors(self, frame) -> tf.Tensor:
        """Returns the mean of a and b at each place of the feature map, `(batch, places, 2)`."""
        height, width = self._map_size(frame)
        means = cell_means(rgb_to_lab(frame)[..., 1:], height, width)
        return tf.reshape(means, (-1, height * width, 2))

    def nearest_colors(self, ab) -> tf.Tensor:
        """Returns the number of the nearest cluster center, `(...)` int32 of `(..., 2)` colors."""
        centers = tf.constant(self.colors, tf.float32)
        distances = tf.reduce_sum((ab[..., None, :] - centers) ** 2, axis=-1)
        return tf.argmin(distances, axis=-1, output_type=tf.int32)

    def copy_colors(self, *frames, temperature: float = _AT_INFERENCE) -> tf.Tensor:
        """Returns the colors that the last frame gets from those before it.

        Args:
            *frames: reference frames and the target frame, each `(batch, height, width, 3)`; of the
                target, only the lightness is seen.
            temperature: divides the similarities, positive. Towards 0, each place takes the color of
                the most similar one.

        Returns:
            `(batch, h, w, 2)` float32 values of a and b at the places of the feature map.

        Source: Vondrick et al. 2018, section 3.4: temperature 0.5.
        """
        weights = self.compare(frames, temperature, training=False)
        references = tf.concat([self.place_colors(frame) for frame in frames[:-1]], axis=1)
        height, width = self._map_size(frames[-1])
        return tf.reshape(tf.matmul(weights, references), (-1, height, width, 2))

    def panels(self, *frames) -> list[Panel]:
        """Returns the last reference, the target's lightness, the copied colors, and the target."""
        lab = rgb_to_lab(frames[-1])
        copied = self.copy_colors(*frames)
        true, last = (self.nearest_colors(self.place_colors(frame)) for frame in frames[:-3:-1])
        found = self.nearest_colors(tf.reshape(copied, (*true.shape, 2)))
        right, still = (np.mean(bins == true, axis=1) for bins in (found, last))
        return [
            Panel("Last reference frame", np.clip(frames[-2], 0, 1)),
            Panel("Lightness of the target, which the network sees", paint(lab, 0 * copied)),
            Panel(
                "Colors copied from three frames",
                paint(lab, copied),
                [
                    f"{share:.0%} of the places right, {same:.0%} if nothing moved"
                    for share, same in zip(right, still, strict=True)
                ],
            ),
            Panel("Target frame", np.clip(frames[-1], 0, 1)),
        ]

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [*super().metrics, self.accuracy, self.still_accuracy]

    def _map_size(self, frame) -> tuple[int, int]:
        shape = self._map_network(self.block).compute_output_shape(tuple(frame.shape))
        return int(shape[1]), int(shape[2])


def _check_colors(colors: Any) -> list[list[float]]:
    """Returns the centers as lists of numbers.

    Raises:
        ValueError: if they are not (count, 2) finite numbers, or fewer than two.
    """
    centers = np.asarray(colors, np.float64)
    if centers.ndim != 2 or centers.shape[1] != 2 or len(centers) < 2:
        raise ValueError(
            "`colors` must be at least 2 centers of a and b, (count, 2), as from "
            f"keras_ssl.data.color_clusters(source). Received: shape {centers.shape}"
        )
    if not np.isfinite(centers).all():
        raise ValueError(f"`colors` must be finite. Received: {centers.tolist()}")
    return centers.tolist()


def _check_frames(frames: Sequence[Any]):
    """Raises ValueError unless frames have one size and three channels."""
    shapes = [tuple(frame.shape[1:]) for frame in frames]
    if len(frames) < 2 or len(set(shapes)) > 1 or shapes[0][-1] != 3:
        raise ValueError(
            "VideoColorization needs frames in color and of one size, (batch, height, width, 3). "
            f"Received: {len(frames)} frames of shapes {shapes}"
        )
