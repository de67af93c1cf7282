"""`keras-ssl pictures`: shows what the method of a run does with images."""

import pathlib
from dataclasses import dataclass

import tyro

from keras_ssl.cli.checks import check_data, check_least
from keras_ssl.runs.paths import describe, is_run


@dataclass(frozen=True)
class Pictures:
    """Draw what the method of a run does with images: its views, or its task and predictions."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory of keras-ssl pretrain."""
    data: str | None = None
    """Images, as for pretrain. Default: those of the run."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    out: pathlib.Path | None = None
    """PNG file to write. Default: <run>/pictures.png."""
    count: int = 8
    """Number of images."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        if not is_run(self.run):
            raise FileNotFoundError(
                "The pictures are those of a run directory, which contains config.json. "
                f"Received: {str(self.run)!r}, {describe(self.run)}"
            )
        if self.data is not None:
            check_data(self.data)
        check_least(1, count=self.count)
        if self.out is not None and self.out.suffix.lower() != ".png":
            raise ValueError(f"--out must end in .png. Received: {str(self.out)!r}")

    def execute(self) -> int:
        """Writes the picture; returns the exit status."""
        from keras_ssl.runs.console import open_console
        from keras_ssl.runs.directory import Run

        console = open_console()
        path = Run(self.run).pictures(self.data, self.count, self.out, self.data_dir)
        console.print(f"Written: {path}")
        return 0
