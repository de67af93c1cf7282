#!/usr/bin/env bash
# `tf.io.decode_gif` ignores the disposal of frames: a moving object leaves a trail.
#
# Versions: Python 3.11, tensorflow-cpu 2.21.0, numpy 2.2.6, pillow 12.0.0, av 16.1.0.
# Behavior: each frame of a GIF says what happens to it before the next one is drawn. It stays (1), its area is cleared (2), or
# what was below it comes back (3). TensorFlow draws all frames on top of each other, as if all said 1. Pillow and FFmpeg
# (through PyAV) follow the file. Frames of such a video, read with TensorFlow, hold objects that are not there any more.
# Output seen on 2026-11-28, where the columns of the dot are 0 and 1, then 4 and 5, then 8 and 9:
#   disposal 1: last frame has red columns [0, 1, 4, 5, 8, 9] in Pillow, [0, 1, 4, 5, 8, 9] in PyAV, [0, 1, 4, 5, 8, 9] in TensorFlow
#   disposal 2: last frame has red columns [8, 9] in Pillow, [8, 9] in PyAV, [0, 1, 4, 5, 8, 9] in TensorFlow
#   disposal 3: last frame has red columns [8, 9] in Pillow, [8, 9] in PyAV, [0, 1, 4, 5, 8, 9] in TensorFlow
# The script exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet tensorflow-cpu==2.21.0 numpy==2.2.6 pillow==12.0.0 av==16.1.0
TF_CPP_MIN_LOG_LEVEL=3 "$folder/environment/bin/python" - <<'PYTHON'
import io
import sys

import av
import numpy as np
import PIL
import tensorflow as tf
from PIL import Image

print("tensorflow", tf.__version__, "pillow", PIL.__version__, "av", av.__version__)


def moving_dot(disposal):
    """Returns a GIF in which a red dot moves from left to right on a transparent ground."""
    frames = []
    for left in (0, 4, 8):
        frame = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
        frame.paste((255, 0, 0, 255), (left, 0, left + 2, 2))
        frames.append(frame)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], disposal=disposal, duration=100)
    return file.getvalue()


def red_columns(rgb):
    return [int(column) for column in np.flatnonzero(rgb[0, :, 0] > 128)]


def by_pillow(content):
    image = Image.open(io.BytesIO(content))
    image.seek(image.n_frames - 1)
    rgba = np.asarray(image.convert("RGBA"))
    return red_columns(rgba * (rgba[..., 3:] > 0))


def by_pyav(content):
    with av.open(io.BytesIO(content), format="gif") as file:
        *_, last = file.decode(video=0)
    rgba = last.to_ndarray(format="rgba")
    return red_columns(rgba * (rgba[..., 3:] > 0))


same = True
for disposal in (1, 2, 3):
    content = moving_dot(disposal)
    found = by_pillow(content), by_pyav(content), red_columns(tf.io.decode_gif(content)[-1].numpy())
    print("disposal {}: last frame has red columns {} in Pillow, {} in PyAV, {} in TensorFlow".format(disposal, *found))
    trail = [0, 1, 4, 5, 8, 9]
    right = trail if disposal == 1 else [8, 9]
    same = same and found == (right, right, trail)
sys.exit(0 if same else 1)
PYTHON
