"""How many images are read and changed at the same time: decided here, not by tf.data's autotuner.

The autotuner of an iterator misses the signal to stop now and then, and whoever deletes the iterator
waits for its next turn: up to as long as the iterator has lived, at most a minute. That is the end of a
`fit` or of an evaluation, standing still.
"""

import os

import tensorflow as tf

# Those that this process may use, where the system tells; otherwise all.
PROCESSORS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)

# Batches that are made at the same time: a large machine has more processors than memory for them.
BATCHES = min(PROCESSORS, 16)
# Batches that wait for the step.
READY = 2


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the data set without an autotuner; what is left to it gets one call per processor."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
