"""Backbones by name."""

import ast
import functools
import importlib.util
import pathlib
from typing import TYPE_CHECKING, Any

from keras_ssl.presets.lookup import spell

if TYPE_CHECKING:
    import keras

_DEPTHS = (18, 34, 50, 101, 152, 200)
_SK_RATIO = 0.0625  # SimCLRv2's
# Networks of keras.applications that rescale or normalize pixels from 0 to 255 in their first layers.
_EXPECT_255 = ("ConvNeXt", "EfficientNet", "MobileNetV3")
_TRAINED_WITH_ADAMW = ("convnext", "vit")
_VIT_PATCH = 16  # pixels
_VITS = {"vit-tiny": (192, 3), "vit-small": (384, 6), "vit-base": (768, 12)}  # dim and heads
_RESNETS = {f"resnet{depth}": (depth, 0.0) for depth in _DEPTHS}
_RESNETS |= {f"resnet{depth}-sk": (depth, _SK_RATIO) for depth in _DEPTHS if depth >= 50}


def build_backbone(
    name: str,
    width: float,
    input_shape: tuple[int | None, int | None, int],
    input_scale: float = 255,
    side: int | None = None,
    fine_map: bool = False,
) -> "keras.Model":
    """Returns an untrained network.

    Args:
        name: "resnet50" and the other depths, "resnet50-sk" (with selective kernels), "small-resnet",
            "tiny", "vit-tiny", "vit-small" and "vit-base" (12 blocks, patches of 16 pixels, as DINO's
            and DeiT's), or a network of `keras.applications`, such as "MobileNetV2".
        width: factor on the number of filters of a ResNet, on the 48 of the first stage of
            "small-resnet", and on the 64 features of "tiny".
        input_shape: (height, width, channels) of the images; `None` for sides of any length.
        input_scale: factor on the images, which are in [0, 1], for networks of `keras.applications`
            that normalize pixels from 0 to 255 themselves: ConvNeXt, EfficientNet, MobileNetV3. With 1,
            as in earlier versions, these networks see nearly black images: the spread of the features
            of an untrained ConvNeXtTiny is 0.001 instead of 0.97 (`feature_std`, CIFAR-10).
        side: side of whole images in pixels, if `input_shape` has free sides. The network has the
            layers and weights of that for images of this size.
        fine_map: whether the last two blocks of a ResNet for images above 64 pixels keep the resolution
            of an eighth of the side, which ResNets for smaller images end with. Others do not change.

    Raises:
        ValueError: if there is no such network, `width` does not apply to it, or the images are smaller
            than a patch of a vision transformer.
    """
    import keras

    from keras_ssl import backbones
    from keras_ssl.backbones.resnet import auto_stem
    from keras_ssl.backbones.tiny import tiny_strides

    name = spell("backbone", name, backbone_names())
    if name in _RESNETS:
        depth, sk_ratio = _RESNETS[name]
        stem = "auto" if side is None else auto_stem(side)
        fine = (
            fine_map and auto_stem(max(each or side or 0 for each in input_shape[:2])) == "imagenet"
        )
        of_blocks = (1, 2, 1, 1) if fine else (1, 2, 2, 2)
        return backbones.ResNet(depth, width, sk_ratio, stem, input_shape, strides=of_blocks)
    if name == "small-resnet":
        return backbones.SmallResNet(round(48 * width), input_shape)
    if name == "tiny":
        strides = None if side is None else tiny_strides(side)
        return backbones.Tiny(input_shape, features=round(64 * width), strides=strides)
    if width != 1.0:
        raise ValueError(
            "`width` applies to resnet, small-resnet and tiny only; vision transformers and networks "
            f"of keras.applications have a fixed width. Received: width={width}, backbone={name!r}"
        )
    if name in _VITS:
        dim, heads = _VITS[name]
        return backbones.ViT(_VIT_PATCH, dim, 12, heads, input_shape)
    settings: dict[str, Any] = {"weights": None, "include_top": False, "pooling": "avg"}
    application = functools.partial(getattr(keras.applications, name), **settings)
    if not name.startswith(_EXPECT_255) or input_scale == 1:
        return application(input_shape=input_shape)
    if name.startswith("ConvNeXt") and input_shape[-1] != 3:  # its normalization is for colors
        return application(input_shape=input_shape, include_preprocessing=False)
    images = keras.Input(input_shape, name="images")
    scaled = keras.layers.Rescaling(input_scale, name="input_scale")(images)
    network = application(input_shape=input_shape, input_tensor=scaled)
    return keras.Model(images, network.output, name=network.name)  # `network` takes a list


def has_width(name: str) -> bool:
    """Returns whether the `width` of a network can be chosen.

    Example:
        >>> has_width("resnet50"), has_width("vit-small")
        (True, False)
    """
    name = spell("backbone", name, backbone_names())
    return name in _RESNETS or name in ("small-resnet", "tiny")


def needs_adamw(name: str) -> bool:
    """Returns whether a network is of a family that is trained with AdamW.

    These are ConvNeXt and vision transformers. Their features hardly change in short trainings with
    LARS or SGD: residual branches with a layer scale start at a millionth of their size.

    Example:
        >>> needs_adamw("ConvNeXtTiny"), needs_adamw("resnet50")
        (True, False)
    """
    return name.lower().startswith(_TRAINED_WITH_ADAMW)


@functools.cache
def backbone_names() -> list[str]:
    """Returns all names that `build_backbone` takes, without importing TensorFlow.

    The networks of `keras.applications` are read from the source of the installed Keras.
    """
    keras_file = getattr(importlib.util.find_spec("keras"), "origin", None) or ""
    source = pathlib.Path(keras_file).with_name("applications") / "__init__.py"
    applications = {
        alias.name
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name[0].isupper()
    }
    return [*_RESNETS, "small-resnet", "tiny", *_VITS, *sorted(applications)]
