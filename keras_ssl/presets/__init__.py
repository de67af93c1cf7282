"""One preset per method: its options with their defaults, and what it trains with.

Importing this package does not import TensorFlow.
"""

from keras_ssl.presets.adversarial_context_encoder import AdversarialContextEncoder
from keras_ssl.presets.backbones import backbone_names, build_backbone
from keras_ssl.presets.byol import BYOL
from keras_ssl.presets.cmc import CMC
from keras_ssl.presets.colorization import Colorization
from keras_ssl.presets.context_encoder import ContextEncoder
from keras_ssl.presets.cpc import CPC
from keras_ssl.presets.deep_cluster import DeepCluster
from keras_ssl.presets.denoising_autoencoder import DenoisingAutoencoder
from keras_ssl.presets.exemplar import Exemplar
from keras_ssl.presets.jigsaw import Jigsaw
from keras_ssl.presets.lookup import lookup, spell, unknown_name
from keras_ssl.presets.memory_bank import MemoryBank
from keras_ssl.presets.moco import MoCo
from keras_ssl.presets.optimizers import OPTIMIZERS, build_optimizer, check_rate
from keras_ssl.presets.own_presets import class_path, find_own_preset
from keras_ssl.presets.pirl import PIRL
from keras_ssl.presets.policies import AUGMENTATIONS, build_augmentation, build_policy
from keras_ssl.presets.preset import ImageFacts, Preset
from keras_ssl.presets.relative_location import RelativeLocation
from keras_ssl.presets.rotation import Rotation
from keras_ssl.presets.simclr import SimCLR
from keras_ssl.presets.simclr_memory import SimCLRMemory
from keras_ssl.presets.split_brain import SplitBrain
from keras_ssl.presets.spreading import InvariantSpreading
from keras_ssl.presets.video_colorization import VideoColorization

PRESETS: dict[str, type[Preset]] = {
    preset.method: preset
    for preset in (
        SimCLR,
        SimCLRMemory,
        MoCo,
        BYOL,
        MemoryBank,
        DeepCluster,
        InvariantSpreading,
        Exemplar,
        DenoisingAutoencoder,
        ContextEncoder,
        AdversarialContextEncoder,
        CPC,
        Rotation,
        Colorization,
        SplitBrain,
        CMC,
        RelativeLocation,
        Jigsaw,
        PIRL,
        VideoColorization,
    )
}
"""The preset class of each method, by the method's name on the command line."""

__all__ = [
    "AUGMENTATIONS",
    "BYOL",
    "CMC",
    "CPC",
    "OPTIMIZERS",
    "PIRL",
    "PRESETS",
    "AdversarialContextEncoder",
    "Colorization",
    "ContextEncoder",
    "DeepCluster",
    "DenoisingAutoencoder",
    "Exemplar",
    "ImageFacts",
    "InvariantSpreading",
    "Jigsaw",
    "MemoryBank",
    "MoCo",
    "Preset",
    "RelativeLocation",
    "Rotation",
    "SimCLR",
    "SimCLRMemory",
    "SplitBrain",
    "VideoColorization",
    "backbone_names",
    "build_augmentation",
    "build_backbone",
    "build_optimizer",
    "build_policy",
    "check_rate",
    "class_path",
    "find_own_preset",
    "find_preset",
    "is_of_package",
    "lookup",
    "option_owners",
    "spell",
    "unknown_name",
]


def find_preset(method: str) -> type[Preset]:
    """Returns the preset class of a method. Case, dashes and underscores do not matter.

    A preset that is defined outside of this package is found by the exact name of its method.

    Raises:
        ValueError: if there is no such method.

    Example:
        >>> find_preset("Simclr_Memory").method
        'simclr-memory'
    """
    if method not in PRESETS and (own := find_own_preset(method)) is not None:
        return own
    return lookup("method", method, PRESETS)


def is_of_package(preset: type[Preset]) -> bool:
    """Returns whether a preset class is one of those that this package lists in `PRESETS`."""
    return PRESETS.get(preset.method) is preset


def option_owners(option: str) -> list[str]:
    """Returns the methods that have an option, such as "queue_size"."""
    return [method for method, preset in PRESETS.items() if option in preset.options()]
