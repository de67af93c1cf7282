"""Pictures of what the method of a run does with images."""

import logging
import os
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ssl.augment import Augmentation, Policy
from keras_ssl.data import Source
from keras_ssl.data.open_source import open_source
from keras_ssl.data.scaled import scale
from keras_ssl.data.view_maker import ViewMaker
from keras_ssl.methods import SelfSupervised
from keras_ssl.methods.panel import Panel

FILE = "pictures.png"
LONG_TRAINING = 60.0  # seconds, beside which the second for a picture does not matter
_CAPTION = 22  # characters per line, as wide as an image
_SIDE = 1.5  # inches, of an image

_LOG = logging.getLogger("keras_ssl")


def draw_run(
    run: Any,
    data: str | os.PathLike | Source | None,
    count: int,
    path: str | os.PathLike | None,
    data_dir: str | os.PathLike | None = None,
) -> pathlib.Path:
    """Does what `Run.pictures` says.

    Args:
        run: a `Run`, whose module imports this one.
        data: images; `None`: those of the run.
        count: number of images.
        path: PNG file to write; `None`: `pictures.png` in the run directory.
        data_dir: directory of TensorFlow Datasets; `None`: that of the run.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"`count` must be a positive integer. Received: count={count!r}")
    settings, images = run.pretrain_settings
    name = settings.data if data is None else data
    if name is None:
        raise ValueError(
            "The images of this run were passed as a source. Expected: `data`, such as the same "
            "source. Received: none"
        )
    model = run.method()
    value_range = run.value_range or "full"
    if isinstance(name, Source):
        source = scale(name, value_range)
    else:
        source, _ = open_source(
            name,
            data_dir or settings.data_dir,
            images.image_channels,
            settings.verify,
            value_range,
            images.data_rules,
            settings.preset.clip_options(),
        )
    preset = settings.preset.resolve(images)
    target = run.path / FILE if path is None else pathlib.Path(path)
    return draw_method(model, preset.build_policy(), source, target, count, preset.seed)


def draw_method(
    model: SelfSupervised,
    policy: Policy | Augmentation | tuple[Augmentation, ...],
    source: Source,
    path: pathlib.Path,
    count: int = 8,
    seed: int = 0,
) -> pathlib.Path:
    """Draws the panels of a method for images that are spread over a source; returns `path`.

    Args:
        model: the method.
        policy: makes its views.
        source: images.
        path: PNG file to write.
        count: number of images, at most.
        seed: seed of the views.
    """
    return draw_panels(model.panels(*example_batch(model, policy, source, count, seed)), path)


def draw_after_training(
    model: SelfSupervised,
    policy: Policy | Augmentation | tuple[Augmentation, ...],
    source: Source,
    run: Any,
    seed: int,
) -> pathlib.Path | None:
    """Draws `pictures.png` of a finished training; logs a warning and returns `None` if this fails."""
    try:
        return draw_method(model, policy, source, run.path / FILE, seed=seed)
    except Exception as error:  # a method of the user's own; the run itself is complete
        _LOG.warning("No pictures were drawn, because `panels` of the method failed: %s", error)
        return None


def example_batch(
    model: SelfSupervised,
    policy: Policy | Augmentation | tuple[Augmentation, ...],
    source: Source,
    count: int,
    seed: int = 0,
) -> tuple[tf.Tensor, ...]:
    """Returns what `ssl_loss` of a method takes, for images that are spread over a source.

    The views are those of the first epoch of a run with this seed. Of a streamed source, the images
    are the first.

    Args:
        model: the method, which says whether indices and keys follow the views.
        policy: makes the views.
        source: images.
        count: number of images, at most.
        seed: seed of the views.
    """
    count = min(count, len(source))
    epoch, label = tf.constant(0, tf.int64), tf.constant(-1, tf.int64)
    if source.random_access:
        chosen = np.linspace(0, len(source) - 1, count).astype(np.int64)
        read = source.read_clip if model.takes_clips else source.read
        images = tf.data.Dataset.from_tensor_slices(chosen).map(
            lambda index: (epoch, index, label, read(index))
        )
    else:
        images = source.dataset().take(count).enumerate()
        images = images.map(lambda index, element: (epoch, index, label, element[0]))
    maker = ViewMaker(
        policy,
        tf.TensorShape(source.image_shape),
        seed,
        labels=False,
        indices=model.takes_indices,
        size=count,
        keys=model.takes_keys,
        frames=source.clip_length if model.takes_clips else None,
    )
    return next(iter(maker.batches(images, count)))


def draw_panels(panels: Sequence[Panel], path: pathlib.Path) -> pathlib.Path:
    """Draws panels as rows of images with titles and captions.

    Args:
        panels: the rows, at least one. Of images with two channels, the first is drawn; of images with
            more than three, the first three.
        path: PNG file to write. A missing directory is created.

    Returns:
        `path`.

    Raises:
        ValueError: if there are no panels, or a panel has another number of captions than images.

    Example:
        >>> draw_panels([Panel("Noise", np.random.default_rng(0).random((4, 8, 8, 3)))], path)
    """
    from matplotlib.figure import Figure

    _check_panels(panels)
    columns = max(len(panel.images) for panel in panels)
    captions = [[textwrap.fill(c, _CAPTION) for c in panel.captions] for panel in panels]
    lines = [max((text.count("\n") + 1 for text in texts), default=0) for texts in captions]
    heights = [_SIDE + 0.4 + 0.18 * count for count in lines]
    figure = Figure(figsize=(_SIDE * columns + 0.2, sum(heights)), layout="constrained")
    rows = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, panel, texts in zip(rows, panels, captions, strict=True):
        row.suptitle(panel.title, fontsize=11, x=0.01, horizontalalignment="left")
        axes = row.subplots(1, columns, squeeze=False)[0]
        for axis in axes[len(panel.images) :]:
            axis.set_axis_off()
        for number, image in enumerate(np.asarray(panel.images, np.float32)):
            axes[number].imshow(_displayed(image), cmap="gray", vmin=0, vmax=1)
            axes[number].set(xticks=[], yticks=[])
            if texts:
                axes[number].set_xlabel(texts[number], fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path


def _check_panels(panels: Sequence[Panel]):
    if not panels:
        raise ValueError("`panels` of the method must return at least one panel. Received: none")
    for panel in panels:
        if len(panel.captions) not in (0, len(panel.images)):
            raise ValueError(
                f"A panel must have one caption per image, or none. Received: {panel.title!r} with "
                f"{len(panel.captions)} captions and {len(panel.images)} images"
            )


def _displayed(image: np.ndarray) -> np.ndarray:
    """Returns (height, width, 3) or (height, width) values in [0, 1]."""
    image = np.clip(image, 0, 1)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
