"""How much moves in clips, and whether their frames belong together."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data
from keras_ssl.data.motion import measure_motion


def clips(count=6, shift=0, noise=0, side=64):
    """Returns clips of a smooth pattern that moves by `shift` pixels from frame to frame."""
    generator = np.random.default_rng(0)
    coarse = generator.random((count, 8, 8, 3), np.float32)
    smooth = tf.image.resize(coarse, (side, side), "bicubic").numpy()
    frames = [np.roll(smooth, shift * number, axis=2) for number in range(4)]
    frames = np.stack(frames, axis=1) + noise * generator.normal(size=(count, 4, side, side, 3))
    return data.clip_arrays((255 * np.clip(frames, 0, 1)).astype(np.uint8))


def test_a_still_camera_with_noise_sees_no_motion():
    assert measure_motion(clips(noise=0.01)).still_share == 1
    assert measure_motion(clips(shift=2, noise=0.01)).still_share == 0


def test_a_small_thing_that_moves_is_seen():
    frames = clips(noise=0.005)._clips.numpy()
    for number in range(4):
        frames[:, number, 30:36, 8 * number : 8 * number + 6] = 255
    assert measure_motion(data.clip_arrays(frames)).still_share == 0


def test_the_share_is_that_of_the_clips():
    still, moving = (source._clips.numpy() for source in (clips(1), clips(3, shift=2)))
    mixed = data.clip_arrays(np.concatenate([still, moving]))
    assert measure_motion(mixed).still_share == pytest.approx(0.25)


def test_frames_of_a_video_are_more_alike_than_others():
    motion = measure_motion(clips(shift=2))
    assert 0 < motion.within < 0.5 * motion.between
    unrelated = np.random.default_rng(0).integers(0, 256, (6, 4, 32, 32, 3), np.uint8)
    motion = measure_motion(data.clip_arrays(unrelated))
    # The mean difference of two uniform numbers is a third.
    assert motion.within == pytest.approx(1 / 3, rel=0.02)
    assert motion.between == pytest.approx(1 / 3, rel=0.02)
