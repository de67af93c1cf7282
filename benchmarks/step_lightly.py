"""The same training steps with lightly, written like its examples. Needs a separate environment.

`benchmarks.step` runs this script in an environment with `pip install torch torchvision lightly`.
Images and weights are channels_last, and bfloat16 uses torch's autocast.
"""

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import heads
from lightly.models.utils import deactivate_requires_grad, update_momentum

from benchmarks.subprocesses import peak_memory, read_request


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains for a few steps; returns the seconds of each, and the peak memory in GiB."""
    device = "cuda" if settings["device"] == "gpu" else "cpu"
    method = {"simclr": _SimCLR, "moco": _MoCo, "byol": _BYOL}[settings["method"]](settings)
    method.to(device, memory_format=torch.channels_last).train()
    compute_loss = torch.compile(method) if settings["contestant"].endswith("compiled") else method
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.06, momentum=0.9, weight_decay=5e-4)
    side = settings["image_size"]
    shape = (settings["batch_size"], 3, side, side)
    views = [
        torch.rand(shape, device=device).to(memory_format=torch.channels_last) for _ in range(2)
    ]
    is_half = settings["precision"] == "bfloat16"

    def step():
        method.before_step()
        with torch.autocast(device, torch.bfloat16, enabled=is_half):
            loss = compute_loss(*views)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # training logs the loss; this also waits for the step

    return {"seconds": _time_steps(step, settings), "peak": _peak(device)}


def _time_steps(step: Callable, settings: dict[str, Any]) -> list[float]:
    for _ in range(settings["warm_up"]):
        step()
    seconds = []
    for _ in range(settings["steps"]):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def _peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else peak_memory()


def _backbone(settings: dict[str, Any]) -> tuple[torch.nn.Module, int]:
    resnet = getattr(torchvision.models, f"resnet{settings['depth']}")(zero_init_residual=True)
    if settings["image_size"] <= 64:
        resnet.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        resnet.maxpool = torch.nn.Identity()
    features = resnet.fc.in_features
    resnet.fc = torch.nn.Identity()
    return resnet, features


class _Method(torch.nn.Module):
    def before_step(self):
        pass


class _SimCLR(_Method):
    def __init__(self, settings):
        super().__init__()
        self.backbone, dim = _backbone(settings)
        self.head = heads.SimCLRProjectionHead(dim, dim, 128)
        self.criterion = NTXentLoss(0.5)

    def forward(self, view_1, view_2):
        return self.criterion(*(self.head(self.backbone(view)) for view in (view_1, view_2)))


class _MoCo(_Method):
    def __init__(self, settings):
        super().__init__()
        self.backbone, dim = _backbone(settings)
        self.head = heads.MoCoProjectionHead(dim, dim, 128)
        self.key_backbone = copy.deepcopy(self.backbone)
        self.key_head = copy.deepcopy(self.head)
        deactivate_requires_grad(self.key_backbone)
        deactivate_requires_grad(self.key_head)
        self.criterion = NTXentLoss(0.2, memory_bank_size=(settings["queue_size"], 128))

    def before_step(self):
        update_momentum(self.backbone, self.key_backbone, 0.999)
        update_momentum(self.head, self.key_head, 0.999)

    def forward(self, view_1, view_2):
        query = self.head(self.backbone(view_1))
        with torch.no_grad():
            key = self.key_head(self.key_backbone(view_2))
        return self.criterion(query, key)


class _BYOL(_Method):
    def __init__(self, settings):
        super().__init__()
        self.backbone, dim = _backbone(settings)
        self.head = heads.BYOLProjectionHead(dim, 4096, 256)
        self.predictor = heads.BYOLPredictionHead(256, 4096, 256)
        self.target_backbone = copy.deepcopy(self.backbone)
        self.target_head = copy.deepcopy(self.head)
        deactivate_requires_grad(self.target_backbone)
        deactivate_requires_grad(self.target_head)
        self.criterion = NegativeCosineSimilarity()

    def before_step(self):
        update_momentum(self.backbone, self.target_backbone, 0.996)
        update_momentum(self.head, self.target_head, 0.996)

    def forward(self, view_1, view_2):
        p_1, p_2 = (self.predictor(self.head(self.backbone(view))) for view in (view_1, view_2))
        with torch.no_grad():
            z_1, z_2 = (self.target_head(self.target_backbone(view)) for view in (view_1, view_2))
        return 0.5 * (self.criterion(p_1, z_2) + self.criterion(p_2, z_1))


if __name__ == "__main__":
    print(json.dumps(measure(read_request() or {})))
