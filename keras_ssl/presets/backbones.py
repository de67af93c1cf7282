"""Backbones by name."""

from typing import TYPE_CHECKING

from keras_ssl.presets.lookup import unknown_name

if TYPE_CHECKING:
    import keras

_DEPTHS = (18, 34, 50, 101, 152, 200)
_SK_RATIO = 0.0625  # SimCLRv2's


def build_backbone(name: str, width: float, input_shape: tuple[int, int, int]) -> "keras.Model":
    """Returns an untrained network.

    Args:
        name: "resnet50" and the other depths, "resnet50-sk" (with selective kernels), "small-resnet",
            "tiny", or a network of `keras.applications`, such as "MobileNetV2".
        width: factor on the number of filters of a ResNet, on the 48 of the first stage of
            "small-resnet", and on the 64 features of "tiny".
        input_shape: (height, width, channels) of the images.

    Raises:
        ValueError: if there is no such network, or `width` does not apply to it.
    """
    import keras

    from keras_ssl import backbones

    resnets = {f"resnet{depth}": (depth, 0.0) for depth in _DEPTHS}
    resnets |= {f"resnet{depth}-sk": (depth, _SK_RATIO) for depth in _DEPTHS if depth >= 50}
    if name in resnets:
        depth, sk_ratio = resnets[name]
        return backbones.ResNet(depth, width=width, sk_ratio=sk_ratio, input_shape=input_shape)
    if name == "small-resnet":
        return backbones.SmallResNet(round(48 * width), input_shape)
    if name == "tiny":
        return backbones.Tiny(input_shape, features=round(64 * width))
    application = getattr(keras.applications, name, None)
    if not callable(application):
        applications = [each for each in dir(keras.applications) if each[0].isupper()]
        raise unknown_name("backbone", name, [*resnets, "small-resnet", "tiny", *applications])
    if width != 1.0:
        raise ValueError(
            "`width` applies to resnet, small-resnet and tiny only; networks of keras.applications "
            f"have a fixed width. Received: width={width}, backbone={name!r}"
        )
    return application(weights=None, include_top=False, pooling="avg", input_shape=input_shape)
