"""The preset of video colorization: what it builds, and which data it refuses or warns of."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data
from keras_ssl.backbones.of_lightness import sees_only_lightness
from keras_ssl.presets import ImageFacts, VideoColorization
from tests.data.test_motion import clips

FACTS = ImageFacts(image_channels=3, image_count=100)


def texts(source, **options):
    return list(VideoColorization(**options).check_images(source))


def test_clips_in_which_something_moves_are_accepted():
    assert texts(clips(shift=2)) == []


def test_still_clips_are_said_before_training():
    (text,) = texts(clips(noise=0.005))
    assert text.startswith(
        "video-colorization learns from motion, but nothing moves in about 100% of the clips"
    )


def test_gray_clips_are_refused_and_a_part_is_said():
    moving = clips(8, shift=2)._clips.numpy()
    gray = np.repeat(moving[..., :1], 3, axis=-1)
    with pytest.raises(ValueError, match=r"VideoColorization learns from the colors.*are gray"):
        texts(data.clip_arrays(gray))
    (text,) = texts(data.clip_arrays(np.concatenate([moving, gray])))
    assert "about 50% of these images are gray" in text


def test_images_are_refused():
    images = data.arrays(np.zeros((8, 8, 8, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"learns from videos\. Expected: a folder of videos, GIFs"
    ):
        texts(images)
    pairs = data.clip_arrays(np.zeros((8, 2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"needs clips of 4 frames.*Received: clips of 2"):
        texts(pairs)


def test_a_folder_of_pictures_of_one_size_is_refused(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(12):
            pixels = generator.integers(0, 256, (1, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
            content = tf.io.encode_png(pixels[0].astype(np.uint8)).numpy()
            (tmp_path / name / f"{number:03}.png").write_bytes(content)
    source = data.clips(tmp_path)
    with pytest.raises(
        ValueError, match=r"images in .* that do not follow each other: neighbors differ by 0.3"
    ):
        texts(source)


def test_a_single_video_as_a_folder_of_frames_is_accepted(tmp_path):
    smooth = clips(1, shift=1)._clips.numpy()[0, 0]
    for number in range(16):
        content = tf.io.encode_png(np.roll(smooth, 2 * number, axis=1)).numpy()
        (tmp_path / f"{number}.png").write_bytes(content)
    assert texts(data.clips(tmp_path)) == []


def preset(**options):
    found = VideoColorization(backbone="tiny", batch_size=32, **options)
    return found.resolve(FACTS, sides=(8, 8))


def test_the_colors_are_measured():
    source, chosen = clips(shift=2), preset(colors=5, embedding=7, temperature=0.5)
    measured = chosen.measure(source)
    np.testing.assert_allclose(
        np.reshape(measured, (5, 2)), data.color_clusters(source, 5, seed=0), atol=1e-6
    )
    facts = replace(FACTS, measured=measured)
    backbone = chosen.build_backbone(facts)
    assert sees_only_lightness(backbone)
    model = chosen.build_model(backbone, facts)
    np.testing.assert_allclose(np.reshape(model.colors, -1), measured)
    assert (model.head.units, model.temperature) == (7, 0.5)
    with pytest.raises(ValueError, match="must have the colors of the videos"):
        chosen.build_model(backbone, FACTS)


@pytest.mark.parametrize(("size", "block3", "block4"), [(64, 16, 8), (96, 12, 12)])
def test_the_map_of_a_resnet_has_an_eighth_of_the_side(size, block3, block4):
    chosen = VideoColorization(backbone="resnet18", width=0.0625, image_size=size)
    backbone = chosen.resolve(FACTS).build_backbone(FACTS)
    assert backbone.get_layer("block3").output.shape[1:3] == (block3, block3)
    assert backbone.get_layer("block4").output.shape[1:3] == (block4, block4)


def test_options_are_checked():
    assert VideoColorization(frame_rate=3.0, frame_step=5).clip_options() == {
        "rate": 3.0,
        "step": 5,
    }
    for rate in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="`frame_rate` must be positive and finite"):
            VideoColorization(frame_rate=rate).check()
    with pytest.raises(ValueError, match="`frame_step` must be at least 1"):
        VideoColorization(frame_step=0).check()
    with pytest.raises(ValueError, match="`colors` must be at least 2"):
        VideoColorization(colors=1).check()
