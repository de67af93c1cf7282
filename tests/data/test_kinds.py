"""Data of a kind that is not accepted."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.data import arrays, open_source
from keras_ssl.data.kinds import check_kind

IMAGES = np.zeros((4, 8, 8, 1), np.uint8)


class Table:
    """As a DataFrame is recognized."""

    columns = ("file", "label")
    shape = (3, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (IMAGES, r"data\.arrays\(images, labels\).* Received: ndarray of shape \(4, 8, 8, 1\)"),
        (tf.zeros((2, 8)), r"source of an array.* of shape \(2, 8\)"),
        ((IMAGES, np.arange(4)), r"source of arrays.* Received: a tuple of 2: ndarray, ndarray"),
        (
            ((IMAGES, IMAGES), (IMAGES, IMAGES)),
            r"each array.* Received: a tuple of 2: tuple, tuple",
        ),
        (["a.png", "b.png"], r"Pass the folder of these files.* Received: a list of 2: str, str"),
        (Table(), r"columns file and label.* Received: Table of shape \(3, 2\)"),
        (tf.data.Dataset.from_tensors(1), r"a tf\.data\.Dataset that fits into memory"),
        ((), "Received: an empty tuple"),
        (7, "`data` must be 'digits'.* Received: int"),
    ],
)
def test_other_kinds_are_refused(data, message):
    with pytest.raises(TypeError, match=message):
        check_kind(data)
    with pytest.raises(TypeError, match=message):
        open_source(data)


def test_accepted_kinds(tmp_path):
    source = arrays(IMAGES)
    for data in ("digits", tmp_path, source, (source, source)):
        check_kind(data)
