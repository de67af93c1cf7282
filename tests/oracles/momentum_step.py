"""Runs training steps of MoCo, BYOL and SimCLR in PyTorch and writes the results to golden files.

This script does not use keras_ssl. It is run by hand in a separate environment. Its files are in
tests/oracles/golden/. tests/methods/test_against_pytorch.py runs the same steps in keras_ssl and
compares the results; it does not need PyTorch.

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install "torch==2.13.0" "numpy==2.4.6"
    /tmp/oracle/bin/python tests/oracles/momentum_step.py            # writes the files
    /tmp/oracle/bin/python tests/oracles/momentum_step.py --check    # compares with these files

The files were written with these versions and Python 3.11. The CPU build, torch 2.13.0+cpu, is enough.
Each file contains the versions and all settings of its case. The script takes a few seconds.

The computations follow the papers and the behavior of the reference code:

- MoCo: algorithm 1 of He et al. 2020; facebookresearch/moco, `moco/builder.py`; symmetric loss and
  split batch normalization as in its notebook `colab/moco_cifar10_demo.ipynb`. A step follows
  algorithm 1: gradient, optimizer, momentum update, queue. The reference instead updates the key
  encoder just before it encodes keys. The keys are the same, because the encoders start equal, but
  after the last step the reference's key encoder is one update behind.
- BYOL: Grill et al. 2020, section 3.1; google-deepmind/deepmind-research, `byol/byol_experiment.py`
  and `byol/utils/`. Each network sees the first view, then the second.
- SimCLR: algorithm 1 of Chen et al. 2020, the mean over the 2N rows. The network sees both views
  in one batch.

Five conventions differ between the two libraries. The files use Keras' conventions:

- Layout. In the files, convolution kernels are (height, width, in, out), dense kernels (in, out),
  images (height, width, channels), and the queue is (size, dim).
- Moving variance. PyTorch averages batch variances divided by n - 1, Keras those divided by n. The
  normalization divides by n in both. `divide_by_n` converts.
- Momentum of batch normalization. 0.1 here is 0.9 in Keras.
- Groups of split batch normalization. The notebook's groups take every n-th image, those of keras_ssl
  are contiguous. `with_contiguous_groups` reorders the batch for the encoder and restores the order
  of its outputs.
- Precision. All computations use float64 and are rounded to float32 at the end, so that the files
  have no accumulated rounding errors. The initial weights, queue and images are float32 numbers.
"""

import argparse
import json
import math
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
import torch_networks as networks
from torch import nn

GOLDEN = Path(__file__).parent / "golden"
STEPS = 3
SIDE = 8  # pixels


@dataclass(frozen=True)
class Case:
    """One golden file."""

    name: str
    method: str  # moco, byol or simclr
    batch: int = 8
    dim: int = 8
    head_depth: int = 2
    temperature: float = 0.2
    queue_size: int = 0
    symmetric: bool = False
    groups: int = 1  # of the backbone's batch normalization
    momentum: float = 0.9  # of the target network at the first step
    final_momentum: float = 0.9
    learning_rate: float = 0.1
    optimizer_momentum: float = 0.9
    weight_decay: float = 0.01
    seed: int = 0


CASES = (
    Case(
        "moco_v1", "moco", head_depth=1, temperature=0.07, queue_size=32, learning_rate=0.03, seed=1
    ),
    # The queue size is not a multiple of the batch size: the third batch wraps around the end.
    Case("moco_v2", "moco", queue_size=20, seed=2),
    Case("moco_symmetric", "moco", temperature=0.1, queue_size=40, symmetric=True, seed=3),
    Case("moco_split_batch_norm", "moco", batch=16, queue_size=64, groups=4, seed=4),
    Case("byol", "byol", dim=10, final_momentum=1.0, seed=5),
    Case("simclr", "simclr", temperature=0.5, seed=6),
)


def draw_views(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Returns uint8 (steps, 2, batch, side, side, 3): coarse patterns with noise per view."""
    coarse = rng.uniform(0, 255, (STEPS, 1, case.batch, 2, 2, 3))
    pattern = coarse.repeat(SIDE // 2, axis=3).repeat(SIDE // 2, axis=4)
    noise = rng.normal(0, 40, (STEPS, 2, case.batch, SIDE, SIDE, 3))
    return np.clip(pattern + noise, 0, 255).astype(np.uint8)


def with_contiguous_groups(network, groups: int):
    """Returns `network` with normalization groups that are contiguous parts of the batch."""

    def call(x):
        order = torch.arange(len(x)).reshape(groups, -1).T.flatten()
        return network(x[order])[torch.argsort(order)]

    return call


class MoCo:
    def __init__(self, case: Case, online: nn.ModuleDict, rng: np.random.Generator):
        self.case = case
        self.target = nn.ModuleDict({k: deepcopy(online[k]) for k in ("backbone", "projector")})
        self.query_encoder = with_contiguous_groups(nn.Sequential(*online.values()), case.groups)
        self.key_encoder = with_contiguous_groups(nn.Sequential(*self.target.values()), case.groups)
        rows = rng.normal(size=(case.queue_size, case.dim))
        self.queue = networks.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        self.pointer = 0
        # Shuffled batch norm: keys are encoded in this order, the same in each step.
        self.order = torch.from_numpy(rng.permutation(case.batch))

    def contrast(self, queries, keys):
        """Returns the loss of one direction, and the keys."""
        q = F.normalize(self.query_encoder(queries), dim=1)
        with torch.no_grad():
            shuffled = F.normalize(self.key_encoder(keys[self.order]), dim=1)
            k = shuffled[torch.argsort(self.order)]
        positive = (q * k).sum(1, keepdim=True)  # (batch, 1)
        negative = q @ self.queue.clone().T  # (batch, size)
        logits = torch.cat([positive, negative], dim=1) / self.case.temperature
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long)), k

    def loss(self, view_1, view_2):
        loss, k_2 = self.contrast(view_1, view_2)
        self.keys = k_2
        if self.case.symmetric:
            loss_21, k_1 = self.contrast(view_2, view_1)
            loss = loss + loss_21
            self.keys = torch.cat([k_1, k_2])
        return loss

    def finish_step(self):
        size = self.case.queue_size
        for row in self.keys:  # one by one, so that a batch can wrap around the end
            self.queue[self.pointer] = row
            self.pointer = (self.pointer + 1) % size

    def state(self):
        return {"queue/keys": self.queue.numpy().copy(), "queue/pointer": np.int64(self.pointer)}


class BYOL:
    def __init__(self, case: Case, online: nn.ModuleDict, rng: np.random.Generator):
        self.online = online
        self.target = nn.ModuleDict({k: deepcopy(online[k]) for k in ("backbone", "projector")})

    def loss(self, view_1, view_2):
        predict = nn.Sequential(*self.online.values())
        project = nn.Sequential(*self.target.values())
        p_1, p_2 = predict(view_1), predict(view_2)
        with torch.no_grad():
            z_1, z_2 = project(view_1), project(view_2)

        def distance(p, z):
            return (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(1)

        return (distance(p_1, z_2) + distance(p_2, z_1)).mean()

    def finish_step(self):
        pass

    def state(self):
        return {}


class SimCLR:
    def __init__(self, case: Case, online: nn.ModuleDict, rng: np.random.Generator):
        self.case = case
        self.online = online
        self.target = nn.ModuleDict()

    def loss(self, view_1, view_2):
        count = len(view_1)
        encode = nn.Sequential(*self.online.values())
        z = F.normalize(encode(torch.cat([view_1, view_2])), dim=1)
        similarity = z @ z.T / self.case.temperature
        similarity = similarity.masked_fill(torch.eye(2 * count, dtype=torch.bool), -math.inf)
        positives = (torch.arange(2 * count) + count) % (2 * count)
        return F.cross_entropy(similarity, positives)

    finish_step = BYOL.finish_step
    state = BYOL.state


METHODS = {"moco": MoCo, "byol": BYOL, "simclr": SimCLR}


def target_momentum(case: Case, step: int) -> float:
    """Returns BYOL's schedule; constant if both ends are equal."""
    remaining = (math.cos(math.pi * step / STEPS) + 1) / 2
    return case.final_momentum - (case.final_momentum - case.momentum) * remaining


@torch.no_grad()
def update_target(target: nn.ModuleDict, online: nn.ModuleDict, momentum: float):
    """Updates parameters only. The moving statistics come from the target's own batches."""
    for name, part in target.items():
        for own, other in zip(part.parameters(), online[name].parameters(), strict=True):
            own.copy_(momentum * own + (1 - momentum) * other)


def online_networks(case: Case) -> nn.ModuleDict:
    parts = {"backbone": networks.backbone(case.groups)}
    if case.method == "moco":
        parts["projector"] = networks.moco_head(case.head_depth, case.dim)
    elif case.method == "byol":
        parts["projector"] = networks.byol_head(networks.FEATURES, case.dim)
        parts["predictor"] = networks.byol_head(case.dim, case.dim)
    else:
        parts["projector"] = networks.simclr_head(case.dim)
    return nn.ModuleDict(parts).double().train()


def golden(case: Case) -> dict[str, np.ndarray]:
    """Runs the steps of a case; returns the contents of its file."""
    rng = np.random.default_rng(case.seed)
    online = online_networks(case)
    networks.draw_weights(online, rng)
    views = draw_views(case, rng)
    method = METHODS[case.method](case, online, rng)
    start = networks.keras_weights(online)

    content = {"views": views} | {f"start/{k}": v for k, v in (start | method.state()).items()}
    if case.groups > 1:
        content["order"] = method.order.numpy()
    optimizer = torch.optim.SGD(
        [p for p in online.parameters() if p.requires_grad],
        lr=case.learning_rate,
        momentum=case.optimizer_momentum,
        weight_decay=case.weight_decay,
    )
    images = torch.from_numpy(views / 256).permute(0, 1, 2, 5, 3, 4)  # exact also in float32
    losses = []
    for step in range(STEPS):
        loss = method.loss(*images[step])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_target(method.target, online, target_momentum(case, step))
        method.finish_step()
        losses.append(loss.item())
        after = all_weights(case, start, online, method.target) | method.state()
        content |= {f"after_{step + 1}/{k}": v for k, v in after.items()}
    content["losses"] = np.array(losses)
    content = {
        name: value.astype(np.float32) if value.dtype == np.float64 else value
        for name, value in content.items()
    }
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    content["settings"] = np.array(json.dumps(asdict(case) | {"versions": versions}))
    return content


def all_weights(case: Case, start: dict, online: nn.ModuleDict, target: nn.ModuleDict) -> dict:
    """Returns the weights of both networks with Keras' names; "target_" is put before the target's."""
    images = case.batch * (2 if case.method == "simclr" else 1)
    result = {}
    for parts, prefix in ((online, ""), (target, "target_")):
        weights = networks.keras_weights(parts, prefix)
        result |= networks.divide_by_n(weights, start, parts, images, SIDE**2, prefix)
    return result


def check(case: Case, content: dict[str, np.ndarray]):
    """Compares with the existing file."""
    with np.load(GOLDEN / f"{case.name}.npz") as saved:
        if set(saved) != set(content):
            raise SystemExit(f"{case.name}: different names: {sorted(set(saved) ^ set(content))}")
        numbers = sorted(set(saved) - {"settings"})
        worst = max(
            np.abs(saved[n].astype(float) - content[n].astype(float)).max() for n in numbers
        )
        settings = [json.loads(str(c["settings"])) for c in (saved, content)]
    versions = [s.pop("versions") for s in settings]
    if settings[0] != settings[1] or worst > 1e-6:
        raise SystemExit(f"{case.name}: differs by {worst:.1e}. Settings: {settings}")
    print(f"{case.name}: differs by {worst:.1e}; versions {versions[0]} and {versions[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare with the existing files instead of writing"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    for case in CASES:
        content = golden(case)
        if arguments.check:
            check(case, content)
            continue
        path = GOLDEN / f"{case.name}.npz"
        np.savez_compressed(path, **content)
        losses = " ".join(f"{loss:.5f}" for loss in content["losses"])
        print(f"{path.name}: {path.stat().st_size // 1000} kB, losses {losses}")


if __name__ == "__main__":
    main()
