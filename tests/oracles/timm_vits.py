"""Writes the features of timm's vision transformers, also with DINO's position embeddings.

This script does not use keras_ssl. It is run by hand in a separate environment. Its file is
tests/oracles/golden/timm_vits.npz. tests/importers/test_vit.py imports networks with the same weights
into keras_ssl and compares features; it needs neither PyTorch nor timm.

    python -m venv /tmp/oracle
    /tmp/oracle/bin/pip install "torch==2.13.0" "timm==1.0.31" "numpy==2.4.6"
    /tmp/oracle/bin/python tests/oracles/timm_vits.py

`versions` in the golden file records the versions. The networks are narrow, for images of 32 pixels.
Their weights are not stored: `weight` computes them from the name of a tensor.

- token, mean: timm's `VisionTransformer` with the class token, and with the mean of the other tokens
  (`global_pool="avg"`), as in the fine-tuning of MAE.
- dino: the weights of "token" for images of other sizes. The position embeddings are resized by
  PyTorch with the scale that `vision_transformer.py` of facebookresearch/dino computes, 0.1 patches
  larger than the size.
- resized: the same without the 0.1.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

GOLDEN = Path(__file__).parent / "golden" / "timm_vits.npz"
PATCH, DIM, GRID = 8, 48, 4
SIZES = {"more": (56, 40), "fewer": (24, 16)}


def image(height: int, width: int) -> np.ndarray:
    """Returns a deterministic (height, width, 3) image with values in [-1, 1]."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((7 * y + 13 * x * (c + 1) + 3 * x * y + 29 * c) % 256 / 127.5 - 1).astype("float32")


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the weights of a tensor, which depend on its name and shape only."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name in ("cls_token", "pos_embed"):
        return rng.normal(0, 0.5, shape).astype("float32")
    if len(shape) > 1:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype("float32")
    if name.endswith("weight"):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    return rng.normal(0, 0.2, shape).astype("float32")


def build(size: tuple[int, int], pool: str = "token") -> VisionTransformer:
    """Returns a narrow network of two blocks in float64, without a classifier."""
    network = VisionTransformer(
        size, PATCH, num_classes=0, global_pool=pool, embed_dim=DIM, depth=2, num_heads=4
    )
    return network.double().eval()


def fill(network: VisionTransformer) -> dict[str, tuple[int, ...]]:
    """Sets the weights; returns the shapes of the tensors."""
    for name, tensor in network.state_dict().items():
        tensor.copy_(torch.from_numpy(weight(name, tuple(tensor.shape))))
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def resized(embeddings: torch.Tensor, size: tuple[int, int], offset: float) -> torch.Tensor:
    """Returns position embeddings for images of another size."""
    patches = [side // PATCH for side in size]
    maps = embeddings[:, 1:].reshape(1, GRID, GRID, DIM).permute(0, 3, 1, 2)
    scale = tuple((count + offset) / GRID for count in patches)
    maps = torch.nn.functional.interpolate(maps, scale_factor=scale, mode="bicubic")
    assert list(maps.shape[2:]) == patches
    return torch.cat([embeddings[:, :1], maps.flatten(2).transpose(1, 2)], dim=1)


def features(network: VisionTransformer, size: tuple[int, int]) -> np.ndarray:
    """Returns the features of `image`."""
    pixels = torch.from_numpy(image(*size)).double().permute(2, 0, 1)[None]
    return network(pixels)[0].numpy().astype("float32")


@torch.no_grad()
def main():
    golden = {}
    side = GRID * PATCH
    for pool, name in (("token", "token"), ("avg", "mean")):
        network = build((side, side), pool)
        golden[f"{name}/shapes"] = np.array(json.dumps(fill(network)))
        golden[f"{name}/features"] = features(network, (side, side))
    network = build((side, side))
    fill(network)
    state = network.state_dict()
    for name, size in SIZES.items():
        for kind, offset in (("dino", 0.1), ("resized", 0.0)):
            other = build(size)
            embeddings = resized(state["pos_embed"], size, offset)
            other.load_state_dict({**state, "pos_embed": embeddings})
            golden[f"{kind}/{name}"] = features(other, size)
    golden["versions"] = np.array(f"torch {torch.__version__}, timm {timm.__version__}")
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    main()
