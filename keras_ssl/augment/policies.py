"""The published recipes of views, and the view that evaluation uses."""

from keras_ssl.augment.augmentation import Augmentation, Policy
from keras_ssl.augment.blur import RandomBlur
from keras_ssl.augment.color import ColorJitter, RandomGrayscale
from keras_ssl.augment.crop import CenterCrop, RandomCrop
from keras_ssl.augment.flip import RandomFlip
from keras_ssl.augment.warp import RandomWarp


def simclr(size: int, strength: float = 1.0, blur: bool = True) -> Policy:
    """SimCLR's views: crop, flip, colour jitter, grey, blur.

    Args:
        size: side of a view, in pixels.
        strength: of the colour jitter: 1 for ImageNet, 0.5 for CIFAR-10.
        blur: blur half of the views: yes for ImageNet, no for CIFAR-10.

    Raises:
        ValueError: if `size` is below 1 or `strength` is not in [0, 2.5].

    Example:
        >>> policy = simclr(32, strength=0.5, blur=False)
        >>> policy.view_1(np.zeros((4, 48, 64, 3), "uint8")).shape
        TensorShape([4, 32, 32, 3])

    Source: Chen et al. 2020 (SimCLR), appendix A and section B.9; `data_util.py` of
    google-research/simclr.
    """
    if not 0 <= strength <= 2.5:
        raise ValueError(f"`strength` must lie in [0, 2.5]. Received: strength={strength}")
    layers = [
        RandomCrop(size),
        RandomFlip(),
        ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength),
        RandomGrayscale(),
    ]
    if blur:
        layers.append(RandomBlur())
    augmentation = Augmentation(layers)
    return Policy(augmentation, augmentation)


def centred(size: int) -> Policy:
    """Views of small, centred images whose outline is their content, such as handwriting.

    A hard crop of a centred digit shows another digit's part, a flip makes another sign, and there
    is no colour to change; what one writer's hand changes from one time to the next is slant, size,
    place and the bend of a stroke.

    Args:
        size: side of a view, in pixels.

    Example:
        >>> centred(8).view_1(np.zeros((4, 8, 8, 1), "uint8")).shape
        TensorShape([4, 8, 8, 1])

    Source: Simard et al. 2003 for the kinds of distortion; strengths measured in docs/results.md.
    """
    whole = RandomCrop(size, area=(1.0, 1.0), aspect=(1.0, 1.0))  # resizes where sizes differ
    warp = RandomWarp(rotation=15, zoom=0.15, shear=0.2, shift=0.1, elastic=0.05)
    augmentation = Augmentation([whole, warp])
    return Policy(augmentation, augmentation)


def evaluation(size: int) -> CenterCrop:
    """The one view of evaluation: the central .875 of the image; all of it up to 64 pixels.

    Args:
        size: side of the result, in pixels.

    Example:
        >>> evaluation(32)(np.zeros((32, 32, 3), "uint8")).shape
        TensorShape([32, 32, 3])

    Source: `data_util.py` of google-research/simclr.
    """
    return CenterCrop(size, share=0.875 if size > 64 else 1.0)
