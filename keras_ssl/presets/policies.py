"""Policies of views, and augmentations for supervised training, by name."""

from typing import TYPE_CHECKING, Any

from keras_ssl.presets.lookup import lookup

if TYPE_CHECKING:
    from keras_ssl.augment import Augmentation, Policy

_POLICIES: dict[
    str, tuple[str, dict[str, Any]]
] = {  # a function of `keras_ssl.augment`, its arguments
    "simclr": ("simclr", {}),
    "simclr-small": ("simclr", {"strength": 0.5, "blur": False}),
    "moco-v1": ("moco_v1", {}),
    "moco-v2": ("moco_v2", {}),
    "moco-v2-small": ("moco_v2", {"area": (0.08, 1.0), "blur": False}),
    "moco-v2-no-blur": ("moco_v2", {"blur": False}),
    "byol": ("byol", {}),
    "byol-small": ("byol", {"blur": False}),
    "pirl": ("pirl", {}),
    "centred": ("centred", {}),
    "crop-flip": ("crop_and_flip", {}),
}
POLICIES = tuple(_POLICIES)
AUGMENTATIONS = ("crop-flip", "centred")
"""Names of the augmentations of labeled images on the command line."""
LARGEST_WITHOUT_BLUR = 64  # pixels: views up to this size need no blur


def build_policy(name: str, size: int, view_count: int = 2) -> "Policy | Augmentation":
    """Returns the policy of a name, such as "simclr", for views of `size` x `size` pixels.

    Args:
        name: name of the policy.
        size: side of a view in pixels.
        view_count: 2, or 1 for the first view only.

    Raises:
        ValueError: if there is no such policy.
    """
    from keras_ssl import augment

    function, arguments = lookup("policy of views", name, _POLICIES)
    made = getattr(augment, function)(size, **arguments)
    if isinstance(made, augment.Augmentation):
        return made if view_count == 1 else augment.Policy(made, made)
    return made.view_1 if view_count == 1 else made


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
