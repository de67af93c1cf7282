"""Finds what clips are cut from: videos, GIFs, and folders that hold the frames of a video."""

import os
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from keras_ssl.data import gif_file, parallel, video_file
from keras_ssl.data.file_headers import read_headers
from keras_ssl.data.video_file import FrameTable
from keras_ssl.data.walk import walk

VIDEO, GIF, IMAGES = "video", "GIF", "folder of frames"
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)  # a name whose last number counts frames


@dataclass(frozen=True)
class Recording:
    """Frames that were recorded one after the other.

    Args:
        kind: `VIDEO`, `GIF` or `IMAGES`.
        name: path of the file, or of the first frame.
        table: when the frames are shown. Images have no times: their seconds are 0, 1, 2, ...
        files: paths of the frames of `IMAGES`, in order.
    """

    kind: str
    name: str
    table: FrameTable
    files: tuple[str, ...] = ()


@dataclass
class Found:
    """What a folder holds.

    Args:
        recordings: sorted by name, so that 10 follows 9.
        skipped: maps each file or folder that is left out to the reason.
        others: number of further files by extension.
    """

    recordings: list[Recording] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts names by the numbers in them: "frame_9" before "frame_10".

    Example:
        >>> sorted(["f10.png", "f9.png"], key=natural_key)
        ['f9.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), part) if part.isdecimal() else (-1, part.casefold()) for part in parts]


def find_recordings(root: pathlib.Path, image_extensions: Iterable[str]) -> Found:
    """Returns the videos, GIFs and sequences of images in a folder and its subfolders.

    Images are frames of one video if they are in one folder, have one size, and their names differ in
    one number only, such as frame_0001.jpg, frame_0002.jpg. Hidden files and folders are ignored.

    Args:
        root: the folder, or a single video or GIF.
        image_extensions: extensions of images, with a dot.

    Raises:
        ImportError: if there are videos, and PyAV is not installed.
    """
    found = Found()
    wanted = set(image_extensions) - {".gif"}
    single: list[tuple[str, Callable[[str], FrameTable], str]] = []
    sequences: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for file in _files(root):
        name, extension = os.path.splitext(os.path.basename(file))
        extension = extension.lower()
        numbered = _NUMBERED.fullmatch(name)
        if extension in video_file.EXTENSIONS:
            single.append((file, video_file.read_table, VIDEO))
        elif extension == ".gif":
            single.append((file, gif_file.read_table, GIF))
        elif extension in wanted and numbered:
            before, number, after = numbered.groups()
            key = (os.path.dirname(file), before, after, extension)
            sequences.setdefault(key, []).append((int(number), file))
        else:
            found.others[f"*{extension}" if extension else "files without an extension"] += 1
    _check_installed([file for file, _, kind in single if kind == VIDEO])
    with ThreadPoolExecutor(parallel.IMAGES) as pool:
        tables = pool.map(lambda each: _try(each[1], each[0]), single)
        for (file, _, kind), table in zip(single, tables, strict=True):
            if isinstance(table, str):
                found.skipped[file] = table
            else:
                found.recordings.append(Recording(kind, file, table))
    for files in sequences.values():
        _add_sequence(found, [file for _, file in sorted(files)])
    found.recordings.sort(key=lambda each: natural_key(each.name))
    return found


def read_frames(recording: Recording, stamps: np.ndarray) -> np.ndarray:
    """Returns frames of a video or GIF, (n, height, width, 3) uint8, by their `FrameTable.stamps`."""
    read = video_file.read_frames if recording.kind == VIDEO else gif_file.read_frames
    return read(recording.name, stamps.tolist())


def _add_sequence(found: Found, files: list[str]):
    """Adds images that are numbered alike, or the reason why they are no frames of a video."""
    headers = read_headers(files)
    found.skipped |= headers.refused
    unknown = {file for n, file in enumerate(files) if not headers.heights[n]} - set(
        headers.refused
    )
    found.skipped |= dict.fromkeys(unknown, "not an image that can be read")
    kept = [n for n, file in enumerate(files) if file not in found.skipped]
    if not kept:
        return
    sizes = Counter(zip(headers.heights[kept].tolist(), headers.widths[kept].tolist(), strict=True))
    if len(sizes) > 1:
        first, second = (f"{height} x {width}" for height, width in list(sizes)[:2])
        found.skipped[files[0]] = (
            f"{len(kept)} images of different sizes ({first}, {second}, ...), which are no frames of "
            "one video"
        )
        return
    ((height, width),) = sizes
    order = np.arange(len(kept), dtype=np.int64)
    table = FrameTable(order, order.astype(np.float64), height, width)
    names = tuple(files[n] for n in kept)
    found.recordings.append(Recording(IMAGES, names[0], table, names))


def _files(root: pathlib.Path) -> list[str]:
    """Returns the paths of all files that are not hidden."""
    if root.is_file():
        return [str(root)]
    return [
        os.path.join(folder, name)
        for folder, names in walk(root)
        for name in sorted(names)
        if not name.startswith(".")
    ]


def _check_installed(videos: list[str]):
    if videos:
        try:
            import av  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"{video_file.INSTALL}. Received: {len(videos)} videos, such as {videos[0]!r}. {error}"
            ) from error


def _try(read: Callable[[str], FrameTable], file: str) -> FrameTable | str:
    """Returns the table of a file, or why it cannot be read."""
    if not os.path.isfile(file):
        return "not a regular file"  # reading a pipe would block
    try:
        return read(file)
    except (ValueError, OSError) as error:
        return str(error).removeprefix(f"{file}: ")
