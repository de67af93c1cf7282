"""The settings that must not change when a run is resumed."""

import hashlib
import json
from typing import Any

import keras

from keras_ssl.augment import Augmentation, Policy
from keras_ssl.augment.constructor_arguments import constructor_arguments
from keras_ssl.data import Source
from keras_ssl.methods import Learner

# Runs of versions before `keras_ssl.layers.early_momentum` lack it.
EARLY_MOMENTUM = "early momentum of batch normalization"


def identity(
    model: Learner,
    source: Source,
    policy: Policy | Augmentation | tuple[Augmentation, ...],
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Returns the settings that must not change, in readable form, for JSON.

    Args:
        model: compiled method or other learner.
        source: the training images.
        policy: makes the views.
        batch_size: global batch size.
        seed: seed of the order and the views.

    Example:
        >>> identity(model, digits("train"), policy, batch_size=64, seed=0)["images"]
        '1437 images (1f0e3dad)'
    """
    arguments = constructor_arguments(model)
    network: Any = getattr(model, "backbone", model)
    views = (policy,) if isinstance(policy, Augmentation) else policy
    layers = {name: each for name, each in arguments.items() if isinstance(each, keras.Layer)}
    numbers = {name: each for name, each in arguments.items() if name not in layers}
    optimizer: Any = model.optimizer
    early: dict[str, Any] = {EARLY_MOMENTUM: True} if model.has_early_momentum else {}
    return {
        "method": f"{type(model).__name__}({_format_arguments(numbers)})",
        **{name: _network(layer) for name, layer in layers.items()},
        "optimizer": type(getattr(optimizer, "inner_optimizer", optimizer)).__name__,
        "precision": network.dtype_policy.name,
        "images": f"{len(source)} images ({source.fingerprint()[:8]})",
        "policy": [_augmentation(view) for view in views],
        "batch size": batch_size,
        "seed": seed,
        **early,
    }


def _format_arguments(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in numbers.items())


def _network(layer: keras.Layer) -> str:
    # Shapes, not names: Keras numbers layers by the order in which a program creates them.
    shapes = [tuple(weight.shape) for weight in layer.weights]
    count = layer.count_params()
    return f"{type(layer).__name__} with {count:,} weights ({_digest(shapes)})"


def _augmentation(augmentation: keras.Layer) -> str:
    layers = [type(layer).__name__ for layer in augmentation.layers]
    return f"{', '.join(layers)} ({_digest(_without_names(augmentation.get_config()))})"


def _without_names(config: Any) -> Any:
    """Returns a configuration without the names that differ between equal objects."""
    if isinstance(config, dict):
        kept = config.keys() - {"name", "build_config", "shared_object_id"}
        return {key: _without_names(config[key]) for key in sorted(kept)}
    if isinstance(config, (list, tuple)):
        return [_without_names(value) for value in config]
    return config


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:8]
