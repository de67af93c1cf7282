"""A source of image files in one folder or in one subfolder per class."""

import hashlib
import os
import pathlib
from collections import Counter

import numpy as np
import tensorflow as tf

from keras_ssl.data.source import Source, cpu_tensor
from keras_ssl.data.verify import decode, find_unreadable

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


class FolderSource(Source):
    """Image files, each decoded when it is read; see `image_folder`."""

    def __init__(
        self,
        files: list[str],
        channels: int,
        labels: np.ndarray | None,
        class_names: list[str] | None,
        skipped: dict[str, str],
        name: str,
    ):
        super().__init__(name, len(files), (None, None, channels), labels, class_names, skipped)
        self.files = files
        self._files = cpu_tensor(np.array(files, dtype=object))
        self._channels = channels

    def fingerprint(self) -> str:
        """Returns a SHA-256 of the names of all files and the content of sixteen."""
        root = os.path.commonpath(self.files)  # moving the folder does not change the fingerprint
        names = [os.path.relpath(file, root) for file in self.files]
        return hashlib.sha256("\n".join([*names, super().fingerprint()]).encode()).hexdigest()

    def read(self, index: tf.Tensor | int) -> tf.Tensor:
        """Returns image number `index` as uint8 (height, width, channels)."""
        with tf.device("CPU:0"):
            return decode(tf.io.read_file(tf.gather(self._files, index)), self._channels)


def image_folder(
    path: str | os.PathLike,
    channels: int = 3,
    verify: bool = True,
    labelled: bool | str = "auto",
    progress: bool | None = None,
) -> Source:
    """Returns a source of the JPEG, PNG, BMP and GIF files in a folder and its subfolders.

    Images may have different sizes. Files are found by extension, in upper or lower case, and
    sorted by name. Hidden files and folders, whose names start with a dot, are ignored. Symbolic
    links are followed.

    Labels: if all images are in subfolders, each subfolder of `path` is a class. Classes are sorted
    by name, and deeper folders belong to the class above them. If any image lies directly in
    `path`, no image has a label.

    Args:
        path: the folder.
        channels: 3 decodes every image to RGB, 1 to grayscale. 16-bit files become 8-bit, animated
            GIFs their first frame, and transparency is dropped.
        verify: decode each file once now and skip those that fail. The "keras_ssl" logger names
            them, and `source.skipped` holds the reasons. Without verification, a damaged file stops
            the training when it is read.
        labelled: `True` requires one subfolder per class, `False` ignores labels, and "auto" finds
            labels as described above.
        progress: show a progress bar while verifying; `None` shows it on a terminal for more than
            2,000 files.

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
    found = _image_files(root)  # paths relative to the root, as tuples of names
    labels, class_names = _classes(found, labelled, root)
    files = [str(root.joinpath(*parts)) for parts in found]

    skipped = find_unreadable(files, channels, progress) if verify else {}
    if len(skipped) == len(files):
        raise ValueError(
            f"`path` must hold an image that can be decoded. Received: {str(path)!r}, where all "
            f"{len(files)} files fail. The first: {files[0]!r}: {skipped[files[0]]}"
        )
    if skipped:
        kept = np.array([file not in skipped for file in files])
        labels = None if labels is None else labels[kept]
        files = [file for file in files if file not in skipped]
    return FolderSource(files, channels, labels, class_names, skipped, name=str(path))


def _image_files(root: pathlib.Path) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    others: Counter[str] = Counter()
    seen = set()  # real paths, because a link may lead back to a parent folder
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        parents = pathlib.Path(folder).relative_to(root).parts
        for name in names:
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                others["hidden files"] += 1
            elif extension in EXTENSIONS:
                found.append((*parents, name))
            else:
                others[f"*{extension}" if extension else "files without an extension"] += 1
    if not found:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
        raise ValueError(
            f"`path` must hold image files ({', '.join(EXTENSIONS)}). Received: "
            f"{str(root)!r}, which holds {kinds or 'no files'}"
        )
    return sorted(found)


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
