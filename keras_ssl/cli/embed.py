"""`keras-ssl embed`: writes the features of images, with their names, to one file."""

import pathlib
from dataclasses import dataclass

import tyro

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.cli.export import load_encoder, load_value_range
from keras_ssl.cli.open_images import open_images

_EXTENSIONS = (".npz", ".parquet")


@dataclass(frozen=True)
class Embed:
    """Write the features of images, with their names, to one file. An interrupted command resumes."""

    model: tyro.conf.Positional[pathlib.Path]
    """Run directory, or directory of an export."""
    data: str
    """Images, as for pretrain; labels are kept if there are any."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    out: pathlib.Path = pathlib.Path("features.npz")
    """File to write, .npz or .parquet; an existing one is replaced."""
    batch_size: int = 256
    """Images per forward pass."""
    shard_size: int = 4096
    """Images after which intermediate results are saved, in <out>.parts, so that the
    command can resume."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        check_model(self.model)
        check_data(self.data)
        check_least(1, batch_size=self.batch_size, shard_size=self.shard_size)
        if self.out.suffix not in _EXTENSIONS:
            raise ValueError(f"--out must end in .npz or .parquet. Received: {str(self.out)!r}")

    def execute(self) -> int:
        """Writes the features of all images, including test images; returns the exit status."""
        from keras_ssl.cli.progress import shard_progress
        from keras_ssl.runs.console import open_console
        from keras_ssl.search import embed

        console = open_console()
        encoder = load_encoder(self.model)
        value_range = load_value_range(self.model)
        channels = encoder.input_shape[-1]
        sources = open_images(console, self.model, self.data, self.data_dir, channels)
        path = pathlib.Path(self.data)
        about = {
            "data": str(path.resolve()) if path.exists() else self.data,
            # Where image files are, so that a search need not list and verify them again.
            "roots": {
                prefix: str(pathlib.Path(source.root).expanduser().resolve())
                for prefix, source in sources.items()
                if source.root is not None
            },
            "data_dir": None if self.data_dir is None else str(self.data_dir.resolve()),
            "model": str(self.model.resolve()),
            "value_range": None if value_range is None else value_range.to_json(),
        }
        with shard_progress(console, "Features") as progress:
            written = embed(
                encoder,
                sources,
                self.out,
                about,
                self.batch_size,
                self.shard_size,
                progress,
            )
        count = sum(map(len, sources.values()))
        console.print(
            f"Written: {written}, {count:,} images with {encoder.output_shape[-1]} features each"
        )
        console.print(f"Next: keras-ssl search {written} --query 0")
        return 0
