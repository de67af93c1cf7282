"""Policies of views, and augmentations for supervised training, by name."""

from typing import TYPE_CHECKING

from keras_ssl.presets.lookup import lookup

if TYPE_CHECKING:
    from keras_ssl.augment import Augmentation, Policy

POLICIES = (
    "simclr",
    "simclr-small",
    "moco-v1",
    "moco-v2",
    "moco-v2-small",
    "moco-v2-no-blur",
    "byol",
    "byol-small",
    "centred",
)
AUGMENTATIONS = ("crop-flip", "centred")
"""Names of the augmentations of labeled images on the command line."""
LARGEST_WITHOUT_BLUR = 64  # pixels: views up to this size need no blur


def build_policy(name: str, size: int) -> "Policy":
    """Returns the policy of a name, such as "simclr", for views of `size` x `size` pixels.

    Raises:
        ValueError: if there is no such policy.
    """
    from keras_ssl import augment

    policies = {  # their names are POLICIES
        "simclr": augment.simclr,
        "simclr-small": lambda size: augment.simclr(size, strength=0.5, blur=False),
        "moco-v1": augment.moco_v1,
        "moco-v2": augment.moco_v2,
        "moco-v2-small": lambda size: augment.moco_v2(size, area=(0.08, 1.0), blur=False),
        "moco-v2-no-blur": lambda size: augment.moco_v2(size, blur=False),
        "byol": augment.byol,
        "byol-small": lambda size: augment.byol(size, blur=False),
        "centred": augment.centred,
    }
    return lookup("policy of views", name, policies)(size)


def build_augmentation(name: str | None, data: str | None, size: int) -> "Augmentation":
    """Returns the augmentation for training with labels, or from a teacher.

    Args:
        name: "crop-flip" or "centred"; `None` takes "centred" for the digits and "crop-flip" otherwise.
        data: name of the data set.
        size: side of the result in pixels.

    Raises:
        ValueError: if there is no such augmentation.
    """
    from keras_ssl import augment

    augmentations = {
        "crop-flip": augment.crop_and_flip,
        "centred": lambda size: augment.centred(size).view_1,
    }
    default = "centred" if data == "digits" else "crop-flip"
    return lookup("augmentation", name or default, augmentations)(size)
