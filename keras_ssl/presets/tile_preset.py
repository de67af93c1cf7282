"""The base of presets whose methods cut images into tiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_ssl.presets.backbones import build_backbone
from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.data import Source

GRID = 3
_LEAST_CELL = 8  # pixels: of CIFAR-10's images, 10 are left
_SMALL_TILE = 32  # pixels: half of the smallest tiles of the papers


@dataclass(frozen=True)
class TilePreset(Preset):
    """A preset of a method that trains the backbone on tiles, and is evaluated on whole images.

    The trained backbone takes images of any size. The encoder of the run has the same weights and takes
    images of the size of the views.
    """

    # The references have SGD, with which little is learned within minutes: see docs/methods.md.
    reference_optimizer = "adam"

    tile_share: float = 0.75
    """Side of a tile as a share of the side of its cell, a third of the image
    (google/revisiting-self-supervised: 64 of 85 pixels)."""

    def build_backbone(self, images: ImageFacts) -> "keras.Model":
        """Returns the untrained backbone for images of any size."""
        shape = (None, None, images.image_channels)
        side = int(self.image_size or 0)
        return build_backbone(self.backbone, self.width, shape, self.input_scale, side)

    def build_encoder(self, images: ImageFacts) -> "keras.Model":
        """Returns an untrained network with the same weights for whole images."""
        return super().build_backbone(images)

    def resolve(self, *args: Any, **kwargs: Any) -> "Self":
        """Returns a copy in which every option has a value, checked.

        Raises:
            ValueError: if an option makes no sense, or images are too small to be cut.
        """
        resolved = super().resolve(*args, **kwargs)
        size = int(resolved.image_size or 0)
        if size // GRID < _LEAST_CELL:
            raise ValueError(
                f"The method {self.method} cuts images into {GRID} x {GRID} cells, which must have at "
                f"least {_LEAST_CELL} pixels per side. Expected: images of at least "
                f"{GRID * _LEAST_CELL} pixels. Received: image_size={size}, cells of "
                f"{size // GRID} pixels"
            )
        return resolved

    def check(self):
        """Checks names and numbers, without importing TensorFlow.

        Raises:
            ValueError: if an option makes no sense, or the backbone is a vision transformer.
        """
        super().check()
        if not 0 < self.tile_share <= 1:
            raise ValueError(
                f"`tile_share` must lie in (0, 1]. Received: tile_share={self.tile_share}"
            )
        if self.backbone.lower().startswith("vit"):
            raise ValueError(
                f"The method {self.method} needs a backbone that takes tiles and whole images. "
                "Expected: a convolutional network, such as resnet18. Received: "
                f"backbone={self.backbone!r}, whose patches and positions are those of one size"
            )

    def check_images(self, source: "Source") -> Iterator[str]:
        """Yields what to tell the user about images that are small."""
        size = int(self.image_size or 0)
        tile = round(size // GRID * self.tile_share)
        if tile < _SMALL_TILE:
            yield (
                f"Small tiles: images of {size} pixels give tiles of {tile} pixels, which show little "
                "of an object; the papers have tiles of 64 to 96 pixels. Larger images with a larger "
                "`image_size` (--image-size) give larger tiles."
            )
        side = source.typical_side or min(each or size for each in source.image_shape[:2])
        if side < size:
            yield (
                f"The images are enlarged from {side} to {size} pixels, which does not add to what "
                "their tiles show."
            )
