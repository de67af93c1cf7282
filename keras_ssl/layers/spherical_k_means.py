"""k-means with the cosine as similarity, on vectors of length 1."""

import tensorflow as tf

_ROWS = 8192  # rows compared with all centers at once, which bounds the memory


def spherical_k_means(
    vectors: tf.Tensor, start: tf.Tensor, iterations: int = 10
) -> tuple[tf.Tensor, tf.Tensor]:
    """Clusters vectors by their direction.

    A center is the normalized sum of its vectors. A center without vectors stays where it is.

    Args:
        vectors: `(count, dim)` float32, rows of length 1.
        start: `(clusters, dim)` first centers, rows of length 1.
        iterations: number of updates of the centers.

    Returns:
        The centers, `(clusters, dim)` float32, and the number of the nearest center of each vector,
        `(count,)` int64.

    Example:
        >>> vectors = tf.constant([[1.0, 0.0], [0.8, 0.6], [0.0, -1.0]])
        >>> spherical_k_means(vectors, tf.gather(vectors, [0, 2]))[1].numpy().tolist()
        [0, 0, 1]

    Source: Dhillon and Modha 2001, "Concept Decompositions for Large Sparse Text Data Using
    Clustering"; ten iterations, and empty clusters, as in `main_deepclusterv2.py` of
    facebookresearch/swav.
    """
    centers, clusters = start, start.shape[0]
    for _ in range(iterations):
        sums = tf.math.unsorted_segment_sum(vectors, _nearest(vectors, centers), clusters)
        is_empty = tf.norm(sums, axis=1, keepdims=True) < 1e-6
        centers = tf.where(is_empty, centers, tf.math.l2_normalize(sums, axis=1))
    return centers, _nearest(vectors, centers)


def _nearest(vectors: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
    parts = [
        tf.argmax(tf.matmul(vectors[first : first + _ROWS], centers, transpose_b=True), axis=1)
        for first in range(0, vectors.shape[0], _ROWS)
    ]
    return tf.concat(parts, axis=0)
