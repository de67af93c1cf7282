"""Writes image features to a file and finds nearest neighbors; see docs/search.md."""

from keras_ssl.search.embed import embed
from keras_ssl.search.feature_file import FeatureFile, read_features, write_features
from keras_ssl.search.neighbours import Neighbour, draw_neighbours, nearest
from keras_ssl.search.predict import predict

__all__ = [
    "FeatureFile",
    "Neighbour",
    "draw_neighbours",
    "embed",
    "nearest",
    "predict",
    "read_features",
    "write_features",
]
