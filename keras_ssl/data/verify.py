"""Decoding image files, and finding those that cannot be decoded before the training does."""

import logging
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from keras_ssl.data import parallel
from keras_ssl.data.image_size import MOST_PIXELS, gif_pixels, within_limits
from keras_ssl.data.source import on_cpu

_LOG = logging.getLogger("keras_ssl")
_LINES = 100  # in the log; a folder of another format would fill it otherwise
_MANY = 2000  # files: fewer are verified in the time that a progress bar needs to be read
_BATCH = 64
_THREADS = 16
_MOST_BYTES = 2**28  # of one file, which is read in one piece


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes the bytes of a JPEG, PNG, BMP or GIF file.

    Args:
        encoded: scalar string.
        channels: 3, or 1 for grey.

    Returns:
        uint8 (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are no image, end too early, or would become more
            than 89 million pixels; that is seen before anything is decoded.

    Example:
        >>> decode(tf.io.encode_png(np.zeros((4, 6, 1), np.uint8)), channels=3).shape
        TensorShape([4, 6, 3])
    """
    # The decoder turns CMYK JPEG, GIF and BMP into RGB, but not into grey.
    encoded = within_limits(encoded)
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return image if channels == 3 else tf.image.rgb_to_grayscale(image)


def unreadable(files: list[str], channels: int, progress: bool | None) -> dict[str, str]:
    """Decodes each file once, in TensorFlow's threads, and names those that fail in the log.

    Args:
        files: paths.
        channels: as in `decode`.
        progress: show a progress bar; `None` does so on a terminal, for more than 2,000 files.

    Returns:
        The files that cannot be decoded, each with the reason.

    Example:
        >>> unreadable(["good.jpg", "empty.png"], channels=3, progress=False)
        {'empty.png': 'empty file'}
    """
    console = rich.console.Console(stderr=True)
    if progress is None:
        progress = console.is_terminal and len(files) > _MANY

    with ThreadPoolExecutor(_THREADS) as pool:  # a network disk takes its time, for many at once
        unsafe = {
            f: reason for f, reason in zip(files, pool.map(_unsafe, files), strict=True) if reason
        }
    decoded = np.zeros(len(files), bool)
    opened = np.array([number for number, file in enumerate(files) if file not in unsafe], np.int64)
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console, disable=not progress) as bar:
        task = bar.add_task("Verifying images", total=len(files))
        for indices, _ in _decodable(files, opened, channels).as_numpy_iterator():
            decoded[indices] = True
            bar.advance(task, len(indices))
        bar.update(task, completed=len(files))

    failed = {}
    for index in np.flatnonzero(~decoded):
        reason = unsafe.get(files[index]) or _reason(files[index], channels)
        if reason is not None:  # a network disk may have failed for a moment only
            failed[files[index]] = reason
    if failed:
        lines = [f"  {file}: {reason}" for file, reason in list(failed.items())[:_LINES]]
        if len(failed) > _LINES:
            lines.append(f"  and {len(failed) - _LINES} more, see `source.skipped`")
        _LOG.warning(
            "%d of %d image files cannot be decoded and are left out:\n%s",
            len(failed),
            len(files),
            "\n".join(lines),
        )
    return failed


def _unsafe(file: str) -> str | None:
    """Returns why a file must not even be read, or `None`."""
    try:
        status = os.stat(file)
    except OSError:
        return None  # the decoder says what is wrong, if anything still is
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"  # reading a pipe would wait for ever
    if status.st_size > _MOST_BYTES:
        return f"file of {status.st_size} bytes, more than {_MOST_BYTES}"
    return None


def _decodable(files: list[str], opened: np.ndarray, channels: int) -> tf.data.Dataset:
    """Returns a data set of batches of (number, size) of the files that can be decoded.

    The size is there because TensorFlow does not run a decoder whose output nobody takes.
    """
    paths = on_cpu(np.array(files, dtype=object))

    def number_and_size(index):
        return index, _size(tf.io.read_file(tf.gather(paths, index)), channels)

    numbers = tf.data.Dataset.from_tensor_slices(opened)
    numbers = numbers.map(number_and_size, parallel.IMAGES, deterministic=False)
    return parallel.with_threads(numbers.ignore_errors(log_warning=False).batch(_BATCH))


def _size(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Returns the size of the decoded image, and raises what `decode` would raise.

    An eighth of a JPEG's resolution costs half the time and reads the file to its last byte all the
    same.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.size(tf.io.decode_jpeg(within_limits(encoded), channels=3, ratio=8)),
        lambda: tf.size(decode(_without_many_frames(encoded), channels)),
    )


def _without_many_frames(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the bytes as they are, unless they are a GIF with more pixels than an image may have."""

    def check(content):
        pixels = gif_pixels(np.asarray(content, object).item())  # AutoGraph knows no `:=`
        if pixels > MOST_PIXELS:
            raise ValueError(f"GIF of {pixels} pixels in all its frames, more than {MOST_PIXELS}")
        return content

    is_gif = tf.strings.substr(tf.strings.join([encoded, "    "]), 0, 4) == b"GIF8"
    # Training does without this: it goes through Python.
    return tf.cond(
        is_gif,
        lambda: tf.ensure_shape(tf.numpy_function(check, [encoded], tf.string), ()),
        lambda: encoded,
    )


def _reason(file: str, channels: int) -> str | None:
    content = b""
    try:
        with tf.device("CPU:0"):
            encoded = tf.io.read_file(file)
            content = encoded.numpy()
            if not content:
                return "empty file"
            _size(encoded, channels)
    except (tf.errors.OpError, ValueError) as error:
        if content.startswith(b"\xff\xd8") and not content.endswith(b"\xff\xd9"):
            return "JPEG file that ends too early"  # the decoder's own words leave that open
        message = getattr(error, "message", None) or str(error)
        # "{{function_node ...}} what happened [Op:DecodeImage] name: "
        message = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", message, flags=re.DOTALL)
        return " ".join(message.split()) or type(error).__name__
    return None
