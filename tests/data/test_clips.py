"""Clips of videos, GIFs and folders of frames: what is found, what is read, and views of it."""

import builtins
import logging
import os

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment, data, distribute
from keras_ssl.data.clips import frame_positions
from keras_ssl.data.recordings import natural_key
from keras_ssl.distribute.shares import get_shares
from tests.data.clip_files import (
    BLUE,
    PALETTE,
    levels,
    moving_gif,
    pattern,
    write_frames,
    write_video,
)


def positions_of_blue(clip):
    return (np.asarray(clip) == PALETTE[BLUE]).all(axis=-1).reshape(len(clip), -1).argmax(axis=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of frames: 9 and 13 frames, which are three clips of four and five more."""
    root = tmp_path_factory.mktemp("folders")
    write_frames(root / "b2", 9)
    write_frames(root / "b10", 13, seed=1)
    return data.clips(root)


def test_names_are_sorted_by_their_numbers():
    names = ["b10/f2", "b10/f10", "a", "b9/f1", "B9/f3", "b10/f02"]
    expected = ["a", "b9/f1", "B9/f3", "b10/f02", "b10/f2", "b10/f10"]
    assert sorted(names, key=natural_key) == expected


def test_folders_of_frames(folders):
    assert len(folders) == 5
    assert folders.clip_length == 4
    assert folders.image_shape == (12, 16, 3)
    assert folders.labels is None
    assert repr(folders).endswith(
        "2 folders of frames, 5 clips of 4 frames; every image of a folder>"
    )
    for number, (seed, first) in enumerate([(0, 0), (0, 4), (1, 0), (1, 4), (1, 8)]):
        clip = folders.read_clip(number)
        assert clip.dtype == tf.uint8
        # frame_10 follows frame_9.
        np.testing.assert_array_equal(clip, [pattern(first + n, seed=seed) for n in range(4)])
        np.testing.assert_array_equal(folders.read(number), clip[0])


def test_a_step_takes_every_nth_image(tmp_path):
    write_frames(tmp_path / "a", 20)
    source = data.clips(tmp_path, frames=3, step=3)
    assert len(source) == 2
    np.testing.assert_array_equal(source.read_clip(1), [pattern(n) for n in (9, 12, 15)])
    assert "every image of a folder, in steps of 3" in repr(source)


def test_sequences_in_one_folder_are_told_apart_by_their_names(tmp_path):
    write_frames(tmp_path, 4, name="x{}_left.png")
    write_frames(tmp_path, 5, name="x{}_right.png", seed=1)
    write_frames(tmp_path, 4, name="00{}.png", seed=2)
    (tmp_path / "cover.png").write_bytes(tf.io.encode_png(pattern(0)).numpy())
    (tmp_path / ".hidden_1.png").write_bytes(b"")
    source = data.clips(tmp_path)
    firsts = [source.read(n).numpy() for n in range(3)]
    np.testing.assert_array_equal(firsts, [pattern(0, seed=seed) for seed in (2, 0, 1)])
    assert "3 folders of frames, 3 clips of 4 frames" in repr(source)
    assert "left out: 1 *.png" in repr(source)


def test_gifs_are_sampled_by_their_times(tmp_path):
    (tmp_path / "a.gif").write_bytes(moving_gif(16, delay=4))  # 25 frames per second
    (tmp_path / "b.gif").write_bytes(moving_gif(5, delay=100))  # slower than the rate: all frames
    (tmp_path / "c.gif").write_bytes(moving_gif(3))
    source = data.clips(tmp_path)
    assert "2 GIFs, 2 clips of 4 frames; 6 frames per second" in repr(source)
    assert "1 with fewer than 4 frames" in repr(source)
    assert positions_of_blue(source.read_clip(0)).tolist() == [0, 4, 8, 12]
    assert positions_of_blue(source.read_clip(1)).tolist() == [0, 1, 2, 3]
    assert len(data.clips(tmp_path, rate=25)) == 5


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(30, 5), (25, 4), (24, 4), (60, 10), (10, 2), (6, 1), (3, 1)],
)
def test_frames_are_about_a_sixth_of_a_second_apart(rate, expected):
    found = frame_positions(np.arange(100) / rate, 6)
    np.testing.assert_array_equal(np.diff(found), expected)
    assert found[0] == 0
    assert found[-1] + expected > 99


def test_a_variable_frame_rate_follows_the_times():
    seconds = np.concatenate([np.arange(20) / 20, 1 + np.arange(10) / 2])
    found = seconds[frame_positions(seconds, 4)]
    assert np.all(np.diff(found) >= 0.2)
    np.testing.assert_array_equal(found[found >= 1], seconds[20:])


def test_all_kinds_together(tmp_path):
    write_frames(tmp_path / "frames", 8, size=(48, 64))
    (tmp_path / "g2.gif").write_bytes(moving_gif(4))
    write_video(tmp_path / "g10.mp4", 12)
    source = data.clips(tmp_path)
    assert "1 video, 1 GIF, 1 folder of frames, 6 clips of 4 frames" in repr(source)
    assert source.image_shape == (None, None, 3)
    assert source.typical_side == 48
    clips = [source.read_clip(n).numpy() for n in range(6)]
    np.testing.assert_array_equal(clips[1], [pattern(n, (48, 64)) for n in range(4, 8)])
    assert positions_of_blue(clips[2]).tolist() == [0, 1, 2, 3]
    assert [levels(clip) for clip in clips[3:]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    # In a graph, with several threads, clips are the same.
    numbers = tf.data.Dataset.range(6)
    for clip, expected in zip(numbers.map(source.read_clip, 4), clips, strict=True):
        np.testing.assert_array_equal(clip, expected)
    images = [image for image, _ in source.dataset()]
    for image, clip in zip(images, clips, strict=True):
        np.testing.assert_array_equal(image, clip[0])


def test_one_video_gives_many_clips(tmp_path):
    path = tmp_path / "long.mp4"
    write_video(path, 40, rate=12)
    source = data.clips(path)
    assert len(source) == 5
    assert levels(source.read_clip(4)) == [32, 34, 36, 38]


def test_subsets_keep_their_clips(folders):
    part = folders.subset([4, 0])
    assert (len(part), part.clip_length) == (2, 4)
    np.testing.assert_array_equal(part.read_clip(0), folders.read_clip(4))
    first, second = folders.split(0.4, seed=1)
    assert (len(first), len(second)) == (3, 2)
    assert second.clip_length == 4
    with pytest.raises(ValueError, match="must lie in 0 to 4"):
        folders.subset([5])


def test_the_fingerprint_is_that_of_the_files_and_the_clips(folders, tmp_path):
    write_frames(tmp_path / "x" / "b2", 9)
    write_frames(tmp_path / "x" / "b10", 13, seed=1)
    moved = data.clips(tmp_path / "x")
    assert moved.fingerprint() == folders.fingerprint()
    prints = {
        moved.fingerprint(),
        data.clips(tmp_path / "x", step=2).fingerprint(),
        data.clips(tmp_path / "x", frames=3).fingerprint(),
        moved.subset([0, 1, 2, 3]).fingerprint(),
    }
    write_frames(tmp_path / "x" / "b10", 13, seed=2)
    prints.add(data.clips(tmp_path / "x").fingerprint())
    assert len(prints) == 5


def test_damaged_files_are_named_and_left_out(tmp_path, caplog):
    write_frames(tmp_path / "a", 9)
    (tmp_path / "a" / "frame_3.png").write_bytes(b"\x89PNG no image")
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    os.mkfifo(tmp_path / "pipe.gif")
    pytest.importorskip("av")
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING, "keras_ssl"):
        source = data.clips(tmp_path)
    assert len(source) == 2
    np.testing.assert_array_equal(source.read_clip(0), [pattern(n) for n in (0, 1, 3, 4)])
    assert set(source.skipped) == {
        str(tmp_path / name) for name in ("a/frame_3.png", "broken.gif", "broken.mp4", "pipe.gif")
    }
    assert "broken.mp4: not a video that can be read" in caplog.text
    assert "left out: 4 named above" in repr(source)


def test_a_file_that_breaks_during_training_is_named(tmp_path):
    (tmp_path / "a.gif").write_bytes(moving_gif(4))
    source = data.clips(tmp_path)
    (tmp_path / "a.gif").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.gif: not a GIF that can be read"):
        source.read_clip(0)
    batches = data.views(source, augment.crop_and_flip(4), 1, clips=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"a\.gif: not a GIF that can be read"):
        next(iter(batches))


def test_pictures_are_no_clips(tmp_path):
    for number in range(6):
        pixels = np.zeros((8 + number, 8, 3), np.uint8)
        (tmp_path / f"n01_{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(
        ValueError,
        match=r"folders of frames of one size.*at least 4 frames.*1 \*\.txt; 1 that cannot be used, "
        r"such as '.*n01_0\.png': 6 images of different sizes \(8 x 8, 9 x 8, \.\.\.\)",
    ):
        data.clips(tmp_path)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.MOV").write_bytes(b"")
    plain = builtins.__import__

    def without_av(name, *arguments, **more):
        if name == "av":
            raise ImportError("No module named 'av'")
        return plain(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(
        ImportError,
        match=r'pip install "keras_ssl\[video\]"\. Received: 2 videos, such as .*a\.mp4',
    ):
        data.clips(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 1}, "`frames` must be an integer of at least 2"),
        ({"rate": 0}, "`rate` must be positive"),
        ({"rate": float("nan")}, "`rate` must be positive"),
        ({"step": 0}, "`step` must be an integer of at least 1"),
    ],
)
def test_arguments_are_checked(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        data.clips(tmp_path, **arguments)


def test_a_folder_that_is_missing_or_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        data.clips(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="which holds no files"):
        data.clips(tmp_path)


def arrays(count=12, size=(12, 16)):
    clips = [[pattern(n, size, seed) for n in range(4)] for seed in range(count)]
    return data.clip_arrays(np.array(clips))


def test_clips_in_memory():
    source = arrays(3)
    np.testing.assert_array_equal(source.read_clip(2), [pattern(n, seed=2) for n in range(4)])
    np.testing.assert_array_equal(source.subset([2]).read(0), pattern(0, seed=2))
    for shape, kind in (((3, 12, 16, 3), "uint8"), ((3, 4, 12, 16, 3), "float32")):
        with pytest.raises(ValueError, match=r"must be an array \(n, frames, height, width, 3\)"):
            data.clip_arrays(np.zeros(shape, kind))
    with pytest.raises(ValueError, match="at least 2 frames"):
        data.clip_arrays(np.zeros((3, 1, 12, 16, 3), np.uint8))


@pytest.mark.parametrize("finish", ["host", "step"])
def test_all_frames_of_a_clip_get_the_same_crop(finish):
    clip = np.repeat(pattern(0, (24, 24))[None, None], 4, axis=1)  # four equal frames
    source = data.clip_arrays(np.repeat(clip, 8, axis=0))
    augmentation = augment.simclr(8, blur=False).view_1
    batches = data.views(source, augmentation, 8, seed=3, clips=True, finish=finish)
    batch = next(iter(batches))
    if finish == "step":
        from keras_ssl.augment.finish import get_finish

        batch = get_finish(batches)(batch)
    assert [tuple(frame.shape) for frame in batch] == [(8, 8, 8, 3)] * 4
    for frame in batch[1:]:
        np.testing.assert_allclose(frame, batch[0], atol=1e-6)
    different = np.abs(np.diff(batch[0], axis=0)).max(axis=(1, 2, 3))
    assert different.min() > 0.05  # clips are cropped and colored differently


def test_views_are_those_of_the_images_that_the_frames_are():
    source, crop = arrays(8), augment.crop_and_flip(8)
    frames = next(iter(data.views(source, crop, 8, seed=1, clips=True)))
    images = next(iter(data.views(source, crop, 8, seed=1)))
    np.testing.assert_allclose(frames[0], images[0], atol=1e-6)


def test_a_resume_continues_with_the_same_clips():
    source, crop = arrays(), augment.crop_and_flip(8)

    def batches(start, count):
        made = data.views(source, crop, 5, seed=2, start=start, clips=True, indices=True, keys=True)
        return [[np.asarray(part) for part in each] for each in made.repeat(3).take(count)]

    whole = batches(0, 5)  # two batches per epoch
    for start in (1, 3):
        for found, expected in zip(batches(start, 2), whole[start : start + 2], strict=True):
            for left, right in zip(found, expected, strict=True):
                np.testing.assert_array_equal(left, right)
    assert len(whole[0]) == 6  # four frames, the index and the key


def test_two_workers_make_the_batches_of_one():
    source, crop = arrays(), augment.crop_and_flip(8)
    batches = data.views(source, crop, 4, seed=2, clips=True)
    whole = [np.asarray(each) for each in next(iter(batches))]
    shares = get_shares(batches)
    parts = [next(iter(shares.batches_of(distribute.Share(n, 2, 2)))) for n in range(2)]
    for number, frame in enumerate(whole):
        joined = np.concatenate([np.asarray(part[number]) for part in parts])
        np.testing.assert_allclose(joined, frame, atol=1e-6)


def test_views_of_clips_need_clips_and_one_augmentation():
    images = data.arrays(np.zeros((8, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"`clips=True` needs a source of clips.*8 images"):
        data.views(images, augment.crop_and_flip(8), 4, clips=True)
    with pytest.raises(ValueError, match="`clips=True` needs a single augmentation"):
        data.views(arrays(), augment.simclr(8), 4, clips=True)
    with pytest.raises(TypeError, match="`read_clip` needs a source of clips"):
        images.read_clip(0)
