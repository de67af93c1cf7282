"""Exemplar networks: each image is a class of its own."""

import keras
import numpy as np

from keras_ssl.methods.panel import Panel
from keras_ssl.methods.pretext_classification import PretextClassification

MOST_IMAGES = 100_000  # the softmax has one output, and one row of weights, per image


@keras.saving.register_keras_serializable(package="keras_ssl")
class Exemplar(PretextClassification):
    """Classifies augmented views by the image from which they come: as many classes as images.

    The classifier is a plain softmax with one output per image, so it suits small data sets.
    `MemoryBank` replaces the output weights by stored embeddings; it is usually better, and takes data
    sets of any size.

    Batches must include the indices of the images: use `keras_ssl.data.views(..., indices=True)` with
    a single augmentation.

    Args:
        backbone: built `keras.Model` that maps images to `(batch, features)`; it is evaluated and
            exported.
        size: number of images in the data set, from 2 to 100,000.

    Attributes:
        classifier: dense layer with `size` outputs.
        accuracy: metric, the share of views whose image was recognized.

    Raises:
        ValueError: if `size` is out of range, or `backbone` does not return one vector per image; when
            training starts, if batches do not include indices.

    Example:
        ```python
        model = Exemplar(keras_ssl.backbones.ResNet(18), size=len(source))
        model.compile(optimizer=keras_ssl.optimizers.SGD(0.03, weight_decay=5e-4))
        view = keras_ssl.augment.moco_v1(32).view_1
        model.fit(keras_ssl.data.views(source, view, batch_size=128, indices=True))
        ```

    Source: Dosovitskiy et al. 2014, "Discriminative Unsupervised Feature Learning with Convolutional
    Neural Networks". The paper trains on 100 to 150 fixed transformations of patches of some thousand
    images; here each epoch draws new views of all images.
    """

    view_count = 1
    takes_indices = True

    def __init__(self, backbone: keras.Model, size: int = 50_000, **kwargs):
        if not 2 <= size <= MOST_IMAGES:
            raise ValueError(
                "`size` is the number of images, each of which is a class. Expected: from 2 to "
                f"{MOST_IMAGES}; MemoryBank (--method memory-bank) takes any number. "
                f"Received: size={size}"
            )
        super().__init__(backbone, **kwargs)
        self.size = size
        # Scores in float32: with half precision, a softmax over so many classes is inexact.
        self.classifier = self.build_head(
            keras.layers.Dense(size, dtype="float32", name="classifier")
        )

    def ssl_loss(self, view, index):
        """Returns the loss of a view `(batch, height, width, channels)` and its indices `(batch,)`."""
        logits = self.classifier(self.features(view))  # (batch, size)
        return self.classification_loss(logits, index)

    def panels(self, view, index) -> list[Panel]:
        """Returns the views, and which image the classifier takes each for."""
        guess = np.argmax(self.classifier(self.features(view, training=False)), axis=-1)
        captions = [
            f"image {own}, predicted {other}"
            for own, other in zip(np.asarray(index), guess, strict=True)
        ]
        return [Panel("Views of single images", np.clip(view, 0, 1), captions)]
