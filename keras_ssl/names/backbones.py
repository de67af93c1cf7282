"""The networks of the command line."""

import keras

from keras_ssl import backbones
from keras_ssl.names.table import unknown

_RESNETS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152, 200)}


def backbone(name: str, width: float, input_shape: tuple[int, int, int]) -> keras.Model:
    """Returns an untrained network: "resnet50" and others of its kind, "small-resnet", "tiny"...

    All other names are of networks in `keras.applications`.

    Args:
        name: of the network, such as "resnet50" or "MobileNetV2".
        width: factor on the number of filters of a ResNet, on the 48 of the first stage of
            "small-resnet", and on the 64 features of "tiny".
        input_shape: (height, width, channels) of the images.
    """
    if name in _RESNETS:
        return backbones.ResNet(_RESNETS[name], width=width, input_shape=input_shape)
    if name == "small-resnet":
        return backbones.SmallResNet(round(48 * width), input_shape)
    if name == "tiny":
        return backbones.Tiny(input_shape, features=round(64 * width))
    application = getattr(keras.applications, name, None)
    if not callable(application):
        of_keras = [word for word in dir(keras.applications) if word[0].isupper()]
        raise unknown("backbone", name, [*_RESNETS, "small-resnet", "tiny", *of_keras])
    if width != 1.0:
        raise ValueError(
            "`width` is for resnet, small-resnet and tiny; networks of keras.applications have a "
            f"width of their own. Received: width={width}, backbone={name!r}"
        )
    return application(weights=None, include_top=False, pooling="avg", input_shape=input_shape)
