"""Sources of clips: from a folder of videos, GIFs and frames, or from an array."""

import math
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_ssl.data import parallel, video_file
from keras_ssl.data.clip_source import ArrayClips, ClipSource, FileClips
from keras_ssl.data.decoding import decode_any, extensions
from keras_ssl.data.recordings import IMAGES, Found, Recording, find_recordings, read_frames
from keras_ssl.data.verify import find_unreadable, log_reasons

FRAMES = 4  # of a clip: three references and a target (Vondrick et al. 2018)
RATE = 6.0  # frames per second, of the same paper


def clips(
    path: str | os.PathLike,
    frames: int = FRAMES,
    rate: float = RATE,
    step: int = 1,
    verify: bool = True,
) -> FileClips:
    """Returns a source of the clips of all videos, GIFs and folders of frames in a folder.

    - Videos (.mp4, .m4v, .mov, .avi, .webm, .mkv, .mpg, .mpeg, .wmv, .flv, .3gp, .ogv) are decoded by
      PyAV, with the extra `video`.
    - GIFs are decoded by Pillow; frames that hold changes only are completed.
    - Images in one folder are frames of a video if they have one size and their names differ in one
      number only: frame_1.jpg, ..., frame_10.jpg, sorted by that number. A folder may hold several
      such sequences with different names.

    Frames are taken at about `rate` frames per second. A recording with fewer frames per second gives
    all of them. Each clip has `frames` of these, one after the other, and the next clip begins after
    it; what remains at the end is left out, and so are recordings that are too short. Frames in folders
    have no times: every `step`-th is taken.

    To read a clip of a video, the file is opened and decoded from the key frame before the clip on. To
    read a clip of a GIF, all frames before it are decoded too.

    Args:
        path: the folder, which is searched with its subfolders; or a single video or GIF. Hidden files
            and folders are ignored.
        frames: frames of a clip, at least 2.
        rate: frames per second that are taken from videos and GIFs, positive.
        step: distance of the frames that are taken from folders of frames, at least 1.
        verify: decode the first and last clip of each video and GIF, and all images, and leave out
            those that are damaged. The "keras_ssl" logger names them, and `source.skipped` holds the
            reasons.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ImportError: if there are videos, and PyAV is not installed.
        ValueError: if there is no clip, or an argument is out of range.

    Example:
        >>> source = clips("holidays")
        >>> source
        <holidays: 12 videos, 340 clips of 4 frames; 6 frames per second>
        >>> source.read_clip(0).shape
        TensorShape([4, 720, 1280, 3])

    Source: Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos": three reference frames and a
    target frame, at 6 frames per second.
    """
    _check(frames, rate, step)
    root = pathlib.Path(path).expanduser()
    if not root.exists():
        raise FileNotFoundError(
            f"`path` must be a folder of videos. Received: path={str(path)!r}, which does not exist"
        )
    found = find_recordings(root, extensions())
    if verify:
        _leave_out_unreadable_images(found)
    cuts = [(each, _cut(each, frames, rate, step)) for each in found.recordings]
    long = [(recording, cut) for recording, cut in cuts if len(cut)]
    short = len(cuts) - len(long)
    failed = _find_damaged(long) if verify else {}
    chosen = [(recording, cut) for recording, cut in long if recording.name not in failed]
    found.skipped |= failed
    if found.skipped:
        log_reasons(f"Left out: {len(found.skipped)} files or folders of frames", found.skipped)
    if not chosen:
        raise _nothing_error(root, found, frames, short)
    return FileClips(
        [recording for recording, _ in chosen],
        np.repeat(np.arange(len(chosen)), [len(cut) for _, cut in chosen]),
        np.concatenate([cut for _, cut in chosen]),
        str(path),
        str(root if root.is_dir() else root.parent),
        found.skipped,
        _sampling({recording.kind for recording, _ in chosen}, rate, step),
        _left_out(found, frames, short),
    )


def clip_arrays(clips: Any, name: str = "arrays") -> ClipSource:
    """Returns a source of clips that are in memory.

    Args:
        clips: (n, frames, height, width, 3) uint8, at least 2 frames.
        name: name of the source in messages.

    Raises:
        ValueError: if the array has another shape or type, or is empty.

    Example:
        >>> source = clip_arrays(np.zeros((10, 4, 32, 32, 3), np.uint8))
        >>> len(source), source.clip_length
        (10, 4)
    """
    array = np.asarray(clips)
    if array.ndim != 5 or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        raise ValueError(
            "`clips` must be an array (n, frames, height, width, 3) of uint8. "
            f"Received: shape {array.shape}, {array.dtype.name}"
        )
    if array.shape[1] < 2:
        raise ValueError(f"A clip must have at least 2 frames. Received: shape {array.shape}")
    return ArrayClips(array, name)


def frame_positions(seconds: np.ndarray, rate: float) -> np.ndarray:
    """Returns the positions of frames that are about `1 / rate` seconds apart, from the first one on.

    The next frame is the first that is shown at least `1 / rate` seconds later, less half of the usual
    duration of a frame: of 25 frames per second, every fourth is taken for a rate of 6.

    Args:
        seconds: (n,) ascending times of the frames.
        rate: frames per second.

    Example:
        >>> frame_positions(np.arange(10) / 25, rate=6)
        array([0, 4, 8])
    """
    if len(seconds) < 2:
        return np.arange(len(seconds))
    least = 1 / rate - np.median(np.diff(seconds)) / 2
    positions = [0]
    while positions[-1] + 1 < len(seconds):
        following = np.searchsorted(seconds, seconds[positions[-1]] + least)
        positions.append(max(positions[-1] + 1, int(following)))
    return np.array(positions[: -1 if positions[-1] >= len(seconds) else None], np.int64)


def _cut(recording: Recording, frames: int, rate: float, step: int) -> np.ndarray:
    """Returns the stamps of the frames of each clip, (n, frames) int64."""
    table = recording.table
    if recording.kind == IMAGES:
        chosen = np.arange(0, len(table.stamps), step)
    else:
        chosen = frame_positions(table.seconds, rate)
    whole = len(chosen) // frames * frames
    return table.stamps[chosen[:whole]].reshape(-1, frames)


def _leave_out_unreadable_images(found: Found):
    """Removes images that cannot be decoded from the recordings, and names them in `skipped`."""
    files = [file for recording in found.recordings for file in recording.files]
    unreadable = find_unreadable(files, 3, None, decoder=decode_any) if files else {}
    found.skipped |= unreadable
    for place, recording in enumerate(found.recordings):
        names = tuple(file for file in recording.files if file not in unreadable)
        if len(names) < len(recording.files):
            order = np.arange(len(names), dtype=np.int64)
            table = recording.table._replace(stamps=order, seconds=order.astype(np.float64))
            name = names[0] if names else recording.name
            found.recordings[place] = Recording(IMAGES, name, table, names)


def _find_damaged(cuts: Sequence[tuple[Recording, np.ndarray]]) -> dict[str, str]:
    """Returns why the first or last clip of videos and GIFs cannot be decoded, by file."""

    def reason(recording: Recording, cut: np.ndarray) -> str | None:
        try:
            for number in {0, len(cut) - 1} if recording.kind != IMAGES else ():
                read_frames(recording, cut[number])
        except ValueError as error:
            return str(error).removeprefix(f"{recording.name}: ")
        return None

    with ThreadPoolExecutor(parallel.IMAGES) as pool:
        reasons = list(pool.map(lambda each: reason(*each), cuts))
    return {
        recording.name: found for (recording, _), found in zip(cuts, reasons, strict=True) if found
    }


def _check(frames: int, rate: float, step: int):
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 2:
        raise ValueError(f"`frames` must be an integer of at least 2. Received: frames={frames!r}")
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"`rate` must be positive and finite. Received: rate={rate!r}")
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise ValueError(f"`step` must be an integer of at least 1. Received: step={step!r}")


def _sampling(kinds: set[str], rate: float, step: int) -> str:
    """Returns how frames were taken, in words."""
    parts = [f"{rate:g} frames per second"] if kinds - {IMAGES} else []
    if IMAGES in kinds:
        parts.append(f"every image of a folder{f', in steps of {step}' if step > 1 else ''}")
    return " and ".join(parts)


def _left_out(found: Found, frames: int, short: int) -> str:
    """Returns what is not part of the source, in words; empty if nothing is left out."""
    parts = [f"{short} with fewer than {frames} frames"] if short else []
    if found.skipped:
        parts.append(f"{len(found.skipped)} named above")
    parts += [f"{count} {kind}" for kind, count in found.others.most_common(3)]
    return f"left out: {', '.join(parts)}" if parts else ""


def _nothing_error(root: pathlib.Path, found: Found, frames: int, short: int) -> ValueError:
    """Returns the error for a folder without any clip, which says what it holds instead."""
    parts = [f"{short} too short, with fewer than {frames} frames"] if short else []
    parts += [f"{count} {kind}" for kind, count in found.others.most_common(5)]
    first = next(iter(found.skipped.items()), None)
    if first is not None:
        named = f"such as {first[0]!r}: {first[1]}"
        parts.append(f"{len(found.skipped)} that cannot be used, {named}")
    return ValueError(
        f"`path` must hold videos ({', '.join(video_file.EXTENSIONS)}), GIFs, or folders of frames of "
        "one size whose names are numbered, such as frame_0001.jpg; each with at least "
        f"{frames} frames. Received: {str(root)!r}, which holds {'; '.join(parts) or 'no files'}"
    )
