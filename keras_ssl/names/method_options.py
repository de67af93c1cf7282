"""What a method may be told beside its backbone."""

from dataclasses import dataclass

from keras_ssl.layers import LinearProbe

# Settings that are a method's: it refuses what its row does not name.
OPTIONS = (
    "embedding",
    "head_layers",
    "temperature",
    "momentum",
    "final_momentum",
    "queue_size",
    "groups",
)


@dataclass(frozen=True)
class Options:
    """What a method may need to know beside its backbone; `None` asks for the method's default.

    Args:
        images: number of images in the data set.
        batch_size: images per step, over all replicas.
        replicas: that train together.
        chunks: parts of each replica's batch that are computed one after the other.
        probe: linear classifier that learns beside the method.
        embedding: dimension of the embeddings that the loss compares.
        head_layers: dense layers of the projection head.
        temperature: of the loss.
        momentum: of the target network, at the first step.
        final_momentum: of the target network, at the last step.
        queue_size: number of keys that the queue holds.
        groups: parts of the batch that are normalised apart; 1 for none.
    """

    images: int
    batch_size: int
    replicas: int = 1
    chunks: int = 1
    probe: LinearProbe | None = None
    embedding: int | None = None
    head_layers: int | None = None
    temperature: float | None = None
    momentum: float | None = None
    final_momentum: float | None = None
    queue_size: int | None = None
    groups: int | None = None
