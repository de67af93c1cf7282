"""The usual colors of the images of a source, as cluster centers."""

import numpy as np

from keras_ssl.data.color_prior import count_colors
from keras_ssl.data.source import Source

_IMAGES = 200
_DIGITS = 3  # of the centers, which a run stores: their last bits differ between machines
_STARTS = 3  # of k-means, of which the best result is kept


def color_clusters(
    source: Source, count: int = 16, images: int = _IMAGES, seed: int = 0
) -> np.ndarray:
    """Returns the centers of clusters of the colors of images, by k-means on a and b of Lab.

    Gray images do not count. Of a source of clips, the first frames are looked at.

    Args:
        source: images with 3 channels.
        count: number of clusters, at least 2.
        images: number of images to look at, at most: spread over the source, or the first of a streamed
            source. Positive.
        seed: seed of the first centers.

    Returns:
        (count, 2) float32 values of a and b, in ascending order.

    Raises:
        ValueError: if `count` is out of range, the images do not have 3 channels, or those looked at
            have fewer colors.

    Example:
        >>> color_clusters(keras_ssl.data.clips("holidays")).shape
        (16, 2)

    Source: Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos", section 3.3: 16 clusters of
    the colors of Kinetics, by k-means.
    """
    from sklearn.cluster import KMeans

    if count < 2:
        raise ValueError(f"`count` must be at least 2. Received: count={count}")
    if source.image_shape[2] != 3:
        raise ValueError(
            "`color_clusters` needs images with 3 channels. "
            f"Received: {source.image_shape[2]} in {source.name!r}"
        )
    colors, pixels = count_colors(source, images)
    if len(colors) < count:
        raise ValueError(
            f"`color_clusters` needs images in color, with at least {count} different colors. "
            f"Received: {source.name!r}, in which those looked at have {len(colors)}"
        )
    clusters = KMeans(count, n_init=_STARTS, random_state=seed).fit(colors, sample_weight=pixels)
    centers = np.round(clusters.cluster_centers_, _DIGITS)
    return centers[np.lexsort(centers.T[::-1])].astype(np.float32)
