"""`keras-ssl embed`: the features of images, with their names, in one file."""

import pathlib

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_ssl import cli
from keras_ssl.commands.console import open_console, report_skipped
from keras_ssl.commands.export import load_encoder
from keras_ssl.data import Source
from keras_ssl.data.image_folder import FolderSource
from keras_ssl.search import embed
from keras_ssl.sources import opened


def run(command: cli.Embed) -> int:
    """Writes the features of all images of a data set, test images included."""
    console = open_console()
    backbone = load_encoder(command.model)
    train, test = opened(command.data, command.data_dir, backbone.input_shape[-1])
    report_skipped(console, train, test)
    sources = {"": train} if test is None else {"train": train, "test": test}
    about = {
        "data": str(pathlib.Path(command.data).resolve())
        if pathlib.Path(command.data).exists()
        else command.data,
        "roots": _roots(sources),
        "data_dir": None if command.data_dir is None else str(command.data_dir.resolve()),
        "model": str(command.model.resolve()),
        "class_names": train.class_names,
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("Features", total=None)
        path = embed(
            backbone,
            sources,
            command.out,
            about,
            command.batch_size,
            command.shard_size,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    count = sum(map(len, sources.values()))
    console.print(
        f"Written: {path}, {count:,} images with {backbone.output_shape[-1]} features each"
    )
    console.print(f"Look at it: keras-ssl search {path} --query 0")
    return 0


def _roots(sources: dict[str, Source]) -> dict[str, str]:
    """Returns where image files lie, so that a search need not list and verify them again."""
    return {
        prefix: str(pathlib.Path(source.name).expanduser().resolve())
        for prefix, source in sources.items()
        if isinstance(source, FolderSource)
    }
