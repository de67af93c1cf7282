"""A source of image files in one folder or in one subfolder per class."""

import hashlib
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from keras_ssl.data import pillow_formats, video_file
from keras_ssl.data.decoding import COMMON, decode_any, extensions
from keras_ssl.data.file_headers import FileHeaders, read_headers
from keras_ssl.data.source import Source, cpu_tensor
from keras_ssl.data.verify import Decoder, decode, find_unreadable
from keras_ssl.data.walk import walk

RULES = 3  # see `image_folder`
_FIRST_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_OF_VIDEOS = "--method video-colorization learns from videos"
_SLOW = ("TIFF", "HEIF", "AVIF")  # kinds that Pillow decodes


class FolderSource(Source):
    """Image files, each decoded when it is read; see `image_folder`.

    Args:
        files: paths.
        channels: 3 for RGB, or 1 for grayscale.
        labels: see `Source`.
        class_names: see `Source`.
        skipped: see `Source`.
        name: name of the source in messages.
        headers: of the files; `None` reads every file as 8 bits, and leaves sizes unknown.
        root: the folder; by default `name`.
        unread: number of files in the folder that are not read, by extension.
        exact_gray: see `keras_ssl.data.decoding.decode_common`.
    """

    files: list[str]

    def __init__(
        self,
        files: list[str],
        channels: int,
        labels: np.ndarray | None,
        class_names: list[str] | None,
        skipped: dict[str, str],
        name: str,
        headers: FileHeaders | None = None,
        root: str | None = None,
        unread: Mapping[str, int] | None = None,
        exact_gray: bool = True,
    ):
        height, width = (None, None) if headers is None else headers.one_size
        shape = (height, width, channels)
        super().__init__(name, len(files), shape, labels, class_names, skipped)
        self.files = files
        self.root = name if root is None else root
        self.headers = headers
        self.unread = dict(unread or {})
        if headers is not None:
            self.dtype = headers.dtype
            self.typical_side = headers.median_side
        self._files = cpu_tensor(np.array(files, dtype=object))
        self._channels = channels
        # Earlier versions did not know the size of the images, and their runs must resume.
        self._fingerprint_shape = (None, None, channels)
        self._exact_gray = exact_gray
        self._decoder = _decoder(headers, exact_gray)

    def __repr__(self) -> str:
        """Returns the name, the number of images and classes, and which files are not read."""
        notes = []
        if self.labels is not None and (count := int((self.labels < 0).sum())):
            notes.append(f"{count} without a label")
        if self.headers is not None:
            slow = {kind: self.headers.kind_counts[kind] for kind in _SLOW}
            slow = {kind: count for kind, count in slow.items() if count}
            if slow:
                counts = ", ".join(f"{count} {kind}" for kind, count in slow.items())
                notes.append(f"{counts} decoded by Pillow, which is slower")
        if self.unread:
            by_count = sorted(self.unread.items(), key=lambda item: (-item[1], item[0]))
            counts = ", ".join(f"{count} {extension}" for extension, count in by_count[:5])
            more = f" and {len(by_count) - 5} other kinds" if len(by_count) > 5 else ""
            notes.append(f"not read: {counts}{more}")
            if not {"*.csv", "*.tsv"}.isdisjoint(self.unread):
                notes.append("keras_ssl.data.open_source reads labels from a table")
            if advice := _advice(self.unread):
                notes.append(advice)
        if self.headers is not None and 2 * (gifs := self.headers.kind_counts["GIF"]) > len(self):
            notes.append(f"of {gifs} GIFs the first frame; {_OF_VIDEOS} with all frames")
        return "; ".join([super().__repr__().removesuffix(">"), *notes]) + ">"

    def part(
        self,
        indices: np.ndarray,
        labels: np.ndarray | None,
        class_names: list[str] | None,
        name: str,
    ) -> "FolderSource":
        """Returns a source of some of the files, with other labels and another name.

        Args:
            indices: (m,) indices of the files, in order.
            labels: (m,) labels, or `None`.
            class_names: names of the labels.
            name: name of the source in messages.
        """
        return FolderSource(
            [self.files[index] for index in indices],
            self._channels,
            labels,
            class_names,
            self.skipped,
            name,
            None if self.headers is None else self.headers.keep(indices),
            self.root,
            self.unread,
            self._exact_gray,
        )

    def fingerprint(self) -> str:
        """Returns a SHA-256 of the names of all files and the content of sixteen."""
        root = os.path.commonpath(self.files)  # moving the folder does not change the fingerprint
        names = [os.path.relpath(file, root) for file in self.files]
        return hashlib.sha256("\n".join([*names, super().fingerprint()]).encode()).hexdigest()

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index` as (height, width, channels), in `dtype`."""
        with tf.device("CPU:0"):
            image = self._decoder(tf.io.read_file(tf.gather(self._files, index)), self._channels)
            return tf.ensure_shape(image, self.image_shape)


def _decoder(headers: FileHeaders | None, exact_gray: bool = True) -> Decoder:
    """Returns the function that decodes the files."""
    if headers is None:
        return decode
    dtype = tf.as_dtype(headers.dtype)
    if dtype == tf.uint8 and set(headers.kind_counts).issubset((*COMMON, "")):
        return decode  # the fewest operations
    return lambda encoded, channels: decode_any(encoded, channels, dtype, exact_gray)


def image_folder(
    path: str | os.PathLike,
    channels: int = 3,
    verify: bool = True,
    labelled: bool | str = "auto",
    progress: bool | None = None,
    rules: int = RULES,
) -> FolderSource:
    """Returns a source of the image files in a folder and its subfolders.

    JPEG, PNG, BMP, GIF, WebP, JPEG XL (with TensorFlow 2.21), TIFF and AVIF files are read, and
    HEIC files with the extra `images`. Pillow decodes TIFF, AVIF, HEIC and animated WebP, which is
    slower than TensorFlow's decoders. `repr(source)` names the number of other files.

    Images may have different sizes. The size in `image_shape` is known if all images have the same.
    Files are found by extension, in upper or lower case, and sorted by name. Hidden files and
    folders, whose names start with a dot, are ignored. Symbolic links are followed.

    Labels: if all images are in subfolders, each subfolder of `path` is a class. Classes are sorted
    by name, and deeper folders belong to the class above them. If any image lies directly in
    `path`, no image has a label. A table of labels (labels.csv) is not read: use
    `keras_ssl.data.open_source`.

    Args:
        path: the folder.
        channels: 3 decodes every image to RGB, 1 to grayscale. Animations become their first
            frame, and transparency is dropped. If any file has 16 bits, the images are uint16, and
            8-bit files are scaled to it. If any file has 32 bits, such as a float TIFF, the images
            are float32 with the values as stored.
        verify: decode each file once now and skip those that fail. The "keras_ssl" logger names
            them, and `source.skipped` holds the reasons. Without verification, a damaged file stops
            the training when it is read.
        labelled: `True` requires one subfolder per class, `False` ignores labels, and "auto" finds
            labels as described above.
        progress: show a progress bar while verifying; `None` shows it on a terminal for more than
            2,000 files.
        rules: 3, or a lower number to find and read files as runs of earlier versions did, so that
            these can be resumed. 2: gray values of 16 and 32 bits in one channel are multiplied by
            0.9999. 1: also JPEG, PNG, BMP and GIF only, 16-bit files as 8-bit, and sizes unknown.

    Raises:
        FileNotFoundError: if the folder does not exist.
        NotADirectoryError: if `path` is a file.
        ValueError: if no image is found or none can be decoded, if `labelled=True` and an image is
            in no class folder, or if `channels` or `labelled` has an unsupported value.

    Example:
        >>> source = image_folder("photos")  # photos/cat/1.jpg, photos/dog/1.jpg, photos/dog/2.jpg
        >>> source.class_names, source.labels
        (['cat', 'dog'], array([0, 1, 1]))
    """
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels!r}")
    if labelled not in (True, False, "auto"):
        raise ValueError(f"`labelled` must be True, False or 'auto'. Received: {labelled!r}")
    root = pathlib.Path(path).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"`path` must be a folder of images. Received: path={str(path)!r}")
    if not root.is_dir():
        raise NotADirectoryError(
            f"`path` must be a folder of images. Received: path={str(path)!r}, which is a file"
        )
    wanted = extensions() if rules > 1 else _FIRST_EXTENSIONS
    found, unread = _image_files(root, wanted)  # paths relative to the root, as tuples of names
    labels, class_names = _classes(found, labelled, root)
    files = [str(root.joinpath(*parts)) for parts in found]

    headers = read_headers(files) if verify or rules > 1 else None
    skipped = {}
    if verify and headers is not None:
        decoder = _decoder(headers if rules > 1 else None, rules > 2)
        skipped = find_unreadable(files, channels, progress, headers.refused, decoder)
    if len(skipped) == len(files):
        raise ValueError(
            f"`path` must hold an image that can be decoded. Received: {str(path)!r}, where all "
            f"{len(files)} files fail. The first: {files[0]!r}: {skipped[files[0]]}"
        )
    if skipped:
        kept = np.array([file not in skipped for file in files])
        labels = None if labels is None else labels[kept]
        files = [file for file in files if file not in skipped]
        headers = None if headers is None else headers.keep(kept)
    if rules < 2:
        headers, unread = None, Counter()
    name = str(path)
    return FolderSource(
        files,
        channels,
        labels,
        class_names,
        skipped,
        name,
        headers,
        unread=unread,
        exact_gray=rules > 2,
    )


def _image_files(
    root: pathlib.Path, wanted: tuple[str, ...]
) -> tuple[list[tuple[str, ...]], Counter[str]]:
    """Returns the image files, and the number of others by extension."""
    found: list[tuple[str, ...]] = []
    others: Counter[str] = Counter()
    for folder, names in walk(root):
        parents = pathlib.Path(folder).relative_to(root).parts
        for name in names:
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                others["hidden files"] += 1
            elif extension in wanted:
                found.append((*parents, name))
            else:
                others[f"*{extension}" if extension else "files without an extension"] += 1
    if not found:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
        advice = _advice(others)
        raise ValueError(
            f"`path` must hold image files ({', '.join(wanted)}). Received: "
            f"{str(root)!r}, which holds {kinds or 'no files'}" + (f". {advice}" if advice else "")
        )
    del others["hidden files"]
    return sorted(found), others


def _advice(patterns: Iterable[str]) -> str:
    """Returns what can be done with files that are not read; empty if nothing can.

    Args:
        patterns: extensions with a star, such as "*.heic".
    """
    if {f"*{extension}" for extension in video_file.EXTENSIONS}.intersection(patterns):
        return _OF_VIDEOS
    return pillow_formats.advice(patterns)


def _classes(
    found: list[tuple[str, ...]], labelled: bool | str, root: pathlib.Path
) -> tuple[np.ndarray | None, list[str] | None]:
    loose = [parts[0] for parts in found if len(parts) == 1]
    if labelled is True and loose:
        raise ValueError(
            "With `labelled=True` every image must be in the subfolder of its class. Received: "
            f"{len(loose)} images directly in {str(root)!r}, such as {loose[0]!r}"
        )
    if loose or labelled is False:
        return None, None
    names = sorted({parts[0] for parts in found})
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[parts[0]] for parts in found], np.int64), names
