"""kNN and linear accuracy of the features of each block of an encoder."""

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_ssl.backbones.cut import block_features, block_names, block_tensors, without_wrappers
from keras_ssl.evaluate.features import Encoder, Features, match_features
from keras_ssl.evaluate.fingerprint import unchanged
from keras_ssl.evaluate.grid_pooling import GridPooling
from keras_ssl.evaluate.inputs import Images, check_labels
from keras_ssl.evaluate.knn import knn
from keras_ssl.evaluate.linear import linear
from keras_ssl.evaluate.result import Result

__all__ = ["BlockResults", "by_block"]

_OUTPUT = "output"  # row of an encoder that does not end at its last block
_LARGEST_GRID = 9216
_TITLES = {"knn": "kNN", "linear": "linear"}


@dataclass(frozen=True)
class BlockResults:
    """The results of `by_block`.

    Attributes:
        pooled: block -> {"knn": result, "linear": result}, in the order of the blocks, for features
            averaged over all places.
        grid: the same for features averaged in the cells of a grid; empty if not measured.

    Example:
        >>> results = BlockResults({"block1": {"knn": Result("knn", 0.5, None, 10, 10)}})
        >>> print(results)
        accuracy in %    kNN
        block1         50.00
    """

    pooled: Mapping[str, Mapping[str, Result]]
    grid: Mapping[str, Mapping[str, Result]] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The block whose pooled features have the highest linear accuracy."""
        return max(self.pooled, key=lambda block: self.pooled[block]["linear"].accuracy)

    def columns(self) -> dict[str, dict[str, Result]]:
        """Returns the results by title, such as "kNN" or "linear, grid", and block."""
        return {
            _TITLES[protocol] + suffix: {block: row[protocol] for block, row in rows.items()}
            for suffix, rows in (("", self.pooled), (", grid", self.grid))
            for protocol in next(iter(rows.values()), {})
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a JSON-serializable dictionary."""
        return asdict(self)

    def __str__(self) -> str:
        columns = self.columns()
        width = max(len("accuracy in %"), *map(len, self.pooled))
        lines = ["accuracy in %".ljust(width) + "".join(f"  {title:>5}" for title in columns)]
        for block in self.pooled:
            cells = [
                f"  {100 * results[block].accuracy:{max(5, len(title))}.2f}"
                for title, results in columns.items()
            ]
            lines.append(block.ljust(width) + "".join(cells))
        return "\n".join(lines)


def by_block(
    backbone: keras.Model,
    train: Images,
    test: Images,
    blocks: Sequence[str] | None = None,
    grid: bool = False,
    k: int = 200,
    batch_size: int = 256,
    augmentation: Callable | None = None,
    progress: bool = False,
) -> BlockResults:
    """Measures the kNN and linear accuracy of each block of an encoder, in one pass over the images.

    Features of methods that solve a pretext task, such as rotation, are often best before the last
    block; `keras_ssl.backbones.cut` makes an encoder that ends there. The features of a block are its
    feature maps, averaged over all places; see `cut`. Those of the last block are the encoder's own
    output. If the encoder has further layers behind it, the row "output" has the encoder's results.

    Args:
        backbone: functional `keras.Model` from images to features (batch, dim), whose layers have
            names such as "stem", "block1", "block2".
        train: labeled images to fit on; anything that `extract` takes but `Features`.
        test: labeled images to test on; anything that `extract` takes but `Features`.
        blocks: names of the blocks to measure; by default all.
        grid: also measure features that keep the place: feature maps averaged in the cells of the
            largest square grid of at most 9,216 numbers. They are kept in temporary files, at most 37
            kB per image and block; one block is in memory at a time.
        k: number of neighbors that vote; see `knn`.
        batch_size: images per forward pass. Does not affect the result.
        augmentation: see `extract`.
        progress: whether to show progress bars.

    Returns:
        `BlockResults`. Print it to see a table.

    Raises:
        ValueError: if the backbone has no blocks of these names, `grid` is used with blocks of tokens,
            or for the reasons given in `knn` and `linear`.
        TypeError: if the images are `Features`.
        RuntimeError: if a variable of the backbone changed.

    Example:
        >>> backbone = keras_ssl.backbones.Tiny((8, 8, 1))
        >>> train, test = keras_ssl.data.digits("train"), keras_ssl.data.digits("test")
        >>> list(by_block(backbone, train, test).pooled)
        ['block1', 'block2', 'block3']

    Source: Goyal et al. 2019, "Scaling and Benchmarking Self-Supervised Visual Representation
    Learning", section 5.1, for grids of about 9,000 numbers.
    """
    sets: dict[str, Images] = {"train": train, "test": test}
    for name, source in sets.items():
        if isinstance(source, Features):
            raise TypeError(
                f"`{name}` must be images: `by_block` computes the features of each block. "
                "Received: Features"
            )
        check_labels(source, name)
    Encoder(backbone, augmentation)  # refuses what is no encoder
    check_blocks(backbone)
    backbone = without_wrappers(backbone)
    names = list(block_names(backbone) if blocks is None else blocks)
    network, parts = _network(backbone, names, grid)
    encoder = Encoder(network, augmentation)
    with tempfile.TemporaryDirectory() as folder, unchanged(backbone):
        seen, unseen = (
            _Parts(encoder, parts, source, batch_size, progress, name, pathlib.Path(folder))
            for name, source in sets.items()
        )
        kept = seen.match(unseen)
        results: dict[str, dict[str, dict[str, Result]]] = {"pooled": {}, "grid": {}}
        for kind, block in parts:
            if block == _OUTPUT and _is_output(unseen, names[-1]):
                continue
            pair = seen.features(kind, block), kept(unseen.features(kind, block))
            results[kind][block] = {
                "knn": knn(None, *pair, k=k),
                "linear": linear(None, *pair, progress=progress),
            }
    return BlockResults(**results)


def check_blocks(backbone: keras.Model):
    """Raises ValueError if `by_block` finds no blocks in a network."""
    if not block_names(backbone):
        raise ValueError(
            "The encoder has no blocks to measure. Expected: a functional network with layers named "
            f"stem, block1, block2, ... Received: {backbone.name!r}, without such layers"
        )


_Key = tuple[str, str]  # "pooled" or "grid", and a block


def _network(
    backbone: keras.Model, blocks: Sequence[str], grid: bool
) -> tuple[keras.Model, dict[_Key, slice]]:
    """Returns a network with the features of all blocks side by side, and which are whose."""
    outputs = {("pooled", block): block_features(backbone, block) for block in blocks}
    outputs["pooled", _OUTPUT] = backbone.outputs[0]
    for block in blocks if grid else ():
        outputs["grid", block] = _grid(backbone, block)
    ends = np.cumsum([tensor.shape[-1] for tensor in outputs.values()]).tolist()
    parts = dict(zip(outputs, map(slice, [0, *ends], ends), strict=False))
    joined = keras.layers.Concatenate(dtype="float32")(list(outputs.values()))
    return keras.Model(backbone.inputs[0], joined, name=backbone.name), parts


def _grid(backbone: keras.Model, block: str) -> keras.KerasTensor:
    """Returns the features of a block, averaged in the cells of a grid, (batch, at most 9216)."""
    tensors = block_tensors(backbone, block)
    if any(len(tensor.shape) != 4 for tensor in tensors):
        raise ValueError(
            "`grid` needs blocks that return feature maps. "
            f"Received: {block!r} of {backbone.name!r}, which returns {tensors[0].shape}"
        )
    features = sum(tensor.shape[-1] for tensor in tensors)
    side = max(1, int((_LARGEST_GRID / features) ** 0.5))
    pooled = [
        GridPooling(*(min(side, length or side) for length in tensor.shape[1:3]), dtype="float32")(
            tensor
        )
        for tensor in tensors
    ]
    return pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(dtype="float32")(pooled)


class _Parts:
    """The features of all blocks for one set of images."""

    def __init__(
        self,
        encoder: Encoder,
        parts: Mapping[_Key, slice],
        source: Images,
        batch_size: int,
        progress: bool,
        name: str,
        folder: pathlib.Path,
    ):
        """Passes over the images once; grids are written to files, for they may not fit in memory."""
        self.name = name
        self.class_names = getattr(source, "class_names", None)
        pooled: dict[str, list[np.ndarray]] = {b: [] for k, b in parts if k == "pooled"}
        self._files = {b: folder / f"{name}-{b}" for k, b in parts if k == "grid"}
        self._widths = {key: part.stop - part.start for key, part in parts.items()}
        labels = []
        with contextlib.ExitStack() as files:
            grids = {b: files.enter_context(path.open("wb")) for b, path in self._files.items()}
            for values, targets in encoder.batches(source, batch_size, progress, name):
                labels.append(targets)
                for (kind, block), part in parts.items():
                    own = np.ascontiguousarray(values[:, part])
                    if kind == "grid":
                        grids[block].write(own.tobytes())
                    else:
                        pooled[block].append(own)
        # One block after the other, so that its pieces are freed.
        self._pooled = {block: np.concatenate(pooled.pop(block)) for block in list(pooled)}
        self.labels = np.concatenate(labels)
        self.preprocessing = encoder.preprocessing

    def values(self, kind: str, block: str) -> np.ndarray:
        """Returns the features of a block, (n, dim) float32."""
        if kind == "pooled":
            return self._pooled[block]
        shape = len(self.labels), self._widths[kind, block]
        return np.memmap(self._files[block], np.float32, "r", shape=shape)

    def features(self, kind: str, block: str) -> Features:
        """Returns the labeled features of a block."""
        name = f"{self.name}, {block}"
        values = self.values(kind, block)
        return Features(values, self.labels, name, self.preprocessing, self.class_names)

    def match(self, test: "_Parts") -> Callable[[Features], Features]:
        """Returns the function that renumbers the classes of `test`, once for all blocks."""
        seen, unseen = (
            Features(
                np.arange(len(each.labels))[:, None], each.labels, each.name, "", each.class_names
            )
            for each in (self, test)
        )
        for each in (seen, unseen):
            check_labels(each, each.name)
        matched = match_features(seen, unseen)
        indices = matched.values[:, 0].astype(np.int64)

        def renumber(features: Features) -> Features:
            kept = features if len(indices) == len(features) else features.subset(indices)
            return replace(kept, labels=matched.labels, class_names=matched.class_names)

        return renumber


def _is_output(test: _Parts, block: str) -> bool:
    """Returns whether the features of a block are the output of the encoder."""
    last, output = test.values("pooled", block), test.values("pooled", _OUTPUT)
    return last.shape == output.shape and np.allclose(last, output, rtol=1e-5, atol=1e-6)
