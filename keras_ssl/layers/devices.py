"""Which devices are used for training."""

import tensorflow as tf


def trains_on_cpu() -> bool:
    """Returns whether there is no accelerator, so that CPU-specific optimizations pay off."""
    return not any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
