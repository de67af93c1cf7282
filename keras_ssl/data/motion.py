"""How much moves in clips, and whether their frames belong together."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_ssl.data.parallel import IMAGES, with_threads
from keras_ssl.data.source import Source

_CLIPS = 64
_SIDE = 32  # pixels: rows and columns to which frames are averaged, so that noise does not count
# A place has changed if its mean differs by more than this. Noise of a camera is about 2 of 255.
_CHANGE = 8 / 255
_LEAST_CHANGED = 0.005  # share of the places that change if something moves


@dataclass(frozen=True)
class Motion:
    """What a sample of clips says about all clips.

    Args:
        still_share: share of the clips in which nothing moves, 0 to 1.
        within: mean absolute difference of neighboring frames, of pixels in [0, 1].
        between: mean absolute difference of frames of different clips; `within` for a single clip.
    """

    still_share: float
    within: float
    between: float


def measure_motion(source: Source, count: int = _CLIPS) -> Motion:
    """Returns how much the frames of clips differ, on a sample that is spread over the source.

    Frames are averaged to 32 x 32 places first. Nothing moves in a clip if the first and the last
    frame differ by more than 8 of 255 in less than 0.5% of the places.

    Args:
        source: clips, as from `keras_ssl.data.clips`.
        count: number of clips to look at, at most.

    Example:
        >>> clips = np.random.default_rng(0).integers(0, 256, (8, 4, 64, 64, 3), np.uint8)
        >>> measure_motion(clip_arrays(clips)).still_share
        0.0
    """
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64)
    clips = tf.data.Dataset.from_tensor_slices(chosen).map(source.read_clip, IMAGES)
    small = np.stack([_shrink(clip) for clip in with_threads(clips)])
    changed = np.abs(small[:, -1] - small[:, 0]).mean(axis=-1) > _CHANGE
    still = changed.mean(axis=(1, 2)) < _LEAST_CHANGED
    within = float(np.abs(np.diff(small, axis=1)).mean())
    others = np.roll(small, 1, axis=0)
    between = float(np.abs(small - others).mean()) if len(small) > 1 else within
    return Motion(float(np.mean(still)), within, between)


def _shrink(clip: tf.Tensor) -> np.ndarray:
    """Returns (frames, 32, 32, 3) float32 in [0, 1]."""
    frames = tf.cast(clip, tf.float32) / 255
    return tf.image.resize(frames, (_SIDE, _SIDE), "area").numpy()
