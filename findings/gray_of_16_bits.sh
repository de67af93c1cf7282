#!/usr/bin/env bash
# `tf.image.rgb_to_grayscale` changes 16-bit images that are gray already.
#
# Versions: Python 3.11, tensorflow-cpu 2.21.0, numpy 2.2.6.
# Behavior: the weights of the three channels add up to 0.9999, and the result is truncated to an integer. A 16-bit image
# whose channels are equal gets darker by up to 7 of 65,535; an 8-bit image stays as it is. Reading a 16-bit gray file as
# RGB and converting it back is therefore not the same as reading it as gray.
# Output seen on 2026-11-28:
#   uint8 darker by 0 to 0 in 0 of 256
#   uint16 darker by 0 to 7 in 65535 of 65536
# The script exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet tensorflow-cpu==2.21.0 numpy==2.2.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/environment/bin/python" - <<'PYTHON'
import sys

import numpy as np
import tensorflow as tf

print("tensorflow", tf.__version__, "numpy", np.__version__)
found = {}
for dtype in (np.uint8, np.uint16):
    most = np.iinfo(dtype).max
    gray = np.arange(most + 1, dtype=dtype).reshape(1, -1, 1)
    again = tf.image.rgb_to_grayscale(np.repeat(gray, 3, axis=2)).numpy()
    darker = gray.astype(int) - again.astype(int)
    found[np.dtype(dtype).name] = (int(darker.min()), int(darker.max()), int((darker != 0).sum()))
    print(np.dtype(dtype).name, "darker by", darker.min(), "to", darker.max(), "in", (darker != 0).sum(), "of", most + 1)
sys.exit(0 if found == {"uint8": (0, 0, 0), "uint16": (0, 7, 65535)} else 1)
PYTHON
