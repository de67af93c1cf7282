"""Standard protocols for frozen features: nearest neighbours, a linear classifier, few labels."""

from keras_ssl.evaluate.features import Features, extract, pixels
from keras_ssl.evaluate.few_labels import few_labels
from keras_ssl.evaluate.fingerprint import fingerprint
from keras_ssl.evaluate.knn import knn
from keras_ssl.evaluate.linear import linear
from keras_ssl.evaluate.result import FewLabels, Result

__all__ = [
    "Features",
    "FewLabels",
    "Result",
    "extract",
    "few_labels",
    "fingerprint",
    "knn",
    "linear",
    "pixels",
]
