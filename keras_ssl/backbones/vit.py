"""ViT: vision transformers of any size."""

import keras
from keras import layers

from keras_ssl.backbones.self_attention import SelfAttention
from keras_ssl.backbones.tokens import POOLINGS, POSITIONS, PatchTokens, TokenPooling

_EPSILON = 1e-6  # of the normalizations
_PRETRAINING_SIDE = 224  # pixels: of the position embeddings, if the image size is free


def ViT(  # noqa: N802 (a model's constructor, spelled as one)
    patch: int = 16,
    dim: int = 384,
    depth: int = 12,
    heads: int = 6,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    mlp_dim: int | None = None,
    positions: str = "learned",
    pooling: str = "token",
    grid: tuple[int, int] | None = None,
    resize_offset: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns a vision transformer that maps images to the class token after the last normalization.

    The model is functional, from (batch, height, width, channels) images to (batch, dim) in float32
    (under mixed precision too). Each block normalizes its inputs (pre-norm). Sides of images should be
    multiples of `patch`; pixels beyond the last whole patch are ignored.
    `model.get_layer("block3").output` are the tokens after block 3, (batch, 1 + patches, dim), with the
    class token first.

    The defaults are those of DINO's and DeiT's ViT-S/16. ViT-Ti has `dim=192, heads=3`, ViT-B
    `dim=768, heads=12`, ViT-L `dim=1024, depth=24, heads=16`. MoCo v3's ViT-S has 12 heads.

    Args:
        patch: side of a patch in pixels.
        dim: length of a token, a multiple of `heads`, and of 4 for `positions="sincos"`.
        depth: number of blocks.
        heads: number of attention heads.
        input_shape: (height, width, channels) of the images, with `None` for free sides.
        mlp_dim: hidden units of the blocks' multilayer perceptrons; 4 * dim by default.
        positions: "learned" (ViT, DINO), or "sincos" for fixed sines and cosines (MAE, MoCo v3).
        pooling: "token": the class token. "mean": the mean of all other tokens, which is taken before
            the last normalization, as in the fine-tuning of MAE.
        grid: rows and columns of patches that have position embeddings. For images with another number
            of patches, the embeddings are resized by bicubic interpolation. By default, those of
            `input_shape`, or of 224 x 224 pixels if a side is free.
        resize_offset: added to the number of patches to compute the scale of this interpolation. DINO
            uses 0.1, which moves the positions by less than a tenth of a patch.
        name: name of the model, "vit" by default.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if a number is not positive, `dim` is not a multiple of `heads` (of 4 for "sincos"),
            `positions` or `pooling` is unknown, or a side is smaller than a patch.

    Example:
        >>> ViT(patch=8, dim=64, depth=2, heads=2)(keras.ops.ones((2, 32, 48, 3))).shape
        TensorShape([2, 64])

    Source: Dosovitskiy et al. 2020; `vision_transformer.py` of facebookresearch/dino (also for the
    initialization; biases of patches start at zero here), `vits.py` of moco-v3, `models_vit.py` of mae.
    """
    _check_arguments(patch, dim, depth, heads, input_shape, mlp_dim, positions, pooling)
    if grid is None:
        height, width = (side or _PRETRAINING_SIDE for side in input_shape[:2])
        grid = (height // patch, width // patch)
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"`grid` must be two positive numbers, or None. Received: grid={grid}")
    images = keras.Input(input_shape, name="images")
    # PyTorch's default: uniform with a variance of a third of 1 / (inputs of a patch).
    initializer = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    project = layers.Conv2D(dim, patch, patch, kernel_initializer=initializer, name="patches")
    x = PatchTokens(grid, positions, resize_offset, name="tokens")(project(images))
    for number in range(1, depth + 1):
        x = _block(x, f"block{number}", heads, mlp_dim or 4 * dim)
    x = TokenPooling(pooling, dtype="float32", name="pooling")(x)
    features = layers.LayerNormalization(epsilon=_EPSILON, dtype="float32", name="features")(x)
    return keras.Model(images, features, name=name or "vit")


def _block(x, name, heads, hidden):
    """Returns the tokens after attention and a multilayer perceptron, each added to its inputs."""
    dim = x.shape[-1]
    y = layers.LayerNormalization(epsilon=_EPSILON, name=f"{name}_norm1")(x)
    y = SelfAttention(heads, name=f"{name}_attention")(y)
    x = layers.Add(name=f"{name}_add")([x, y])
    y = layers.LayerNormalization(epsilon=_EPSILON, name=f"{name}_norm2")(x)
    y = _dense(hidden, f"{name}_dense1")(y)
    y = layers.Activation("gelu", name=f"{name}_gelu")(y)
    y = _dense(dim, f"{name}_dense2")(y)
    return layers.Add(name=name)([x, y])


def _dense(units, name):
    initializer = keras.initializers.RandomNormal(stddev=0.02)
    return layers.Dense(units, kernel_initializer=initializer, name=name)


def _check_arguments(patch, dim, depth, heads, input_shape, mlp_dim, positions, pooling):
    sizes = {"patch": patch, "dim": dim, "depth": depth, "heads": heads, "mlp_dim": mlp_dim}
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    if dim % heads:
        raise ValueError(f"`dim` must be a multiple of `heads`. Received: dim={dim}, heads={heads}")
    for name, value, known in (
        ("positions", positions, POSITIONS),
        ("pooling", pooling, POOLINGS),
    ):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}. Received: {value!r}")
    if positions == "sincos" and dim % 4:
        raise ValueError(
            f"`dim` must be a multiple of 4 for positions='sincos'. Received: dim={dim}"
        )
    if len(input_shape) != 3 or not input_shape[2]:
        raise ValueError(
            "`input_shape` must be (height, width, channels), with a known number of channels. "
            f"Received: input_shape={input_shape}"
        )
    if any(side is not None and side < patch for side in input_shape[:2]):
        raise ValueError(
            "`input_shape` must have sides of at least one patch. "
            f"Received: input_shape={input_shape}, patch={patch}"
        )
