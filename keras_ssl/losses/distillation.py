"""Distillation: a student learns to predict its teacher's distribution over classes."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_ssl")
class Distillation(keras.losses.Loss):
    """Cross-entropy between a teacher's and a student's predictions, softened by a temperature.

        loss = -sum_y p_teacher(y) * log p_student(y),    p(y) = softmax(logits / temperature)

    Its minimum is the entropy of the teacher's distribution, not 0. Unlike Hinton et al. 2015, and like
    SimCLRv2, it is not multiplied by the square of the temperature. It is always computed in float32.
    No gradient flows into the teacher's logits.

    Call arguments:
        teacher_logits: (batch, classes), before the softmax.
        student_logits: (batch, classes).
        sample_weight: (batch,) weights, as for other Keras losses.

    Args:
        temperature: positive. SimCLRv2 uses 0.1 for a student with the teacher's architecture, and 1
            for a smaller one.

    Raises:
        ValueError: if `temperature` is not positive, or (when called) if the two shapes differ or are
            not `(batch, classes)`.

    Example:
        >>> teacher = keras.ops.convert_to_tensor([[4.0, 0.0]])
        >>> bool(Distillation()(teacher, teacher) < Distillation()(teacher, -teacher))
        True

    Source: Chen et al. 2020, "Big Self-Supervised Models are Strong Semi-Supervised Learners",
    equation 2.
    """

    def __init__(self, temperature: float = 1.0, name: str = "distillation", **kwargs):
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, teacher_logits, student_logits):
        """Returns `(batch,)` losses."""
        if len(teacher_logits.shape) != 2 or teacher_logits.shape[-1] != student_logits.shape[-1]:
            raise ValueError(
                "Teacher and student must predict the same classes, both (batch, classes). Received: "
                f"teacher_logits.shape={tuple(teacher_logits.shape)}, "
                f"student_logits.shape={tuple(student_logits.shape)}"
            )
        p = tf.stop_gradient(tf.nn.softmax(teacher_logits / self.temperature))
        return tf.nn.softmax_cross_entropy_with_logits(p, student_logits / self.temperature)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "temperature": self.temperature}
