"""Distillation, the last step of SimCLRv2: a student learns its teacher's predictions."""

import os
from typing import Any

import keras
import tensorflow as tf

from keras_ssl.distill.teacher import count_classes, freeze_teacher
from keras_ssl.distill.teacher_outputs import TeacherOutputs
from keras_ssl.losses import Distillation
from keras_ssl.methods import Learner


@keras.saving.register_keras_serializable(package="keras_ssl")
class Distiller(Learner):
    """Trains a student on a teacher's predictions, without labels.

    The student can be any network that predicts the same classes: a smaller ResNet, a
    `keras.applications` model, or one with the teacher's architecture (self-distillation). The teacher
    is frozen and runs in inference mode. It sees the same crops as the student.

    Training takes batches of `keras_ssl.data.views`. If there are several views of an image, the
    student learns from each. If `labelled_weight` is positive, batches must have labels,
    `views(..., labels=True)`, and the loss is

        (1 - labelled_weight) * distillation + labelled_weight * cross-entropy with the labels

    Both terms are means over the batch. Images without a label (-1) count in the first term only.

    Args:
        teacher: built `keras.Model` from images to class scores before the softmax,
            `(batch, classes)`, such as `evaluate.finetune(...).network`; the directory of an exported
            model; or precomputed `TeacherOutputs`. A model is copied and not changed.
        student: built `keras.Model` from images to scores of the same classes.
        temperature: temperature of both softmaxes, positive. The paper uses 0.1 for
            self-distillation and 1 for a smaller student.
        labelled_weight: weight of the cross-entropy with the labels, in [0, 1]. If 0, batches must not
            have labels.

    Raises:
        TypeError: if the teacher or the student has another type.
        ValueError: if their numbers of classes differ, or a number is out of range.

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
        self.teacher = freeze_teacher(teacher)
        self.temperature = temperature
        self.labelled_weight = labelled_weight
        classes = [count_classes(network, name) for name, network in self._networks().items()]
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
        """Returns the loss of a batch of views, with its labels if `labelled_weight` is positive."""
        teacher = self.teacher_scores(views)  # (views * batch, classes)
        views = views[:-1] if self.takes_indices else views
        student = self.student(tf.concat(views, axis=0), training=True)
        self.agreement.update_state(tf.argmax(teacher, -1) == tf.argmax(student, -1))
        loss = (1 - self.labelled_weight) * self.distillation(teacher, student)
        if self.labelled_weight:
            labels = tf.tile(labels, [len(views)])
            has_label = tf.cast(labels >= 0, tf.float32)
            supervised = self.cross_entropy(tf.maximum(labels, 0), student, sample_weight=has_label)
            loss += self.labelled_weight * supervised
        return loss

    def teacher_scores(self, views):
        """Returns the teacher's scores for all views, `(views * batch, classes)`, without gradient."""
        if self.takes_indices:
            *views, indices = views
            return tf.tile(self.teacher(indices), [len(views), 1])
        return tf.stop_gradient(self.teacher(tf.concat(views, axis=0), training=False))

    @property
    def metrics(self):
        """The metrics that `fit` resets: the loss, and the share of views on which both agree."""
        return [self.loss_tracker, self.agreement]

    def get_config(self):
        """Returns the constructor's arguments, including both networks, serialized."""
        networks = {k: keras.saving.serialize_keras_object(v) for k, v in self._networks().items()}
        return {
            "name": self.name,
            **networks,
            "temperature": self.temperature,
            "labelled_weight": self.labelled_weight,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the model from the result of `get_config`."""
        networks = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("teacher", "student")
        }
        return cls(**{**config, **networks})
