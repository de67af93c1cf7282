"""Video colorization on the command line, from a folder of videos to an encoder and pictures."""

import json

import numpy as np
import pytest

import keras_ssl
from keras_ssl.runs.directory import Run
from tests.command_line import call
from tests.data.clip_files import moving_gif, write_frames, write_video

COMMON = ["--backbone", "tiny", "--width", 0.25, "--image-size", 32, "--batch-size", 4]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Folders of frames of 24 x 24 pixels."""
    root = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        write_frames(root / f"video_{seed}", 16, size=(24, 24), seed=seed)
    return root


def pretrain(data, path, *more):
    words = ["--data", data, "--out", path, "--method", "video-colorization"]
    return call("pretrain", *words, *COMMON, *more)


@pytest.mark.large
def test_pretrain_resume_evaluate_export_and_draw(videos, tmp_path):
    pytest.importorskip("av")
    write_video(videos / "a.mp4", 16, size=(24, 24))
    path = tmp_path / "run"
    status, out, err = pretrain(videos, path, "--epochs", 2)
    assert status == 0, err
    assert "1 video, 3 folders of frames, 16 clips of 4 frames" in " ".join(out.split())
    assert "of 4 clips" in out
    assert {"accuracy", "still_accuracy"} <= Run(path).history[-1].keys()
    config = Run(path).config
    assert (config["frame_rate"], len(config["measured"])) == (6.0, 32)
    status, _, err = call("pretrain", "--resume", path, "--epochs", 3)
    assert status == 0, err
    assert [line["epoch"] for line in Run(path).history] == [1, 2, 3]

    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
    labeled = tmp_path / "labeled.npz"
    np.savez(labeled, images=noise, labels=np.arange(32) % 2)
    words = ["--labels-per-class", 1, "--draws", 1]
    status, _, err = call("evaluate", path, "--data", labeled, *words)
    assert status == 0, err
    assert json.loads((path / "metrics.json").read_text())["rows"]["trained"]["knn"]
    status, _, err = call("export", path)
    assert status == 0, err
    images = noise[:3].astype(np.float32) / 255
    expected = Run(path).encoder()(images)
    np.testing.assert_allclose(keras_ssl.export.load(path / "export")(images), expected, atol=1e-5)
    status, _, err = call("pictures", path)
    assert status == 0, err
    assert (path / "pictures.png").stat().st_size > 10_000


def test_what_is_no_folder_of_videos_is_refused(tmp_path):
    status, _, err = pretrain("digits", tmp_path / "run")
    assert status == 1
    assert "Videos must be a folder of videos, GIFs or folders of frames" in err
    folder = tmp_path / "photos"
    write_frames(folder, 3, name="{}.png")
    status, _, err = pretrain(folder, tmp_path / "run")
    assert status == 1
    assert "1 too short, with fewer than 4 frames" in err
    status, _, err = pretrain(folder, tmp_path / "run", "--evaluate")
    assert "--evaluate needs labeled images, and videos have no labels" in err
    for option, value, text in (
        ("--channels", 1, "Clips have 3 channels"),
        ("--value-range", "auto", "Clips have 8 bits"),
    ):
        status, _, err = pretrain(folder, tmp_path / "run", option, value)
        assert status == 1
        assert text in err
    assert not (tmp_path / "run").exists()


def test_other_methods_name_the_one_for_videos(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    status, _, err = call("pretrain", "--data", tmp_path, "--out", tmp_path / "run")
    assert status == 1
    assert "--method video-colorization learns from videos" in err
    (tmp_path / "a.gif").write_bytes(moving_gif(4))
    source = keras_ssl.data.image_folder(tmp_path)
    assert "not read: 1 *.mp4; --method video-colorization learns from videos" in repr(source)


def test_the_parts_for_training_and_testing(tmp_path):
    write_frames(tmp_path / "train", 8)  # a video of a train
    write_frames(tmp_path / "car", 8)
    from keras_ssl.data.open_source import open_source

    source, test = open_source(tmp_path, clips={})
    assert (len(source), test) == (4, None)
    write_frames(tmp_path / "test" / "bus", 8)
    assert len(open_source(tmp_path, clips={})[0]) == 2
