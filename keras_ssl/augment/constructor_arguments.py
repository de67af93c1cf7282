"""Reads the constructor arguments of an object from its attributes."""

import inspect
from typing import Any


def constructor_arguments(instance: Any) -> dict[str, Any]:
    """Returns the named arguments of an object's constructor.

    Args:
        instance: an object that keeps every named argument of `__init__` as an attribute of that name.

    Raises:
        AttributeError: if an argument has no attribute of its name.

    Example:
        >>> constructor_arguments(keras_ssl.losses.NTXent(temperature=0.5))["temperature"]
        0.5
    """
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(type(instance).__init__).parameters
    return {
        name: getattr(instance, name)
        for name, parameter in parameters.items()
        if name != "self" and parameter.kind not in variadic
    }
