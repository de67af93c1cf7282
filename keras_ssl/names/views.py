"""The policies of views and the augmentations of the command line."""

from collections.abc import Callable

from keras_ssl import augment
from keras_ssl.names.table import known

POLICIES: dict[str, Callable[[int], augment.Policy]] = {
    "simclr": augment.simclr,
    "simclr-small": lambda size: augment.simclr(size, strength=0.5, blur=False),
    "moco-v1": augment.moco_v1,
    "moco-v2": augment.moco_v2,
    "moco-v2-small": lambda size: augment.moco_v2(size, area=(0.08, 1.0), blur=False),
    "byol": augment.byol,
    "byol-small": lambda size: augment.byol(size, blur=False),
    "centred": augment.centred,
}

AUGMENTATIONS: dict[str, Callable[[int], augment.Augmentation]] = {
    "crop-flip": augment.crop_and_flip,
    "centred": lambda size: augment.centred(size).view_1,
}


def policy(name: str, size: int) -> augment.Policy:
    """Returns the policy of a name, such as "simclr", for views of `size` pixels."""
    return known("policy of views", name, POLICIES)(size)


def augmentation(name: str | None, data: str, size: int) -> augment.Augmentation:
    """Returns what changes images that are learnt from with labels, or from a teacher.

    Args:
        name: "crop-flip" or "centred"; `None` takes "centred" for digits, otherwise the other.
        data: word for the images.
        size: side of the result, in pixels.
    """
    own = "centred" if data == "digits" else "crop-flip"
    return known("augmentation", name or own, AUGMENTATIONS)(size)
