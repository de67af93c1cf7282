"""What a teacher says of every image, computed once and kept in a file."""

import os
import pathlib
import uuid

import keras
import numpy as np

from keras_ssl.data import Source
from keras_ssl.evaluate import extract


@keras.saving.register_keras_serializable(package="keras_ssl")
class TeacherOutputs(keras.layers.Layer):
    """A teacher's scores of the images of a source, looked up by the images' numbers.

    They are of the whole image, as evaluation sees it, where a teacher that is asked in every step sees
    the student's crop: several times faster, and the student learns a little less (Beyer et al. 2022
    measured how much). The table is a variable: it counts towards the model's checkpoints and the
    accelerator's memory, 4 bytes for each image and class.

    Call arguments:
        indices: (batch,) integers, as `keras_ssl.data.views(..., indices=True)` gives them.

    Args:
        size: number of images.
        classes: number of classes.

    Example:
        >>> outputs = precompute(teacher, source, "teacher.npz")
        >>> distiller = Distiller(TeacherOutputs.load("teacher.npz", source), student)

    Source: Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent",
    figure 2, for what fixed outputs cost.
    """

    def __init__(self, size: int, classes: int, **kwargs):
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.size = size
        self.classes = classes
        self.build(None)

    def build(self, input_shape):
        """Creates the table."""
        self.scores = self.add_weight(
            name="scores", shape=(self.size, self.classes), initializer="zeros", trainable=False
        )
        self.built = True

    def call(self, indices):
        """Returns the scores of the images of these numbers, `(batch, classes)`."""
        return keras.ops.take(self.scores, indices, axis=0)

    @classmethod
    def load(cls, path: str | os.PathLike, source: Source) -> "TeacherOutputs":
        """Returns the outputs that `precompute` wrote.

        Args:
            path: the file.
            source: the images that the student will see.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the outputs are those of other images.
        """
        with np.load(path, allow_pickle=False) as file:
            scores, fingerprint = file["scores"], str(file["fingerprint"])
        if fingerprint != source.fingerprint():
            raise ValueError(
                "The teacher's outputs must be those of the images that the student sees. Received: "
                f"{os.fspath(path)!r}, with outputs of {len(scores)} other images, and {source!r}"
            )
        outputs = cls(*scores.shape)
        outputs.scores.assign(scores)
        return outputs

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "size": self.size, "classes": self.classes}


def precompute(
    teacher: keras.Model,
    source: Source,
    path: str | os.PathLike,
    batch_size: int = 256,
    progress: bool = False,
) -> TeacherOutputs:
    """Writes a teacher's scores of every image into a file, and returns them.

    The file is written beside its place and renamed: it is there whole, or not at all.

    Args:
        teacher: `keras.Model` from images to scores, `(batch, classes)`.
        source: images; labels are not read.
        path: file to write, a NumPy `.npz`.
        batch_size: images per forward pass.
        progress: show how far it is.

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
