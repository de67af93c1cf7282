"""Pictures of a run: the batch of the run, drawn in rows, and the end of a long training."""

import importlib
import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_ssl
from keras_ssl import augment, data
from keras_ssl.methods import SelfSupervised, SimCLR
from keras_ssl.methods.panel import Panel
from keras_ssl.runs.directory import Run
from keras_ssl.runs.pictures import draw_after_training, draw_panels, example_batch
from tests.command_line import call
from tests.runs.test_pretrain import SMALL, images, npz, run  # noqa: F401

module = importlib.import_module("keras_ssl.runs.pretrain")


class Takes:
    """The attributes of a method that decide what a batch contains."""

    takes_indices = takes_keys = True
    takes_clips = False


@pytest.mark.parametrize("sizes", ["equal", "different"])
def test_the_batch_is_that_of_the_first_epoch(sizes, tmp_path):
    source = images(20)
    if sizes == "different":
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 256, (9 + number, 12, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
        source = data.image_folder(tmp_path)
    policy = augment.crop_and_flip(8)
    view, indices, keys = example_batch(Takes(), policy, source, 4, seed=3)
    np.testing.assert_array_equal(indices, [0, 6, 12, 19])
    everything = data.views(source, policy, 20, seed=3, indices=True, keys=True)
    whole, order, whole_keys = next(iter(everything))
    places = [int(np.flatnonzero(order == index)[0]) for index in indices]
    np.testing.assert_array_equal(keys, tf.gather(whole_keys, places))
    np.testing.assert_allclose(view, tf.gather(whole, places), atol=1e-5)


def test_a_run_is_drawn_from_its_own_images_or_others(run, npz, tmp_path, monkeypatch):  # noqa: F811
    seen = []
    views = SelfSupervised.panels

    def panels(model, *batch):
        seen.append(np.array(batch[0]))
        return views(model, *batch)

    monkeypatch.setattr(SimCLR, "panels", panels)
    assert run.pictures(count=3) == run.path / "pictures.png"
    assert [each.shape for each in seen] == [(3, 8, 8, 1)]
    with Image.open(run.path / "pictures.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 300
    path = Run(run.path).pictures(images(5, seed=1), path=tmp_path / "new" / "other.png")
    assert path.is_file()
    assert seen[1].shape[0] == 5  # fewer than asked for
    with pytest.raises(ValueError, match=r"`count` must be a positive integer. Received: count=0"):
        run.pictures(count=0)
    status, out, err = call("pictures", run.path, "--out", tmp_path / "cli.png", "--count", 2)
    assert status == 0, err
    assert out == f"Written: {tmp_path / 'cli.png'}\n"
    status, _, err = call("pictures", tmp_path)
    assert status == 1
    assert "those of a run directory" in err


def test_rows_have_as_many_images_as_they_have_and_all_kinds_of_channels(tmp_path):
    random = np.random.default_rng(0)
    panels = [
        Panel("Gray", np.zeros((4, 8, 8, 1), np.float32), ["black"] * 4),
        Panel("Red", np.full((2, 4, 8, 3), (1, 0, 0), np.float32)),
        Panel("Five channels", random.random((1, 8, 8, 5), np.float32), ["a long caption " * 4]),
    ]
    path = draw_panels(panels, tmp_path / "panels.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
        assert picture.height > picture.width * 0.7  # three rows of at most four images
    red = np.all(pixels == (255, 0, 0), axis=-1)
    middle = len(pixels) / 2
    assert abs(np.flatnonzero(red.any(axis=1)).mean() - middle) < 0.1 * len(pixels)  # second row
    assert 0.35 < red.any(axis=0).mean() < 0.5  # two of four columns
    black = np.all(pixels == 0, axis=-1).sum(axis=1)
    rows = np.flatnonzero(black > 0.8 * picture.width)
    assert len(rows) > 100  # the four images of the first row
    assert rows.max() < np.flatnonzero(red.any(axis=1)).min()


def test_panels_that_cannot_be_drawn_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one panel"):
        draw_panels([], tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"'Row' with 1 captions and 2 images"):
        draw_panels([Panel("Row", np.zeros((2, 4, 4, 3)), ["one"])], tmp_path / "none.png")


def test_a_long_training_ends_with_a_picture(npz, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(module, "LONG_TRAINING", 0.0)
    finished = keras_ssl.pretrain(npz, out=tmp_path / "run", **{**SMALL, "epochs": 1})
    assert (finished.path / "pictures.png").is_file()
    assert f"Pictures: {finished.path / 'pictures.png'}" in capsys.readouterr().out


def test_panels_that_fail_do_not_spoil_a_finished_training(run, monkeypatch, caplog):  # noqa: F811
    def panels(model, *batch):
        raise RuntimeError("no such layer")

    monkeypatch.setattr(SimCLR, "panels", panels)
    method = run.method()
    with caplog.at_level(logging.WARNING):
        drawn = draw_after_training(method, augment.centred(8), images(8), run, seed=0)
    assert drawn is None
    assert "`panels` of the method failed: no such layer" in caplog.text
