"""Reads the frames of a video file with PyAV, which contains FFmpeg's decoders."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_ssl.data.image_size import MOST_PIXELS

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".mpg", ".mpeg"),
    *(".wmv", ".flv", ".3gp", ".ogv"),
)
# How files of these containers start, at which byte. FFmpeg also reads playlists, whatever their
# extension, and they name other files and addresses. (Its own list of allowed formats, an option of
# `av.open`, crashes PyAV 14 to 16.)
_STARTS = {
    0: (
        *(b"\x1a\x45\xdf\xa3", b"RIFF", b"\0\0\1\xba", b"\0\0\1\xb3"),  # Matroska, AVI, MPEG
        *(b"\x30\x26\xb2\x75", b"FLV", b"OggS", b"\x47"),  # ASF, Flash, Ogg, MPEG transport stream
    ),
    4: (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"),  # MP4, QuickTime
}
INSTALL = 'Videos are read by PyAV: pip install "keras_ssl[video]"'


class FrameTable(NamedTuple):
    """When the frames of a video, a GIF or a sequence of images are shown.

    Args:
        stamps: (n,) int64 numbers by which a frame is found: its time in units of the file for a
            video, its position for others; ascending.
        seconds: (n,) float64 time at which each frame is shown.
        height: rows of a frame.
        width: columns of a frame.
    """

    stamps: np.ndarray
    seconds: np.ndarray
    height: int
    width: int


def read_table(file: str) -> FrameTable:
    """Returns the times of all frames of a video.

    They are those of its packets: the file is read, but only the first frame is decoded.

    Args:
        file: path.

    Raises:
        ImportError: if PyAV is not installed.
        ValueError: if the file is no video that can be read, or its frames are too large.

    Example:
        >>> len(read_table("holiday.mp4").stamps)
        250
    """
    with _open(file) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        if context.width * context.height > MOST_PIXELS:
            pixels = context.width * context.height
            raise ValueError(f"{file}: frames of {pixels} pixels, more than {MOST_PIXELS}")
        stamps = {
            packet.dts if packet.pts is None else packet.pts
            for packet in _errors_named(container.demux(stream), file)
            if packet.size and not packet.is_discard
        }
        stamps.discard(None)
        if not stamps or not stream.time_base:
            raise ValueError(f"{file}: a video without frames that have a time")
        ordered = np.array(sorted(stamps), np.int64)
        seconds = (ordered - ordered[0]) * float(stream.time_base)
    height, width, _ = read_frames(file, [int(ordered[0])])[
        0
    ].shape  # turned, other than in the header
    return FrameTable(ordered, seconds, height, width)


def read_frames(file: str, stamps: Sequence[int]) -> np.ndarray:
    """Decodes frames of a video, from the last key frame before them on.

    Args:
        file: path.
        stamps: ascending `FrameTable.stamps`.

    Returns:
        (n, height, width, 3) uint8, turned as the file says.

    Raises:
        ImportError: if PyAV is not installed.
        ValueError: if a frame cannot be decoded.
    """
    with _open(file) as container:
        stream = container.streams.video[0]
        # `tf.data` decodes several clips at once; a decoder needs no threads of its own.
        stream.thread_type = "NONE"
        frames: list[np.ndarray] = []
        for start in (int(stamps[0]), None):
            _seek(container, start, stream)
            for frame in _errors_named(container.decode(stream), file):
                if frame.pts is None:
                    continue
                if start is not None and not frames and frame.pts > stamps[0]:
                    break  # the file's index is wrong: from the beginning, once
                while len(frames) < len(stamps) and frame.pts >= stamps[len(frames)]:
                    frames.append(_upright(frame))
                if len(frames) == len(stamps):
                    return _stack(frames, file)
            frames = []
        seconds = float((stamps[0] - (stream.start_time or 0)) * stream.time_base)
        raise ValueError(
            f"{file}: the {len(stamps)} frames from {seconds:.2f} seconds on cannot be decoded"
        )


def _stack(frames: list[np.ndarray], file: str) -> np.ndarray:
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise ValueError(f"{file}: frames of different sizes: {sorted(shapes)}")
    return np.stack(frames)


def _seek(container: Any, start: int | None, stream: Any):
    import av

    try:
        if start is None:
            container.seek(0)
        else:
            container.seek(start, stream=stream)
    except av.error.FFmpegError:  # a container without an index: decoded from where it is
        pass


def _upright(frame: Any) -> np.ndarray:
    """Returns the pixels of a frame, turned as the camera was held."""
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns)


def _open(file: str) -> Any:
    """Returns an open container that has a video stream."""
    try:
        import av
    except ImportError as error:
        raise ImportError(f"{INSTALL}. Received: {file!r}. {error}") from error
    try:
        with open(file, "rb") as opened:
            start = opened.read(12)
        if not any(start[place:].startswith(words) for place, words in _STARTS.items()):
            raise ValueError("its content is that of no known container")
        container = av.open(file)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{file}: {_reason(error)}") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{file}: a file without a video stream")
    return container


def _errors_named(items: Any, file: str) -> Iterator[Any]:
    """Yields items; errors of FFmpeg get the name of the file."""
    import av

    try:
        yield from items
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{file}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    message = getattr(error, "strerror", None) or str(error)
    return f"not a video that can be read ({message})"
