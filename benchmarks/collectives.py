"""What a training step sends: each collective of each method, as a formula.

`benchmarks/communication.py` compares these with what runs; `benchmarks/scaling.py` predicts from them.

Letters: n devices, b images per device, d the embedding's dimension, P trainable parameters, C the
channels of a batch normalisation. Numbers are float32, 4 bytes, under mixed precision too: variables,
statistics and embeddings are.
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
    """One all-reduce or all-gather of a training step, that all devices take part in.

    Args:
        kind: what it is for, one of `KINDS`.
        op: "reduce" or "gather".
        elements: numbers that each device brings.
        size: bytes of a number.
    """

    kind: str
    op: str
    elements: int
    size: int = 4

    @property
    def bytes(self) -> int:
        """Bytes that a device brings."""
        return self.elements * self.size

    def sent(self, n: int) -> float:
        """Returns the bytes that a device sends in a ring of n."""
        return (2 * (n - 1) / n if self.op == "reduce" else n - 1) * self.bytes


@dataclass(frozen=True)
class Norm:
    """A batch normalisation: its channels, and how the devices share its statistics."""

    channels: int
    shared: str  # "synchronised", "split" or "apart"


@dataclass(frozen=True)
class Shape:
    """What the formulas need to know of a model.

    Args:
        parameters: P, trainable ones.
        dim: d.
        view: numbers of one view of one image, height * width * channels.
        norms: batch normalisations that gradients pass through.
        target_norms: those of the target networks.
        view_size: bytes of each of a view's numbers.
        by_keras: synchronised normalisations are `keras.layers.BatchNormalization`, not `BatchNorm`.
    """

    parameters: int
    dim: int
    view: int
    norms: tuple[Norm, ...]
    target_norms: tuple[Norm, ...] = ()
    view_size: int = 4
    by_keras: bool = False


def shape_of(model: methods.SelfSupervised) -> Shape:
    """Returns what the formulas need to know of a model."""
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
                shared = "synchronised" if layer.synchronized else "apart"
                split = isinstance(layer, SplitBatchNorm)
                yield Norm(layer.moving_mean.shape[0], "split" if split else shared)


def simclr(shape: Shape, b: int, n: int) -> list[Collective]:
    """Both views pass together; the embeddings of both are gathered, with a gradient."""
    return [
        *every_step(shape),
        *statistics(shape, forward=1, backward=1),
        *2 * gather("embeddings", b, (shape.dim,)),
        *2 * gather_backward("embeddings", b, (shape.dim,), n),
    ]


def simclr_memory(shape: Shape, b: int, n: int) -> list[Collective]:
    """Both views pass together; the keys of both are gathered, as candidates and for the queue."""
    return [
        *every_step(shape),
        *statistics(shape, forward=1, backward=1, target=1),
        *2 * gather("embeddings", b, (shape.dim,)),
    ]


def moco(shape: Shape, b: int, n: int, symmetric: bool = False) -> list[Collective]:
    """The keys enter every device's queue; where normalised in parts, views are shuffled first."""
    passes = 2 if symmetric else 1
    found = [
        *every_step(shape),
        *statistics(shape, passes, passes, target=passes),
        *passes * gather("embeddings", b, (shape.dim,)),  # into the queue, and in order again
    ]
    if any(norm.shared != "synchronised" for norm in shape.target_norms):
        found += passes * gather("views", b, (shape.view,), shape.view_size, rank=4)
    return found


def byol(shape: Shape, b: int, n: int) -> list[Collective]:
    """Two passes through both networks, and nothing of the embeddings leaves a device."""
    return [
        *every_step(shape),
        *statistics(shape, forward=2, backward=2, target=2),
    ]


def memory_bank(shape: Shape, b: int, n: int) -> list[Collective]:
    """The views' mean embeddings enter every device's bank, with the numbers of their images."""
    return [
        *every_step(shape),
        *statistics(shape, forward=2, backward=2),
        *gather("embeddings", b, (), size=8),
        *gather("embeddings", b, (shape.dim,)),
    ]


def of_model(
    model: methods.SelfSupervised, b: int, n: int, by_keras: bool = False
) -> list[Collective]:
    """Returns the collectives of a model's training step; `by_keras` as in `Shape`."""
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
    """The gradients travel as one tensor, when the last of them is there; and the loss, for the log."""
    return [Collective("gradients", "reduce", shape.parameters), Collective("logs", "reduce", 1)]


def statistics(shape: Shape, forward: int, backward: int, target: int = 0) -> list[Collective]:
    """What batch normalisations exchange in passes through the networks, and through their targets.

    A synchronised one reduces sums, sums of squares and their count on the way forward, and the sums
    of two gradients on the way back, each time as one tensor. Keras' own layer reduces each by itself,
    and counts for every channel. A split one gathers mean and variance, which only its moving
    statistics take.
    """
    passes = [(norm, forward, backward) for norm in shape.norms]
    passes += [(norm, target, 0) for norm in shape.target_norms]
    found = []
    for norm, there, back in passes:
        if norm.shared == "split":
            found += there * gather("statistics", 1, (2 * norm.channels,), rank=3)
        elif norm.shared == "synchronised" and shape.by_keras:
            found += (3 * there + 2 * back) * [Collective("statistics", "reduce", norm.channels)]
        elif norm.shared == "synchronised":
            found += there * [Collective("statistics", "reduce", 2 * norm.channels + 1)]
            found += back * [Collective("statistics", "reduce", 2 * norm.channels)]
    return found


def gather(
    kind: str, b: int, row: tuple[int, ...], size: int = 4, rank: int | None = None
) -> list[Collective]:
    """TensorFlow gathers the shapes of the tensors (int32) before the tensors, of (b, *row) numbers."""
    rank = 1 + len(row) if rank is None else rank
    return [
        Collective("shapes", "gather", rank),
        Collective(kind, "gather", b * math.prod(row), size),
    ]


def gather_backward(kind: str, b: int, row: tuple[int, ...], n: int) -> list[Collective]:
    """The gradient of a gather: all of it is reduced, n times what a device brought, then cut.

    The lengths of the cuts are gathered anew, as a tensor with a shape of its own.
    """
    return [Collective(kind, "reduce", n * b * math.prod(row)), *gather("shapes", 1, ())]


def by_kind(collectives: Iterable[Collective], n: int) -> dict[str, float]:
    """Returns the bytes that a device sends in a step, by kind."""
    sums = dict.fromkeys(KINDS, 0.0)
    for each in collectives:
        sums[each.kind] += each.sent(n)
    return sums


def sent(collectives: Iterable[Collective], n: int) -> float:
    """Returns the bytes that a device sends in a step."""
    return sum(each.sent(n) for each in collectives)


def tally(collectives: Iterable[Collective]) -> Counter:
    """Returns how often each (op, bytes per number, numbers) occurs: what can be seen of a graph."""
    return Counter((each.op, each.size, each.elements) for each in collectives)
