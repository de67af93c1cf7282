import numpy as np
import pytest

from keras_ssl import augment


def kinds(augmentation):
    return [type(layer).__name__ for layer in augmentation.layers]


def test_simclr_is_the_papers_chain():
    policy = augment.simclr(224)
    assert policy.view_1 is policy.view_2
    order = ["RandomCrop", "RandomFlip", "ColorJitter", "RandomGrayscale", "RandomBlur"]
    assert kinds(policy.view_1) == order
    crop, flip, jitter, grey, blur = policy.view_1.layers
    assert (crop.size, crop.area, crop.aspect) == (224, (0.08, 1.0), (3 / 4, 4 / 3))
    assert flip.probability == 0.5
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    assert strengths == pytest.approx((0.8, 0.8, 0.8, 0.2))
    assert jitter.probability == 0.8
    assert grey.probability == 0.2
    assert (blur.probability, blur.sigma) == (0.5, (0.1, 2.0))


def test_simclr_for_small_images():
    policy = augment.simclr(32, strength=0.5, blur=False)
    assert kinds(policy.view_1) == ["RandomCrop", "RandomFlip", "ColorJitter", "RandomGrayscale"]
    jitter = policy.view_1.layers[2]
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    assert strengths == pytest.approx((0.4, 0.4, 0.4, 0.1))


@pytest.mark.parametrize("strength", [-0.1, 2.6])
def test_simclr_refuses_a_strength_out_of_range(strength):
    with pytest.raises(ValueError, match=rf"`strength` must lie in .* strength={strength}"):
        augment.simclr(32, strength=strength)


def test_simclr_takes_the_strongest_jitter():
    assert augment.simclr(32, strength=2.5).view_1.layers[2].hue == 0.5


def test_centred_neither_cuts_nor_flips(noise, keys):
    policy = augment.centred(16)
    assert kinds(policy.view_1) == ["RandomCrop", "RandomWarp"]
    whole = policy.view_1.layers[0]
    np.testing.assert_allclose(whole(noise(), keys=keys(6)), noise(), atol=1e-5)


def test_refuses_a_size_below_one():
    for policy in (augment.simclr, augment.centred, augment.evaluation):
        with pytest.raises(ValueError, match=r"`size` must be at least 1 pixel\. Received: size=0"):
            policy(0)
