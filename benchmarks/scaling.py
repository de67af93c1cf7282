"""Predicts step times on many devices: second half of docs/scaling.md.

    python -m benchmarks.communication --predict

    step = compute + communication - overlap,   overlap = 0

Nothing overlaps. The gradients are reduced as one tensor, which is complete only after the last
gradient, and layers and losses wait for their collectives. The time of a collective is that of NCCL's
own model for a ring, with the faster of two protocols.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras

from benchmarks import collectives
from benchmarks.collectives import Collective
from keras_ssl import backbones, layers, methods

DEVICES = (8, 64, 512)
PER_DEVICE = 32  # images per device, if the batch grows with the devices
IMAGES = 1_281_167  # in ImageNet's training set


@dataclass(frozen=True)
class Machine:
    """Nodes of 8 A100 GPUs, as in a DGX A100.

    Peak, bus and network are the vendor's numbers (bfloat16; 8 links of 200 Gbit/s per node). The
    bandwidth of a ring within a node and the latencies are constants from NCCL's
    `src/graph/tuning.cc` at 01afd20. Pairs of latencies are for the protocols LL (small messages, a
    quarter of the bandwidth) and Simple.
    """

    peak: float = 312e12  # FLOP/s
    images_per_second: float = 2470  # NVIDIA's ResNet-50 v1.5, training in mixed precision, one GPU
    node: int = 8
    in_node: float = 235e9  # bytes/s
    between: float = 8 * 25e9  # bytes/s per node
    ring_start: tuple[float, float] = (3.6e-6, 8.4e-6)
    ring_hop: tuple[float, float] = (0.47e-6, 3.4e-6)
    ring_hop_between: tuple[float, float] = (2.7e-6, 9.6e-6)
    tree_start: tuple[float, float] = (4.4e-6, 0.0)
    tree_hop: tuple[float, float] = (0.52e-6, 28e-6)
    tree_hop_between: tuple[float, float] = (5.0e-6, 50e-6)

    def nodes(self, n: int) -> int:
        """Returns the number of nodes for n devices."""
        return max(1, n // self.node)

    def ring(self, each: Collective, n: int) -> float:
        """Returns the seconds of a collective in a ring of n devices."""
        rounds = 2 if each.op == "reduce" else 1
        nodes = self.nodes(n)
        between = rounds * (nodes - 1)
        within = rounds * (n - 1) - between
        bus = self.in_node if nodes <= 2 else self.between
        times = []
        for protocol, simple in enumerate((False, True)):
            hop = self.ring_hop[protocol] * (1.8 if nodes > 1 and not simple else 1.0)
            latency = self.ring_start[protocol]
            latency += within * hop + between * self.ring_hop_between[protocol]
            plateau = nodes > 1 and rounds == 2 and each.bytes >= n / 16 * 65536
            if simple and plateau:
                latency *= 1.9
            times.append(latency + each.bytes_sent(n) / (bus if simple else bus / 4))
        return min(times)

    def ring_or_tree(self, each: Collective, n: int) -> float:
        """Returns the seconds of the faster of ring and tree, as NCCL would choose."""
        if each.op != "reduce":
            return self.ring(each, n)
        nodes = self.nodes(n)
        bus = self.in_node if nodes <= 2 else self.between
        bus = min(0.9 * bus, 110e9 if nodes <= 2 else 80e9) / 2
        times = []
        for protocol, simple in enumerate((False, True)):
            hop = self.tree_hop[protocol] * (1.8 if nodes > 1 and not simple else 1.0)
            depth = (min(n, self.node) - 1) * hop
            depth += math.floor(math.log2(nodes)) * self.tree_hop_between[protocol]
            times.append(
                self.tree_start[protocol] + 2 * depth + each.bytes / (bus if simple else bus / 3.8)
            )
        return min(self.ring(each, n), *times)


@dataclass(frozen=True)
class SetUp:
    """A published training set-up: its model, its batch, and the work of a step.

    Args:
        name: name in the tables.
        model: model with full-size networks.
        batch: global batch size.
        passes: forward and backward passes of online and target networks per image, counted in forward
            passes of the backbone; a backward pass counts as two.
        head_work: FLOP of the heads per image.
    """

    name: str
    model: methods.SelfSupervised
    batch: int
    passes: int
    head_work: float

    def exchange(self, b: int, n: int, by_keras: bool = False) -> list[Collective]:
        """Returns the collectives of a step with b images per device; see `Shape` for `by_keras`."""
        return collectives.for_model(self.model, b, n, by_keras)

    def compute(self, machine: Machine, b: int, n: int) -> float:
        """Returns the seconds of computation for b images on one device."""
        flop = forward_flop(self.model.backbone)
        speed = machine.images_per_second * 3 * flop  # FLOP/s reached in training a ResNet-50
        return (b * (self.passes * flop + self.head_work) + self.loss_flop(b, n)) / speed

    def logits(self, b: int, n: int) -> int:
        """Returns the number of similarities that a device computes for its loss."""
        if isinstance(self.model, methods.SimCLR):
            return (2 * b) * (2 * b * n)
        return b * (self.model.queue_size + 1) if isinstance(self.model, methods.MoCo) else 0

    def loss_flop(self, b: int, n: int) -> float:
        """Returns the FLOP of the similarities, forward and backward."""
        return 3 * 2 * self.logits(b, n) * collectives.shape_of(self.model).dim


def published_set_ups() -> list[SetUp]:
    """Returns the set-ups of the SimCLR, MoCo v2 and BYOL papers, with ResNet-50 at 224 pixels."""
    resnet = backbones.ResNet(50, input_shape=(224, 224, 3))
    simclr = methods.SimCLR(resnet)
    split = methods.MoCo(layers.split_batch_norm(resnet, groups=8))
    moco = methods.MoCo(resnet)
    byol = methods.BYOL(resnet)
    online = dense_flop([byol.projector, byol.predictor])
    target = dense_flop([byol.projector])
    return [
        SetUp("SimCLR", simclr, 4096, 2 * 3, 2 * 3 * dense_flop([simclr.projector])),
        SetUp("MoCo v2, shuffled", split, 256, 3 + 1, 4 * dense_flop([moco.projector])),
        SetUp("MoCo v2, synchronised", moco, 256, 3 + 1, 4 * dense_flop([moco.projector])),
        SetUp("BYOL", byol, 4096, 2 * (3 + 1), 2 * (3 * online + target)),
    ]


def forward_flop(network: keras.Model) -> float:
    """Returns the FLOP of the convolutions of a functional network for one image."""
    convolutions = [each for each in network.layers if isinstance(each, keras.layers.Conv2D)]
    return 2.0 * sum(
        math.prod(each.kernel.shape) * math.prod(each.output.shape[1:3]) for each in convolutions
    )


def dense_flop(heads: Iterable[keras.layers.Layer]) -> float:
    """Returns the FLOP of heads for one image."""
    return 2.0 * sum(
        math.prod(layer.kernel.shape)
        for head in heads
        for layer in head._flatten_layers()
        if isinstance(layer, keras.layers.Dense)
    )


def seconds_by_kind(
    exchange: Iterable[Collective],
    n: int,
    seconds: Callable[[Collective, int], float],
    group: int | None = None,
) -> dict[str, float]:
    """Returns the seconds of a step's collectives, run one after the other, by kind.

    Args:
        exchange: collectives of a step.
        n: number of devices.
        seconds: function that returns the seconds of a collective on a number of devices.
        group: number of devices that share statistics; `None` for all.
    """
    sums = dict.fromkeys(collectives.KINDS, 0.0)
    for each in exchange:
        sums[each.kind] += seconds(each, min(n, group or n) if each.kind == "statistics" else n)
    return sums


def bytes_table(set_ups: list[SetUp]) -> str:
    """MB that each device sends in a step with the published batch, and number of collectives."""
    kinds = ("gradients", "statistics", "embeddings", "views")
    rows = []
    for set_up in set_ups:
        for n in DEVICES:
            b, rest = divmod(set_up.batch, n)
            if rest:
                rows.append([set_up.name, n, "less than one", *6 * [""]])
                continue
            exchange = set_up.exchange(b, n)
            sums = collectives.bytes_by_kind(exchange, n)
            numbers = [*(sums[kind] for kind in kinds), sum(sums.values())]
            rows.append([set_up.name, n, b, *(f"{x / 1e6:,.2f}" for x in numbers), len(exchange)])
    head = ["method", "devices", "images per device", *kinds, "all, MB", "collectives"]
    return table(head, rows)


def time_table(set_ups: list[SetUp], machine: Machine, per_device: int | None = None) -> str:
    """Predicted step time in ms, with the published batch or with `per_device` images per device."""
    rows = []
    for set_up in set_ups:
        for n in DEVICES:
            b, rest = (per_device, 0) if per_device else divmod(set_up.batch, n)
            if rest:
                continue
            compute = set_up.compute(machine, b, n)
            exchange = set_up.exchange(b, n)
            parts = seconds_by_kind(exchange, n, machine.ring)
            others = sum(parts[kind] for kind in ("embeddings", "views", "shapes", "logs"))
            step = compute + sum(parts.values())
            chosen = compute + sum(seconds_by_kind(exchange, n, machine.ring_or_tree).values())
            times = (compute, parts["gradients"], parts["statistics"], others, step, chosen)
            rows.append(
                [
                    set_up.name,
                    n,
                    b * n,
                    *(f"{1e3 * each:,.1f}" for each in times),
                    f"{b * n / chosen:,.0f}",
                    f"{compute / chosen:.0%}",
                ]
            )
    head = ["method", "devices", "batch", "compute", "gradients", "statistics", "rest"]
    head += ["step, rings", "step, rings or trees", "images/s", "computing"]
    return table(head, rows)


def remedy_table(set_ups: list[SetUp], machine: Machine) -> str:
    """Ways to reduce the time for statistics, in ms per step, with the published batch."""
    rows = []
    for set_up in set_ups:
        for n in DEVICES:
            b, rest = divmod(set_up.batch, n)
            if rest or set_up.name.endswith("shuffled"):
                continue
            times = []
            for by_keras, group in ((False, None), (False, machine.node), (True, None)):
                exchange = set_up.exchange(b, n, by_keras)
                parts = seconds_by_kind(exchange, n, machine.ring_or_tree, group)
                times.append(parts["statistics"])
            compute = set_up.compute(machine, b, n)
            rows.append([set_up.name, n, *(f"{1e3 * x:,.1f}" for x in (compute, *times))])
    head = ["method", "devices", "compute", "statistics", "groups of 8", "by Keras' layer"]
    return table(head, rows)


def loss_table(set_ups: list[SetUp]) -> str:
    """Similarities of the loss on one device: MB in float32, and fraction of the step's FLOP."""
    machine, rows = Machine(), []
    for set_up in set_ups[:2]:
        for n in DEVICES:
            row = [set_up.name, n]
            for b in (set_up.batch / n, PER_DEVICE):
                if b < 1:
                    row += ["", "", ""]
                    continue
                b = int(b)
                alone = set_up.loss_flop(b, n) / (machine.images_per_second * 3)
                share = alone / forward_flop(set_up.model.backbone) / set_up.compute(machine, b, n)
                row += [b * n, f"{4 * set_up.logits(b, n) / 1e6:,.1f}", f"{share:.2%}"]
            rows.append(row)
    head = ["method", "devices", "published batch", "MB", "share"]
    return table([*head, f"batch at {PER_DEVICE} per device", "MB", "share"], rows)


def observed_table(set_ups: list[SetUp]) -> str:
    """Step times from two published durations, on TPU v3 cores of 61.5 TFLOP/s."""
    by_name = {each.name: each for each in set_ups}
    rows = []
    for name, cores, epochs, hours in (("SimCLR", 128, 100, 1.5), ("BYOL", 512, 1000, 8.0)):
        set_up = by_name[name]
        seconds = 3600 * hours / (epochs * IMAGES / set_up.batch)
        b = set_up.batch // cores
        flop = b * (set_up.passes * forward_flop(set_up.model.backbone) + set_up.head_work)
        flop += set_up.loss_flop(b, cores)
        share = flop / (seconds * 61.5e12)
        rows.append([name, cores, b, f"{hours:g} h, {epochs} epochs", f"{1e3 * seconds:.0f}"])
        rows[-1] += [f"{flop / 1e12:.2f}", f"{share:.0%}"]
    head = ["method", "cores", "images per core", "published", "step, ms", "TFLOP per core"]
    return table([*head, "of the peak"], rows)


def table(head: list[str], rows: list[list]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def tables() -> dict[str, str]:
    """Returns all tables by title."""
    set_ups, machine = published_set_ups(), Machine()
    return {
        "Sent by each device per step, MB": bytes_table(set_ups),
        "Published batch, ms": time_table(set_ups, machine),
        f"{PER_DEVICE} images per device, ms": time_table(set_ups, machine, PER_DEVICE),
        "Statistics, ms": remedy_table(set_ups, machine),
        "Similarities of the loss": loss_table(set_ups),
        "Published durations": observed_table(set_ups),
    }


def report() -> str:
    """Returns the tables of docs/scaling.md."""
    return "\n\n".join(f"{title}:\n\n{text}" for title, text in tables().items())
