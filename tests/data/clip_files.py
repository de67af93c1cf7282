"""Writes small GIFs, videos and folders of frames for tests."""

import numpy as np
import pytest
import tensorflow as tf

PALETTE = [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 0)]
RED, BLUE, GREEN, YELLOW = range(4)


def gif(frames, size=(4, 4)):
    """Returns the content of a GIF; pixels are indices into `PALETTE`.

    Args:
        frames: (rows of pixels, (top, left), delay in hundredths of a second, disposal) of each.
        size: (height, width).
    """
    height, width = size
    palette = b"".join(bytes(color) for color in PALETTE).ljust(3 * 128, b"\0")
    content = b"GIF89a" + _words(width, height) + bytes([0x80 | 6, YELLOW, 0]) + palette
    for rows, (top, left), delay, disposal in frames:
        pixels = [pixel for row in rows for pixel in row]
        content += b"\x21\xf9\x04" + bytes([disposal << 2]) + _words(delay) + b"\0\0"
        content += b"\x2c" + _words(left, top, len(rows[0]), len(rows)) + b"\0"
        # With 7 bits per pixel, each code is a byte: clear, the pixels, end.
        codes = bytes([128, *pixels, 129])
        content += bytes([7, len(codes)]) + codes + b"\0"
    return content + b"\x3b"


def _words(*numbers):
    return b"".join(int(number).to_bytes(2, "little") for number in numbers)


def still(color, delay=10, size=(4, 4)):
    """Returns a complete frame of one color."""
    return [[color] * size[1]] * size[0], (0, 0), delay, 1


def moving_gif(count, delay=20):
    """Returns the content of a GIF in which a blue pixel walks on red: at position n in frame n."""
    frames = []
    for number in range(count):
        rows = np.full((4, 4), RED)
        rows.flat[number % 16] = BLUE
        frames.append((rows.tolist(), (0, 0), delay, 1))
    return gif(frames)


def write_frames(folder, count, size=(12, 16), name="frame_{}.png", first=1, seed=0):
    """Writes numbered images in which a pattern moves by a pixel; frame n is `pattern(n)`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        content = tf.io.encode_png(pattern(number, size, seed)).numpy()
        (folder / name.format(first + number)).write_bytes(content)


def pattern(number, size=(12, 16), seed=0):
    """Returns frame `number` of a moving pattern, uint8."""
    coarse = (size[0] // 4, size[1] // 4, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, coarse, np.uint8)
    return np.roll(pixels.repeat(4, axis=0).repeat(4, axis=1), number, axis=1)


def write_video(path, count, rate=6, size=(48, 64), codec="mpeg4", level=None, options=None):
    """Writes a video; frame n has the gray `level(n)`, by default 10 + 6 n, and a colored border."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 8_000_000
        stream.options = {"g": "12", **(options or {})}
        for number in range(count):
            gray = level(number) if level else 10 + 6 * number
            pixels = np.full((*size, 3), gray, np.uint8)
            pixels[:8] = (200, 40, 40)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def levels(clip):
    """Returns the numbers of the frames of a clip of `write_video`."""
    return np.round((np.asarray(clip, float)[:, 16:, 8:-8].mean(axis=(1, 2, 3)) - 10) / 6).tolist()
