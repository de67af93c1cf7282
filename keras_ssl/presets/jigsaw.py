"""The preset of jigsaw puzzles."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_ssl.presets.preset import ImageFacts
from keras_ssl.presets.tile_preset import TilePreset

if TYPE_CHECKING:
    import keras

    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class Jigsaw(TilePreset):
    """Predicts which of a set of permutations the nine tiles of an image are in.

    Source: Noroozi and Favaro 2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw
    Puzzles".
    """

    method = "jigsaw"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1
    minimums = {"permutations": 2}

    gray: float = 0.66
    """Share of images without color, because colored fringes of lenses tell where a tile
    lies (google/revisiting-self-supervised)."""
    permutations: int = 504
    """Number of permutations, 2 to 504: any two differ in at least seven of nine places.
    The papers have 100 to 10,000, of which some differ in two. Fewer are easier to learn."""

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        from keras_ssl import methods

        return methods.Jigsaw(
            backbone,
            permutations=self.permutations,
            share=self.tile_share,
            gray=self.gray,
            probe=self._build_probe(images),
        )

    def check(self):
        """Checks names and numbers, without importing TensorFlow.

        Raises:
            ValueError: if an option makes no sense.
        """
        super().check()
        if self.permutations > 504:
            raise ValueError(
                "`permutations` must be at most 504: that many differ in seven places from each "
                f"other. Received: permutations={self.permutations}"
            )
