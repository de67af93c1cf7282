"""A teacher's scores for all images, computed once and stored in a file."""

import os
import pathlib
import uuid

import keras
import numpy as np

from keras_ssl.data import Source
from keras_ssl.evaluate import extract


@keras.saving.register_keras_serializable(package="keras_ssl")
class TeacherOutputs(keras.layers.Layer):
    """A teacher's scores for the images of a source, looked up by image index.

    The scores are those of the whole image, preprocessed as for evaluation. A teacher that runs in
    every step sees the student's crops instead. Precomputed scores make training several times faster,
    but the student learns a little less (measured by Beyer et al. 2022). The table is a variable: it
    is part of the model's checkpoints and takes 4 bytes per image and class of accelerator memory.

    Args:
        size: number of images.
        classes: number of classes.

    Call arguments:
        indices: image indices, (batch,), from `keras_ssl.data.views(..., indices=True)`.

    Example:
        >>> outputs = precompute(teacher, source, "teacher.npz")
        >>> distiller = Distiller(TeacherOutputs.load("teacher.npz", source), student)

    Source: Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent",
    figure 2 (the loss of accuracy with fixed outputs).
    """

    def __init__(self, size: int, classes: int, **kwargs):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.size = size
        self.classes = classes
        self.build(None)

    def build(self, input_shape):
        """Creates the table of scores."""
        self.scores = self.add_weight(
            name="scores", shape=(self.size, self.classes), initializer="zeros", trainable=False
        )
        self.built = True

    def call(self, indices):
        """Returns the scores of the images with these indices, `(batch, classes)`."""
        return keras.ops.take(self.scores, indices, axis=0)

    @classmethod
    def load(cls, path: str | os.PathLike, source: Source) -> "TeacherOutputs":
        """Loads a file that `precompute` wrote.

        Args:
            path: the file.
            source: the student's training images.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the outputs were computed for other images.
        """
        with np.load(path, allow_pickle=False) as file:
            scores, fingerprint = file["scores"], str(file["fingerprint"])
        if fingerprint != source.fingerprint():
            raise ValueError(
                "The teacher's outputs must have been computed for the student's images. Received: "
                f"{os.fspath(path)!r}, with outputs for {len(scores)} other images, and {source!r}"
            )
        outputs = cls(*scores.shape)
        outputs.scores.assign(scores)
        return outputs

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "classes": self.classes}


def precompute(
    teacher: keras.Model,
    source: Source,
    path: str | os.PathLike,
    batch_size: int = 256,
    progress: bool = False,
) -> TeacherOutputs:
    """Computes a teacher's scores for all images, writes them to a file, and returns them.

    The scores are written to a temporary file, which is then renamed, so that `path` is never
    incomplete.

    Args:
        teacher: `keras.Model` from images to scores, `(batch, classes)`.
        source: images. Labels are not read.
        path: `.npz` file to write.
        batch_size: images per forward pass.
        progress: whether to show a progress bar.

    Raises:
        OSError: if the file cannot be written.
    """
    path = pathlib.Path(path)
    scores = extract(teacher, source, batch_size=batch_size, progress=progress).values
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with draft.open("wb") as file:
            np.savez(file, scores=scores, fingerprint=source.fingerprint())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return TeacherOutputs.load(path, source)
