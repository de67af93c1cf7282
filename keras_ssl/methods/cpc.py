"""Contrastive predictive coding: predicts the patches further down from those above."""

import keras
import numpy as np
import tensorflow as tf

from keras_ssl.layers import ContextNetwork
from keras_ssl.layers.without_batch_norm import batch_norms
from keras_ssl.losses.spatial_prediction import SpatialPrediction, candidate_scores
from keras_ssl.methods.base import SelfSupervised
from keras_ssl.methods.panel import Panel

_FIRST = 2  # rows: the next row overlaps with the patch itself and would be given away


@keras.saving.register_keras_serializable(package="keras_ssl")
class CPC(SelfSupervised):
    """Predicts the features of patches from the patches in the rows above.

    An image is cut into a grid of patches, each of which overlaps with half of the next one. The
    backbone encodes each patch on its own. A context network summarizes, for each place, the rows up to
    its own, and linear layers predict from it the features of the patches two and more rows below. The
    loss is to find each predicted patch among those of other images and other places.

    The backbone must not have batch normalization, with which the patches of an image can be found by
    their statistics: use `keras_ssl.layers.without_batch_norm`. Batches have one view.

    Args:
        backbone: built functional `keras.Model` that maps images to `(batch, features)` and also works
            on patches, as convolutional networks with global pooling do; it is evaluated and exported.
        patch: side of a patch in pixels, even; `None` takes a quarter of the views' shorter side, so
            that a square view has a grid of 7 x 7.
        predictions: number of rows that are predicted, from the second one below; fewer if the grid
            has fewer rows.
        context: layer that maps a grid `(batch, rows, columns, features)` to contexts of any dimension,
            of which none depends on rows below; `None` for a `keras_ssl.layers.ContextNetwork`.

    Attributes:
        accuracy: metric, the share of the predictions whose patch was found.

    Raises:
        ValueError: if the backbone has batch normalization or does not work on patches, if a number is
            out of range, or if the grid has fewer than three rows.

    Example:
        ```python
        backbone = layers.without_batch_norm(backbones.ResNet(18, input_shape=(64, 64, 3)))
        model = CPC(backbone)
        model.compile(optimizer=keras.optimizers.Adam(2e-4))
        model.fit(keras_ssl.data.views(source, keras_ssl.augment.crop_and_flip(64), batch_size=32))
        ```

    Source: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding",
    section 3.2 (a grid of 7 x 7, five rows); Henaff et al. 2019, "Data-Efficient Image Recognition with
    Contrastive Predictive Coding", for layer normalization and the context network.
    """

    view_count = 1

    def __init__(
        self,
        backbone: keras.Model,
        patch: int | None = None,
        predictions: int = 5,
        context: keras.layers.Layer | None = None,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        if norms := batch_norms(backbone):
            raise ValueError(
                "`backbone` must not have batch normalization, which lets the network find patches by "
                "the statistics of the batch. Expected: keras_ssl.layers.without_batch_norm(backbone). "
                f"Received: {backbone.name!r} with {len(norms)} batch normalizations"
            )
        if predictions < 1:
            raise ValueError(
                f"`predictions` must be at least 1. Received: predictions={predictions}"
            )
        self.patch = patch
        self.predictions = predictions
        side, self.grid = _grid(backbone.input_shape[1:], patch)
        network = _patch_network(backbone, side)
        # A function: Keras would save the network of an attribute a second time.
        self._encode = lambda patches: self.features(patches, network)
        self._encode_still = lambda patches: self.features(patches, network, training=False)
        self._side = side

        shape = (None, *self.grid, backbone.output_shape[-1])
        self.context = context or ContextNetwork()
        if not self.context.built:
            self.context.build(shape)
        contexts = self.context.compute_output_shape(shape)
        self.offsets = range(_FIRST, min(_FIRST + predictions, self.grid[0]))
        self.predictors = [
            keras.layers.Dense(shape[-1], use_bias=False, name=f"rows_below_{offset}")
            for offset in self.offsets
        ]
        for predictor in self.predictors:
            predictor.build(contexts)
        self.contrast = SpatialPrediction()
        self.accuracy = keras.metrics.Mean(name="accuracy")

    def ssl_loss(self, view):
        """Returns the loss of a view, `(batch, height, width, channels)`."""
        grid = self.encode(view)  # (batch, rows, columns, features)
        patches, all_predictions = self.predict_patches(grid)
        losses = []
        for predictions in all_predictions:
            scores, own = candidate_scores(patches, predictions)
            self.accuracy.update_state(tf.argmax(scores, -1, tf.int32) == own[:, None])
            losses.append(self.contrast(patches, predictions))
        return tf.reduce_mean(tf.stack(losses))

    def encode(self, view: tf.Tensor, training: bool = True) -> tf.Tensor:
        """Returns the features of the patches of a view, `(batch, rows, columns, features)`."""
        patches = self.cut(view)  # (batch * rows * columns, side, side, channels)
        encode = self._encode if training else self._encode_still
        return tf.reshape(encode(patches), (-1, *self.grid, self.backbone.output_shape[-1]))

    def cut(self, view: tf.Tensor) -> tf.Tensor:
        """Returns the patches row by row, `(batch * rows * columns, side, side, channels)`."""
        side = self._side
        patches = tf.image.extract_patches(
            view, [1, side, side, 1], [1, side // 2, side // 2, 1], [1, 1, 1, 1], "VALID"
        )
        return tf.reshape(patches, (-1, side, side, view.shape[-1]))

    def predict_patches(self, grid: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the patches as `(batch, places, features)`, and for each offset the predictions.

        Those of an offset, `(batch, count, features)`, are of the last `count` places.
        """
        rows, columns = self.grid
        contexts = self.context(grid)  # (batch, rows, columns, dim)
        predictions = []
        for offset, predictor in zip(self.offsets, self.predictors, strict=True):
            below = predictor(contexts[:, : rows - offset])
            predictions.append(tf.reshape(below, (-1, (rows - offset) * columns, grid.shape[-1])))
        return tf.reshape(grid, (-1, rows * columns, grid.shape[-1])), predictions

    @property
    def metrics(self):
        """The metrics that `fit` resets at the start of an epoch."""
        return [*super().metrics, self.accuracy]

    def panels(self, view) -> list[Panel]:
        """Returns the views, what one prediction sees of each, the patch to find, and that found."""
        encoded, all_predictions = self.predict_patches(self.encode(view, training=False))
        found, hits = [], []
        for predictions in all_predictions:
            scores, own = candidate_scores(encoded, predictions)
            found.append(np.argmax(scores, axis=-1))  # (batch, count)
            hits.append(found[-1] == np.asarray(own)[:, None])
        captions = [
            f"{row.sum()} of {len(row)} patches found" for row in np.concatenate(hits, axis=1)
        ]

        # One prediction: from the row in the middle of those that have a second row below.
        (rows, columns), images = self.grid, np.clip(view, 0, 1)
        row = (rows - 1 - _FIRST) // 2
        number = row * columns + columns // 2
        place = number + _FIRST * columns
        patches = np.clip(self.cut(view), 0, 1)
        patches = patches.reshape(len(images), rows * columns, *patches.shape[1:])
        candidates = np.concatenate([patches[:, place], patches.reshape(-1, *patches.shape[2:])])
        nearest = found[0][:, number]
        is_within = nearest >= len(images)  # another place of the same image
        first = len(images) + np.arange(len(images)) * rows * columns
        nearest = np.where(is_within, first + nearest - len(images), nearest)
        right = ["right" if hit else "wrong" for hit in hits[0][:, number]]
        seen = images.copy()
        seen[:, row * (self._side // 2) + self._side :] = 1
        return [
            Panel("Views", images, captions),
            Panel("What one prediction sees", seen),
            Panel("The patch two rows below", patches[:, place]),
            Panel("The patch found", candidates[nearest], right),
        ]


def _grid(shape: tuple[int | None, ...], patch: int | None) -> tuple[int, tuple[int, int]]:
    """Returns the side of a patch and the grid, (rows, columns)."""
    height, width = shape[:2]
    if height is None or width is None:
        raise ValueError(
            f"CPC needs a backbone with a fixed input shape. Received: input shape {tuple(shape)}"
        )
    side = max(2, min(height, width) // 8 * 2) if patch is None else patch
    step = max(1, side // 2)
    grid = tuple((length - side) // step + 1 for length in (height, width))
    if side < 2 or side % 2 or min(grid) < 1 or grid[0] <= _FIRST:
        raise ValueError(
            f"`patch` must be an even number of pixels, with at least {_FIRST + 1} rows of "
            "half-overlapping patches in the image. "
            f"Received: patch={patch}, images of {height} x {width} pixels"
        )
    return side, (grid[0], grid[1])


def _patch_network(backbone: keras.Model, side: int) -> keras.Model:
    """Returns the backbone's layers applied to patches; it shares all weights."""
    images = keras.Input((side, side, backbone.input_shape[-1]), name="cpc_patches")
    try:
        network = keras.models.clone_model(
            backbone, input_tensors=images, clone_function=lambda layer: layer
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "CPC needs a functional backbone that also works on patches, such as a convolutional "
            f"network with global pooling. Received: {backbone.name!r}, for patches of {side} x {side} "
            f"pixels: {error}"
        ) from error
    if network.output_shape != backbone.output_shape:
        raise ValueError(
            "CPC needs a backbone whose features do not depend on the size of the image. Received: "
            f"{backbone.name!r} with the output {network.output_shape} for patches, "
            f"{backbone.output_shape} for images"
        )
    return network
