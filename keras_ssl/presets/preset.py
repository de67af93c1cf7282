"""The base of all presets: the options that every method has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from keras_ssl.presets.backbones import backbone_names, build_backbone, needs_adamw
from keras_ssl.presets.batch_size import LARGEST_DEFAULT, default_batch_size
from keras_ssl.presets.image_size import default_image_size
from keras_ssl.presets.lookup import spell
from keras_ssl.presets.optimizers import OPTIMIZERS, SCALINGS, build_optimizer, check_rate
from keras_ssl.presets.option_types import convert_options
from keras_ssl.presets.own_presets import register_preset
from keras_ssl.presets.policies import LARGEST_WITHOUT_BLUR, POLICIES, build_policy

if TYPE_CHECKING:
    from typing import Self

    import keras

    from keras_ssl.augment import Augmentation, Policy
    from keras_ssl.data import Source
    from keras_ssl.methods import SelfSupervised

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
_PLACES_OF_VIEWS = ("host", "step")
# Options of any method that must not be negative, and whether they may be 0.
_RATES = {"learning_rate": False, "weight_decay": True, "width": False, "temperature": False}
_RATES["input_scale"] = False


@dataclass(frozen=True)
class ImageFacts:
    """What a network depends on besides its preset.

    Args:
        image_channels: channels of an image.
        image_count: number of training images; 0 if unknown.
        class_count: number of classes, for a probe; 0 without one.
        value_low: value of each channel that became 0; `None` if the range of the type was used.
        value_high: value of each channel that became 1; `None` if the range of the type was used.
        pixel_type: NumPy type of the pixels to which the two belong.
        data_rules: how files were found and read; see `keras_ssl.data.image_folder`. Runs of earlier
            versions lack it and followed rules 1.
        measured: numbers that `Preset.measure` returned for the images; `None` if there are none.
    """

    image_channels: int
    image_count: int = 0
    class_count: int = 0
    value_low: tuple[float, ...] | None = None
    value_high: tuple[float, ...] | None = None
    pixel_type: str = "uint8"
    data_rules: int = 1
    measured: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Preset:
    """What a method trains with: its options, and the objects that they stand for.

    A subclass adds the options of its method, overrides defaults, and implements `build_model`. Its
    fields are the method's options everywhere: on the command line, in recipes, in `config.json` and in
    `keras_ssl.pretrain`. `None` means that the value depends on the images, the batch or the devices;
    `resolve` fills it in.
    """

    method: ClassVar[str]  # name on the command line
    large_policy: ClassVar[str]  # views above 64 pixels
    small_policy: ClassVar[str]  # views up to 64 pixels
    view_count: ClassVar[int] = 2  # 1 for pretext tasks, which take one view of an image
    reference_optimizer: ClassVar[str] = "lars"  # for residual and other convolutional networks
    minimums: ClassVar[Mapping[str, int]] = {  # a subclass adds those of its own options
        "epochs": 1,
        "batch_size": 1,
        "image_size": 1,
        "warmup_epochs": 0,
        "chunks": 1,
        "steps_per_execution": 1,
    }

    epochs: int = 100
    """Passes over the data."""
    batch_size: int | None = None
    """Global batch size: images per step, over all devices. Default: 256, or the
    largest power of two that is not larger than the data set."""
    backbone: str = "resnet18"
    """resnet18, 34, 50, 101, 152, 200 (from 50 on also with selective kernels:
    resnet50-sk), small-resnet, tiny, vit-tiny, vit-small, vit-base (patches of 16
    pixels), or the name of a network of keras.applications."""
    width: float = 1.0
    """Factor on the number of filters (resnet, small-resnet, tiny)."""
    input_scale: float = 255
    """Factor on pixels in [0, 1] before ConvNeXt, EfficientNet and MobileNetV3 of
    keras.applications, which expect 0 to 255. Runs of earlier versions keep 1."""
    image_size: int | None = None
    """Side of the views in pixels. Default: the size of the images if they are square
    and all of one size, otherwise the median of their shorter sides; 224 at most."""
    policy: str | None = None
    """How views are made: simclr, moco-v1, moco-v2, byol; without blur, for images of
    up to 64 pixels: simclr-small (half the color jitter), moco-v2-small,
    moco-v2-no-blur, byol-small; centred (handwriting and other centred objects);
    crop-flip (crops and flips only, for pretext tasks); pirl (for that method).
    Default: centred for digits, otherwise the method's own for the size."""
    optimizer: str = "auto"
    """lars, sgd, adam, adamw, or auto: adamw for ConvNeXt and vision transformers, which
    hardly learn with the others, and the method's reference for all other networks."""
    learning_rate: float | None = None
    """Peak of the learning-rate schedule. Default: the reference's for the optimizer
    and the batch size."""
    scaling: str = "none"
    """Factor on --learning-rate: none; linear (batch size / 256); or sqrt (square root
    of the batch size)."""
    weight_decay: float | None = None
    """Weight decay. Default: the reference's for the optimizer."""
    warmup_epochs: float = 10
    """Epochs of linear warm-up, at most a tenth of all epochs; or less than one epoch."""
    probe: bool = False
    """Train a linear classifier beside the method and log its accuracy. Needs labels;
    the encoder does not learn from them."""
    seed: int = 0
    """Random seed of weights, order and views. The same seed gives the same run."""
    precision: str = "float32"
    """float32, mixed_bfloat16, mixed_float16, or auto: mixed_bfloat16 on GPUs and TPUs,
    float32 on CPUs."""
    chunks: int = 1
    """Number of parts in which each device's batch passes through the network, one
    after the other. Saves memory at the cost of a third more computation; the loss is
    still that of the full batch."""
    steps_per_execution: int = 1
    """Training steps per call of the compiled function. More is faster on TPUs."""
    views_on: str = "host"
    """Where color jitter and blur run: host, in the data pipeline; or step, in the
    training step on the device, for a device that waits for its host. The pixels are
    the same."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "method"):
            register_preset(cls)

    def __post_init__(self):
        """Checks the types of all options.

        Raises:
            TypeError: if an option has another type than its annotation.
        """
        values = {name: getattr(self, name) for name in self.options()}
        for name, value in convert_options(type(self), values).items():
            if value is not values[name]:
                object.__setattr__(self, name, value)

    def check_images(self, source: "Source") -> "Iterator[str]":
        """Yields what to tell the user about images that the method learns little from.

        `keras_ssl.pretrain` prints the texts before a new run starts, and does not check the images of
        a resumed run again. By default there are none.

        Args:
            source: training images. `keras_ssl.data.image_sample` has functions that look at some of
                them.

        Raises:
            ValueError: if the method cannot be trained on the images.
        """
        yield from ()

    def clip_options(self) -> Mapping[str, Any] | None:
        """Returns the arguments of `keras_ssl.data.clips` for a method that learns from videos.

        By default there are none, and a folder is one of images.
        """
        return None

    def measure(self, source: "Source") -> tuple[float, ...] | None:
        """Returns numbers about the images on which the model depends, such as the prior of colors.

        They are measured when a run starts, stored in `config.json`, and are `ImageFacts.measured` in
        `build_model`. By default there are none.
        """
        return None

    def build_model(self, backbone: "keras.Model", images: ImageFacts) -> "SelfSupervised":
        """Returns the untrained, uncompiled method around a backbone.

        Args:
            backbone: network to train.
            images: what `resolve` was called with.
        """
        raise NotImplementedError

    def build_backbone(self, images: ImageFacts) -> "keras.Model":
        """Returns the untrained backbone."""
        return build_backbone(self.backbone, self.width, self.view_shape(images), self.input_scale)

    def build_encoder(self, images: ImageFacts) -> "keras.Model":
        """Returns an untrained network with the weights of `build_backbone`, to evaluate and export.

        It takes images of the size of the views. By default it is another backbone.
        """
        return self.build_backbone(images)

    def build_policy(self) -> "Policy | Augmentation":
        """Returns the policy, or the augmentation of a single view. Call `resolve` first."""
        return build_policy(str(self.policy), int(self.image_size or 0), self.view_count)

    def choose_optimizer(self) -> str:
        """Returns the name of the optimizer.

        Source: facebookresearch/moco-v3 (`CONFIG.md`) and mae (`PRETRAIN.md`) train vision transformers
        with AdamW, ConvNeXt-V2 (`TRAINING.md`) its networks at the same rate. The others are those of
        each method's reference; a preset that has another one says why.
        """
        if self.optimizer != "auto":
            return self.optimizer
        return "adamw" if needs_adamw(self.backbone) else self.reference_optimizer

    def describe_optimizer(self) -> str | None:
        """Returns which optimizer was chosen and why, for people; `None` if it was set."""
        if self.optimizer != "auto":
            return None
        chosen = self.choose_optimizer()
        if needs_adamw(self.backbone):
            return f"Optimizer: {chosen}, with which networks such as {self.backbone} are trained"
        return f"Optimizer: {chosen}, the default of {self.method}"

    def build_optimizer(self, steps_per_epoch: int) -> "keras.optimizers.Optimizer":
        """Returns the optimizer with its learning-rate schedule."""
        warmup_epochs = self.warmup_epochs
        if warmup_epochs >= 1:
            warmup_epochs = min(warmup_epochs, self.epochs // 10)
        return build_optimizer(
            self.choose_optimizer(),
            self.learning_rate,
            self.weight_decay,
            self.batch_size or LARGEST_DEFAULT,
            total_steps=self.epochs * steps_per_epoch,
            warmup_steps=int(warmup_epochs * steps_per_epoch),
            scaling=self.scaling,
        )

    def build_callbacks(self) -> "list[keras.callbacks.Callback]":
        """Returns the callbacks of the method, such as the schedule of its momentum."""
        return []

    def view_shape(self, images: ImageFacts) -> tuple[int, int, int]:
        """Returns (height, width, channels) of the views. Call `resolve` first."""
        side = int(self.image_size or 0)
        return side, side, images.image_channels

    def resolve(
        self,
        images: ImageFacts,
        replicas: int = 1,
        sides: tuple[int | None, int | None] = (None, None),
        centred: bool = False,
        typical_side: int | None = None,
    ) -> "Self":
        """Returns a copy in which every option has a value, checked.

        Args:
            images: number and channels of the training images.
            replicas: number of replicas that train together.
            sides: (height, width) of the training images; `None` where they differ.
            centred: whether the images show one centred object each, so that crops would harm.
            typical_side: median of the shorter sides of the training images; `None` if unknown.

        Raises:
            ValueError: if an option makes no sense.
        """
        self.check()
        batch_size = self.batch_size or default_batch_size(images.image_count, replicas)
        if self.chunks > 1 and batch_size % (self.chunks * replicas):
            raise ValueError(
                "`chunks` must divide the batch of each device evenly. Received: "
                f"chunks={self.chunks}, batch_size={batch_size}, {replicas} devices"
            )
        size = self.image_size or default_image_size(sides, typical_side)[0]
        default = self.large_policy if size > LARGEST_WITHOUT_BLUR else self.small_policy
        policy = self.policy or ("centred" if centred else default)
        optimizer = self.choose_optimizer()
        return replace(
            self, batch_size=batch_size, image_size=size, policy=policy, optimizer=optimizer
        )

    def shrink(self) -> "Self":
        """Returns a preset that trains on 64 images within seconds, to check that everything runs."""
        size: dict[str, Any] = {"backbone": "tiny", "width": 0.25, "image_size": 32}
        return replace(self, epochs=2, batch_size=16, warmup_epochs=0, **size)

    def spelled(self) -> "Self":
        """Returns a copy in which all names are spelled as in their tables: "SGD" becomes "sgd".

        Raises:
            ValueError: if a name is unknown.
        """
        names: dict[str, Any] = {
            "backbone": spell("backbone", self.backbone, backbone_names()),
            "optimizer": spell("optimizer", self.optimizer, ("auto", *OPTIMIZERS)),
            "scaling": spell("scaling", self.scaling, SCALINGS),
            "precision": spell("precision", self.precision, _PRECISIONS),
            "views_on": spell("place of views", self.views_on, _PLACES_OF_VIEWS),
        }
        if self.policy is not None:
            names["policy"] = spell("policy of views", self.policy, POLICIES)
        changed = {name: value for name, value in names.items() if value != getattr(self, name)}
        return replace(self, **changed) if changed else self

    def check(self):
        """Checks names and numbers, without importing TensorFlow.

        Raises:
            ValueError: if an option makes no sense.
        """
        self.spelled()
        for cls in type(self).__mro__:
            for name, minimum in vars(cls).get("minimums", {}).items():
                value = getattr(self, name)
                if value is not None and value < minimum:
                    raise ValueError(
                        f"`{name}` must be at least {minimum}. Received: {name}={value}"
                    )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` must lie in [0, 2**32 - 1]. Received: seed={self.seed}")
        for name, zero in _RATES.items():
            check_rate(name, getattr(self, name, None), zero)
        for name in ("momentum", "final_momentum"):
            value = getattr(self, name, None)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1]. Received: {name}={value}")

    def _build_probe(self, images: ImageFacts) -> Any:
        from keras_ssl.layers import LinearProbe

        return LinearProbe(images.class_count, name="probe") if self.probe else None

    @classmethod
    def options(cls) -> list[str]:
        """Returns the names of the method's options."""
        return [field.name for field in fields(cls)]
