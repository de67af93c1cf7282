"""Reads all frames of a GIF, as they are shown."""

from collections.abc import Sequence

import numpy as np

from keras_ssl.data.image_size import MOST_PIXELS, color_table_size
from keras_ssl.data.video_file import FrameTable

_MAX_FILE_BYTES = 2**28  # the file is read into memory at once
_SHORTEST = 2  # hundredths of a second: browsers show frames with less for a tenth of a second
_DEFAULT = 10


def read_table(file: str) -> FrameTable:
    """Returns the times of all frames of a GIF, from the delays in the file; nothing is decoded.

    A delay of less than 0.02 seconds counts as 0.1 seconds, as in browsers.

    Args:
        file: path.

    Raises:
        ValueError: if the file is not a GIF, or its frames are too large.

    Example:
        >>> read_table("waving.gif").seconds
        array([0. , 0.1, 0.2])
    """
    content = _read(file)
    width, height = (int.from_bytes(content[n : n + 2], "little") for n in (6, 8))
    if width * height > MOST_PIXELS:
        raise ValueError(f"{file}: frames of {width * height} pixels, more than {MOST_PIXELS}")
    delays = frame_delays(content)
    if not delays:
        raise ValueError(f"{file}: a GIF without a complete frame")
    shown = [delay if delay >= _SHORTEST else _DEFAULT for delay in delays]
    seconds = np.cumsum([0, *shown[:-1]]) / 100
    return FrameTable(np.arange(len(delays), dtype=np.int64), seconds, height, width)


def frame_delays(content: bytes) -> list[int]:
    """Returns the delay of each complete frame of a GIF, in hundredths of a second.

    Args:
        content: content of the file. A damaged file is read up to the damage.

    Source: CompuServe 1990, "Graphics Interchange Format, Version 89a", sections 20 and 23.
    """
    delays: list[int] = []
    place, delay = 13 + color_table_size(content[10]), 0
    while place + 10 <= len(content):
        is_frame = content[place] == 0x2C
        if is_frame:
            place += 10 + color_table_size(content[place + 9]) + 1
        elif content[place] == 0x21:
            if content[place + 1] == 0xF9:  # graphic control: the delay of the next frame
                delay = int.from_bytes(content[place + 4 : place + 6], "little")
            place += 2
        else:
            break
        while place < len(content) and content[place]:  # blocks, each after its length
            place += 1 + content[place]
        if is_frame and place < len(content):
            delays.append(delay)
            delay = 0
        place += 1
    return delays


def read_frames(file: str, stamps: Sequence[int]) -> np.ndarray:
    """Decodes frames of a GIF, and all before them, since a frame may hold changes only.

    Args:
        file: path.
        stamps: ascending positions of the frames.

    Returns:
        (n, height, width, 3) uint8. What is transparent is white, as on most pages.

    Raises:
        ValueError: if a frame cannot be decoded.
    """
    from PIL import Image

    frames = []
    try:
        with Image.open(file, formats=["GIF"]) as image:
            for stamp in stamps:
                image.seek(int(stamp))  # Pillow puts a partial frame on those before it
                shown = image.convert("RGBA")
                page = Image.new("RGBA", shown.size, "white")
                frames.append(np.asarray(Image.alpha_composite(page, shown).convert("RGB")))
    except Exception as error:  # Pillow's plugins raise errors of many types
        raise ValueError(f"{file}: not a GIF that can be read ({error})") from error
    return np.stack(frames)


def _read(file: str) -> bytes:
    with open(file, "rb") as opened:
        content = opened.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"{file}: a GIF of more than {_MAX_FILE_BYTES} bytes")
    if not content.startswith(b"GIF8") or len(content) < 13:
        raise ValueError(f"{file}: not the content of a GIF file")
    return content
