"""Sources of images, and the data pipeline that makes views of them."""

from keras_ssl.data.arrays import arrays, npz
from keras_ssl.data.clips import clip_arrays, clips
from keras_ssl.data.color_clusters import color_clusters
from keras_ssl.data.color_prior import color_prior
from keras_ssl.data.digits import digits
from keras_ssl.data.image_folder import image_folder
from keras_ssl.data.open_source import open_source
from keras_ssl.data.source import Source
from keras_ssl.data.tfds import tfds
from keras_ssl.data.views import views

__all__ = [
    "Source",
    "arrays",
    "clip_arrays",
    "clips",
    "color_clusters",
    "color_prior",
    "digits",
    "image_folder",
    "npz",
    "open_source",
    "tfds",
    "views",
]
