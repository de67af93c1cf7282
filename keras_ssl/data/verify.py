"""Decodes image files, and finds files that cannot be decoded before training starts."""

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
from keras_ssl.data.image_size import MOST_PIXELS, check_image_size, gif_pixels
from keras_ssl.data.source import cpu_tensor

_LOG = logging.getLogger("keras_ssl")
_LOG_LINES = 100  # files named in the log; a folder with only damaged files must not flood it
_MIN_FILES_FOR_PROGRESS = 2000  # fewer files are verified too quickly for a progress bar
_BATCH = 64
_THREADS = 16
_MAX_FILE_BYTES = 2**28  # each file is read into memory at once


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes the content of a JPEG, PNG, BMP or GIF file.

    Args:
        encoded: scalar string.
        channels: 3 for RGB, or 1 for grayscale.

    Returns:
        uint8 (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: if the content is not an image, is truncated, or would
            decode to more than 89 million pixels, which is checked before decoding.

    Example:
        >>> decode(tf.io.encode_png(np.zeros((4, 6, 1), np.uint8)), channels=3).shape
        TensorShape([4, 6, 3])
    """
    # The decoder converts CMYK JPEG, GIF and BMP to RGB, but not to grayscale.
    encoded = check_image_size(encoded)
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return image if channels == 3 else tf.image.rgb_to_grayscale(image)


def find_unreadable(files: list[str], channels: int, progress: bool | None) -> dict[str, str]:
    """Finds files that cannot be decoded, and logs a warning that names them.

    Decodes each file once, in parallel.

    Args:
        files: paths.
        channels: see `decode`.
        progress: show a progress bar; `None` shows it on a terminal for more than 2,000 files.

    Returns:
        A dictionary that maps each file that cannot be decoded to the reason.

    Example:
        >>> find_unreadable(["good.jpg", "empty.png"], channels=3, progress=False)
        {'empty.png': 'empty file'}
    """
    console = rich.console.Console(stderr=True)
    if progress is None:
        progress = console.is_terminal and len(files) > _MIN_FILES_FOR_PROGRESS

    with ThreadPoolExecutor(_THREADS) as pool:  # network disks are slow, but serve many at once
        reasons = pool.map(_reason_not_to_open, files)
        unsafe = {file: reason for file, reason in zip(files, reasons, strict=True) if reason}
    decoded = np.zeros(len(files), bool)
    safe = np.array([number for number, file in enumerate(files) if file not in unsafe], np.int64)
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console, disable=not progress) as bar:
        task = bar.add_task("Verifying images", total=len(files))
        for indices, _ in _decodable_files(files, safe, channels).as_numpy_iterator():
            decoded[indices] = True
            bar.advance(task, len(indices))
        bar.update(task, completed=len(files))

    failed = {}
    for index in np.flatnonzero(~decoded):
        reason = unsafe.get(files[index]) or _decoding_error(files[index], channels)
        if reason is not None:  # None after a temporary failure, such as of a network disk
            failed[files[index]] = reason
    if failed:
        lines = [f"  {file}: {reason}" for file, reason in list(failed.items())[:_LOG_LINES]]
        if len(failed) > _LOG_LINES:
            lines.append(f"  and {len(failed) - _LOG_LINES} more, see `source.skipped`")
        _LOG.warning(
            "%d of %d image files cannot be decoded and are skipped:\n%s",
            len(failed),
            len(files),
            "\n".join(lines),
        )
    return failed


def _reason_not_to_open(file: str) -> str | None:
    """Returns why a file must not be read at all; `None` if it may be."""
    try:
        status = os.stat(file)
    except OSError:
        return None  # decoding reports the error, if it persists
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"  # reading a pipe would block
    if status.st_size > _MAX_FILE_BYTES:
        return f"file of {status.st_size} bytes, more than {_MAX_FILE_BYTES}"
    return None


def _decodable_files(files: list[str], numbers: np.ndarray, channels: int) -> tf.data.Dataset:
    """Returns a data set of batches of (number, size) of the files that can be decoded.

    The size is returned because TensorFlow does not run a decoder whose output is unused.

    Args:
        files: paths of all files.
        numbers: indices into `files` of those to decode.
        channels: see `decode`.
    """
    paths = cpu_tensor(np.array(files, dtype=object))

    def number_and_size(index):
        return index, _decoded_size(tf.io.read_file(tf.gather(paths, index)), channels)

    sizes = tf.data.Dataset.from_tensor_slices(numbers)
    sizes = sizes.map(number_and_size, parallel.IMAGES, deterministic=False)
    return parallel.with_threads(sizes.ignore_errors(log_warning=False).batch(_BATCH))


def _decoded_size(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Returns the size of the decoded image, and raises the errors that `decode` would raise.

    JPEG files are decoded at an eighth of their resolution. That takes half the time and still
    reads the file to its last byte.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.size(tf.io.decode_jpeg(check_image_size(encoded), channels=3, ratio=8)),
        lambda: tf.size(decode(_check_gif_frames(encoded), channels)),
    )


def _check_gif_frames(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the content unchanged; raises if all frames of a GIF have too many pixels."""

    def check(content):
        pixels = gif_pixels(np.asarray(content, object).item())  # AutoGraph does not support `:=`
        if pixels > MOST_PIXELS:
            raise ValueError(f"GIF of {pixels} pixels in all its frames, more than {MOST_PIXELS}")
        return content

    is_gif = tf.strings.substr(tf.strings.join([encoded, "    "]), 0, 4) == b"GIF8"
    # Only verification does this check, because it runs in Python and is slow.
    return tf.cond(
        is_gif,
        lambda: tf.ensure_shape(tf.numpy_function(check, [encoded], tf.string), ()),
        lambda: encoded,
    )


def _decoding_error(file: str, channels: int) -> str | None:
    """Returns why a file cannot be decoded; `None` if it can be."""
    content = b""
    try:
        with tf.device("CPU:0"):
            encoded = tf.io.read_file(file)
            content = encoded.numpy()
            if not content:
                return "empty file"
            _decoded_size(encoded, channels)
    except (tf.errors.OpError, ValueError) as error:
        if content.startswith(b"\xff\xd8") and not content.endswith(b"\xff\xd9"):
            return "JPEG file that ends too early"  # clearer than the decoder's message
        message = getattr(error, "message", None) or str(error)
        # The message reads "{{function_node ...}} what happened [Op:DecodeImage] name: ".
        message = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", message, flags=re.DOTALL)
        return " ".join(message.split()) or type(error).__name__
    return None
