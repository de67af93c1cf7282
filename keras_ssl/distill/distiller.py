"""SimCLRv2's last step: a student learns on unlabelled images to say what its teacher says."""

import os
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.distill.teacher import checked_scores, frozen_teacher
from keras_ssl.distill.teacher_outputs import TeacherOutputs
from keras_ssl.losses import Distillation
from keras_ssl.methods import Learner


@keras.saving.register_keras_serializable(package="keras_ssl")
class Distiller(Learner):
    """Trains a student on a teacher's predictions, without labels.

    Any network that predicts the same classes can be the student: a smaller ResNet, a
    `keras.applications` model, or one of the teacher's own form (self-distillation). The teacher is
    frozen and runs in inference mode; it sees the same crops as the student.

    It takes the batches of `keras_ssl.data.views`; of several views of an image the student learns from
    each. With a `labelled_weight` it takes labels too, `views(..., labels=True)`, and minimises

        (1 - labelled_weight) * distillation + labelled_weight * cross-entropy with the labels

    both as means over the batch; images without a label (-1) count in the first alone.

    Args:
        teacher: built `keras.Model` from images to the scores of classes before the softmax,
            `(batch, classes)`, such as `evaluate.finetune(...).network`; the directory of an export; or
            `TeacherOutputs`, computed before. The model is copied and stays as it is.
        student: built `keras.Model` from images to scores of the same classes.
        temperature: of both softmaxes, positive: 0.1 in the paper for self-distillation, 1 for a
            smaller student.
        labelled_weight: in [0, 1]; 0 takes no labels.

    Raises:
        TypeError: if teacher or student are no such networks.
        ValueError: if their classes differ in number, or a number is out of range.

    Example:
        ```python
        teacher = keras_ssl.evaluate.finetune(simclr, train, test, labels=0.1).network
        student = keras.applications.MobileNetV3Small(
            input_shape=(32, 32, 3), weights=None, classes=10, classifier_activation=None,
            include_preprocessing=False)
        distiller = keras_ssl.distill.Distiller(teacher, student)
        distiller.compile(keras_ssl.optimizers.LARS(0.5, weight_decay=1e-4))
        views = keras_ssl.data.views(source, keras_ssl.augment.crop_and_flip(32), batch_size=256)
        distiller.fit(views, epochs=100)
        ```

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners", section
    2, equations 2 and 3.
    """

    def __init__(
        self,
        teacher: keras.Model | TeacherOutputs | str | os.PathLike,
        student: keras.Model,
        temperature: float = 1.0,
        labelled_weight: float = 0.0,
        **kwargs,
    ):
        if not 0 <= labelled_weight <= 1:
            raise ValueError(
                f"`labelled_weight` must lie in [0, 1]. Received: labelled_weight={labelled_weight}"
            )
        super().__init__(**kwargs)
        self.student = student
        self.teacher = frozen_teacher(teacher)
        self.temperature = temperature
        self.labelled_weight = labelled_weight
        classes = [checked_scores(network, name) for name, network in self._networks().items()]
        if classes[0] != classes[1]:
            raise ValueError(
                "Teacher and student must predict the same classes. "
                f"Received: {classes[0]} from the teacher, {classes[1]} from the student"
            )
        self.takes_labels = labelled_weight > 0
        self.takes_indices = isinstance(self.teacher, TeacherOutputs)
        self.distillation = Distillation(temperature)
        self.cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.agreement = keras.metrics.Mean(name="agreement")

    def _networks(self) -> dict[str, Any]:
        return {"teacher": self.teacher, "student": self.student}

    def call(self, images, training=False):
        """Maps images to the student's scores, `(batch, classes)`."""
        return self.student(images, training=training)

    def batch_loss(self, views, labels):
        """Returns the loss of a batch of views, and of their labels if there are any."""
        teacher = self.teacher_scores(views)  # (views * batch, classes)
        views = views[:-1] if self.takes_indices else views
        student = self.student(tf.concat(views, axis=0), training=True)
        self.agreement.update_state(tf.argmax(teacher, -1) == tf.argmax(student, -1))
        loss = (1 - self.labelled_weight) * self.distillation(teacher, student)
        if self.labelled_weight:
            labels = tf.tile(labels, [len(views)])
            known = tf.cast(labels >= 0, tf.float32)
            supervised = self.cross_entropy(tf.maximum(labels, 0), student, sample_weight=known)
            loss += self.labelled_weight * supervised
        return loss

    def teacher_scores(self, views):
        """Returns the teacher's scores of all views, `(views * batch, classes)`, without gradient."""
        if self.takes_indices:
            *views, indices = views
            return tf.tile(self.teacher(indices), [len(views), 1])
        return tf.stop_gradient(self.teacher(tf.concat(views, axis=0), training=False))

    @property
    def metrics(self):
        """The metrics that `fit` resets: the loss, and how often teacher and student agree."""
        return [self.loss_tracker, self.agreement]

    def get_config(self):
        """Returns the constructor's arguments, both networks included, in serialised form."""
        networks = {k: keras.saving.serialize_keras_object(v) for k, v in self._networks().items()}
        return {
            "name": self.name,
            **networks,
            "temperature": self.temperature,
            "labelled_weight": self.labelled_weight,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the model from what `get_config` returned."""
        networks = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("teacher", "student")
        }
        return cls(**{**config, **networks})
