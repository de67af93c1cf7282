"""Integer quantization for LiteRT, with a normalized output in float32."""

from typing import Any

import numpy as np
import tensorflow as tf

# LiteRT's integer operator for x / |x| has outputs that are multiples of 1/128, whatever their range.
# The entries of a normalized vector of 2,048 dimensions are about 1/45. In float32, this holds only for
# a normalization whose result goes on to another integer operator.
_FLOAT_OPERATORS = {"L2_NORMALIZATION"}
_UNIT_TOLERANCE = 1e-3


def quantize_int8(converter: Any) -> bytes:
    """Converts a network to integers, except for the operator that normalizes its output.

    Args:
        converter: `tf.lite.TFLiteConverter` with a `representative_dataset`.

    Returns:
        The content of a LiteRT file with float32 inputs and outputs.
    """
    # The public converter has no option to leave an operator in float32; these are the two steps
    # that it takes, and that `tf.lite.experimental.QuantizationDebugger` takes with such an option.
    from tensorflow.lite.python import convert

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_calibrate_only = True
    return convert.mlir_quantize(converter.convert(), denylisted_ops=_FLOAT_OPERATORS)


def has_unit_norm(features: np.ndarray) -> bool:
    """Whether all vectors have length 1, to 0.001.

    Args:
        features: (vectors, dimensions).
    """
    lengths = np.linalg.norm(features.astype("float64"), axis=1)
    return bool(np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE))
