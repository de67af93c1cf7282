"""The small PyTorch networks of `momentum_step.py`, and their weights in Keras' layout.

Modules have the names of the corresponding keras_ssl layers, which `keras_weights` relies on.
"""

import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

FEATURES = 16
HIDDEN = 12  # units of BYOL's hidden layers


class SplitBatchNorm(nn.BatchNorm2d):
    """Batch normalization in groups: image i belongs to group i % groups.

    Each group updates its own copy of the moving statistics. The new statistics are the mean over the
    groups.
    """

    def __init__(self, channels: int, groups: int):
        super().__init__(channels)
        self.groups = groups

    def forward(self, x):
        outputs, means, variances = [], [], []
        for group in range(self.groups):
            part = x[group :: self.groups]
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            outputs.append(
                F.batch_norm(
                    part, mean, variance, self.weight, self.bias, True, self.momentum, self.eps
                )
            )
            means.append(mean)
            variances.append(variance)
        self.running_mean.copy_(torch.stack(means).mean(0))
        self.running_var.copy_(torch.stack(variances).mean(0))
        self.num_batches_tracked += 1
        return torch.stack(outputs, dim=1).flatten(0, 1)


def backbone(groups: int) -> nn.Sequential:
    def norm(channels):
        return SplitBatchNorm(channels, groups) if groups > 1 else nn.BatchNorm2d(channels)

    return nn.Sequential(
        OrderedDict(
            conv_1=nn.Conv2d(3, 8, 3, padding=1, bias=False),
            norm_1=norm(8),
            relu_1=nn.ReLU(),
            conv_2=nn.Conv2d(8, FEATURES, 3, padding=1, bias=False),
            norm_2=norm(FEATURES),
            relu_2=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
        )
    )


def moco_head(depth: int, dim: int) -> nn.Sequential:
    """Returns the head of MoCo v1 (one layer) or v2 (with a hidden layer of the same width)."""
    if depth == 1:
        return nn.Sequential(OrderedDict(dense_1=nn.Linear(FEATURES, dim)))
    return nn.Sequential(
        OrderedDict(
            dense_1=nn.Linear(FEATURES, FEATURES),
            relu_1=nn.ReLU(),
            dense_2=nn.Linear(FEATURES, dim),
        )
    )


def byol_head(inputs: int, dim: int) -> nn.Sequential:
    """Returns a BYOL head. The hidden layer has a bias before normalization, the last has none."""
    return nn.Sequential(
        OrderedDict(
            dense_1=nn.Linear(inputs, HIDDEN),
            norm_1=nn.BatchNorm1d(HIDDEN),
            relu_1=nn.ReLU(),
            dense_2=nn.Linear(HIDDEN, dim, bias=False),
        )
    )


def simclr_head(dim: int) -> nn.Sequential:
    """Returns a SimCLR head, without biases. The last normalization has a scale, but no offset."""
    head = nn.Sequential(
        OrderedDict(
            dense_1=nn.Linear(FEATURES, FEATURES, bias=False),
            norm_1=nn.BatchNorm1d(FEATURES),
            relu_1=nn.ReLU(),
            dense_2=nn.Linear(FEATURES, dim, bias=False),
            norm_2=nn.BatchNorm1d(dim),
        )
    )
    head.norm_2.bias.requires_grad = False
    return head


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))


def float32(values: np.ndarray) -> torch.Tensor:
    """Returns values rounded to float32 precision, as float64."""
    return torch.from_numpy(values.astype(np.float32).astype(np.float64))


@torch.no_grad()
def draw_weights(parts: nn.ModuleDict, rng: np.random.Generator):
    """Fills all weights and moving statistics with random float32 numbers, instead of defaults."""
    for module in parts.modules():
        for name, values in module.named_parameters(recurse=False):
            if not values.requires_grad:
                values.zero_()
                continue
            center = 1.0 if is_norm(module) and name == "weight" else 0.0
            scale = 0.1 if values.ndim == 1 else math.sqrt(2 / values[0].numel())
            values.copy_(float32(center + scale * rng.normal(size=tuple(values.shape))))
        if is_norm(module):
            size = tuple(module.running_var.shape)
            module.running_mean.copy_(float32(0.1 * rng.normal(size=size)))
            module.running_var.copy_(float32(rng.uniform(0.5, 1.5, size)))


def keras_weights(parts: nn.ModuleDict, prefix: str = "") -> dict[str, np.ndarray]:
    """Returns all weights in Keras' layout, by "network/layer/variable"."""
    result = {}
    for part, layers in parts.items():
        for layer, module in layers.named_children():
            values = {k: v.detach().numpy().copy() for k, v in module.state_dict().items()}
            path = f"{prefix}{part}/{layer}"
            if isinstance(module, nn.Conv2d):  # (out, in, height, width)
                result[f"{path}/kernel"] = values["weight"].transpose(2, 3, 1, 0)
            elif isinstance(module, nn.Linear):  # (out, in)
                result[f"{path}/kernel"] = values["weight"].T
                if module.bias is not None:
                    result[f"{path}/bias"] = values["bias"]
            elif is_norm(module):
                result[f"{path}/gamma"] = values["weight"]
                if module.bias.requires_grad:
                    result[f"{path}/beta"] = values["bias"]
                result[f"{path}/moving_mean"] = values["running_mean"]
                result[f"{path}/moving_variance"] = values["running_var"]
    return result


def divide_by_n(
    weights: dict[str, np.ndarray],
    start: dict[str, np.ndarray],
    parts: nn.ModuleDict,
    images: int,
    pixels: int,
    prefix: str = "",
) -> dict[str, np.ndarray]:
    """Converts moving variances to Keras' convention, batch variances divided by n.

    PyTorch averages batch variances divided by n - 1. After t batches, the moving variance is
    `keep ** t * start` plus a weighted sum of batch variances. Only the sum is rescaled.

    Args:
        weights: result of `keras_weights(parts, prefix)`.
        start: result of `keras_weights` before the first step.
        parts: the networks.
        images: images per forward pass.
        pixels: pixels per feature map of the backbone.
        prefix: see `keras_weights`.
    """
    result = dict(weights)
    for part, layers in parts.items():
        for layer, module in layers.named_children():
            if not is_norm(module):
                continue
            count = images * (pixels if isinstance(module, nn.BatchNorm2d) else 1)
            count //= getattr(module, "groups", 1)
            path = f"{part}/{layer}/moving_variance"
            keep = (1 - module.momentum) ** int(module.num_batches_tracked)
            moved = weights[prefix + path] - keep * start[path]
            result[prefix + path] = keep * start[path] + moved * (count - 1) / count
    return result
