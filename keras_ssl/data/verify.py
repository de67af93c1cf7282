"""Decodes image files, and finds files that cannot be decoded before training starts."""

import logging
import re
from collections.abc import Callable, Mapping

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from keras_ssl.data import parallel
from keras_ssl.data.decoding import decode_common
from keras_ssl.data.image_size import MOST_PIXELS, check_image_size, gif_pixels
from keras_ssl.data.source import cpu_tensor

Decoder = Callable[[tf.Tensor, int], tf.Tensor]  # (content, channels) -> image

_LOG = logging.getLogger("keras_ssl")
_LOG_LINES = 100  # files named in the log; a folder with only damaged files must not flood it
_MIN_FILES_FOR_PROGRESS = 2000  # fewer files are verified too quickly for a progress bar
_BATCH = 64


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
    return decode_common(encoded, channels)


def find_unreadable(
    files: list[str],
    channels: int,
    progress: bool | None,
    refused: Mapping[str, str] | None = None,
    decoder: Decoder = decode,
) -> dict[str, str]:
    """Finds files that cannot be decoded, and logs a warning that names them.

    Decodes each file once, in parallel.

    Args:
        files: paths.
        channels: see `decode`.
        progress: show a progress bar; `None` shows it on a terminal for more than 2,000 files.
        refused: files that must not be read, such as pipes, and the reasons; see
            `keras_ssl.data.file_headers`.
        decoder: function from the content of a file and `channels` to the image.

    Returns:
        A dictionary that maps each file that cannot be decoded to the reason.

    Example:
        >>> find_unreadable(["good.jpg", "empty.png"], channels=3, progress=False)
        {'empty.png': 'empty file'}
    """
    console = rich.console.Console(stderr=True)
    if progress is None:
        progress = console.is_terminal and len(files) > _MIN_FILES_FOR_PROGRESS

    unsafe = dict(refused or {})
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
        for indices, _ in _decodable_files(files, safe, channels, decoder).as_numpy_iterator():
            decoded[indices] = True
            bar.advance(task, len(indices))
        bar.update(task, completed=len(files))

    failed = {}
    for index in np.flatnonzero(~decoded):
        reason = unsafe.get(files[index]) or _decoding_error(files[index], channels, decoder)
        if reason is not None:  # None after a temporary failure, such as of a network disk
            failed[files[index]] = reason
    if failed:
        log_reasons(
            f"{len(failed)} of {len(files)} image files cannot be decoded and are skipped", failed
        )
    return failed


def log_reasons(title: str, reasons: Mapping[str, str]):
    """Logs a warning that names files and the reason of each.

    Args:
        title: what happened to them.
        reasons: reason by file.
    """
    lines = [f"  {file}: {reason}" for file, reason in list(reasons.items())[:_LOG_LINES]]
    if len(reasons) > _LOG_LINES:
        lines.append(f"  and {len(reasons) - _LOG_LINES} more, see `source.skipped`")
    _LOG.warning("%s:\n%s", title, "\n".join(lines))


def _decodable_files(
    files: list[str], numbers: np.ndarray, channels: int, decoder: Decoder
) -> tf.data.Dataset:
    """Returns a data set of batches of (number, size) of the files that can be decoded.

    The size is returned because TensorFlow does not run a decoder whose output is unused.

    Args:
        files: paths of all files.
        numbers: indices into `files` of those to decode.
        channels: see `decode`.
        decoder: see `find_unreadable`.
    """
    paths = cpu_tensor(np.array(files, dtype=object))

    def number_and_size(index):
        content = tf.io.read_file(tf.gather(paths, index))
        return index, _decoded_size(content, channels, decoder)

    sizes = tf.data.Dataset.from_tensor_slices(numbers)
    sizes = sizes.map(number_and_size, parallel.IMAGES, deterministic=False)
    return parallel.with_threads(sizes.ignore_errors(log_warning=False).batch(_BATCH))


def _decoded_size(encoded: tf.Tensor, channels: int, decoder: Decoder) -> tf.Tensor:
    """Returns the size of the decoded image, and raises the errors that `decoder` would raise.

    JPEG files are decoded at an eighth of their resolution. That takes half the time and still
    reads the file to its last byte.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.size(tf.io.decode_jpeg(check_image_size(encoded), channels=3, ratio=8)),
        lambda: tf.size(decoder(_check_gif_frames(encoded), channels)),
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


def _decoding_error(file: str, channels: int, decoder: Decoder) -> str | None:
    """Returns why a file cannot be decoded; `None` if it can be."""
    content = b""
    try:
        with tf.device("CPU:0"):
            encoded = tf.io.read_file(file)
            content = encoded.numpy()
            if not content:
                return "empty file"
            _decoded_size(encoded, channels, decoder)
    except (tf.errors.OpError, ValueError) as error:
        if content.startswith(b"\xff\xd8") and not content.endswith(b"\xff\xd9"):
            return "JPEG file that ends too early"  # clearer than the decoder's message
        message = getattr(error, "message", None) or str(error)
        # The message reads "{{function_node ...}} what happened [Op:DecodeImage] name: ".
        # An error in Python is followed by a traceback.
        message = re.sub(
            r"\{\{.*?\}\}|\[Op:.*|\bTraceback .*|\b\w+Error: ", "", message, flags=re.DOTALL
        )
        return " ".join(message.split()) or type(error).__name__
    return None
