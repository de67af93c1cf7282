"""Scales the pixels of sources from a value range to [0, 1], and measures the range."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from keras_ssl.data.parallel import IMAGES
from keras_ssl.data.source import Source
from keras_ssl.data.value_range import ValueRange

_LOG = logging.getLogger("keras_ssl")
_SAMPLE_IMAGES = 256  # images that a range is measured on
_CHECKED_IMAGES = 32  # images that are read to find data that use little of their range
_SAMPLE_PIXELS = 4096  # pixels of each of these images
# Intensities of medical images are clipped to these percentiles (Isensee et al., nnU-Net, Nature
# Methods 2021, online methods).
_PERCENTILES = (0.5, 99.5)
_LEAST_USED = 1 / 20  # share of the range
_TWELVE_BITS = 4095  # largest value of 12-bit sensors, whose images are often stored in 16 bits

Range = str | tuple[float, float] | ValueRange


class ScaledSource(Source):
    """A source whose images are scaled to float32 in [0, 1]; see `scale`."""

    def __init__(self, source: Source, value_range: ValueRange):
        value_range.check_channels(source.image_shape[2], source.name)
        super().__init__(
            source.name,
            len(source),
            source.image_shape,
            None,  # those of a streamed source take a pass over its files
            source.class_names,
            source.skipped,
        )
        self.random_access = source.random_access
        self.dtype = np.dtype("float32")
        self.typical_side = source.typical_side
        self.files, self.root = source.files, source.root
        self.value_range = value_range
        self._source = source

    def __repr__(self) -> str:
        """Returns the description of the original source."""
        return repr(self._source)

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of the original source."""
        return self._source.labels

    @property
    def has_labels(self) -> bool:
        """Whether there are labels."""
        return self._source.has_labels

    @property
    def reads_batches(self) -> bool:
        """Whether `read` of the original source takes (batch,) indices."""
        return self._source.reads_batches

    def fingerprint(self) -> str:
        """Returns a SHA-256 of the original images and the range."""
        content = f"{self._source.fingerprint()} {self.value_range}"
        return hashlib.sha256(content.encode()).hexdigest()

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index` as float32 in [0, 1]."""
        with tf.device("CPU:0"):
            return self._scale(self._source.read(index))

    def dataset(self) -> tf.data.Dataset:
        """Returns a data set of (image, label); see `Source.dataset`."""
        images = self._source.dataset()
        return images.map(lambda image, label: (self._scale(image), label), IMAGES)

    def shuffled(
        self,
        seed: int | tf.Tensor,
        buffer_size: int,
        labels: bool = False,
        choose: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda images: images,
    ) -> tf.data.Dataset:
        """Returns a shuffled data set of (index, image); see `Source.shuffled`."""
        images = self._source.shuffled(seed, buffer_size, labels, choose)
        return images.map(lambda index, image, *label: (index, self._scale(image), *label), IMAGES)

    def _scale(self, image: tf.Tensor) -> tf.Tensor:
        assert self.value_range is not None
        return self.value_range(image)


def scale(source: Source, value_range: Range) -> Source:
    """Returns a source whose pixels are scaled to [0, 1] by a range of values.

    Args:
        source: images of any type.
        value_range: (low, high), values that become 0 and 1 in all channels; "auto" measures a
            range for each channel; "full" returns the source unchanged; or a `ValueRange`.

    Raises:
        ValueError: if `value_range` is none of these, the source was scaled by another range, or it
            consists of clips.

    Example:
        >>> deep = arrays(np.full((4, 8, 8, 1), 4000, np.uint16))
        >>> scale(deep, (0, 4000)).read(0).numpy().max()
        1.0
    """
    if value_range == "full":
        return source
    if source.clip_length is not None:
        raise ValueError(
            "Clips have 8 bits and are read in their full range. Expected: value_range='full'. "
            f"Received: value_range={value_range!r} for {source.name!r}"
        )
    if isinstance(value_range, str) and value_range != "auto":
        raise ValueError(
            "`value_range` must be 'full', 'auto', or two numbers. "
            f"Received: value_range={value_range!r}"
        )
    if not isinstance(value_range, ValueRange):
        if value_range == "auto":
            if source.value_range is not None:
                return source
            value_range = measure(source)
        else:
            low, high = check_numbers(value_range)
            value_range = ValueRange((low,), (high,), source.dtype.name)
    if source.value_range is not None:
        if (source.value_range.low, source.value_range.high) != (value_range.low, value_range.high):
            raise ValueError(
                f"The images must be scaled once. Expected: the range {value_range}. "
                f"Received: {source.name!r}, scaled by {source.value_range}"
            )
        return source
    return ScaledSource(source, _fit_type(value_range, source))


def check_numbers(value_range: object) -> tuple[float, float]:
    """Returns the two numbers of a range.

    Raises:
        ValueError: if there are not two finite numbers, the second larger than the first.
    """
    try:
        low, high = (float(value) for value in value_range)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            "`value_range` must be 'full', 'auto', or two numbers, the lower one first. "
            f"Received: value_range={value_range!r}"
        )
    return low, high


def _fit_type(value_range: ValueRange, source: Source) -> ValueRange:
    """Returns the range in the units of a source.

    8-bit files beside 16-bit ones are scaled to 16 bits, and those of a folder of 8-bit files are
    not. A range that was measured on one kind of folder is converted for the other.
    """
    factor = {("uint16", "uint8"): 1 / 257, ("uint8", "uint16"): 257.0}.get(
        (value_range.of, source.dtype.name)
    )
    if factor is None or source.files is None:
        return value_range
    low, high = (
        tuple(value * factor for value in side) for side in (value_range.low, value_range.high)
    )
    return ValueRange(low, high, source.dtype.name)


def measure(source: Source) -> ValueRange:
    """Returns the range of the values of each channel, from a sample of the images.

    It lies between the 0.5th and the 99.5th percentile of the pixels of up to 256 images, which are
    spread over the source. Of a streamed source, they are the first.

    Args:
        source: images that were not scaled.
    """
    values = _sample(source, _SAMPLE_IMAGES)
    low, high = np.percentile(values, _PERCENTILES, axis=0)
    return ValueRange(tuple(low.tolist()), tuple(high.tolist()), source.dtype.name)


def warn_if_little_used(source: Source):
    """Logs a warning if the pixels use less than a twentieth of their range, or are constant.

    Reads a sample of 32 images. Between the 0.5th and 99.5th percentile lies what the pixels use.
    Images of 12 bits that are stored in 16 bits use a sixteenth; they are named too.

    Args:
        source: images, scaled or not. Of float images, the range is [0, 1].
    """
    values = _sample(source, _CHECKED_IMAGES)
    most = float(np.iinfo(source.dtype).max) if source.dtype.kind in "iu" else 1.0
    low, high = np.percentile(values, _PERCENTILES, axis=0)
    largest = values.max(axis=0)
    constant = np.flatnonzero(largest == values.min(axis=0))
    little = (high - low) / most < _LEAST_USED
    twelve = source.dtype == np.uint16 and largest.max() <= _TWELVE_BITS
    scaled = " after scaling" if source.value_range is not None else ""
    if len(constant):
        channels = "" if len(constant) == values.shape[1] else f" in channel {_list(constant)}"
        found = ", ".join(f"{value:g}" for value in largest[constant][:5])
        _LOG.warning("All pixels of %r are equal%s%s: %s", source.name, scaled, channels, found)
    little[constant] = False
    if little.any() or (twelve and not len(constant)):
        named = np.flatnonzero(little if little.any() else np.ones_like(little))
        channels = "" if len(named) == values.shape[1] else f" in channel {_list(named)}"
        _LOG.warning(
            "The pixels of %r use little of their range%s%s: most lie between %g and %g, of 0 to %g. "
            "The network hardly sees a difference. Pretraining with `--value-range auto` (in Python: "
            "value_range='auto') scales them to the range that they use",
            source.name,
            scaled,
            channels,
            low[named].min(),
            high[named].max(),
            most,
        )


def _list(channels: Iterable[int]) -> str:
    numbers = [str(channel) for channel in channels]
    return ", ".join(numbers[:8]) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def _sample(source: Source, count: int) -> np.ndarray:
    """Returns (pixels, channels) values of images that are spread over a source."""
    if source.random_access:
        chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64)
        images: Iterable = (source.read(index).numpy() for index in chosen)
    else:
        images = (image for image, _ in source.dataset().take(count).as_numpy_iterator())
    random = np.random.default_rng(0)  # pixels at regular distances could all be in one column
    parts = []
    for image in images:
        pixels = image.reshape(-1, image.shape[-1])
        if len(pixels) > _SAMPLE_PIXELS:
            pixels = pixels[random.integers(0, len(pixels), _SAMPLE_PIXELS)]
        parts.append(pixels.astype(np.float32))
    return np.concatenate(parts)
