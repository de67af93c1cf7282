"""Writes the features of timm's ResNets with bottleneck ResNet-D, strides of "v1", and a padded stem.

This script does not use keras_ssl. It is run by hand in a separate environment. Its file is
tests/oracles/golden/timm_resnets.npz. tests/importers/test_torch_variants.py imports networks with the
same weights into keras_ssl and compares features; it needs neither PyTorch nor timm.

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install "torch==2.13.0" "timm==1.0.31" "numpy==2.4.6"
    /tmp/oracle/bin/python tests/oracles/timm_resnets.py

`versions` in the golden file records the versions. The networks are narrow. Their weights are not
stored: `weight` computes them from the name of a tensor.

- resnet50d: timm's network.
- resnet50_v1: timm's resnet50, with the stride moved from the second to the first convolution of the
  first block of stages 2 to 4, as in He et al. 2015, Caffe and keras.applications.
- resnet18_padding_2: timm's resnet18 with the stem that solo-learn gives networks for CIFAR: a 3x3
  convolution with a padding of 2 pixels, without pooling.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

GOLDEN = Path(__file__).parent / "golden" / "timm_resnets.npz"
SIZES = {"even": (96, 96), "odd": (77, 61)}
SMALL_SIZES = {"even": (32, 32), "odd": (29, 31)}
CHANNELS = (4, 8, 16, 32)


def image(height: int, width: int) -> np.ndarray:
    """Returns a deterministic (height, width, 3) image with values in [-1, 1]."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((7 * y + 13 * x * (c + 1) + 3 * x * y + 29 * c) % 256 / 127.5 - 1).astype("float32")


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights of a tensor, which depend on its name and shape only."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype("float32")
    if name.endswith(("weight", "running_var")):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    return rng.normal(0, 0.2, shape).astype("float32")


def corners(feature_map: np.ndarray) -> np.ndarray:
    """Returns the pixels in five rows and columns of a map (height, width, channels)."""
    rows, columns = ([0, 1, n // 2, n - 2, n - 1] for n in feature_map.shape[:2])
    return feature_map[np.ix_(rows, columns)]


@torch.no_grad()
def features(network: ResNet, sizes: dict) -> dict[str, np.ndarray]:
    """Returns a network's features by "size/stage", computed in float64."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(weight(name, tuple(tensor.shape))))
    network = network.double().eval()
    found = {}
    for name, size in sizes.items():
        x = torch.from_numpy(image(*size)).double().permute(2, 0, 1)[None]
        x = network.maxpool(network.act1(network.bn1(network.conv1(x))))
        stages = {"stem": x}
        for stage in range(1, 5):
            x = stages[f"block{stage}"] = getattr(network, f"layer{stage}")(x)
        stages["features"] = x.mean((2, 3))
        for stage, value in stages.items():
            value = value[0].numpy()
            value = corners(value.transpose(1, 2, 0)) if value.ndim == 3 else value
            found[f"{name}/{stage}"] = value.astype("float32")
    return found


def build(block: type, blocks: tuple[int, ...], avg_down: bool = False) -> ResNet:
    """Returns a narrow network with the stem of ResNet-D, whose width timm can set."""
    return ResNet(
        block,
        blocks,
        num_classes=0,
        stem_width=CHANNELS[0] // 2,
        stem_type="deep",
        avg_down=avg_down,
        channels=CHANNELS,
    )


def main():
    resnet50d = build(Bottleneck, (3, 4, 6, 3), avg_down=True)
    resnet50_v1 = build(Bottleneck, (3, 4, 6, 3))
    resnet50_v1.conv1 = nn.Conv2d(3, CHANNELS[0], 7, 2, padding=3, bias=False)
    for stage in (2, 3, 4):
        block = getattr(resnet50_v1, f"layer{stage}")[0]
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    padded = build(BasicBlock, (2, 2, 2, 2))
    padded.conv1 = nn.Conv2d(3, CHANNELS[0], 3, 1, padding=2, bias=False)
    padded.maxpool = nn.Identity()
    golden = {}
    for name, network, sizes in (
        ("resnet50d", resnet50d, SIZES),
        ("resnet50_v1", resnet50_v1, SIZES),
        ("resnet18_padding_2", padded, SMALL_SIZES),
    ):
        golden |= {f"{name}/{key}": value for key, value in features(network, sizes).items()}
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        golden[f"{name}/shapes"] = np.array(json.dumps(shapes))
    golden["versions"] = np.array(f"torch {torch.__version__}, timm {timm.__version__}")
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    main()
