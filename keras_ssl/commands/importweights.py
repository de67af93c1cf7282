"""`keras-ssl import`: writes weights that others trained as a SavedModel."""

import hashlib
import pathlib
from typing import Any

import keras

from keras_ssl import cli, importers
from keras_ssl import export as exporting
from keras_ssl.commands.console import open_console
from keras_ssl.commands.export import loading_lines

# What torchvision's, MoCo's and BYOL's networks take: pixels in [0, 1], normalised.
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def run(command: cli.ImportWeights) -> int:
    """Reads the weights, and writes and checks the SavedModel."""
    if command.image_size < 0:
        raise ValueError(
            "`--image-size` must be a number of pixels, or 0 for any size. "
            f"Received: image_size={command.image_size}"
        )
    if command.prefix and command.kind != "torchvision":
        raise ValueError(
            "`--prefix` goes with `--kind torchvision` only. "
            f"Received: prefix={command.prefix!r}, kind={command.kind!r}"
        )
    console = open_console()
    with console.status("Reading the weights"):
        backbone = _backbone(command)
    channels = backbone.input_shape[-1]
    is_normalised = command.kind != "simclr" and channels == len(_IMAGENET["mean"])
    with console.status("Writing and checking the SavedModel"):
        path = exporting.saved_model(
            backbone,
            command.out,
            recipe=_origin(command),
            preprocessing=_IMAGENET if is_normalised else None,
        )
    console.print(f"Written and checked: {path}")
    console.print(loading_lines(path))
    return 0


def _backbone(command: cli.ImportWeights) -> keras.Model:
    side = command.image_size or None
    shape = (side, side, 3)
    if command.kind == "torchvision":
        return importers.torch_resnet(command.file, command.prefix, shape)
    readers = {"moco": importers.moco, "simclr": importers.simclr, "byol": importers.byol}
    return readers[command.kind](command.file, input_shape=shape)


def _origin(command: cli.ImportWeights) -> dict[str, Any]:
    origin: dict[str, Any] = {"imported": command.kind, "file": command.file.name}
    if command.file.is_file():
        origin["sha256"] = _sha256(command.file)
    if command.kind in importers.LICENCES:
        origin["licence"] = importers.LICENCES[command.kind]
    return origin


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
