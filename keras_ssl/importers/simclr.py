"""Imports published checkpoints and SavedModels of SimCLR, versions 1 and 2, TensorFlow 1 and 2."""

import glob
import math
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from keras_ssl.importers.architecture import Architecture, iterate_weights
from keras_ssl.importers.matching import Place, fill, join_names
from keras_ssl.importers.object_graph import read_object_graph
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SimCLR

# Tensors that are not weights: steps, optimizer slots and moving averages.
_NOT_WEIGHTS = re.compile(
    r"global_step|save_counter|_CHECKPOINTABLE_OBJECT_GRAPH|.*/(Momentum|Adam|Adam_1|LARSOptimizer"
    r"|ExponentialMovingAverage)|beta\d_power"
)
_HEAD = re.compile(r"head_contrastive/nl_(\d+)/")


@dataclass(frozen=True)
class _Variant:
    """A ResNet of google-research/simclr."""

    depth: int
    is_selective: bool = False  # sk_ratio > 0: ResNet-D; bottlenecks have selective kernels
    deep_stem: bool = False  # stem of three convolutions


# Variant by its number of convolutions, which is unique. One exception: with the stem for small images,
# depths 18 and 34 have the same weights with and without sk_ratio > 0. They are read as without, the
# reference's default.
_CONVOLUTIONS = {
    21: _Variant(18),
    37: _Variant(34),
    53: _Variant(50),
    104: _Variant(101),
    155: _Variant(152),
    203: _Variant(200),
    23: _Variant(18, True, True),
    39: _Variant(34, True, True),
    87: _Variant(50, True, True),
    172: _Variant(101, True, True),
    257: _Variant(152, True, True),
    337: _Variant(200, True, True),
    85: _Variant(50, True),
    170: _Variant(101, True),
    255: _Variant(152, True),
    335: _Variant(200, True),
}


def simclr(
    path: str | os.PathLike,
    whole: bool = False,
    input_shape: tuple[int | None, int | None, int] | None = None,
) -> keras.Model:
    """Returns the network of a SimCLR v1 or v2 checkpoint, TF-Hub module or SavedModel.

    Only the tensors are read; the graph of a SavedModel is never run. All ResNets of the reference
    are supported, with and without selective kernels. Those with 18 and 34 layers keep the projection
    that the reference has in their first block. Pooling is padded as in the reference, so features
    agree for all image sizes.

    The network takes pixels in [0, 1].

    Args:
        path: prefix of a checkpoint ("model.ckpt-250228"), or the directory of a checkpoint, a
            TF-Hub module or a SavedModel.
        whole: whether to return a `keras_ssl.methods.SimCLR`, to continue training or to fine-tune
            from a layer of its head.
        input_shape: (height, width, channels) of the images; `None` for any size.

    Returns:
        The backbone, or the method.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if the checkpoint has another network (such as one with squeeze-and-excitation), or
            no head although `whole` is set, or a tensor is missing, unexpected, or has the wrong shape.

    Example:
        ```python
        backbone = keras_ssl.importers.simclr("r50_1x_sk1/")
        features = backbone(images)  # (batch, 2048)
        ```

    Source: `resnet.py`, `model.py`, `model_util.py` and `tf2/` of google-research/simclr.
    """
    tensors, origin = _read(path)
    base = {k: v for k, v in tensors.items() if k.startswith("base_model/")}
    head = {k: v for k, v in tensors.items() if k.startswith("head_contrastive/")}
    architecture = _architecture(base, origin)
    backbone = architecture.build(input_shape)
    fill(_places(backbone), base, origin)
    if not whole:
        return backbone
    return SimCLR(backbone, _projector(head, backbone.output_shape[-1], origin))


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], str]:
    """Returns the tensors with the names of TensorFlow 1, and the path as text."""
    import tensorflow as tf

    prefix = _prefix(path)
    try:
        reader = tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"{path} is not a complete TensorFlow checkpoint: {error}") from error
    names = reader.get_variable_to_shape_map()
    _check_sizes(names, reader.get_variable_to_dtype_map(), prefix, path)
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in names:
        return read_object_graph(reader, str(path)), str(path)
    kept = [name for name in names if not _NOT_WEIGHTS.fullmatch(name)]
    return {name: reader.get_tensor(name) for name in kept}, str(path)


def _check_sizes(shapes: Mapping, dtypes: Mapping, prefix: str, path: str | os.PathLike) -> None:
    """Raises ValueError if the declared sizes of the tensors exceed the size of their files."""
    place = pathlib.Path(prefix)
    files = place.parent.glob(f"{glob.escape(place.name)}.data-*")
    available = sum(file.stat().st_size for file in files)
    declared = sum(
        math.prod(shape) * dtypes[name].size for name, shape in shapes.items() if dtypes[name].size
    )
    if declared > available:
        raise ValueError(
            f"{path} is truncated, or declares wrong sizes. Expected: {declared} bytes. "
            f"Received: {available}"
        )


def _prefix(path: str | os.PathLike) -> str:
    """Returns the prefix of a checkpoint: the path itself, or that of the only one in a directory."""
    place = pathlib.Path(path).expanduser()
    if place.with_name(f"{place.name}.index").is_file():
        return str(place)
    directories = (place / "variables", place) if place.is_dir() else ()
    found = [index for directory in directories for index in sorted(directory.glob("*.index"))]
    if len(found) != 1:
        raise FileNotFoundError(
            "`path` must be the prefix of one checkpoint, or a directory with one (an .index file in "
            f"it or in variables/). Received: path={path} with "
            f"{join_names(index.name for index in found)}"
        )
    return str(found[0].with_suffix(""))


def _architecture(tensors: Mapping[str, np.ndarray], origin: str) -> Architecture:
    kernels = {k: v for k, v in tensors.items() if re.fullmatch(r"base_model/conv2d\w*/kernel", k)}
    if len(kernels) not in _CONVOLUTIONS:
        known = ", ".join(
            f"{count} (ResNet-{variant.depth}{' with sk_ratio > 0' if variant.is_selective else ''})"
            for count, variant in _CONVOLUTIONS.items()
        )
        raise ValueError(
            f"{origin} contains no ResNet of google-research/simclr. Expected convolutions "
            f"(base_model/conv2d*/kernel): {known}. Received: {len(kernels)} in {join_names(tensors)}"
        )
    variant = _CONVOLUTIONS[len(kernels)]
    shapes = [
        kernels.get(f"base_model/{_numbered('conv2d', n)}/kernel") for n in range(len(kernels))
    ]
    missing = [n for n, kernel in enumerate(shapes) if getattr(kernel, "ndim", 0) != 4]
    if missing:
        names = join_names(f"base_model/{_numbered('conv2d', n)}/kernel" for n in missing)
        raise ValueError(
            f"{origin} must have {names}, with four axes. Received: {join_names(kernels)}"
        )
    first = shapes[0].shape  # type: ignore[union-attr]
    ratio = 0.0
    if variant.is_selective:
        # From the squeeze layer of the last block: it is the widest, so the minimum number of units
        # affects it least. `nextafter`, because the units are a product that is rounded down.
        squeeze = shapes[-3].shape if variant.depth >= 50 else (1, 1, 16, 1)  # type: ignore[union-attr]
        ratio = np.nextafter(squeeze[3] / squeeze[2], 1.0)
    return Architecture(
        depth=variant.depth,
        filters=first[3] * (2 if variant.deep_stem else 1),
        stem="small" if not variant.deep_stem and first[:2] == (3, 3) else "imagenet",
        sk_ratio=float(ratio),
        channels=first[2],
        pooling="tensorflow",
        first_projection=variant.depth < 50,
    )


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _places(backbone: keras.Model) -> dict[str, Place]:
    """Returns the weights by TensorFlow 1's names, which number layers in the order of creation."""
    found: dict[str, dict[str, Place]] = {}
    for layer, kind, variable in iterate_weights(backbone):
        inner, _, name = kind.rpartition("/")
        found.setdefault(f"{layer.name}/{inner}", {})[name] = Place(variable)
    places = {}
    counts = {"conv2d": 0, "batch_normalization": 0}
    for layer in _in_creation_order(found):
        for name, place in found[layer].items():
            kind = "conv2d" if name == "kernel" else "batch_normalization"
            stored = _Kernel1x1(place.variable) if "select" in layer and name == "kernel" else place
            places[f"base_model/{_numbered(kind, counts[kind])}/{name}"] = stored
        counts[kind] += 1
    return places


class _Kernel1x1(Place):
    """The kernel of a dense layer, stored as a 1x1 convolution."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return (1, 1, *self.variable.shape)

    def fill(self, tensor: np.ndarray) -> None:
        self.variable.assign(tensor[0, 0])


# Order of creation in a block: first the shortcut; each convolution before its normalization.
_PARTS = (
    "shortcut_conv/",
    "shortcut_norm/",
    "conv1/",
    "norm1/",
    "conv2/",
    "norm2/",
    "select/squeeze",
    "select/norm",
    "select/excite",
    "conv3/",
    "norm3/",
)


def _in_creation_order(names: Iterable[str]) -> list[str]:
    def key(name: str) -> tuple[int, int, int]:
        if name.startswith("stem_"):
            part, number = re.fullmatch(r"stem_(conv|norm)(\d?)/", name).groups()  # type: ignore
            return (0, int(number or 1), ("conv", "norm").index(part))
        stage, block, part = re.fullmatch(r"block(\d)_(\d+)_(.+)", name).groups()  # type: ignore
        return (int(stage), int(block), _PARTS.index(part))

    return sorted(names, key=key)


def _projector(tensors: Mapping[str, np.ndarray], features: int, origin: str) -> ProjectionHead:
    numbers = sorted({int(match[1]) for name in tensors if (match := _HEAD.match(name))})
    kernels = [tensors.get(f"head_contrastive/nl_{n}/dense/kernel") for n in numbers]
    if not kernels or any(getattr(kernel, "ndim", 0) != 2 for kernel in kernels):
        raise ValueError(
            f"{origin} has no projection head (those of SimCLRv1 were not published); without `whole` "
            "it can be read. Expected: head_contrastive/nl_0/dense/kernel and so on. "
            f"Received: {join_names(tensors)}"
        )
    widths = [kernel.shape[1] for kernel in kernels if kernel is not None]
    hidden = widths[0] if len(widths) > 1 else None
    head = ProjectionHead(widths[-1], hidden, len(widths), name="projector")
    head.build((None, features))
    fill(dict(_head_places(head)), tensors, origin)
    return head


def _head_places(head: ProjectionHead) -> Iterator[tuple[str, Place]]:
    for layer in head.stack:
        if not layer.weights:
            continue
        kind, number = layer.name.split("_")
        name = "dense" if kind == "dense" else "batch_normalization"
        for variable in layer.weights:
            path = f"head_contrastive/nl_{int(number) - 1}/{name}/{variable.name}"
            yield path, Place(variable)
