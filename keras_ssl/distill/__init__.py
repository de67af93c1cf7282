"""Distillation: a small student learns a large teacher's predictions on unlabeled images."""

from keras_ssl.distill.calibrated import calibrated
from keras_ssl.distill.distiller import Distiller
from keras_ssl.distill.teacher import load_teacher
from keras_ssl.distill.teacher_outputs import TeacherOutputs, precompute

__all__ = ["Distiller", "TeacherOutputs", "calibrated", "load_teacher", "precompute"]
