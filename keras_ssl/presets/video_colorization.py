"""The preset of video colorization."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_ssl.presets.backbones import build_backbone
from keras_ssl.presets.clips import check_clips
from keras_ssl.presets.color import check_color
from keras_ssl.presets.preset import ImageFacts, Preset

if TYPE_CHECKING:
    import keras

    from keras_ssl.data import Source
    from keras_ssl.methods import SelfSupervised


@dataclass(frozen=True)
class VideoColorization(Preset):
    """Copies the colors of earlier frames of a video to a later one. Needs videos.

    Source: Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos".
    """

    method = "video-colorization"
    large_policy = "crop-flip"
    small_policy = "crop-flip"
    view_count = 1  # one augmentation, which makes the views of all frames of a clip
    reference_optimizer = "adam"
    minimums = {"frame_step": 1, "colors": 2, "embedding": 1}

    temperature: float = 1.0
    """Divides the similarities of places in training (section 3.4)."""
    colors: int = 16
    """Clusters of the colors of the videos, of which one is predicted (section 3.3)."""
    embedding: int = 64
    """Dimension of the features of a place that are compared (section 3.4)."""
    frame_rate: float = 6.0
    """Frames per second that are taken from videos and GIFs (section 3.4). A clip has
    four of them."""
    frame_step: int = 1
    """Distance of the images that are taken from folders of frames, which have no
    times: 5 makes 6 frames per second of 30."""

    def check(self):
        """Checks names and numbers; see `Preset.check`."""
        super().check()
        if not 0 < self.frame_rate < float("inf"):
            raise ValueError(
                f"`frame_rate` must be positive and finite. Received: frame_rate={self.frame_rate}"
            )

    def clip_options(self) -> Mapping[str, Any]:
        """Returns how clips are cut from videos."""
        return {"rate": self.frame_rate, "step": self.frame_step}

    def check_images(self, source: "Source") -> Iterator[str]:
        """Yields texts about gray or still videos; raises ValueError if the source has no clips."""
        yield from check_clips(source, self.method)
        yield from check_color(source, "VideoColorization")

    def measure(self, source: "Source") -> tuple[float, ...]:
        """Returns a and b of the centers of the clusters of colors, one after the other."""
        from keras_ssl.data import color_clusters

        centers = color_clusters(source, self.colors, seed=self.seed)
        return tuple(float(value) for value in centers.reshape(-1))

    def build_backbone(self, images: ImageFacts) -> "keras.Model":
        """Returns an untrained network of the lightness; a ResNet keeps an eighth of the side."""
        from keras_ssl import backbones

        sides = self.view_shape(images)[:2]
        network = build_backbone(
            self.backbone, self.width, (*sides, 1), self.input_scale, fine_map=True
        )
        return backbones.of_lightness(network)

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained method around a backbone."""
        import keras

        from keras_ssl import methods

        if images.measured is None:
            raise ValueError(
                "`images` must have the colors of the videos: ImageFacts(measured=preset.measure("
                "source)). Received: measured=None"
            )
        centers = [list(images.measured[n : n + 2]) for n in range(0, len(images.measured), 2)]
        head = keras.layers.Dense(self.embedding, use_bias=False, dtype="float32", name="head")
        return methods.VideoColorization(
            backbone, centers, head, temperature=self.temperature, probe=self._build_probe(images)
        )
