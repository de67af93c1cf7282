"""SavedModel export: a directory that can be served, fine-tuned and loaded as a Keras model."""

import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.export import model_card
from keras_ssl.export.artefact import Artefact, output_name
from keras_ssl.export.backbone import find_backbone, find_shapes
from keras_ssl.export.manifest import write_manifest
from keras_ssl.export.parity import check_parity
from keras_ssl.export.preprocessing import Preprocessing
from keras_ssl.export.publish import KERAS_FILE, check_replaceable, publish
from keras_ssl.export.quiet import quiet_saving


def saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    metrics: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    class_names: Sequence[str] | None = None,
    block: str | None = None,
) -> pathlib.Path:
    """Writes a backbone as a SavedModel that can be served and fine-tuned; see docs/export.md.

    The directory is first written next to `path` and loaded again, as a SavedModel and as a Keras
    model. It is moved to `path` only if every output equals the backbone's to 1e-5 (times the
    largest absolute value of that output, if this exceeds 1). Otherwise `path` is not changed.

    Args:
        model: built `keras.Model` that maps float32 images `(batch, height, width, channels)` in
            [0, 1] to features `(batch, features)`, or a model with such a `backbone`, such as a
            method of `keras_ssl.methods`; then only the backbone is written.
        path: local directory to write. Missing parent directories are created.
        metrics: measured results: numbers, or results of `keras_ssl.evaluate`, as in
            `{"knn": result}`. Written to metrics.json.
        recipe: how the network was trained. Written to recipe.json.
        preprocessing: entries of the preprocessing contract that differ from the defaults of
            `keras_ssl.export.model_card.preprocessing_contract`, such as `{"centre_crop": None}`.
        overwrite: whether to replace an existing export. A directory that is not an export, or
            contains further files, is never replaced.
        class_names: for a classifier, whose output are scores before the softmax, the names of its
            classes in order. They are written to preprocessing.json and the model card, and a
            signature returns them. The output of the other signatures is named `scores`, as it is
            for every network of `keras_ssl.evaluate.finetune` and `keras_ssl.distill`.
        block: export an encoder that ends at this block, such as "block3", with the features of
            `keras_ssl.backbones.cut`. The model card names it. `metrics` should be those of the block.

    Returns:
        `path`.

    Raises:
        FileExistsError: if `path` exists and may not be replaced.
        RuntimeError: if the outputs of the export differ from those of the backbone, or the function
            is called in the scope of a distribution strategy.
        TypeError: if `model` is not a `keras.Model`, or metadata is not a mapping.
        ValueError: if `model` does not map each image to one vector, or has weights of which none
            is trainable; if metadata cannot be written as JSON or does not fit the model; if there
            is not one class name per score; if the network has no such block; if `path` is not local.

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
            "`saved_model` cannot be called in the scope of a strategy. Expected: a call outside of "
            f"it. Received: a call in the scope of {distribute.replica_count()} replicas"
        )
    if block is not None and class_names is not None:
        raise ValueError(
            "An encoder that ends at a block has no classes. Expected: `block` or `class_names`. "
            f"Received: block={block!r} and {len(class_names)} class names"
        )
    backbone = find_backbone(model, block)
    image_shape, features = find_shapes(backbone)
    if class_names is not None:
        class_names = [str(name) for name in class_names]
        if len(class_names) != features:
            raise ValueError(
                "`class_names` must have one name for each score of the model. Received: "
                f"{len(class_names)} names and {features} scores"
            )
    documents = model_card.render_documents(
        image_shape, metrics, recipe, preprocessing, class_names
    )
    prepare = Preprocessing(json.loads(documents["preprocessing.json"]))
    # A symbolic link is kept, and the directory that it points to is replaced.
    target = pathlib.Path(path).expanduser().resolve()
    check_replaceable(target, overwrite)

    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    draft.mkdir(parents=True)
    try:
        _write(backbone, image_shape, prepare, documents, draft, class_names)
        card = model_card.render(target.name, model, backbone, features, documents, block)
        (draft / "README.md").write_text(card, encoding="utf-8")
        write_manifest(draft)
        check_parity(backbone, image_shape, prepare, draft, output_name(backbone, class_names))
        check_replaceable(target, overwrite)  # it may have changed meanwhile
        publish(draft, target)
    finally:
        # After an error, this is the draft; after a replacement, the old export.
        shutil.rmtree(draft, ignore_errors=True)
    return pathlib.Path(path)


def _write(
    backbone: keras.Model,
    image_shape: tuple,
    prepare: Preprocessing,
    documents: dict,
    draft: pathlib.Path,
    class_names: Sequence[str] | None,
) -> None:
    backbone.save(draft / KERAS_FILE, include_optimizer=False)
    # A copy is exported: its variables are plain variables, even if the backbone was created under a
    # strategy.
    copy = keras.models.load_model(draft / KERAS_FILE, compile=False)
    for layer in copy._flatten_layers():
        # One replica needs no synchronization. With it, TensorFlow would warn at every load that the
        # second derivative of its operation was not saved.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = False
    artefact = Artefact(copy, image_shape, prepare, class_names)
    with quiet_saving():
        tf.saved_model.save(artefact, str(draft), signatures=artefact.serving_signatures())
    for file, content in documents.items():
        (draft / file).write_text(content, encoding="utf-8")
