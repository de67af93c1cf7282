"""Checks the arguments of `keras_ssl.pretrain`, and makes settings of them."""

import os
import pathlib
from dataclasses import fields, replace
from typing import Any

from keras_ssl.data import Source
from keras_ssl.data.kinds import check_kind
from keras_ssl.data.scaled import check_numbers
from keras_ssl.presets import Preset, find_preset, option_owners
from keras_ssl.presets.option_types import convert_options
from keras_ssl.runs.paths import absolute_path
from keras_ssl.runs.settings import PretrainSettings

Images = str | os.PathLike | Source | tuple[Source, Source]


def combine(data: Images | None, method: str | Preset, given: dict[str, Any]) -> PretrainSettings:
    """Returns the settings that the arguments of `pretrain` describe.

    Args:
        data: see `keras_ssl.pretrain`.
        method: see `keras_ssl.pretrain`.
        given: options of the method and of the run, by name.

    Raises:
        TypeError: if an argument has a wrong type.
        ValueError: if an option is unknown or makes no sense.
    """
    if data is not None:
        check_kind(data)
    if not isinstance(method, (str, Preset)):
        raise TypeError(
            "`method` must be the name of a method, such as 'byol', or a preset, such as "
            f"`keras_ssl.presets.BYOL()`. Received: method={method!r}"
        )
    preset = method if isinstance(method, Preset) else find_preset(method)()
    of_run = {field.name for field in fields(PretrainSettings)} - {"data", "preset"}
    options = {name: value for name, value in given.items() if name not in of_run}
    if unknown := sorted(set(options).difference(preset.options())):
        owners = ", ".join(option_owners(unknown[0]))
        hint = f"It is an option of {owners}." if owners else "No method has it."
        raise ValueError(
            f"`{unknown[0]}` is not an option of {preset.method}. {hint} "
            f"Received: {unknown[0]}={options[unknown[0]]!r}"
        )
    own = {name: value for name, value in given.items() if name in of_run}
    typed = {name: own[name] for name in own.keys() - {"value_range"}}  # `scale` checks the range
    own |= convert_options(PretrainSettings, typed)
    if own.get("knn_every", 0) < 0:
        raise ValueError(f"`knn_every` must be at least 0. Received: knn_every={own['knn_every']}")
    if not isinstance(given.get("value_range", "full"), str):
        check_numbers(given["value_range"])
    path = absolute_path(str(data)) if isinstance(data, (str, os.PathLike)) else None
    own["knn_data"] = absolute_path(own.get("knn_data"))
    if own.get("data_dir") is not None:
        own["data_dir"] = pathlib.Path(own["data_dir"]).absolute()
    return PretrainSettings(data=path, preset=replace(preset, **options).spelled(), **own)
