"""`keras-ssl import`: writes published weights as a SavedModel."""

import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from keras_ssl.cli.export import loading_lines

if TYPE_CHECKING:
    import keras

# Normalization of the inputs of torchvision's, MoCo's and BYOL's networks.
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclass(frozen=True)
class ImportWeights:
    """Write published weights as a SavedModel. No code in their file is run."""

    file: tyro.conf.Positional[pathlib.Path]
    """File with the weights; for simclr the prefix of a checkpoint, or its
    directory."""
    kind: Literal["torchvision", "moco", "simclr", "byol"]
    """Origin of the file; torchvision stands for all ResNets with torchvision's names,
    including timm's."""
    out: pathlib.Path
    """Directory to write, which must not exist."""
    image_size: int = 224
    """Side in pixels of the images that the SavedModel takes; 0 for any size."""
    prefix: str = ""
    """Prefix of the names in a torchvision file; tensors without it are left out."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        if self.image_size < 0:
            raise ValueError(
                "`--image-size` must be a number of pixels, or 0 for any size. "
                f"Received: image_size={self.image_size}"
            )
        if self.prefix and self.kind != "torchvision":
            raise ValueError(
                "`--prefix` goes with `--kind torchvision` only. "
                f"Received: prefix={self.prefix!r}, kind={self.kind!r}"
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

    def execute(self) -> int:
        """Reads the weights, writes and checks the SavedModel; returns the exit status."""
        from keras_ssl import export
        from keras_ssl.runs.console import open_console

        console = open_console()
        with console.status("Reading the weights"):
            backbone = self._read()
        is_normalized = self.kind != "simclr" and backbone.input_shape[-1] == 3
        with console.status("Writing and checking the SavedModel"):
            path = export.saved_model(
                backbone,
                self.out,
                recipe=self._origin(),
                preprocessing=_IMAGENET if is_normalized else None,
            )
        console.print(f"Written and checked: {path}")
        console.print(loading_lines(path))
        return 0

    def _read(self) -> "keras.Model":
        from keras_ssl import importers

        side = self.image_size or None
        shape = (side, side, 3)
        if self.kind == "torchvision":
            return importers.torch_resnet(self.file, self.prefix, shape)
        readers = {"moco": importers.moco, "simclr": importers.simclr, "byol": importers.byol}
        return readers[self.kind](self.file, input_shape=shape)

    def _origin(self) -> dict[str, Any]:
        import hashlib

        from keras_ssl import importers

        origin: dict[str, Any] = {"imported": self.kind, "file": self.file.name}
        if self.file.is_file():
            with self.file.open("rb") as file:
                origin["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        if self.kind in importers.LICENCES:
            origin["licence"] = importers.LICENCES[self.kind]
        return origin
