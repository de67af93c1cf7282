"""`keras-ssl import`: writes published weights as a SavedModel."""

import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from keras_ssl.cli.export import loading_lines

if TYPE_CHECKING:
    import keras

# Normalizations of the inputs; all networks have ImageNet's but SimCLR's, and some of timm's.
_NORMALIZATIONS = {
    "imagenet": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "half": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
# Options that apply to some kinds of files only, with these kinds.
_OPTION_KINDS = {
    "prefix": ("torchvision", "vit"),
    "stride_in": ("torchvision",),
    "stem_padding": ("torchvision",),
    "heads": ("vit", "dino", "moco-v3", "mae"),
    "normalization": ("torchvision", "vit"),
}


@dataclass(frozen=True)
class ImportWeights:
    """Write published weights as a SavedModel. No code in their file is run."""

    file: tyro.conf.Positional[pathlib.Path]
    """File with the weights; for simclr the prefix of a checkpoint, or its
    directory."""
    kind: Literal[
        "torchvision",
        "vit",
        "moco",
        "simclr",
        "byol",
        "simsiam",
        "barlow-twins",
        "vicreg",
        "swav",
        "dino",
        "moco-v3",
        "mae",
    ]
    """Origin of the file; torchvision stands for all ResNets with torchvision's names,
    including those of timm, PyTorch Lightning, lightly and solo-learn, and vit for all
    vision transformers with timm's names. The others are the authors' checkpoints."""
    out: pathlib.Path
    """Directory to write, which must not exist."""
    image_size: int = 224
    """Side in pixels of the images that the SavedModel takes; 0 for any size."""
    prefix: str = ""
    """Prefix of the network's names in a torchvision or vit file; found automatically by
    default."""
    stride_in: Literal["auto", "1x1", "3x3"] = "auto"
    """Convolution that has the stride in bottleneck blocks of a torchvision file: 3x3 as
    in torchvision and timm, 1x1 as in Caffe and keras.applications; auto is 3x3, and
    asks where the file looks like one of the latter."""
    stem_padding: Literal["auto", "1", "2"] = "auto"
    """Padding in pixels of the stem of one 3x3 convolution in a torchvision file; auto is
    2 for checkpoints of solo-learn, otherwise 1."""
    heads: int | None = None
    """Attention heads of a vision transformer (vit, dino, moco-v3, mae). Default: those of
    published networks of the same width."""
    normalization: Literal["auto", "imagenet", "half"] = "auto"
    """Normalization of pixels in [0, 1] before the network of a torchvision or vit file:
    imagenet is that of most networks; half subtracts 0.5 and divides by 0.5, as timm's
    own vit_* weights expect. auto is imagenet."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        if self.image_size < 0:
            raise ValueError(
                "`--image-size` must be a number of pixels, or 0 for any size. "
                f"Received: image_size={self.image_size}"
            )
        if self.heads is not None and self.heads < 1:
            raise ValueError(f"`--heads` must be positive. Received: heads={self.heads}")
        for name, value in self._options_of_kinds().items():
            if self.kind not in (kinds := _OPTION_KINDS[name]):
                raise ValueError(
                    f"`--{name.replace('_', '-')}` goes with `--kind {' or '.join(kinds)}` only. "
                    f"Received: {name}={value!r}, kind={self.kind!r}"
                )
        if not self.file.parent.is_dir():  # the prefix of a checkpoint is no file itself
            raise FileNotFoundError(
                f"There must be a file with weights. Received: {str(self.file)!r}, whose folder does "
                "not exist"
            )
        if self.out.exists():
            raise FileExistsError(
                f"--out must be a new directory. Received: {str(self.out)!r}, which exists"
            )

    def _options_of_kinds(self) -> dict[str, Any]:
        """Returns the options for certain kinds of files that were given."""
        options = {name: getattr(self, name) for name in _OPTION_KINDS}
        return {name: value for name, value in options.items() if value not in ("", "auto", None)}

    def execute(self) -> int:
        """Reads the weights, writes and checks the SavedModel; returns the exit status."""
        from keras_ssl import export
        from keras_ssl.runs.console import open_console

        console = open_console()
        with console.status("Reading the weights"):
            backbone = self._read()
        is_normalized = self.kind != "simclr" and backbone.input_shape[-1] == 3
        normalization = "imagenet" if self.normalization == "auto" else self.normalization
        if is_normalized and self.kind == "vit" and self.normalization == "auto":
            console.print(
                "Pixels are normalized with the mean and deviation of ImageNet, as for DeiT, DINO and "
                "MAE. timm's own vit_* weights expect --normalization half."
            )
        with console.status("Writing and checking the SavedModel"):
            path = export.saved_model(
                backbone,
                self.out,
                recipe=self._origin(),
                preprocessing=_NORMALIZATIONS[normalization] if is_normalized else None,
            )
        console.print(f"Written and checked: {path}")
        console.print(loading_lines(path))
        return 0

    def _read(self) -> "keras.Model":
        from keras_ssl import importers

        side = self.image_size or None
        shape = (side, side, 3)
        if self.kind == "torchvision":
            return importers.torch_resnet(
                self.file,
                self.prefix or None,
                shape,
                stride_in=None if self.stride_in == "auto" else self.stride_in,
                stem_padding=None if self.stem_padding == "auto" else int(self.stem_padding),
            )
        if self.kind == "vit":
            return importers.torch_vit(self.file, self.prefix or None, shape, self.heads)
        readers = {"moco": importers.moco, "simclr": importers.simclr, "byol": importers.byol}
        if self.kind in readers:
            return readers[self.kind](self.file, input_shape=shape)
        return importers.checkpoint(self.file, self.kind, shape, self.heads)

    def _origin(self) -> dict[str, Any]:
        import hashlib

        from keras_ssl import importers

        origin: dict[str, Any] = {"imported": self.kind, "file": self.file.name}
        origin |= self._options_of_kinds()
        if self.file.is_file():
            with self.file.open("rb") as file:
                origin["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        if self.kind in importers.LICENCES:
            origin["licence"] = importers.LICENCES[self.kind]
        return origin
