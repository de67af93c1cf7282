"""Sources of clips: a few frames of a video, one after the other."""

import abc
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_ssl.data.decoding import decode_any
from keras_ssl.data.python_function import python_function
from keras_ssl.data.recordings import GIF, IMAGES, VIDEO, Recording, read_frames
from keras_ssl.data.source import Source, cpu_tensor, validate_indices

_SAMPLES = 16  # recordings of which a fingerprint reads the content
_START = 2**16  # bytes of it


class ClipSource(Source):
    """Clips with a known length and a fixed order.

    As a source of images, which `read` and `dataset` make of it, it consists of the first frame of
    each clip. `keras_ssl.data.views(..., clips=True)` makes views of all frames.

    Args:
        name: name of the source in messages.
        size: number of clips.
        image_shape: (height, width, 3) of every frame; see `Source`.
        clip_length: frames of a clip.
        skipped: see `Source`.
    """

    clip_length: int

    def __init__(
        self,
        name: str,
        size: int,
        image_shape: tuple[int | None, int | None, int],
        clip_length: int,
        skipped: dict[str, str] | None = None,
    ):
        super().__init__(name, size, image_shape, skipped=skipped)
        self.clip_length = clip_length
        self.dtype = np.dtype("uint8")

    def __repr__(self) -> str:
        """Returns the name and the number of clips and frames."""
        return f"<{self.name}: {len(self):,} clips of {self.clip_length} frames>"

    @abc.abstractmethod
    def read_clip(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns clip number `index`, (clip_length, height, width, 3) uint8.

        Args:
            index: scalar integer, 0 to `len(self) - 1`.
        """

    @abc.abstractmethod
    def subset(self, indices: np.ndarray | list[int]) -> "ClipSource":
        """Returns a source of the clips with the given indices; see `Source.subset`."""

    def _subset_name(self, count: int) -> str:
        return f"{self.name} ({count} of {len(self)})"


class ArrayClips(ClipSource):
    """Clips in memory; see `keras_ssl.data.clip_arrays`."""

    def __init__(self, clips: np.ndarray, name: str):
        super().__init__(name, len(clips), clips.shape[2:], clips.shape[1])
        self._clips = cpu_tensor(clips)

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns the first frame of a clip, (height, width, 3)."""
        return self.read_clip(index)[0]

    def read_clip(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns clip number `index`, (clip_length, height, width, 3) uint8."""
        with tf.device("CPU:0"):
            return tf.gather(self._clips, index)

    def subset(self, indices: np.ndarray | list[int]) -> "ArrayClips":
        """Returns a source of the clips with the given indices; see `Source.subset`."""
        chosen = validate_indices(indices, len(self), self.name)
        return ArrayClips(self._clips.numpy()[chosen], self._subset_name(len(chosen)))


class FileClips(ClipSource):
    """Clips of videos, GIFs and folders of frames, decoded when they are read; see `data.clips`.

    Args:
        recordings: what the clips are cut from.
        owners: (n,) number of the recording of each clip.
        stamps: (n, clip_length) int64 `FrameTable.stamps` of the frames of each clip.
        name: name of the source in messages.
        root: folder of the recordings.
        skipped: see `Source`.
        sampling: how frames were chosen, in words.
        left_out: what is not part of the source, in words.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        owners: np.ndarray,
        stamps: np.ndarray,
        name: str,
        root: str,
        skipped: Mapping[str, str] | None = None,
        sampling: str = "",
        left_out: str = "",
    ):
        used = [recordings[number].table for number in np.unique(owners)]
        heights, widths = ({each[n] for each in used} for n in (2, 3))
        one_size = len(heights) == len(widths) == 1
        shape = (*(heights if one_size else {None}), *(widths if one_size else {None}), 3)
        super().__init__(name, len(owners), shape, stamps.shape[1], dict(skipped or {}))
        self.typical_side = int(np.median([min(each.height, each.width) for each in used]))
        self.root = root
        self.recordings = list(recordings)
        self.owners = owners
        self.stamps = stamps
        self.left_out = left_out
        self.sampling = sampling
        self._owners, self._stamps = cpu_tensor(owners), cpu_tensor(stamps)

    def __repr__(self) -> str:
        """Returns the name, the number of clips and recordings, and what is left out."""
        kinds = Counter(self.recordings[number].kind for number in np.unique(self.owners))
        plurals = {VIDEO: "videos", GIF: "GIFs", IMAGES: "folders of frames"}
        counts = [
            f"{kinds[kind]:,} {kind if kinds[kind] == 1 else plural}"
            for kind, plural in plurals.items()
            if kinds[kind]
        ]
        text = (
            f"<{self.name}: {', '.join(counts)}, {len(self):,} clips of {self.clip_length} frames"
        )
        return "; ".join([text, *(note for note in (self.sampling, self.left_out) if note)]) + ">"

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns the first frame of a clip, (height, width, 3) uint8."""
        return self._read(index, 1)[0]

    def read_clip(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns clip number `index`, (clip_length, height, width, 3) uint8."""
        return self._read(index, self.clip_length)

    def subset(self, indices: np.ndarray | list[int]) -> "FileClips":
        """Returns a source of the clips with the given indices; see `Source.subset`."""
        chosen = validate_indices(indices, len(self), self.name)
        name = self._subset_name(len(chosen))
        return FileClips(
            self.recordings,
            self.owners[chosen],
            self.stamps[chosen],
            name,
            str(self.root),
            self.skipped,
            self.sampling,
            self.left_out,
        )

    def of_kind(self, kind: str) -> "FileClips | None":
        """Returns the clips of one kind of recordings; `None` if there are none."""
        is_kind = np.array([recording.kind == kind for recording in self.recordings])
        chosen = np.flatnonzero(is_kind[self.owners])
        return self.subset(chosen) if len(chosen) else None

    def fingerprint(self) -> str:
        """Returns a SHA-256 of the names, the frames of all clips, and the start of sixteen files.

        It does not depend on the versions of the decoders.
        """
        digest = hashlib.sha256(f"{len(self)} {self.clip_length}".encode())
        digest.update(np.ascontiguousarray(self.owners, np.int64).tobytes())
        digest.update(np.ascontiguousarray(self.stamps, np.int64).tobytes())
        used = [self.recordings[number] for number in np.unique(self.owners)]
        for recording in used:
            for file in recording.files or (recording.name,):
                digest.update(f"{os.path.relpath(file, str(self.root))}\n".encode())
        for recording in used[:: -(-len(used) // _SAMPLES)]:
            digest.update(f"{os.path.getsize(recording.name)}".encode())
            with open(recording.name, "rb") as file:
                digest.update(file.read(_START))
        return digest.hexdigest()

    def _read(self, index: tf.Tensor | int, count: int) -> tf.Tensor:
        """Returns the first `count` frames of a clip."""
        kinds = {recording.kind for recording in self.recordings}
        with tf.device("CPU:0"):
            if kinds == {IMAGES}:
                frames = self._read_images(index, count)
            elif IMAGES not in kinds:
                frames = self._decode(index, count)
            else:
                frames = tf.cond(
                    tf.gather(self._is_images, tf.gather(self._owners, index)),
                    lambda: self._read_images(index, count),
                    lambda: self._decode(index, count),
                )
            return tf.ensure_shape(frames, (count, *self.image_shape))

    def _read_images(self, index: tf.Tensor | int, count: int) -> tf.Tensor:
        first = tf.gather(self._firsts, tf.gather(self._owners, index))
        places = first + tf.gather(self._stamps, index)[:count]
        files = tf.gather(self._files, places)
        return tf.map_fn(
            lambda file: decode_any(tf.io.read_file(file), 3, tf.uint8),
            files,
            fn_output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
        )

    def _decode(self, index: tf.Tensor | int, count: int) -> tf.Tensor:
        def decode(number: np.ndarray) -> np.ndarray:
            recording = self.recordings[self.owners[number]]
            return np.ascontiguousarray(read_frames(recording, self.stamps[number][:count]))

        empty = np.zeros((count, *(side or 1 for side in self.image_shape)), np.uint8)
        frames = python_function(decode, [index], tf.uint8, at_exit=empty)
        return tf.ensure_shape(frames, (count, None, None, 3))

    @functools.cached_property
    def _is_images(self) -> tf.Tensor:
        with tf.init_scope():  # an eager tensor, which every graph can capture
            return cpu_tensor(np.array([each.kind == IMAGES for each in self.recordings]))

    @functools.cached_property
    def _files(self) -> tf.Tensor:
        files = [file for recording in self.recordings for file in recording.files]
        with tf.init_scope():
            return cpu_tensor(np.array(files, dtype=object))

    @functools.cached_property
    def _firsts(self) -> tf.Tensor:
        """The place in `_files` of the first frame of each recording."""
        counts = [len(recording.files) for recording in self.recordings]
        with tf.init_scope():
            return cpu_tensor(np.cumsum([0, *counts[:-1]]).astype(np.int64))
