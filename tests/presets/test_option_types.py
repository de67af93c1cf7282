"""The Python types of options."""

import json
from dataclasses import asdict
from typing import Literal

import keras
import numpy as np
import pytest

from keras_ssl.presets import find_preset
from keras_ssl.presets.option_types import convert_option


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "2"}, r"`epochs` must be an integer\. Received: epochs='2' of type str"),
        ({"epochs": 2.0}, r"`epochs` must be an integer\. Received: epochs=2\.0 of type float"),
        ({"epochs": True}, "`epochs` must be an integer"),
        ({"epochs": np.float32(2)}, "`epochs` must be an integer"),
        ({"image_size": (32, 32)}, r"`image_size` must be an integer or None\. .* of type tuple"),
        ({"backbone": keras.Sequential()}, r"must be a string\. Train a network of your own with"),
        ({"temperature": "low"}, "`temperature` must be a number"),
        ({"probe": 1}, "`probe` must be True or False"),
        ({"policy": 3}, "`policy` must be a string or None"),
    ],
)
def test_options_of_a_wrong_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        find_preset("simclr")(**options)


def test_numbers_of_numpy_become_those_of_python():
    preset = find_preset("simclr")(epochs=np.int64(2), width=np.float32(0.5), probe=np.bool_(True))
    assert (preset.epochs, preset.width, preset.probe) == (2, 0.5, True)
    json.dumps(asdict(preset))  # as config.json is written
    assert find_preset("simclr")(temperature=1).temperature == 1


def test_sequences_and_words_are_checked():
    assert convert_option("n", [1, np.int64(2)], tuple[int, ...]) == (1, 2)
    assert convert_option("n", np.array([1.5, 2]), tuple[float, float]) == (1.5, 2.0)
    with pytest.raises(TypeError, match=r"`n` must be a sequence of integers\. Received: n=3"):
        convert_option("n", 3, tuple[int, ...])
    with pytest.raises(TypeError, match="`n` must be 'a' or a sequence of 2 values"):
        convert_option("n", (1,), Literal["a"] | tuple[float, float])
