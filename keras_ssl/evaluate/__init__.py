"""Standard evaluation protocols: k-nearest neighbors, linear probe, few labels and fine-tuning."""

from keras_ssl.evaluate.by_block import BlockResults, by_block
from keras_ssl.evaluate.cost import Cost, cost
from keras_ssl.evaluate.features import Features, extract, pixels
from keras_ssl.evaluate.few_labels import few_labels
from keras_ssl.evaluate.finetune import finetune, supervised
from keras_ssl.evaluate.finetuned import Finetuned
from keras_ssl.evaluate.fingerprint import fingerprint
from keras_ssl.evaluate.has_upright import has_upright
from keras_ssl.evaluate.knn import knn
from keras_ssl.evaluate.label_subset import label_subset
from keras_ssl.evaluate.linear import linear
from keras_ssl.evaluate.result import FewLabels, Result

__all__ = [
    "BlockResults",
    "Cost",
    "Features",
    "FewLabels",
    "Finetuned",
    "Result",
    "by_block",
    "cost",
    "extract",
    "few_labels",
    "finetune",
    "fingerprint",
    "has_upright",
    "knn",
    "label_subset",
    "linear",
    "pixels",
    "supervised",
]
