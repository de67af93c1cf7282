"""BYOL: predicts a target network's embedding of one view from the other, without negatives."""

import keras
import tensorflow as tf

from keras_ssl.layers import MLPHead, target_network
from keras_ssl.losses import CosineRegression
from keras_ssl.methods.momentum import MomentumMethod


@keras.saving.register_keras_serializable(package="keras_ssl")
class BYOL(MomentumMethod):
    """Bootstrap Your Own Latent: learns to predict the embeddings of a moving average of itself.

    The target network is a moving average of the online network. The predictor on the online side
    and the stopped gradient on the target side prevent collapse. For the paper's experiment with a
    fixed random target (section 3), use `MomentumEncoder(1.0)`.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; the online encoder,
            which is evaluated and exported.
        projector: layer that maps features to embeddings; `None` uses the paper's, with 4096 hidden
            units and 256 outputs. A built layer is used as it is.
        predictor: layer that maps embeddings to predicted target embeddings, with the same
            dimension; `None` uses one with the same architecture as the paper's projector.

    Attributes:
        target_backbone: moving average of `backbone`.
        target_projector: moving average of `projector`.

    Raises:
        ValueError: if `backbone` does not return one vector per image, or the predictor's outputs
            have a different dimension than the projector's.

    Example:
        ```python
        model = BYOL(keras_ssl.backbones.ResNet(50, input_shape=(224, 224, 3)))
        model.compile(optimizer=keras_ssl.optimizers.LARS(0.3, weight_decay=1e-6))
        views = keras_ssl.data.views(source, keras_ssl.augment.byol(224), batch_size=256)
        model.fit(views, epochs=300, callbacks=[keras_ssl.callbacks.MomentumEncoder(0.99)])
        ```

    Source: Grill et al. 2020, "Bootstrap Your Own Latent", section 3 and algorithm 1;
    `byol/byol_experiment.py` of google-deepmind/deepmind-research.
    """

    default_momentum = (0.996, 1.0)  # section 3.3

    def __init__(
        self,
        backbone: keras.Model,
        projector: keras.layers.Layer | None = None,
        predictor: keras.layers.Layer | None = None,
        **kwargs,
    ):
        super().__init__(backbone, **kwargs)
        projector = projector or MLPHead(256, 4096, batch_norm=True, name="projector")
        self.projector = self.build_head(projector)
        dim = self.projector.compute_output_shape(backbone.output_shape)[-1]
        predictor = predictor or MLPHead(dim, 4096, batch_norm=True, name="predictor")
        self.predictor = self.build_head(predictor, after=self.projector)
        shape = self.predictor.compute_output_shape((None, dim))
        if shape[-1] != dim:
            raise ValueError(
                "`predictor` must return as many outputs as the projector. "
                f"Received: {dim} from the projector, {shape[-1]} from the predictor"
            )
        self.target_backbone = target_network(backbone)
        self.target_projector = target_network(self.projector)
        self.regression = CosineRegression()

    def ssl_loss(self, view_1, view_2):
        """Returns the loss of two views, each `(batch, height, width, channels)`."""
        # Each network sees view 1 first, as in the reference code. The order only affects the
        # moving statistics.
        z_1, z_2 = self.targets(view_1), self.targets(view_2)  # (batch, dim)
        p_1, p_2 = self.predictions(view_1), self.predictions(view_2)
        self.after_step(self.move_targets)
        return self.regression(z_2, p_1) + self.regression(z_1, p_2)  # from 0 to 8

    def predictions(self, view):
        """Returns the online predictions for a view, `(batch, dim)`."""
        z = self.projector(self.features(view), training=True)
        return self.predictor(z, training=True)

    def targets(self, view):
        """Returns the target embeddings of a view, `(batch, dim)`, without gradient."""
        h = self.features(view, self.target_backbone)
        return tf.stop_gradient(self.target_projector(h, training=True))
