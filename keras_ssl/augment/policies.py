"""Augmentation policies of published methods, and the augmentation for evaluation."""

from keras_ssl.augment.augmentation import Augmentation, Policy
from keras_ssl.augment.blur import RandomBlur
from keras_ssl.augment.color import ColorJitter, RandomGrayscale
from keras_ssl.augment.crop import CenterCrop, RandomCrop
from keras_ssl.augment.flip import RandomFlip
from keras_ssl.augment.solarize import RandomSolarize
from keras_ssl.augment.warp import RandomWarp


def simclr(size: int, strength: float = 1.0, blur: bool = True) -> Policy:
    """SimCLR's views: crop, flip, colour jitter, grey, blur.

    Args:
        size: side of a view, in pixels.
        strength: strength of the colour jitter, in [0, 2.5]: 1 for ImageNet, 0.5 for CIFAR-10.
        blur: whether to blur half of the views: yes for ImageNet, no for CIFAR-10.

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


def moco_v1(size: int) -> Policy:
    """MoCo v1's views: crop, grey, colour jitter of every image, flip.

    Pixels stay in [0, 1]. The reference subtracts ImageNet's mean and divides by its standard
    deviation afterwards; here that belongs in the network, if it is wanted.

    Args:
        size: side of a view, in pixels.

    Raises:
        ValueError: if `size` is below 1.

    Example:
        >>> moco_v1(32).view_1(np.zeros((4, 48, 64, 3), "uint8")).shape
        TensorShape([4, 32, 32, 3])

    Source: He et al. 2020 (MoCo), section 3.3, which lists jitter, flip and grey in this order. The
    order here is that of `main_moco.py` of facebookresearch/moco. There, as in torchvision, saturation
    blends with the grey image and contrast with its mean; here both are those of `ColorJitter`.
    """
    augmentation = Augmentation(
        [
            RandomCrop(size, area=(0.2, 1.0)),
            RandomGrayscale(),
            ColorJitter(0.4, 0.4, 0.4, 0.4, probability=1.0),
            RandomFlip(),
        ]
    )
    return Policy(augmentation, augmentation)


def moco_v2(size: int, area: tuple[float, float] = (0.2, 1.0), blur: bool = True) -> Policy:
    """MoCo v2's views: crop, colour jitter, grey, blur, flip.

    Pixels stay in [0, 1], as in `moco_v1`.

    Args:
        size: side of a view, in pixels.
        area: (low, high) range of the crop's fraction of the image: (0.2, 1) for ImageNet, (0.08, 1) in
            the reference's CIFAR-10 notebook.
        blur: whether to blur half of the views: yes for ImageNet, no for CIFAR-10.

    Raises:
        ValueError: if `size` is below 1 or `area` is not a range within (0, 1].

    Example:
        >>> policy = moco_v2(32, area=(0.08, 1.0), blur=False)
        >>> policy.view_1(np.zeros((4, 48, 64, 3), "uint8")).shape
        TensorShape([4, 32, 32, 3])

    Source: Chen et al. 2020, "Improved Baselines with Momentum Contrastive Learning", section 3;
    `main_moco.py` and, for CIFAR-10, `colab/moco_cifar10_demo.ipynb` of facebookresearch/moco. The
    jitter differs as in `moco_v1`. The blur differs too: the reference uses Pillow's, which repeats
    border pixels and has a kernel size that grows with sigma; here it is `RandomBlur`.
    """
    layers = [
        RandomCrop(size, area=area),
        ColorJitter(0.4, 0.4, 0.4, 0.1),
        RandomGrayscale(),
    ]
    if blur:
        layers.append(RandomBlur())
    augmentation = Augmentation([*layers, RandomFlip()])
    return Policy(augmentation, augmentation)


def byol(size: int, blur: bool = True) -> Policy:
    """BYOL's views: the first is always blurred, the second sometimes solarized.

    Both use crop, flip, colour jitter and grey. The first view is then always blurred. The second is
    blurred with probability 0.1 and solarized with probability 0.2.

    Pixels stay in [0, 1]. The reference subtracts ImageNet's mean and divides by its standard
    deviation afterwards; here that belongs in the network, if it is wanted.

    Args:
        size: side of a view, in pixels.
        blur: whether to blur at all. Without blur, as is usual for CIFAR-10, the views differ only by
            solarization.

    Raises:
        ValueError: if `size` is below 1.

    Example:
        >>> policy = byol(32, blur=False)
        >>> [type(layer).__name__ for layer in policy.view_2.layers][-1]
        'RandomSolarize'

    Source: Grill et al. 2020 (BYOL), appendix B and its table of parameters; `utils/augmentations.py`
    in byol/ of google-deepmind/deepmind-research, where brightness is added; here it multiplies.
    """

    def view(blurred: float, solarized: float) -> Augmentation:
        layers = [
            RandomCrop(size),
            RandomFlip(),
            ColorJitter(0.4, 0.4, 0.2, 0.1),
            RandomGrayscale(),
        ]
        if blur:
            layers.append(RandomBlur(probability=blurred))
        if solarized:
            layers.append(RandomSolarize(probability=solarized))
        return Augmentation(layers)

    return Policy(view(blurred=1.0, solarized=0.0), view(blurred=0.1, solarized=0.2))


def pirl(size: int) -> Policy:
    """PIRL's views: an image with distorted colors, and a large crop to cut into tiles.

    `methods.PIRL` distorts the colors of each tile of the second view in the training step.

    Args:
        size: side of a view, in pixels.

    Example:
        >>> [type(layer).__name__ for layer in pirl(224).view_2.layers]
        ['RandomCrop', 'RandomFlip']

    Source: Misra and van der Maaten 2020, section 3.3 and appendix: crops of 8 % to 100 % of the image,
    and of 60 % to 100 % to cut. The colors are those of `simclr`.
    """
    view_1 = simclr(size, blur=False).view_1
    return Policy(view_1, Augmentation([RandomCrop(size, area=(0.6, 1.0)), RandomFlip()]))


def centred(size: int) -> Policy:
    """Views of small, centred images that are defined by their shape, such as handwriting.

    Aggressive crops and flips would change what a digit means, and there is no colour to change.
    Instead, slant, size, position and the curvature of strokes vary, as they do in handwriting.

    Args:
        size: side of a view, in pixels.

    Example:
        >>> centred(8).view_1(np.zeros((4, 8, 8, 1), "uint8")).shape
        TensorShape([4, 8, 8, 1])

    Source: Simard et al. 2003 for the kinds of distortion; the strengths are ours, measured in
    docs/results.md.
    """
    resize = RandomCrop(size, area=(1.0, 1.0), aspect=(1.0, 1.0))  # crops oblong images only
    warp = RandomWarp(rotation=15, zoom=0.15, shear=0.2, shift=0.1, elastic=0.05)
    augmentation = Augmentation([resize, warp])
    return Policy(augmentation, augmentation)


def multi_crop(
    size: int,
    small_size: int,
    small_views: int = 6,
    area: tuple[float, float] = (0.14, 1.0),
    small_area: tuple[float, float] = (0.05, 0.14),
    strength: float = 1.0,
    blur: bool = True,
) -> tuple[Augmentation, ...]:
    """Two large and several small views: SimCLR's augmentations of crops of two sizes.

    Args:
        size: side of the two large views, in pixels.
        small_size: side of the small views, in pixels.
        small_views: number of small views, at least 1.
        area: (low, high) range of a large crop's fraction of the image.
        small_area: (low, high) range of a small crop's fraction of the image.
        strength: strength of the color jitter, in [0, 2.5].
        blur: whether to blur half of the views.

    Returns:
        `2 + small_views` augmentations, the large ones first.

    Raises:
        ValueError: if a size, a number of views, a range or `strength` is out of range.

    Example:
        >>> [view.layers[0].size for view in multi_crop(32, 16, small_views=2)]
        [32, 32, 16, 16]

    Source: Caron et al. 2020 (SwAV), section 3.3 and appendix A: two views of 224 pixels and six of 96.
    """
    if small_views < 1:
        raise ValueError(f"`small_views` must be at least 1. Received: small_views={small_views}")
    further = list(simclr(size, strength, blur).view_1.layers[1:])
    large = Augmentation([RandomCrop(size, area=area), *further])
    small = Augmentation([RandomCrop(small_size, area=small_area), *further])
    return (large,) * 2 + (small,) * small_views


def crop_and_flip(size: int) -> Augmentation:
    """One view for supervised learning or distillation: crop and flip, without colour distortion.

    Args:
        size: side of a view, in pixels.

    Example:
        >>> crop_and_flip(32)(np.zeros((4, 48, 64, 3), "uint8")).shape
        TensorShape([4, 32, 32, 3])

    Source: Chen et al. 2020 (SimCLR), section B.5; Chen et al. 2020 (SimCLRv2), section 3, for
    fine-tuning and distillation.
    """
    return Augmentation([RandomCrop(size), RandomFlip()])


def evaluation(size: int) -> CenterCrop:
    """The view for evaluation: the central 0.875 of an image, or all of it if `size` is at most 64.

    Args:
        size: side of the output, in pixels.

    Example:
        >>> evaluation(32)(np.zeros((32, 32, 3), "uint8")).shape
        TensorShape([32, 32, 3])

    Source: `data_util.py` of google-research/simclr.
    """
    return CenterCrop(size, share=0.875 if size > 64 else 1.0)
