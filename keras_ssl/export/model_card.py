"""The metadata of an export: recipe, metrics, preprocessing contract and model card."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ssl import augment
from keras_ssl.data.value_range import ValueRange
from keras_ssl.export.artefact import block_outputs, output_name
from keras_ssl.export.card_tables import metric_tables, table
from keras_ssl.export.preprocessing import Preprocessing

FILES = ("recipe.json", "metrics.json", "preprocessing.json", "README.md")


def preprocessing_contract(
    image_shape: tuple[int | None, int | None, int], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns the preprocessing of images that a network expects.

    The default for square images is that of `keras_ssl.augment.evaluation`. If the size is free or
    not square, nothing is cropped.

    Args:
        image_shape: `(height, width, channels)` of the network's images; `None` for a free side.
        given: entries that differ from the default.

    Returns:
        `range` of the pixels; `value_range`, the pixel values that become its ends (a dictionary with
        `low` and `high`, one number per channel, and the type `of` the pixels; None: the range of
        the type); `size` ([height, width]; None: any); `channels`; `mean` and `std` for
        normalization after scaling to `range` (one number per channel; None: no normalization);
        `interpolation` and `antialias` of the resizing; `centre_crop` (side of the central square
        that is kept, as a share of the image's shorter side; None: the full image).

    Raises:
        ValueError: if `given` has an unknown entry, an invalid value, or a value that the network
            cannot take.

    Example:
        >>> preprocessing_contract((224, 224, 3))["centre_crop"]
        0.875
    """
    height, width, channels = image_shape
    size = [height, width] if height and width else None
    defaults = {
        "range": [0, 1],
        "value_range": None,
        "size": size,
        "channels": channels,
        "mean": None,
        "std": None,
        "interpolation": "bicubic",
        "antialias": True,
        "centre_crop": augment.evaluation(height).share if height and height == width else None,
    }
    given = dict(given or {})
    if unknown := set(given) - set(defaults):
        raise ValueError(
            f"`preprocessing` has unknown entries. Expected: {', '.join(defaults)}. "
            f"Received: {', '.join(map(str, unknown))}"
        )
    for name in ("range", "channels", "size") if size else ("range", "channels"):
        if name in given and json.loads(_json("preprocessing", given[name])) != defaults[name]:
            raise ValueError(
                f"`preprocessing` must fit the model, which takes {name}={defaults[name]}. "
                f"Received: {name}={given[name]}"
            )
    return _checked({**defaults, **given})


def _checked(contract: dict[str, Any]) -> dict[str, Any]:
    """Returns the contract; raises ValueError if `Preprocessing` cannot follow it."""
    methods = sorted(
        vars(tf.image.ResizeMethod)[word] for word in dir(tf.image.ResizeMethod) if word.isupper()
    )
    share, size = contract["centre_crop"], contract["size"]
    wrong = None
    if contract["interpolation"] not in methods:
        wrong = "interpolation", f"one of {', '.join(methods)}"
    elif share is not None and not 0 < share <= 1:
        wrong = "centre_crop", "a share in (0, 1], or None"
    elif size is not None and (np.shape(size) != (2,) or min(size) < 1):
        wrong = "size", "[height, width] in pixels, or None"
    for name in ("mean", "std"):
        if contract[name] is not None and np.shape(contract[name]) != (contract["channels"],):
            wrong = name, f"{contract['channels']} numbers, one per channel, or None"
    if contract["std"] is not None and not np.all(np.asarray(contract["std"], "float64") > 0):
        wrong = "std", "positive numbers"
    if contract["value_range"] is not None:
        try:
            pixels = ValueRange.from_json(contract["value_range"])
            pixels.check_channels(contract["channels"], "preprocessing")
        except (ValueError, TypeError, KeyError) as error:
            wrong = "value_range", f"a dictionary with low, high and of ({error})"
    if wrong is not None:
        name, expected = wrong
        raise ValueError(
            f"`preprocessing` has an invalid {name}. Expected: {expected}. "
            f"Received: {name}={contract[name]!r}"
        )
    return contract


def render_documents(
    image_shape: tuple[int | None, int | None, int],
    metrics: Mapping[str, Any] | None,
    recipe: Mapping[str, Any] | None,
    preprocessing: Mapping[str, Any] | None,
    class_names: Sequence[str] | None = None,
) -> dict[str, str]:
    """Returns the JSON files of an export by name; see `keras_ssl.export.saved_model`.

    Raises:
        TypeError: if one of them is not a mapping.
        ValueError: if one of them contains a value that JSON does not have, such as NaN.

    Example:
        >>> render_documents((32, 32, 3), {"knn accuracy": 0.5}, None, None)["recipe.json"]
        '{}\\n'
    """
    given = {"metrics": metrics, "recipe": recipe, "preprocessing": preprocessing}
    for name, value in given.items():
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"`{name}` must be a mapping. Received: {name}={value!r}")
    contract = preprocessing_contract(image_shape, preprocessing)
    if class_names is not None:
        contract["class_names"] = list(class_names)
    given["preprocessing"] = contract
    return {f"{name}.json": _json(name, dict(value or {})) + "\n" for name, value in given.items()}


def render(
    name: str,
    model: keras.Model,
    backbone: keras.Model,
    features: int,
    documents: dict[str, str],
    block: str | None = None,
) -> str:
    """Returns the model card in Markdown.

    Args:
        name: name of the export.
        model: the model that was passed to `keras_ssl.export.saved_model`.
        backbone: the exported network: `model` or its backbone.
        features: number of features per image.
        documents: the JSON files, from `render_documents`.
        block: the block at which the exported network ends; `None`: it is not cut.
    """
    contract = json.loads(documents["preprocessing.json"])
    class_names = contract.pop("class_names", None)
    output = output_name(backbone, class_names)
    height, width = contract["size"] or (224, 224)
    images = f"(batch, {height}, {width}, {contract['channels']})"
    own = getattr(model, "backbone", None)
    whole = own if isinstance(own, keras.Model) else model
    origin = "" if model is whole else f", the backbone of a `{type(model).__name__}` model"
    if block is not None:
        origin = (
            f". It is `{whole.name}`{origin}, cut after `{block}`: the features are the output of that "
            "block, pooled over all places"
        )
    blocks = ", ".join(f"`{block}`" for block in block_outputs(backbone))
    sections = [
        f"# {name}",
        f"The network `{backbone.name}`{origin}. It maps each image to "
        f"{features} {output} and has {backbone.count_params():,} parameters. "
        f"Written with TensorFlow {tf.__version__} and Keras {keras.__version__}.",
        "## Loading",
        _LOADING.format(name=name, images=images, output=output),
        "## Inputs",
        "`network(...)` and the signature `serving_default` take a float32 batch of images with the "
        "preprocessing in preprocessing.json:",
        table(("", "value"), {key: json.dumps(value) for key, value in contract.items()}),
        _signatures(contract),
        "## Outputs",
        f"`{output}`, float32. "
        + ("" if output == "features" else _classes(class_names))
        + (f"The signature `blocks` returns the outputs of {blocks}." if blocks else _NO_BLOCKS),
        "## Results",
        metric_tables(json.loads(documents["metrics.json"])),
        "## Recipe",
        _recipe(documents["recipe.json"]),
    ]
    return "\n\n".join(sections) + "\n"


_LOADING = """`images` below is a float32 batch of shape {images}.

In TensorFlow, for training, or for inference without keras_ssl:

```python
import tensorflow as tf

network = tf.saved_model.load("path/to/{name}")
{output} = network(images, training=False)
variables = network.trainable_variables
```

As a layer of a Keras 3 model:

```python
import keras

layer = keras.layers.TFSMLayer(
    "path/to/{name}",
    call_endpoint="serving_default",
    call_training_endpoint="training",
    dtype="float32",
)
{output} = layer(images)["{output}"]
```

With `call_training_endpoint`, fine-tuning also uses and updates the statistics of batch
normalization. Without it, only the weights change.

As a trainable Keras model with all its layers:

```python
from keras_ssl import export

network = export.load("path/to/{name}")
{output} = network(images)
```"""


def _signatures(contract: Mapping[str, Any]) -> str:
    preprocessing = Preprocessing(contract)
    pixels = preprocessing.pixel_type.name
    lines = _SIGNATURES + (_UINT8 if pixels == "uint8" else "") + _PIXELS.format(pixels=pixels)
    return lines + (_ENCODED if preprocessing.decodes else "")


_SIGNATURES = """These signatures preprocess in the graph, `network.signatures[NAME](images=...)`:
"""

_UINT8 = """
- `uint8`: uint8 images of the network's size; scales and normalizes."""

_PIXELS = """
- `pixels`: {pixels} images of any size, one size in a batch; crops, resizes, scales and normalizes."""

_ENCODED = """
- `encoded`: the bytes of JPEG, PNG, BMP or GIF files, one string each; decodes, then as `pixels`."""

_NO_BLOCKS = (
    "The network has no layers named `block1`, `block2`..., so there is no `blocks` signature."
)


def _classes(names: Sequence[str] | None) -> str:
    scores = "One score per class, before the softmax. "
    if names is None:
        return scores
    return scores + (
        "The classes are, in order: "
        f"{', '.join(f'`{name}`' for name in names)}. The signature `class_names` returns them. "
    )


def _recipe(recipe: str) -> str:
    return "No recipe was recorded." if recipe == "{}\n" else f"```json\n{recipe}```"


def _json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, indent=2, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must only contain finite numbers, text, lists and mappings. {error}. "
            f"Received: {name}={value!r}"
        ) from error


def _plain(value: Any) -> Any:
    """Converts types that are common in results to types that JSON has."""
    if isinstance(value, np.ndarray | np.generic | tf.Tensor):
        return np.asarray(value).tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_dict"):  # results of keras_ssl.evaluate
        return value.to_dict()
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
