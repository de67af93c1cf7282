"""`keras-ssl demo`: pretrains on scikit-learn's handwritten digits, evaluates, draws and exports."""

import pathlib
import time
from dataclasses import dataclass

from keras_ssl.cli.export import loading_lines
from keras_ssl.presets import SimCLR
from keras_ssl.runs.paths import check_new


@dataclass(frozen=True)
class Demo:
    """Pretrain on scikit-learn's handwritten digits and evaluate, in about a minute on two cores."""

    out: pathlib.Path | None = None
    """Run directory to create. Default: runs/demo-<date and time>."""
    epochs: int = 200
    """Passes over the 1,437 training images."""
    seed: int = 0
    """Random seed."""

    def check(self):
        """Checks the options without importing TensorFlow; raises an error that names the wrong one."""
        SimCLR(epochs=self.epochs, seed=self.seed).check()
        if self.out is not None:
            check_new(self.out)

    def execute(self) -> int:
        """Trains, evaluates, draws and exports; returns the exit status."""
        from keras_ssl import callbacks, data
        from keras_ssl.runs.console import open_console
        from keras_ssl.runs.plots import demo_picture
        from keras_ssl.runs.pretrain import pretrain

        out = self.out or pathlib.Path("runs", f"demo-{time.strftime('%Y%m%d-%H%M%S')}")
        preset = SimCLR(
            epochs=self.epochs,
            backbone="tiny",
            width=2.0,
            optimizer="adam",
            learning_rate=5e-3,
            seed=self.seed,
        )
        try:
            run = pretrain("digits", preset, out, knn_every=0)
        except callbacks.Interrupted as stop:
            return 128 + stop.signal
        console = open_console()
        run.evaluate("digits", baselines=True, seed=self.seed, console=console)
        settings, _ = run.pretrain_settings
        picture = demo_picture(
            run.history,
            run.untrained_encoder(),
            run.encoder(),
            data.digits("train"),
            data.digits("test"),
            settings.preset.build_policy(),
            run.path / "demo.png",
        )
        path = run.export()
        console.print(f"Picture: {picture}\nMetrics: {run.path / 'metrics.json'}")
        console.print(f"SavedModel: {path}\n\nTo use the encoder:")
        console.print(loading_lines(path))
        return 0
