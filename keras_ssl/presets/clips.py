"""Checks that a source has clips of videos, and that something moves in them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_ssl.data import Source

# Share of still clips from which a message is worth it.
_MANY = 0.1
# Neighboring images of classes (CIFAR-10, Imagenette, blood cells) differ by 0.97 to 1 times as much as
# any two images; neighboring frames of moving crops by 0.07 of it, of a single such video by 0.26.
_UNRELATED = 0.9


def check_clips(source: "Source", method: str) -> Iterator[str]:
    """Yields a text if nothing moves in many clips.

    Args:
        source: training images.
        method: name of the method on the command line.

    Raises:
        ValueError: if the source does not consist of clips of four frames, or its folders hold images
            that do not belong together.
    """
    from keras_ssl.data.clip_source import FileClips
    from keras_ssl.data.motion import measure_motion
    from keras_ssl.data.recordings import IMAGES

    if source.clip_length is None:
        raise ValueError(
            f"{method} learns from videos. Expected: a folder of videos, GIFs or folders of frames, "
            "keras_ssl.data.clips(folder), or keras_ssl.data.clip_arrays(array). "
            f"Received: {source.name!r}, which holds single images"
        )
    if source.clip_length != 4:
        raise ValueError(
            f"{method} needs clips of 4 frames: three references and a target. "
            f"Received: clips of {source.clip_length} in {source.name!r}"
        )
    motion = measure_motion(source)
    if motion.still_share >= _MANY:
        yield (
            f"{method} learns from motion, but nothing moves in about {motion.still_share:.0%} of the "
            "clips. It learns little from them. A lower `frame_rate` or, for folders of frames, a "
            "larger `frame_step` may help."
        )
    if not isinstance(source, FileClips):
        return
    images = source.of_kind(IMAGES)
    if images is None:
        return
    motion = measure_motion(images)
    if motion.still_share < _MANY and motion.within >= _UNRELATED * motion.between:
        raise ValueError(
            f"{method} learns from videos. Expected: folders of the frames of videos. Received: images "
            f"in {source.name!r} that do not follow each other: neighbors differ by "
            f"{motion.within:.3f} on average, images of different clips by {motion.between:.3f}, of "
            "values from 0 to 1. Other methods, such as colorization, learn from single images"
        )
