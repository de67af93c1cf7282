"""Feature maps of a backbone's named blocks."""

import re

import keras


def maps(backbone: keras.Model, *blocks: str) -> keras.Model:
    """Returns a model from images to the feature maps of named blocks; it shares all weights.

    A method that learns from feature maps calls `self.feature_maps(images, block)` instead, which
    does not save the weights twice.

    Args:
        backbone: functional model whose layers have names such as "stem", "block1", "block2".
        *blocks: names of layers whose output to return, at least one.

    Returns:
        A functional model from `(batch, height, width, channels)` to one feature map,
        `(batch, map_height, map_width, map_channels)`, or to a list with one per name.

    Raises:
        ValueError: if the backbone is not functional, has no layer of one of the names, or its output
            is not a feature map.

    Example:
        >>> backbone = Tiny((32, 32, 3))
        >>> maps(backbone, "block2")(keras.ops.ones((2, 32, 32, 3))).shape
        TensorShape([2, 16, 16, 32])
    """
    if not blocks:
        raise ValueError("`maps` needs the name of at least one block. Received: none")
    outputs = {
        layer.name: layer.output
        for layer in (backbone.layers if getattr(backbone, "inputs", None) else [])
        if not isinstance(layer, keras.layers.InputLayer) and len(layer.output.shape) == 4
    }
    for name in blocks:
        if name not in outputs:
            known = [name for name in outputs if re.fullmatch(r"stem|block\d+", name)]
            raise ValueError(
                "A functional backbone with layers of the given names is needed. Feature maps of "
                f"{backbone.name!r}: {', '.join(sorted(known or outputs)) or 'none'}. "
                f"Received: {name!r}"
            )
    found = [outputs[name] for name in blocks]
    return keras.Model(backbone.input, found[0] if len(found) == 1 else found)
