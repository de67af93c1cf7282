"""How many images are read and changed at the same time: decided here, not by tf.data's autotuner.

The autotuner of an iterator misses the signal to stop now and then, and whoever deletes the iterator
waits for its next turn: up to as long as the iterator has lived, at most a minute. That is the end of a
`fit` or of an evaluation, standing still.
"""

import os

import tensorflow as tf

# Those that this process may use, where the system tells; otherwise all.
_PROCESSORS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)

# Two for each processor made a fifth more views of 224 pixels than one did (docs/performance.md).
IMAGES = 2 * _PROCESSORS
# Batches that are made at the same time: a large machine has more processors than memory for them.
BATCHES = min(IMAGES, 16)
# Batches that wait for the step.
READY = 2


def with_threads(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the data set with as many threads as `IMAGES` of its own, and without an autotuner.

    What is left to the autotuner, in a data set that a user made, gets one call per thread, at most 16.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = IMAGES
    return dataset.with_options(options)
