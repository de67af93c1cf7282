"""`keras-ssl predict`: writes the predicted classes of images to a CSV file."""

import pathlib
from dataclasses import dataclass

import tyro

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.cli.export import load_classifier
from keras_ssl.cli.open_images import open_images


@dataclass(frozen=True)
class Predict:
    """Write the predicted classes of images to a CSV file. An interrupted command resumes."""

    model: tyro.conf.Positional[pathlib.Path]
    """Run directory of a fine-tuning or a distillation, or directory of its export."""
    data: str
    """Images, as for pretrain; labels are not used."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    out: pathlib.Path = pathlib.Path("predictions.csv")
    """File to write: name, class and probability of each image; an existing one is
    replaced."""
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
        if self.out.is_dir():
            raise ValueError(f"--out must be a file. Received: {str(self.out)!r}, a directory")

    def execute(self) -> int:
        """Predicts the classes of all images, including test images; returns the exit status."""
        from keras_ssl.cli.progress import shard_progress
        from keras_ssl.runs.console import open_console
        from keras_ssl.search import predict

        console = open_console()
        network, class_names = load_classifier(self.model)
        channels = network.input_shape[-1]
        sources = open_images(console, self.model, self.data, self.data_dir, channels)
        with shard_progress(console, "Predictions") as progress:
            written = predict(
                network,
                class_names,
                sources,
                self.out,
                self.batch_size,
                self.shard_size,
                progress,
            )
        count = sum(map(len, sources.values()))
        console.print(f"Written: {written}, {count:,} images, {len(class_names)} classes")
        return 0
