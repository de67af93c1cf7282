#!/usr/bin/env bash
# A .keras file written by Keras 3.15 is not read by Keras 3.14 if a layer has a scaled initializer, though it uses nothing new.
#
# Versions: Python 3.11, tensorflow-cpu 2.21.0, keras 3.15.1 and 3.14.1, numpy 2.2.6.
# Behavior: from 3.15 on, the configuration of variance-scaling initializers such as `he_normal` contains `input_axes` and
# `output_axes`, also if both are None. Earlier versions pass every entry to the constructor and fail with a TypeError. The
# default initializer of Dense and Conv2D, `glorot_uniform`, is one of them, so hardly any network can be read. Weights files
# (.weights.h5) of the same network are read.
# Output seen on 2026-11-28:
#   written by keras 3.15.1
#   keras 3.14.1: .keras: TypeError, unexpected keyword argument 'input_axes': True
#   keras 3.14.1: .weights.h5: the same output
# The script exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
python="$folder/environment/bin/python"
"$python" -m pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.2.6
export TF_CPP_MIN_LOG_LEVEL=3
cat > "$folder/network.py" <<'PYTHON'
import sys

import keras
import numpy as np

action, folder = sys.argv[1:]
network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
inputs = np.linspace(-1, 1, 8).reshape(2, 4).astype("float32")
if action == "write":
    network.save(f"{folder}/network.keras")
    network.save_weights(f"{folder}/network.weights.h5")
    np.save(f"{folder}/outputs.npy", network(inputs))
    print("written by keras", keras.__version__)
    sys.exit()
try:
    keras.saving.load_model(f"{folder}/network.keras")
    fails = False
except TypeError as error:
    fails = "unexpected keyword argument 'input_axes'" in str(error)
print(f"keras {keras.__version__}: .keras: TypeError, unexpected keyword argument 'input_axes': {fails}")
network.load_weights(f"{folder}/network.weights.h5")
same = bool(np.allclose(network(inputs), np.load(f"{folder}/outputs.npy")))
print(f"keras {keras.__version__}: .weights.h5: {'the same output' if same else 'another output'}")
sys.exit(0 if fails and same else 1)
PYTHON
"$python" "$folder/network.py" write "$folder"
"$python" -m pip install --quiet keras==3.14.1
"$python" "$folder/network.py" read "$folder"
