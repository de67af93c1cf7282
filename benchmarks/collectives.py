"""Formulas for the collectives (all-reduce, all-gather) of each method's training step.

`benchmarks/communication.py` compares them with the collectives that run. `benchmarks/scaling.py`
predicts step times from them.

n is the number of devices, b the images per device, d the dimension of an embedding, P the number of
trainable parameters, and C the channels of a batch normalization. Numbers are float32 (4 bytes), also
under mixed precision: variables, statistics and embeddings stay float32.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import keras

from keras_ssl import methods
from keras_ssl.layers import SplitBatchNorm

KINDS = ("gradients", "statistics", "embeddings", "views", "shapes", "logs")


@dataclass(frozen=True)
class Collective:
    """One all-reduce or all-gather of a training step, in which all devices take part.

    Args:
        kind: what is communicated, one of `KINDS`.
        op: "reduce" or "gather".
        elements: numbers that each device contributes.
        size: bytes per number.
    """

    kind: str
    op: str
    elements: int
    size: int = 4

    @property
    def bytes(self) -> int:
        """Bytes that each device contributes."""
        return self.elements * self.size

    def bytes_sent(self, n: int) -> float:
        """Returns the bytes that each device sends in a ring of n devices."""
        return (2 * (n - 1) / n if self.op == "reduce" else n - 1) * self.bytes


@dataclass(frozen=True)
class Norm:
    """Channels of a batch normalization, and how devices share its statistics."""

    channels: int
    shared: str  # "synchronised", "split" or "local"


@dataclass(frozen=True)
class Shape:
    """Sizes of a model that the formulas depend on.

    Args:
        parameters: P, number of trainable parameters.
        dim: d, dimension of an embedding.
        view: numbers in one view of one image, height * width * channels.
        norms: batch normalizations of the online networks, which have a backward pass.
        target_norms: batch normalizations of the target networks.
        view_size: bytes per number of a view.
        by_keras: whether synchronised normalizations are `keras.layers.BatchNormalization`, not
            `BatchNorm`.
    """

    parameters: int
    dim: int
    view: int
    norms: tuple[Norm, ...]
    target_norms: tuple[Norm, ...] = ()
    view_size: int = 4
    by_keras: bool = False


def shape_of(model: methods.SelfSupervised) -> Shape:
    """Returns the sizes of a model that the formulas depend on."""
    parts = [getattr(model, name, None) for name in ("backbone", "projector", "predictor")]
    targets = [getattr(model, f"target_{name}", None) for name in ("backbone", "projector")]
    return Shape(
        parameters=sum(math.prod(v.shape) for v in model.trainable_variables),
        dim=model.projector.compute_output_shape(model.backbone.output_shape)[-1],
        view=math.prod(model.backbone.input_shape[1:]),
        norms=tuple(_norms(parts)),
        target_norms=tuple(_norms(targets)),
    )


def _norms(networks: Iterable) -> Iterator[Norm]:
    for network in networks:
        for layer in network._flatten_layers() if network is not None else ():
            if isinstance(layer, keras.layers.BatchNormalization):
                shared = "synchronised" if layer.synchronized else "local"
                split = isinstance(layer, SplitBatchNorm)
                yield Norm(layer.moving_mean.shape[0], "split" if split else shared)


def simclr(shape: Shape, b: int, n: int) -> list[Collective]:
    """Both views go through the network together. Their embeddings are gathered, with a gradient."""
    return [
        *every_step(shape),
        *statistics(shape, forward=1, backward=1),
        *2 * gather("embeddings", b, (shape.dim,)),
        *2 * gather_backward("embeddings", b, (shape.dim,), n),
    ]


def simclr_memory(shape: Shape, b: int, n: int) -> list[Collective]:
    """Both views go through the network together; their keys are gathered for loss and queue."""
    return [
        *every_step(shape),
        *statistics(shape, forward=1, backward=1, target=1),
        *2 * gather("embeddings", b, (shape.dim,)),
    ]


def moco(shape: Shape, b: int, n: int, symmetric: bool = False) -> list[Collective]:
    """Keys are gathered for the queue. Without synchronised statistics, views are shuffled first."""
    passes = 2 if symmetric else 1
    exchange = [
        *every_step(shape),
        *statistics(shape, passes, passes, target=passes),
        *passes * gather("embeddings", b, (shape.dim,)),  # for the queue, and to restore the order
    ]
    if any(norm.shared != "synchronised" for norm in shape.target_norms):
        exchange += passes * gather("views", b, (shape.view,), shape.view_size, rank=4)
    return exchange


def byol(shape: Shape, b: int, n: int) -> list[Collective]:
    """Two passes through both networks. Embeddings are not exchanged."""
    return [
        *every_step(shape),
        *statistics(shape, forward=2, backward=2, target=2),
    ]


def memory_bank(shape: Shape, b: int, n: int) -> list[Collective]:
    """The mean embeddings of the views and their image indices are gathered for the bank."""
    return [
        *every_step(shape),
        *statistics(shape, forward=2, backward=2),
        *gather("embeddings", b, (), size=8),
        *gather("embeddings", b, (shape.dim,)),
    ]


def for_model(
    model: methods.SelfSupervised, b: int, n: int, by_keras: bool = False
) -> list[Collective]:
    """Returns the collectives of a model's training step; see `Shape` for `by_keras`."""
    shape = replace(shape_of(model), by_keras=by_keras)
    if isinstance(model, methods.MoCo):
        return moco(shape, b, n, model.symmetric)
    formulas = {
        methods.SimCLR: simclr,
        methods.SimCLRMemory: simclr_memory,
        methods.BYOL: byol,
        methods.MemoryBank: memory_bank,
    }
    return formulas[type(model)](shape, b, n)


def every_step(shape: Shape) -> list[Collective]:
    """All gradients are reduced as one tensor, after the last is computed. The loss is for the logs."""
    return [Collective("gradients", "reduce", shape.parameters), Collective("logs", "reduce", 1)]


def statistics(shape: Shape, forward: int, backward: int, target: int = 0) -> list[Collective]:
    """The collectives of batch normalizations, for several passes through online and target networks.

    A synchronised layer reduces sums, sums of squares and the count in the forward pass, and the sums
    of two gradients in the backward pass, each time as one tensor. Keras' layer reduces each of these
    separately, with a count per channel. A split layer gathers mean and variance for its moving
    statistics.
    """
    passes = [(norm, forward, backward) for norm in shape.norms]
    passes += [(norm, target, 0) for norm in shape.target_norms]
    exchange = []
    for norm, forwards, backwards in passes:
        if norm.shared == "split":
            exchange += forwards * gather("statistics", 1, (2 * norm.channels,), rank=3)
        elif norm.shared == "synchronised" and shape.by_keras:
            exchange += (3 * forwards + 2 * backwards) * [
                Collective("statistics", "reduce", norm.channels)
            ]
        elif norm.shared == "synchronised":
            exchange += forwards * [Collective("statistics", "reduce", 2 * norm.channels + 1)]
            exchange += backwards * [Collective("statistics", "reduce", 2 * norm.channels)]
    return exchange


def gather(
    kind: str, b: int, row: tuple[int, ...], size: int = 4, rank: int | None = None
) -> list[Collective]:
    """A gather of (b, *row) tensors. TensorFlow gathers their int32 shapes first."""
    rank = 1 + len(row) if rank is None else rank
    return [
        Collective("shapes", "gather", rank),
        Collective(kind, "gather", b * math.prod(row), size),
    ]


def gather_backward(kind: str, b: int, row: tuple[int, ...], n: int) -> list[Collective]:
    """The gradient of a gather: the full gradient, n times a share, is reduced and then sliced.

    The lengths of the slices are gathered again, which gathers their shape first.
    """
    return [Collective(kind, "reduce", n * b * math.prod(row)), *gather("shapes", 1, ())]


def bytes_by_kind(collectives: Iterable[Collective], n: int) -> dict[str, float]:
    """Returns the bytes that each device sends in a step, by kind."""
    sums = dict.fromkeys(KINDS, 0.0)
    for each in collectives:
        sums[each.kind] += each.bytes_sent(n)
    return sums


def bytes_sent(collectives: Iterable[Collective], n: int) -> float:
    """Returns the bytes that each device sends in a step."""
    return sum(each.bytes_sent(n) for each in collectives)


def tally(collectives: Iterable[Collective]) -> Counter:
    """Counts each (op, bytes per number, numbers), which can also be counted in a graph."""
    return Counter((each.op, each.size, each.elements) for each in collectives)
