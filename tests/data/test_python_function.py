"""Functions in Python within data pipelines, when a program ends."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.data.python_function import python_function
from tests.data.clip_files import gif, still

UNFINISHED = """
import sys
from keras_ssl import augment, data

source = data.clips(sys.argv[1], verify=False)
batches = data.views(source, augment.crop_and_flip(64), 4, seed=0, clips=True)
iterator = iter(batches.repeat())
print(len(next(iterator)))
"""


def test_it_returns_what_the_function_returns():
    numbers = tf.data.Dataset.range(3)
    doubled = numbers.map(lambda n: python_function(lambda m: 2 * m, [n], tf.int64, np.int64(0)))
    assert [int(number) for number in doubled] == [0, 2, 4]
    with pytest.raises(ValueError, match="wrong"):
        python_function(_fail, [tf.constant(1)], tf.int64, np.int64(0))


def _fail(number):
    raise ValueError("wrong")


@pytest.mark.large
def test_a_program_with_a_pipeline_in_use_ends(tmp_path):
    """With `tf.numpy_function` alone, it never does."""
    frames = [still(number % 4, size=(8, 8)) for number in range(400)]
    for number in range(4):
        (tmp_path / f"{number}.gif").write_bytes(gif(frames, (8, 8)))
    command = [sys.executable, "-c", UNFINISHED, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "4"
