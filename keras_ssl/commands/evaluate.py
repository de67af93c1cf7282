"""`keras-ssl evaluate`: measures a frozen encoder with labelled images."""

import keras

from keras_ssl import cli, report, run_settings
from keras_ssl import export as exporting
from keras_ssl.commands.console import open_console, report_skipped
from keras_ssl.commands.export import load_backbone
from keras_ssl.data import Source
from keras_ssl.run import Run
from keras_ssl.sources import opened

_UNSEEN_SHARE = 0.2  # of the images, set aside for testing where there are no test images


def run(command: cli.Evaluate) -> int:
    """Measures a run's or an export's encoder and writes metrics.json."""
    console = open_console()
    is_run = (command.run / "config.json").is_file()
    if command.baselines and not is_run:
        raise ValueError(
            "--baselines needs a run directory, which says how its encoder began. "
            f"Received: {str(command.run)!r}"
        )
    encoders: dict[str, keras.Model] = {}
    if is_run:
        settings, images = run_settings.of_run(Run(command.run))
        channels = images.image_channels
        if command.baselines:
            shape = run_settings.image_shape(settings, images)
            encoders["raw pixels"] = report.evaluate.pixels(shape)
            keras.utils.set_random_seed(settings.seed)
            encoders["untrained"] = run_settings.network(settings, images).backbone
        encoders["trained"] = load_backbone(Run(command.run))
    else:
        encoders["trained"] = exporting.load(command.run)
        channels = encoders["trained"].input_shape[-1]
    train, test = opened(command.data, command.data_dir, channels)
    report_skipped(console, train, test)
    if test is None:
        train, test = set_aside(train, command.seed)
        console.print(f"No test images of their own: {len(test)} of the images were set aside.")
    rows = report.measure(
        encoders,
        train,
        test,
        command.labels_per_class,
        command.draws,
        command.seed,
        command.batch_size,
    )
    report.show(rows, console)
    if is_run:
        Run(command.run).add_metrics({"data": command.data, "rows": rows})
        console.print(f"Written: {command.run / 'metrics.json'}")
    return 0


def set_aside(train: Source, seed: int) -> tuple[Source, Source]:
    """Sets images aside for testing where there are no test images."""
    if train.labels is None:
        raise ValueError(
            "Evaluation needs labels. Expected: class sub-folders, or arrays with labels. "
            f"Received: {train.name!r}, without labels"
        )
    return train.split(_UNSEEN_SHARE, seed=seed)
