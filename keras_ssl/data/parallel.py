"""Fixed parallelism for `tf.data` pipelines, instead of its autotuner.

The autotuner's thread sometimes misses the signal to stop. Deleting the iterator then waits for the
thread's next turn: up to as long as the iterator has existed, and at most a minute. `fit` and
evaluation would hang at their end for that time.
"""

import os

import tensorflow as tf

# The processors that this process may use, if the system reports them; otherwise all.
_PROCESSORS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)

# Images processed in parallel. Two per processor made a fifth more views of 224 pixels per second
# than one (docs/performance.md).
IMAGES = 2 * _PROCESSORS
# Batches processed in parallel. Large machines have too little memory for a batch per processor.
BATCHES = min(IMAGES, 16)
# Batches prefetched for the training step.
READY = 2


def with_threads(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the data set with a private pool of `IMAGES` threads and without the autotuner.

    Where a user's data set has `AUTOTUNE`, it now runs one call per thread, at most 16.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = IMAGES
    return dataset.with_options(options)
