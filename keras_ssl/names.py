"""The words of the command line and the objects they stand for: the only such table."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_ssl import augment, backbones, methods, optimizers
from keras_ssl.layers import LinearProbe, MLPHead, ProjectionHead, split_batch_norm

# Settings that are a method's: it refuses what its row does not name.
OPTIONS = (
    "embedding",
    "head_layers",
    "temperature",
    "momentum",
    "final_momentum",
    "queue_size",
    "groups",
)

_SMALL_SIDE = 64  # pixels: up to this, views need no blur
_LARGEST_QUEUE = 65536  # MoCo's
_MOST_GROUPS = 8  # MoCo trained on eight GPUs
_SMALLEST_GROUP = 16  # images; MoCo's GPUs had 32


@dataclass(frozen=True)
class Options:
    """What a method may need to know beside its backbone; `None` asks for the method's default.

    Args:
        images: number of images in the data set.
        batch_size: images per step, over all replicas.
        replicas: that train together.
        chunks: parts of each replica's batch that are computed one after the other.
        probe: linear classifier that learns beside the method.
        embedding: dimension of the embeddings that the loss compares.
        head_layers: dense layers of the projection head.
        temperature: of the loss.
        momentum: of the target network, at the first step.
        final_momentum: of the target network, at the last step.
        queue_size: number of keys that the queue holds.
        groups: parts of the batch that are normalised apart; 1 for none.
    """

    images: int
    batch_size: int
    replicas: int = 1
    chunks: int = 1
    probe: LinearProbe | None = None
    embedding: int | None = None
    head_layers: int | None = None
    temperature: float | None = None
    momentum: float | None = None
    final_momentum: float | None = None
    queue_size: int | None = None
    groups: int | None = None


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

POLICIES: dict[str, Callable[[int], augment.Policy]] = {
    "simclr": augment.simclr,
    "simclr-small": lambda size: augment.simclr(size, strength=0.5, blur=False),
    "moco-v1": augment.moco_v1,
    "moco-v2": augment.moco_v2,
    "moco-v2-small": lambda size: augment.moco_v2(size, area=(0.08, 1.0), blur=False),
    "byol": augment.byol,
    "byol-small": lambda size: augment.byol(size, blur=False),
    "centred": augment.centred,
}

AUGMENTATIONS: dict[str, Callable[[int], augment.Augmentation]] = {
    "crop-flip": augment.crop_and_flip,
    "centred": lambda size: augment.centred(size).view_1,
}

_RESNETS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152, 200)}


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a word that is not in the table, with the nearest that are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return ValueError(
        f"Unknown {what}.{hint} Expected one of: {', '.join(known)}. Received: {name!r}"
    )


def _known(what: str, name: str, table: dict) -> Any:
    if name not in table:
        raise unknown(what, name, table)
    return table[name]


def known_method(name: str) -> Method:
    """Returns a method's row.

    Raises:
        ValueError: if there is none of this name.
    """
    return _known("method", name, METHODS)


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
            owners = ", ".join(known for known, row in METHODS.items() if option in row.defaults)
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


def policy(name: str, size: int) -> augment.Policy:
    """Returns the policy of a name, such as "simclr", for views of `size` pixels."""
    return _known("policy of views", name, POLICIES)(size)


def augmentation(name: str | None, data: str, size: int) -> augment.Augmentation:
    """Returns what changes images that are learnt from with labels, or from a teacher.

    Args:
        name: "crop-flip" or "centred"; `None` takes "centred" for digits, otherwise the other.
        data: word for the images.
        size: side of the result, in pixels.
    """
    own = "centred" if data == "digits" else "crop-flip"
    return _known("augmentation", name or own, AUGMENTATIONS)(size)


def backbone(name: str, width: float, input_shape: tuple[int, int, int]) -> keras.Model:
    """Returns an untrained network: "resnet50" and others of its kind, "small-resnet", "tiny"...

    All other names are of networks in `keras.applications`.

    Args:
        name: of the network, such as "resnet50" or "MobileNetV2".
        width: factor on the number of filters of a ResNet, on the 48 of the first stage of
            "small-resnet", and on the 64 features of "tiny".
        input_shape: (height, width, channels) of the images.
    """
    if name in _RESNETS:
        return backbones.ResNet(_RESNETS[name], width=width, input_shape=input_shape)
    if name == "small-resnet":
        return backbones.SmallResNet(round(48 * width), input_shape)
    if name == "tiny":
        return backbones.Tiny(input_shape, features=round(64 * width))
    application = getattr(keras.applications, name, None)
    if not callable(application):
        of_keras = [word for word in dir(keras.applications) if word[0].isupper()]
        raise unknown("backbone", name, [*_RESNETS, "small-resnet", "tiny", *of_keras])
    if width != 1.0:
        raise ValueError(
            "`width` is for resnet, small-resnet and tiny; networks of keras.applications have a "
            f"width of their own. Received: width={width}, backbone={name!r}"
        )
    return application(weights=None, include_top=False, pooling="avg", input_shape=input_shape)


def optimizer(
    name: str,
    learning_rate: float | None,
    weight_decay: float | None,
    batch_size: int,
    total_steps: int,
    warmup_steps: int,
    scale: float = 1.0,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer with a linear warm-up and a cosine schedule.

    Args:
        name: "lars", "sgd" or "adam".
        learning_rate: peak; `None` takes the reference's, scaled by the batch: LARS 0.075 *
            sqrt(batch) (SimCLR), SGD 0.06 * batch / 128 (lightly), Adam 0.001.
        weight_decay: `None` takes the reference's: LARS 1e-6, SGD 5e-4, Adam none.
        batch_size: images per step.
        total_steps: steps of the whole run.
        warmup_steps: steps of the warm-up.
        scale: factor on the peak.
    """
    peaks = {
        "lars": optimizers.scaled_learning_rate(0.075, batch_size, rule="sqrt"),
        "sgd": optimizers.scaled_learning_rate(0.12, batch_size, rule="linear"),
        "adam": 1e-3,
    }
    if name not in peaks:
        raise unknown("optimizer", name, peaks)
    peak = peaks[name] if learning_rate is None else learning_rate
    schedule = optimizers.WarmupCosine(scale * peak, total_steps, warmup_steps)
    if name == "adam":
        return keras.optimizers.Adam(schedule, weight_decay=weight_decay)
    if name == "lars":
        return optimizers.LARS(
            schedule, weight_decay=1e-6 if weight_decay is None else weight_decay
        )
    return optimizers.SGD(schedule, weight_decay=5e-4 if weight_decay is None else weight_decay)
