"""The picture of the demo: the loss, maps of the features, and views."""

import pathlib

import keras
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from keras_ssl import evaluate
from keras_ssl.augment import Policy
from keras_ssl.augment.random import image_keys
from keras_ssl.data import Source

_EXAMPLES = 8


def demo_picture(
    history: list[dict[str, float]],
    untrained: keras.Model,
    trained: keras.Model,
    train: Source,
    test: Source,
    policy: Policy,
    path: pathlib.Path,
) -> pathlib.Path:
    """Draws the loss curve, maps of the features before and after training, and a grid of views.

    Args:
        history: one dictionary per epoch, with "epoch" and "loss".
        untrained: encoder before training.
        trained: encoder after training.
        train: images of which views are shown.
        test: labeled images whose features are mapped to two dimensions (t-SNE).
        policy: makes the views.
        path: PNG file to write.

    Returns:
        `path`.

    Example: `keras_ssl/cli/demo.py`.
    """
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=(1.55, 1)))
    loss, before, after = top.subplots(1, 3)
    loss.plot([line["epoch"] for line in history], [line["loss"] for line in history])
    loss.set(title="Loss (NT-Xent)", xlabel="epoch", ylabel="loss")
    loss.grid(alpha=0.3)
    _map(before, untrained, test, "Test features before training (t-SNE)")
    _map(after, trained, test, "Test features after training (t-SNE)")
    after.legend(
        title="class", markerscale=2, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    bottom.suptitle("Images (top) and their two views (below)")
    _grid(bottom.subplots(3, _EXAMPLES), train, policy)
    figure.savefig(path, dpi=100)
    return path


def _map(axes: Axes, encoder: keras.Model, source: Source, title: str):
    features = evaluate.extract(encoder, source).values
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    # Unit length: the loss and kNN use cosine similarity.
    tsne = TSNE(random_state=0, init="pca", perplexity=min(30, len(source) // 4))
    # The threads of t-SNE wait for each other after every small step, which takes 40 times as long as
    # one thread on a busy machine.
    with threadpool_limits(limits=1):
        places = tsne.fit_transform(features)
    labels = np.asarray(source.labels)
    for label in np.unique(labels):
        x, y = places[labels == label].T
        name = source.class_names[label] if source.class_names else str(label)
        axes.scatter(x, y, s=9, label=name, color=f"C{label % 10}")
    axes.set(title=title, xticks=[], yticks=[])


def _grid(axes: np.ndarray, source: Source, policy: Policy):
    indices = np.linspace(0, len(source) - 1, _EXAMPLES).astype(np.int64)
    images = tf.stack([source.read(index) for index in indices])
    views = [
        augmentation(images, keys=image_keys(0, 0, tf.constant(indices), view))
        for view, augmentation in enumerate(policy)
    ]
    for row, pictures in enumerate((images, *views)):
        for axis, picture in zip(axes[row], pictures, strict=True):
            axis.imshow(picture, cmap="gray_r" if picture.shape[-1] == 1 else None)
            axis.set(xticks=[], yticks=[])
    for row, name in enumerate(("image", "view 1", "view 2")):
        axes[row, 0].set_ylabel(name)
