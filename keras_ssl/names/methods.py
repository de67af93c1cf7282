"""The methods of the command line, and the options that each of them has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_ssl import methods
from keras_ssl.layers import MLPHead, ProjectionHead, split_batch_norm
from keras_ssl.names.method_options import OPTIONS, Options
from keras_ssl.names.table import known

_SMALL_SIDE = 64  # pixels: up to this, views need no blur
_LARGEST_QUEUE = 65536  # MoCo's
_MOST_GROUPS = 8  # MoCo trained on eight GPUs
_SMALLEST_GROUP = 16  # images; MoCo's GPUs had 32


@dataclass(frozen=True)
class Method:
    """What the command line knows of a method.

    Args:
        build: makes the method from a backbone and its `Options`.
        policies: names of the policies for views above 64 pixels, and up to 64.
        optimizer: name of the optimizer that its reference has.
        defaults: for each option that the method has, a number, or a function of the options before
            it. An option that is not here is refused.
    """

    build: Callable[[keras.Model, Any], methods.SelfSupervised]
    policies: tuple[str, str]
    optimizer: str
    defaults: Mapping[str, Any]


def _half_the_images(options: Options) -> int:
    # A queue with every image in it would hold an older key of each image as its negative.
    return min(_LARGEST_QUEUE, max(1, options.images // 2))


def _groups(options: Options) -> int:
    """Returns the largest number up to 8, or one per chunk, that leaves 16 images to a group."""
    batch, chunks = options.batch_size, options.replicas * options.chunks
    for groups in range(max(_MOST_GROUPS, chunks), 1, -1):
        if groups % chunks == batch % groups == 0 and batch // groups >= _SMALLEST_GROUP:
            return groups
    return 1


def _momenta(first: float, final: float) -> dict[str, Any]:
    """Returns the defaults of both momenta; where the paper's is constant, so is another."""
    return {
        "momentum": first,
        "final_momentum": (lambda options: options.momentum) if first == final else final,
    }


def _split(backbone: keras.Model, groups: int) -> keras.Model:
    has_norm = any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in backbone._flatten_layers()
    )
    if groups == 1 or not has_norm:
        return backbone
    try:
        return split_batch_norm(backbone, groups)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "MoCo splits the batch normalisation of its backbone, which is not possible here. With "
            f"--groups 1 it is left whole. Received: --groups {groups}, backbone {backbone.name!r}. "
            f"{error}"
        ) from error


METHODS: dict[str, Method] = {
    "simclr": Method(
        lambda backbone, o: methods.SimCLR(
            backbone,
            ProjectionHead(o.embedding, depth=o.head_layers),
            o.temperature,
            probe=o.probe,
        ),
        policies=("simclr", "simclr-small"),
        optimizer="lars",
        defaults={"embedding": 128, "head_layers": 2, "temperature": 0.5},
    ),
    "simclr-memory": Method(
        lambda backbone, o: methods.SimCLRMemory(
            backbone,
            ProjectionHead(o.embedding, depth=o.head_layers),
            o.queue_size,
            o.temperature,
            probe=o.probe,
        ),
        policies=("simclr", "simclr-small"),
        optimizer="lars",
        defaults={
            "embedding": 128,
            "head_layers": 3,
            "temperature": 0.1,
            **_momenta(*methods.SimCLRMemory.default_momentum),
            "queue_size": _half_the_images,
        },
    ),
    "moco": Method(
        lambda backbone, o: methods.MoCo(
            _split(backbone, o.groups),
            MLPHead(o.embedding),
            o.queue_size,
            o.temperature,
            probe=o.probe,
        ),
        policies=("moco-v2", "moco-v2-small"),
        optimizer="sgd",
        defaults={
            "embedding": 128,
            "temperature": 0.2,
            **_momenta(*methods.MoCo.default_momentum),
            "queue_size": _half_the_images,
            "groups": _groups,
        },
    ),
    "byol": Method(
        lambda backbone, o: methods.BYOL(
            backbone, MLPHead(o.embedding, 4096, batch_norm=True), probe=o.probe
        ),
        policies=("byol", "byol-small"),
        optimizer="lars",
        defaults={"embedding": 256, **_momenta(*methods.BYOL.default_momentum)},
    ),
    "memory-bank": Method(
        lambda backbone, o: methods.MemoryBank(
            backbone,
            MLPHead(o.embedding, depth=1),
            size=o.images,
            temperature=o.temperature,
            probe=o.probe,
        ),
        policies=("moco-v1", "moco-v1"),
        optimizer="sgd",
        defaults={"embedding": 128, "temperature": 0.07},
    ),
}


def known_method(name: str) -> Method:
    """Returns a method's row.

    Raises:
        ValueError: if there is none of this name.
    """
    return known("method", name, METHODS)


def options(name: str, given: Options) -> Options:
    """Returns the options of a method with its defaults in the place of `None`.

    Args:
        name: of the method.
        given: what the user chose.

    Raises:
        ValueError: if the method has no such option, or the batch cannot be split into the groups.
    """
    defaults = known_method(name).defaults
    for option in OPTIONS:
        value = getattr(given, option)
        if value is not None and option not in defaults:
            word = option.replace("_", "-")
            owners = ", ".join(each for each, row in METHODS.items() if option in row.defaults)
            raise ValueError(
                f"--method {name} has no --{word}: that is an option of {owners}. "
                f"Received: --{word} {value}"
            )
    filled = given
    for option, default in defaults.items():
        if getattr(filled, option) is None:
            value = default(filled) if callable(default) else default
            filled = replace(filled, **{option: value})
    groups, batch, replicas = filled.groups or 1, filled.batch_size, filled.replicas
    if groups != 1 and (groups < 1 or batch % groups or groups % (replicas * filled.chunks)):
        raise ValueError(
            "--groups must be 1, or divide --batch-size and be a multiple of the number of replicas "
            f"times --chunks. Received: --groups {groups}, --batch-size {batch}, {replicas} replicas, "
            f"--chunks {filled.chunks}"
        )
    return filled


def method(name: str, backbone: keras.Model, options: Options) -> methods.SelfSupervised:
    """Returns a method, such as "simclr", around a backbone.

    Args:
        name: of the method.
        backbone: network to train. MoCo with several groups trains a copy of it, whose batch
            normalisation is split.
        options: of the method, filled in by `names.options`.
    """
    return known_method(name).build(backbone, options)


def default_policy(method: str, size: int) -> str:
    """Returns the name of a method's own policy for views of `size` pixels."""
    large, small = known_method(method).policies
    return large if size > _SMALL_SIDE else small
