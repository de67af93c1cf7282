"""`keras-ssl evaluate`: measures a frozen encoder on labeled images."""

import pathlib
from dataclasses import dataclass

import tyro

from keras_ssl.cli.checks import check_data, check_least, check_model
from keras_ssl.cli.export import load_value_range
from keras_ssl.runs.paths import is_run


@dataclass(frozen=True)
class Evaluate:
    """Measure a frozen encoder on labeled images: kNN and linear accuracy, with many labels and few."""

    run: tyro.conf.Positional[pathlib.Path]
    """Run directory, or directory of an export."""
    data: str
    """Labeled images, as for pretrain. Without separate test images, a fifth is held
    out."""
    data_dir: pathlib.Path | None = None
    """Directory of TensorFlow Datasets."""
    labels_per_class: tuple[int, ...] = (1, 5, 10)
    """Numbers of labeled images per class. Numbers that a class does not have are left
    out."""
    draws: int = 10
    """Random draws of few labels, over which mean and standard deviation are taken."""
    baselines: bool = False
    """Also measure raw pixels and the untrained encoder (run directories only)."""
    by_block: bool = False
    """Also measure each block of the encoder, beside the untrained encoder for run
    directories, and draw it to by_block.png there."""
    batch_size: int = 256
    """Images per forward pass."""
    seed: int = 0
    """Random seed of the draws, and of the split if there are no test images."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        check_model(self.run)
        check_data(self.data)
        check_least(1, draws=self.draws, batch_size=self.batch_size)
        check_least(0, seed=self.seed)
        check_least(1, labels_per_class=min(self.labels_per_class, default=None))
        if self.baselines and not is_run(self.run):
            raise ValueError(
                "--baselines needs a run directory, which describes the untrained encoder. "
                f"Received: {str(self.run)!r}"
            )

    def execute(self) -> int:
        """Prints a table, writes metrics.json, and returns the exit status."""
        from keras_ssl import export
        from keras_ssl.data.open_source import open_labeled
        from keras_ssl.evaluate.by_block import check_blocks
        from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
        from keras_ssl.export.class_names import read_class_names
        from keras_ssl.runs.blocks import measure_blocks, show_blocks
        from keras_ssl.runs.classification import measure_classifier, show_classifier
        from keras_ssl.runs.console import open_console
        from keras_ssl.runs.directory import Run
        from keras_ssl.runs.report import measure, show
        from keras_ssl.runs.verdict import describe_classes, is_unbalanced

        console = open_console()
        run = Run(self.run)
        settings = (self.labels_per_class, self.draws)
        if run.exists:
            run.evaluate(
                self.data,
                *settings,
                baselines=self.baselines,
                by_block=self.by_block,
                batch_size=self.batch_size,
                seed=self.seed,
                data_dir=self.data_dir,
                console=console,
            )
            console.print(f"Written: {run.path / 'metrics.json'}")
            return 0
        network = export.load(self.run)
        below_classes = encoder_of_classifier(network)
        encoder = network if below_classes is None else below_classes
        if self.by_block:
            check_blocks(encoder)
        channels = encoder.input_shape[-1]
        train, test = open_labeled(
            self.data,
            self.data_dir,
            channels,
            self.seed,
            console,
            value_range=load_value_range(self.run) or "full",
        )
        for line in describe_classes(train, test, self.labels_per_class):
            console.print(line)
        rows = measure({"trained": encoder}, train, test, *settings, self.seed, self.batch_size)
        show(rows, console, is_unbalanced(test))
        if self.by_block:
            show_blocks(measure_blocks({"trained": encoder}, train, test, self.batch_size), console)
        if below_classes is not None:
            names = read_class_names(self.run)
            result = measure_classifier(network, names, test, self.batch_size)
            if result is not None:
                show_classifier(result, console)
        return 0
