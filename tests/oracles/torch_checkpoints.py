"""Writes PyTorch networks with torchvision's parameter names, and the features of all stages.

This script does not use keras_ssl. It is run by hand in a separate environment. Its files are in
tests/oracles/golden/. tests/importers/test_torch_networks.py imports them into keras_ssl and compares
features; it does not need PyTorch.

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install "torch==2.15.0" "numpy==2.4.6" "safetensors==0.8.0"
    /tmp/oracle/bin/python tests/oracles/torch_checkpoints.py

PyTorch 1.6 or later works; `versions` in the golden file records the version. It takes a few seconds.
The networks are narrow, with the blocks, names, strides and paddings of torchvision and timm
(`torchvision/models/resnet.py`, `timm/models/resnet.py`). All weights and running statistics are
random and differ from their defaults. They are rounded to 1/32 to keep the files small. The files are
the output of `torch.save`, compressed with gzip.

- resnet18.pth: zip archive, float32.
- resnet18_small_stem_half.pth: stream of pickles (before PyTorch 1.6), float16, names starting with
  "module.", a stem of one 3x3 convolution.
- resnet18d_bfloat16.pth: zip archive, bfloat16, ResNet-D with timm's names.
- moco_v2.pth.tar: stream of pickles with the same contents as the checkpoints of facebookresearch/moco
  (`main_moco.py`), for a network of 50 layers: query and key encoder, queue, optimizer.
- resnet18.safetensors: the weights of resnet18.pth in another format.
- torch_checkpoints.npz: features. For a feature map, the pixels in five rows and columns, including
  those at the edges. The images are not stored: `image` computes them.
"""

import gzip
import io
from collections import OrderedDict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

GOLDEN = Path(__file__).parent / "golden"
SIZES = {"even": (224, 224), "odd": (193, 161)}
SMALL_SIZES = {"even": (32, 32), "odd": (29, 31)}
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
QUEUE = (8, 24)  # (dim, size)


def image(height: int, width: int) -> np.ndarray:
    """Returns a deterministic (height, width, 3) image with values in [-1, 1]."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((7 * y + 13 * x * (c + 1) + 3 * x * y + 29 * c) % 256 / 127.5 - 1).astype("float32")


def corners(feature_map: np.ndarray) -> np.ndarray:
    """Returns the pixels in five rows and columns of a map (height, width, channels)."""
    rows, columns = ([0, 1, n // 2, n - 2, n - 1] for n in feature_map.shape[:2])
    return feature_map[np.ix_(rows, columns)]


class Block(nn.Module):
    """A basic or bottleneck block. With `resnet_d`, the shortcut pools before its projection."""

    def __init__(self, inputs: int, filters: int, stride: int, bottleneck: bool, resnet_d: bool):
        super().__init__()
        outputs = filters * (4 if bottleneck else 1)
        if bottleneck:
            sizes = [
                (inputs, filters, 1, 1),
                (filters, filters, 3, stride),
                (filters, outputs, 1, 1),
            ]
        else:
            sizes = [(inputs, filters, 3, stride), (filters, filters, 3, 1)]
        self.count = len(sizes)
        for number, (before, after, size, step) in enumerate(sizes, 1):
            conv = nn.Conv2d(before, after, size, step, size // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        if stride > 1 or inputs != outputs:
            layers = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
            if resnet_d:
                pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
                layers = [pool, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
            self.downsample = nn.Sequential(*layers)

    def forward(self, x):
        out = x
        for number in range(1, self.count + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            out = F.relu(out) if number < self.count else out
        return F.relu(out + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    """A residual network that returns the features of all stages."""

    def __init__(self, depth: int, filters: int, stem: str = "imagenet"):
        super().__init__()
        bottleneck, resnet_d = depth >= 50, stem == "resnet_d"
        self.pools = stem != "small"
        if resnet_d:
            half = filters // 2
            self.conv1 = nn.Sequential(
                nn.Conv2d(3, half, 3, 2, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                nn.Conv2d(half, half, 3, 1, 1, bias=False),
                nn.BatchNorm2d(half),
                nn.ReLU(),
                nn.Conv2d(half, filters, 3, 1, 1, bias=False),
            )
        elif stem == "small":
            self.conv1 = nn.Conv2d(3, filters, 3, 1, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(3, filters, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        inputs = filters
        for stage, blocks in enumerate(BLOCKS[depth], 1):
            width = filters * 2 ** (stage - 1)
            layer = []
            for number in range(blocks):
                stride = 2 if stage > 1 and number == 0 else 1
                layer.append(Block(inputs, width, stride, bottleneck, resnet_d))
                inputs = width * (4 if bottleneck else 1)
            self.add_module(f"layer{stage}", nn.Sequential(*layer))
        self.fc = nn.Linear(inputs, QUEUE[0])

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        stages = {"stem": F.max_pool2d(x, 3, 2, 1) if self.pools else x}
        for stage in range(1, 5):
            stages[f"block{stage}"] = getattr(self, f"layer{stage}")(list(stages.values())[-1])
        return {**stages, "features": stages["block4"].mean((2, 3))}


@torch.no_grad()
def draw_weights(network: nn.Module) -> nn.Module:
    """Fills all weights and running statistics with random numbers."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.normal_(0, (1 / module.weight[0].numel()) ** 0.5)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.mul_(32).round_().div_(32)
    return network


def save(content, name: str, **options) -> None:
    """Writes the output of `torch.save`, compressed."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    compress(file.getvalue(), name)


def compress(content: bytes, name: str) -> None:
    """Writes a gzip file without a time stamp, so that equal contents give equal files."""
    (GOLDEN / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))


@torch.no_grad()
def features(network: nn.Module, sizes: dict) -> dict[str, np.ndarray]:
    """Returns a network's features by "size/stage", computed in float64."""
    network = network.double().eval()
    found = {}
    for name, size in sizes.items():
        images = torch.from_numpy(image(*size)).double().permute(2, 0, 1)[None]
        for stage, value in network(images).items():
            value = value[0].numpy()
            value = corners(value.transpose(1, 2, 0)) if value.ndim == 3 else value
            found[f"{name}/{stage}"] = value.astype("float32")
    network.float()
    return found


def main():
    torch.manual_seed(0)
    golden = {"versions": np.array(f"torch {torch.__version__}, numpy {np.__version__}")}

    def keep(name, network, sizes=SIZES):
        golden.update({f"{name}/{key}": v for key, v in features(network, sizes).items()})

    network = draw_weights(ResNet(18, 2))
    save(network.state_dict(), "resnet18.pth")
    compress(safetensors.torch.save(network.state_dict()), "resnet18.safetensors")
    keep("resnet18", network)

    network = draw_weights(ResNet(18, 2, "small")).half()
    saved = {"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}
    save(saved, "resnet18_small_stem_half.pth", _use_new_zipfile_serialization=False)
    keep("resnet18_small_stem_half", network, SMALL_SIZES)

    network = draw_weights(ResNet(18, 2, "resnet_d")).bfloat16()
    save(network.state_dict(), "resnet18d_bfloat16.pth")
    keep("resnet18d_bfloat16", network)

    query, key = (draw_weights(ResNet(50, 2)) for _ in range(2))
    for encoder in (query, key):
        encoder.fc = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, QUEUE[0]))
    weights = OrderedDict(
        (f"module.encoder_{which}.{name}", value)
        for which, encoder in (("q", query), ("k", key))
        for name, value in encoder.state_dict().items()
    )
    weights["module.queue"] = F.normalize(torch.randn(QUEUE), dim=0)
    weights["module.queue_ptr"] = torch.tensor([6])
    optimizer = torch.optim.SGD(query.fc.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)
    checkpoint = {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": weights,
        "optimizer": optimizer.state_dict(),
    }
    save(checkpoint, "moco_v2.pth.tar", _use_new_zipfile_serialization=False)
    keep("moco_v2", query)
    keep("moco_v2_key", key)
    hidden = torch.from_numpy(golden["moco_v2/even/features"])
    golden["moco_v2/even/projection"] = query.fc(hidden).detach().numpy()

    np.savez_compressed(GOLDEN / "torch_checkpoints.npz", **golden)


if __name__ == "__main__":
    main()
