"""Where a network trains."""

import tensorflow as tf


def trains_on_cpu() -> bool:
    """Tells whether there is no accelerator, so that what helps oneDNN or Eigen alone is worth it."""
    return not any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
