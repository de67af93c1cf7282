"""One directory that is served, fine-tuned, and loaded as a Keras model again."""

import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.export import model_card
from keras_ssl.export.artefact import Artefact
from keras_ssl.export.backbone import checked_backbone, shapes
from keras_ssl.export.manifest import write_manifest
from keras_ssl.export.parity import check_parity
from keras_ssl.export.preprocessing import Preprocessing
from keras_ssl.export.publish import KERAS_FILE, publish, refuse_to_destroy


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
            `keras_ssl.export.model_card.preprocessing_contract` assumes, such as
            `{"centre_crop": None}`.
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
    backbone = checked_backbone(model)
    image_shape, features = shapes(backbone)
    documents = model_card.documents(image_shape, metrics, recipe, preprocessing)
    prepare = Preprocessing(json.loads(documents["preprocessing.json"]))
    # A symbolic link stays, and what it points to is replaced.
    target = pathlib.Path(path).expanduser().resolve()
    refuse_to_destroy(target, overwrite)

    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    draft.mkdir(parents=True)
    try:
        _write(backbone, image_shape, prepare, documents, draft)
        card = model_card.text(target.name, model, backbone, features, documents)
        (draft / "README.md").write_text(card, encoding="utf-8")
        write_manifest(draft)
        check_parity(backbone, image_shape, prepare, draft)
        refuse_to_destroy(target, overwrite)  # someone may have written there meanwhile
        publish(draft, target)
    finally:
        # It holds a draft that failed, the artefact that was replaced, or is gone.
        shutil.rmtree(draft, ignore_errors=True)
    return pathlib.Path(path)


def _write(
    backbone: keras.Model,
    image_shape: tuple,
    prepare: Preprocessing,
    documents: dict,
    draft: pathlib.Path,
) -> None:
    backbone.save(draft / KERAS_FILE, include_optimizer=False)
    # The artefact is made of a copy, whose variables are plain ones whatever strategy the backbone
    # is trained under.
    twin = keras.models.load_model(draft / KERAS_FILE, compile=False)
    for layer in twin._flatten_layers():
        # There is nothing to synchronise on one replica, and TensorFlow warns at every load that it
        # did not save the second derivative of the operation that would.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = False
    artefact = Artefact(twin, image_shape, prepare)
    tf.saved_model.save(artefact, str(draft), signatures=artefact.serving_signatures())
    for file, content in documents.items():
        (draft / file).write_text(content, encoding="utf-8")
