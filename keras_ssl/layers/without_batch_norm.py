"""Replaces batch normalization by layer normalization, which does not depend on the batch."""

import keras


@keras.saving.register_keras_serializable(package="keras_ssl")
class LayerNorm(keras.layers.LayerNormalization):
    """Keras' layer normalization, which can take the place of batch normalization in a model."""

    def call(self, inputs, training=None, mask=None):
        """Normalizes `(batch, ..., channels)` inputs, in training as in inference; ignores masks."""
        return super().call(inputs)


def without_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a copy of a model, including weights, with layer instead of batch normalization.

    Batch normalization lets a network compare the images, or patches, of a batch by their statistics. A
    task such as that of `keras_ssl.methods.CPC` can be solved in this way, without learning anything.
    Layer normalization normalizes the channels at each place of each image on its own, in training as
    in inference. Factors and offsets are kept.

    Args:
        model: functional or sequential model, such as a backbone of `keras_ssl.backbones` or
            `keras.applications`.

    Returns:
        A model of the same class. A model without batch normalization is returned as it is.

    Raises:
        ValueError: if the model is neither functional nor sequential, or has batch normalization inside
            a layer of another class.

    Example:
        >>> backbone = without_batch_norm(keras_ssl.backbones.ResNet(18))
        >>> model = keras_ssl.methods.CPC(backbone)

    Source: Henaff et al. 2019, "Data-Efficient Image Recognition with Contrastive Predictive Coding",
    section 3: layer normalization, because batch normalization lets the network cheat.
    """
    before = batch_norms(model)
    if not before:
        return model
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a built functional or sequential model, whose layers can be replaced. "
            f"Received: {model.name!r} of type {type(model).__name__}"
        )
    copy = keras.models.clone_model(model, clone_function=_replace, recursive=True)
    if left := batch_norms(copy):
        raise ValueError(
            "`model` must have batch normalization among its own layers, not inside layers of other "
            f"classes. Received: {model.name!r}, in which {len(left)} of {len(before)} batch "
            "normalizations cannot be replaced"
        )
    statistics = {id(value) for norm in before for value in norm.non_trainable_weights[-2:]}
    kept = [value for value in model.weights if id(value) not in statistics]
    for variable, value in zip(copy.weights, kept, strict=True):
        variable.assign(value)
    return copy


def batch_norms(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns all batch normalization layers of a model, also inside other layers."""
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def _replace(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if not isinstance(layer, keras.layers.BatchNormalization):
        return type(layer).from_config(config)
    kept = ("name", "dtype", "axis", "epsilon", "center", "scale")
    initializers = ("beta_initializer", "gamma_initializer")
    return LayerNorm(**{name: config[name] for name in kept + initializers})
