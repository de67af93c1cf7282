"""Export: one directory that is served, fine-tuned, and loaded as a Keras model again."""

import ctypes
import os
import pathlib
import shutil
import sys
import uuid
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# A backbone loads only where the classes of its layers are registered.
import keras_ssl.backbones  # noqa: F401
from keras_ssl import distribute, model_card
from keras_ssl.artefact import Artefact, block_outputs
from keras_ssl.layers import SplitBatchNorm, split_batch_norm

__all__ = ["load", "saved_model"]

_TOLERANCE = 1e-5
_SAMPLE_SIDE = 64  # pixels, where the backbone leaves the size open

_KERAS_FILE = "backbone.keras"
_FILES = {"saved_model.pb", _KERAS_FILE, *model_card.FILES}
_FILES_OF_TENSORFLOW = {"assets", "variables", "fingerprint.pb"}


def saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    metrics: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Writes a backbone as a SavedModel that can be served and fine-tuned; see docs/export.md.

    The directory appears at `path` whole and checked, or not at all: it is written beside `path`,
    loaded again in both forms, and moved there only if every output equals the backbone's to 1e-5
    (times the largest absolute value of that output, where this exceeds 1).

    Args:
        model: built `keras.Model` that maps float32 images `(batch, height, width, channels)` in
            [0, 1] to features `(batch, features)`, or a model with such a network as its
            `backbone`, as every method of `keras_ssl.methods` has: then the backbone is written.
        path: local directory to write. Missing parents are made.
        metrics: measured results, such as `{"knn": result}` with a result of `keras_ssl.evaluate`,
            or numbers; becomes metrics.json.
        recipe: how the network was trained; becomes recipe.json.
        preprocessing: the parts of the preprocessing contract that differ from what
            `keras_ssl.model_card.preprocessing_contract` assumes, such as `{"centre_crop": None}`.
        overwrite: replace an artefact that is there. A directory of any other kind, or one that
            holds further files, is never replaced.

    Returns:
        `path`.

    Raises:
        FileExistsError: if `path` is there and may not be replaced.
        RuntimeError: if the written artefact does not give the backbone's outputs, or if this is
            called inside the scope of a distribution strategy.
        TypeError: if `model` is not a `keras.Model`, or metadata is not a mapping.
        ValueError: if `model` does not map images to one vector each, or has weights of which none
            is trainable; if metadata does not fit JSON or the model; if `path` is not local.

    Example:
        >>> backbone = keras_ssl.backbones.Tiny()
        >>> path = saved_model(backbone, "saved_models/tiny", metrics={"knn accuracy": 0.5})
        >>> tf.saved_model.load(path)(tf.zeros((1, 32, 32, 3))).shape
        TensorShape([1, 64])
    """
    if "://" in os.fspath(path):
        raise ValueError(f"`path` must be a local directory. Received: path={path}")
    if distribute.replica_count() > 1:
        raise RuntimeError(
            "No artefact can be written inside a strategy's scope. Expected: a call outside of it. "
            f"Received: a call inside of one with {distribute.replica_count()} replicas"
        )
    backbone = _checked_backbone(model)
    image_shape, features = _shapes(backbone)
    documents = model_card.documents(image_shape, metrics, recipe, preprocessing)
    # A symbolic link stays, and what it points to is replaced.
    target = pathlib.Path(path).expanduser().resolve()
    _refuse_to_destroy(target, overwrite)

    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    draft.mkdir(parents=True)
    try:
        _write(backbone, image_shape, documents, draft)
        card = model_card.text(target.name, model, backbone, features, documents)
        (draft / "README.md").write_text(card, encoding="utf-8")
        _check_parity(backbone, image_shape, draft)
        _refuse_to_destroy(target, overwrite)  # someone may have written there meanwhile
        _publish(draft, target)
    finally:
        # It holds a draft that failed, the artefact that was replaced, or is gone.
        shutil.rmtree(draft, ignore_errors=True)
    return pathlib.Path(path)


def load(path: str | os.PathLike) -> keras.Model:
    """Returns the backbone of an artefact as the Keras model it was: trainable, with named layers.

    Args:
        path: directory that `saved_model` wrote.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: if the directory is not an artefact of `saved_model`.

    Example:
        >>> path = saved_model(keras_ssl.backbones.Tiny(), "saved_models/tiny")
        >>> load(path).input_shape
        (None, 32, 32, 3)
    """
    directory = pathlib.Path(path).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(
            "There is no artefact to load. Expected: a directory written by "
            f"keras_ssl.export.saved_model. Received: path={path}"
        )
    found = {entry.name for entry in directory.iterdir()}
    if not found >= _FILES:
        raise ValueError(
            "`path` is not an artefact of keras_ssl.export.saved_model. "
            f"Expected: {_listed(_FILES)}. Missing: {_listed(_FILES - found)}. "
            f"Found: {_listed(found)}. Received: path={path}"
        )
    return keras.models.load_model(directory / _KERAS_FILE, compile=False)


def _checked_backbone(model: Any) -> keras.Model:
    backbone = getattr(model, "backbone", None)
    backbone = backbone if isinstance(backbone, keras.Model) else model
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model, or have one as `backbone`. Received: model={model!r}"
        )
    if not backbone.built:
        raise ValueError(
            "`model` must be built: call it on a batch of images first. Received a model that is "
            f"not: {backbone.name!r}"
        )
    if backbone.weights and not backbone.trainable_weights:
        raise ValueError(
            "`model` is frozen, and so would be everything fine-tuned from the artefact. Expected: "
            "a model with trainable weights; set `model.trainable = True`. Received: "
            f"{len(backbone.weights)} weights of {backbone.name!r}, none trainable"
        )
    if any(isinstance(layer, SplitBatchNorm) for layer in backbone._flatten_layers()):
        return split_batch_norm(backbone, groups=1)  # fine-tuning has batches of any size
    return backbone


def _shapes(backbone: keras.Model) -> tuple[tuple[int | None, int | None, int], int]:
    """Returns (height, width, channels) of the images and the number of features, both checked."""
    inputs = getattr(backbone, "inputs", None)  # a subclassed model only knows what built it
    shape = inputs[0].shape if inputs else (backbone.get_build_config() or {}).get("input_shape")
    if (inputs and len(inputs) != 1) or shape is None or len(shape) != 4 or shape[-1] is None:
        raise ValueError(
            "`model` must take images of shape (batch, height, width, channels), channels known. "
            f"Received: {backbone.name!r} with inputs {[i.shape for i in inputs or []] or shape}"
        )
    if inputs and shape[0] is not None:
        raise ValueError(
            f"`model` must take batches of any size. Received: {backbone.name!r} with input shape "
            f"{shape}"
        )
    features = backbone.compute_output_spec(keras.KerasTensor((None, *shape[1:])))
    if not isinstance(features, keras.KerasTensor) or len(features.shape) != 2:
        raise ValueError(
            "`model` must return features of shape (batch, features); global average pooling turns "
            f"a feature map into them. Received: {backbone.name!r} returning {features}"
        )
    return tuple(shape[1:]), features.shape[-1]


def _write(backbone: keras.Model, image_shape: tuple, documents: dict, draft: pathlib.Path) -> None:
    backbone.save(draft / _KERAS_FILE, include_optimizer=False)
    # The artefact is made of a copy, whose variables are plain ones whatever strategy the backbone
    # is trained under.
    twin = keras.models.load_model(draft / _KERAS_FILE, compile=False)
    for layer in twin._flatten_layers():
        # There is nothing to synchronise on one replica, and TensorFlow warns at every load that it
        # did not save the second derivative of the operation that would.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = False
    artefact = Artefact(twin, image_shape)
    tf.saved_model.save(artefact, str(draft), signatures=artefact.serving_signatures())
    for file, content in documents.items():
        (draft / file).write_text(content, encoding="utf-8")


def _check_parity(backbone: keras.Model, image_shape: tuple, draft: pathlib.Path) -> None:
    """Raises RuntimeError unless the artefact in `draft` gives the outputs of the backbone."""
    height, width, channels = image_shape
    shape = (2, height or _SAMPLE_SIDE, width or _SAMPLE_SIDE, channels)
    images = np.random.default_rng(0).uniform(size=shape).astype("float32")
    blocks = block_outputs(backbone)
    # Accelerators may choose another algorithm for the same convolution at every run; a CPU's
    # arithmetic repeats itself, in half precision too.
    with tf.device("/CPU:0"):
        served = tf.saved_model.load(str(draft))
        again = load(draft)
        features = _run(backbone, images)
        received = {
            "__call__": served(images, training=False),
            "serving_default": served.signatures["serving_default"](tf.constant(images))[
                "features"
            ],
            "keras_ssl.export.load": _run(again, images),
        }
        pairs = {name: (features, value) for name, value in received.items()}
        if blocks:
            expected = _run(keras.Model(backbone.inputs[0], blocks), images)
            outputs = served.signatures["blocks"](tf.constant(images))
            pairs |= {f"blocks/{name}": (expected[name], outputs[name]) for name in blocks}
    for name, (expected_value, value) in pairs.items():
        _compare(name, np.asarray(expected_value, "float32"), np.asarray(value, "float32"))


def _run(network: keras.Model, images: np.ndarray) -> Any:
    # As a graph, because TensorFlow optimises the artefact's graph too.
    @tf.function(input_signature=[tf.TensorSpec(images.shape, tf.float32)])
    def run(batch):
        return network(batch, training=False)

    return run.get_concrete_function()(tf.constant(images))


def _compare(name: str, expected: np.ndarray, received: np.ndarray) -> None:
    if not np.isfinite(expected).all():
        raise RuntimeError(
            "The backbone's outputs are not finite, so they cannot be checked and nothing was "
            f"written. Expected: finite numbers from random images. Received: {name} with "
            f"{np.count_nonzero(~np.isfinite(expected))} of {expected.size} not finite"
        )
    allowed = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(expected - received).max())
    if not difference <= allowed:
        raise RuntimeError(
            "The written artefact does not give the backbone's outputs, so nothing was written. "
            f"Expected: {name} equal to {allowed:.1e}. Received: a difference of {difference:.1e}"
        )


def _refuse_to_destroy(target: pathlib.Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"`path` is there already. Expected: a new path, or overwrite=True. Received: {target}"
        )
    found = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    others = found - _FILES - _FILES_OF_TENSORFLOW
    if others or not found >= _FILES:
        raise FileExistsError(
            "`overwrite=True` replaces nothing but an artefact of keras_ssl.export.saved_model. "
            f"Expected in it: {_listed(_FILES)}. Found: {_listed(found)}. Received: {target}"
        )


def _publish(draft: pathlib.Path, target: pathlib.Path) -> None:
    """Moves a finished draft to its place; an artefact that was there ends where the draft was."""
    if not target.exists():
        os.rename(draft, target)
    elif not _exchange(draft, target):
        # The system has no exchange. If the process dies between these lines, the old artefact lies
        # whole beside `target`.
        aside = draft.with_name(f"{draft.name}.replaced")
        os.rename(target, aside)
        try:
            os.rename(draft, target)
        except BaseException:
            os.rename(aside, target)
            raise
        os.rename(aside, draft)


def _exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges two directories in one step; returns False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    here, exchange = -100, ctypes.c_uint(2)  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def _listed(names: set[str], most: int = 20) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "") or "nothing"
