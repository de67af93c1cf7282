"""Takes training steps of MoCo, BYOL and SimCLR in PyTorch and writes the numbers to golden files.

An oracle: it is run by hand, in an environment of its own, and knows nothing of keras_ssl. The files
that it wrote are in tests/oracles/golden/, and tests/methods/test_against_pytorch.py takes the same
steps in keras_ssl and compares. That test needs no PyTorch.

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install "torch==2.13.0" "numpy==2.4.6"
    /tmp/oracle/bin/python tests/oracles/momentum_step.py            # writes the files
    /tmp/oracle/bin/python tests/oracles/momentum_step.py --check    # compares with them instead

The files were made with these versions (torch 2.13.0+cpu, the build for CPUs, is enough), Python 3.11;
each file holds the versions and all settings of its case. It takes a few seconds.

What is computed: written from the papers, and from how the reference code behaves.

- MoCo: algorithm 1 of He et al. 2020; facebookresearch/moco, `moco/builder.py`; symmetric loss and
  split batch normalisation as in its notebook `colab/moco_cifar10_demo.ipynb`. The step is that of
  algorithm 1: gradient, optimizer, momentum update, queue. The reference moves the key encoder
  just before it encodes keys instead: the keys are the same, as the encoders start equal, and after
  the last step its key encoder has one update to come.
- BYOL: Grill et al. 2020, section 3.1; google-deepmind/deepmind-research, `byol/byol_experiment.py`
  and `byol/utils/`. Views pass through each network one by one, the first view first.
- SimCLR: algorithm 1 of Chen et al. 2020, the mean over the 2N rows. The views pass through together.

Five things differ between the two libraries. They are settled here, so that the files hold what
Keras has:

- Layout. Kernels of convolutions are (height, width, in, out) in the files, those of dense layers
  (in, out), images (height, width, channels), the queue (size, dim).
- Moving variance. PyTorch's takes the batch's variance divided by n - 1, Keras' divided by n; the
  normalisation itself divides by n in both. `divide_by_n` translates.
- Momentum of batch normalisation. 0.1 here is 0.9 in Keras.
- Groups of the split batch normalisation. The notebook's groups take every n-th image, keras_ssl's are
  contiguous. `in_groups` sorts the batch for the encoder and sorts its outputs back.
- Precision. Everything is computed in double precision here and rounded to float32 at the end, so
  that the files hold no rounding errors of their own. Weights, queue and images at the start are
  float32 numbers.
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
    groups: int = 1  # of the backbone's batch normalisations
    momentum: float = 0.9  # of the target network, at the first step
    final_momentum: float = 0.9
    learning_rate: float = 0.1
    optimizer_momentum: float = 0.9
    weight_decay: float = 0.01
    seed: int = 0


CASES = (
    Case(
        "moco_v1", "moco", head_depth=1, temperature=0.07, queue_size=32, learning_rate=0.03, seed=1
    ),
    # The batch does not divide this queue: the third one is written around its end.
    Case("moco_v2", "moco", queue_size=20, seed=2),
    Case("moco_symmetric", "moco", temperature=0.1, queue_size=40, symmetric=True, seed=3),
    Case("moco_split_batch_norm", "moco", batch=16, queue_size=64, groups=4, seed=4),
    Case("byol", "byol", dim=10, final_momentum=1.0, seed=5),
    Case("simclr", "simclr", temperature=0.5, seed=6),
)


def draw_views(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Returns (steps, 2, batch, side, side, 3) uint8: coarse patterns, with noise of each view."""
    coarse = rng.uniform(0, 255, (STEPS, 1, case.batch, 2, 2, 3))
    pattern = coarse.repeat(SIDE // 2, axis=3).repeat(SIDE // 2, axis=4)
    noise = rng.normal(0, 40, (STEPS, 2, case.batch, SIDE, SIDE, 3))
    return np.clip(pattern + noise, 0, 255).astype(np.uint8)


def in_groups(network, groups: int):
    """Returns `network` with groups that are contiguous parts of the batch that it is given."""

    def call(x):
        order = torch.arange(len(x)).reshape(groups, -1).T.flatten()
        return network(x[order])[torch.argsort(order)]

    return call


class MoCo:
    def __init__(self, case: Case, online: nn.ModuleDict, rng: np.random.Generator):
        self.case = case
        self.target = nn.ModuleDict({k: deepcopy(online[k]) for k in ("backbone", "projector")})
        self.query_encoder = in_groups(nn.Sequential(*online.values()), case.groups)
        self.key_encoder = in_groups(nn.Sequential(*self.target.values()), case.groups)
        rows = rng.normal(size=(case.queue_size, case.dim))
        self.queue = networks.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        self.pointer = 0
        # Shuffled batch norm: the order in which a batch of keys is encoded, the same in each step.
        self.order = torch.from_numpy(rng.permutation(case.batch))

    def contrast(self, queries, keys):
        """Returns the loss of one direction, and its keys."""
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
        for row in self.keys:  # one by one, so that a batch may go around the end
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
    """BYOL's schedule; constant where both ends are equal."""
    remaining = (math.cos(math.pi * step / STEPS) + 1) / 2
    return case.final_momentum - (case.final_momentum - case.momentum) * remaining


@torch.no_grad()
def move_target(target: nn.ModuleDict, online: nn.ModuleDict, momentum: float):
    """Moves parameters only: the moving statistics come from the target's own batches."""
    for name, part in target.items():
        for own, theirs in zip(part.parameters(), online[name].parameters(), strict=True):
            own.copy_(momentum * own + (1 - momentum) * theirs)


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
    """Takes the steps of a case; returns the content of its file."""
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
        move_target(method.target, online, target_momentum(case, step))
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
    """Returns the weights of both networks under Keras' names, the target's with "target_"."""
    images = case.batch * (2 if case.method == "simclr" else 1)
    result = {}
    for parts, prefix in ((online, ""), (target, "target_")):
        weights = networks.keras_weights(parts, prefix)
        result |= networks.divide_by_n(weights, start, parts, images, SIDE**2, prefix)
    return result


def check(case: Case, content: dict[str, np.ndarray]):
    """Compares with the file that is there."""
    with np.load(GOLDEN / f"{case.name}.npz") as known:
        if set(known) != set(content):
            raise SystemExit(f"{case.name}: other names: {sorted(set(known) ^ set(content))}")
        numbers = sorted(set(known) - {"settings"})
        worst = max(
            np.abs(known[n].astype(float) - content[n].astype(float)).max() for n in numbers
        )
        settings = [json.loads(str(c["settings"])) for c in (known, content)]
    versions = [s.pop("versions") for s in settings]
    if settings[0] != settings[1] or worst > 1e-6:
        raise SystemExit(f"{case.name}: differs by {worst:.1e}. Settings: {settings}")
    print(f"{case.name}: differs by {worst:.1e}; versions {versions[0]} and {versions[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files, write none")
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
