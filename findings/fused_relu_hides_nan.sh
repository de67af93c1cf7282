#!/usr/bin/env bash
# A compiled function turns NaN into 0 where the same layers, run eagerly, return NaN.
#
# Versions: Python 3.11, tensorflow-cpu 2.21.0, numpy 2.2.6; on an x86 processor with AVX-512.
# Behavior: TensorFlow's graph optimizer fuses a convolution or a matrix product with the bias (or the batch normalization)
# and the ReLU after it into one oneDNN kernel. That kernel computes max(0, NaN) = 0, while the separate ReLU keeps NaN. In
# graph mode a network with NaN among its weights therefore returns finite numbers, and a loss or an accuracy shows nothing.
# Without the graph optimizer, and with TF_ENABLE_ONEDNN_OPTS=0, both agree. A check for NaN must look at the weights, not
# only at the loss or at features after a ReLU.
# Output seen on 2026-11-28 (share of NaN among the outputs; one of eight filters has NaN weights):
#   oneDNN, graph optimizer: convolution eager 0.125 graph 0.000, normalized eager 0.125 graph 0.000, dense eager 0.125 graph 0.000
#   oneDNN, no graph optimizer: convolution eager 0.125 graph 0.125, normalized eager 0.125 graph 0.125, dense eager 0.125 graph 0.125
#   no oneDNN, graph optimizer: convolution eager 0.125 graph 0.125, normalized eager 0.125 graph 0.125, dense eager 0.125 graph 0.125
# The script exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet tensorflow-cpu==2.21.0 numpy==2.2.6
cat > "$folder/shares.py" <<'PYTHON'
import sys

import numpy as np
import tensorflow as tf

name, with_optimizer, expected = sys.argv[1], sys.argv[2] == "1", float(sys.argv[3])
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not with_optimizer})
random = np.random.default_rng(0)
filters = random.normal(size=(3, 3, 3, 8)).astype(np.float32)
filters[..., 0] = np.nan
matrix = random.normal(size=(192, 8)).astype(np.float32)
matrix[:, 0] = np.nan
filters, matrix, bias = tf.Variable(filters), tf.Variable(matrix), tf.Variable(tf.zeros(8))
images = tf.constant(random.random((2, 8, 8, 3)), tf.float32)


def convolution(x):
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, filters, 1, "SAME"), bias))


def normalized(x):
    maps = tf.nn.conv2d(x, filters, 1, "SAME")
    one, zero = tf.ones(8), tf.zeros(8)
    return tf.nn.relu(tf.compat.v1.nn.fused_batch_norm(maps, one, zero, zero, one, is_training=False)[0])


def dense(x):
    return tf.nn.relu(tf.matmul(tf.reshape(x, (2, -1)), matrix) + bias)


found = {}
for layer in (convolution, normalized, dense):
    shares = [float(np.isnan(f(images)).mean()) for f in (layer, tf.function(layer))]
    found[layer.__name__] = shares
texts = [f"{layer} eager {eager:.3f} graph {graph:.3f}" for layer, (eager, graph) in found.items()]
print(f"{name}: {', '.join(texts)}")
sys.exit(any(shares != [0.125, expected] for shares in found.values()))
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
python="$folder/environment/bin/python"
"$python" "$folder/shares.py" "oneDNN, graph optimizer" 1 0
"$python" "$folder/shares.py" "oneDNN, no graph optimizer" 0 0.125
TF_ENABLE_ONEDNN_OPTS=0 "$python" "$folder/shares.py" "no oneDNN, graph optimizer" 1 0.125
