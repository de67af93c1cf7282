"""What the commands of the command line do."""

import logging
import pathlib
import time
from dataclasses import asdict, fields, replace
from typing import Any

import keras
from rich.console import Console
from rich.logging import RichHandler

from keras_ssl import callbacks, cli, distribute, names, report
from keras_ssl import export as exporting
from keras_ssl.data import Source
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SelfSupervised
from keras_ssl.pretrain import pretrain as run_pretraining
from keras_ssl.run import Run

_STOPPED = 128  # plus the signal's number: the shell's way to say what ended a program
_UNSEEN_SHARE = 0.2  # of the images, set aside for testing where there are no test images


def pretrain(command: cli.Pretrain) -> int:
    """Trains an encoder, anew or from where a run stopped."""
    console = _console()
    if command.resume is not None:
        run = Run(command.resume)
        settings = _resumed(command, run.config)
        train, test = _sources(settings)
    else:
        if command.data is None:
            raise ValueError(
                "`pretrain` needs images. Expected: --data DATA, or --resume RUN. Received: neither"
            )
        names.method(command.method)
        train, test = _sources(command)
        settings = _completed(command, train)
        _check_names(settings)
        if len(train) < settings.batch_size:
            raise ValueError(
                "--batch-size must not be larger than the data set. "
                f"Received: {settings.batch_size}, and {len(train)} images in {train.name!r}"
            )
        run = Run.create(settings.out, {**asdict(settings), "image_channels": train.image_shape[2]})
    console.print(f"Images: {train}")
    _report_skipped(console, train)
    console.print(f"Run: {run.path}")

    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    steps = len(train) // settings.batch_size
    with distribute.strategy(settings.strategy).scope():
        model = _model(settings, train.image_shape[2])
        model.compile(
            names.optimizer(
                settings.optimizer,
                settings.learning_rate,
                settings.weight_decay,
                settings.batch_size,
                total_steps=settings.epochs * steps,
                warmup_steps=min(settings.warmup_epochs, settings.epochs // 10) * steps,
            ),
            steps_per_execution=settings.steps_per_execution,
        )
    try:
        run_pretraining(
            model,
            train,
            names.policy(settings.policy, settings.image_size),
            run,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=settings.seed,
            callbacks=_monitors(settings, train, test),
        )
    except callbacks.Interrupted as stop:
        console.print(f"Stopped after step {stop.step}; everything is saved. To go on:")
        console.print(f"  keras-ssl pretrain --resume {run.path}", highlight=False)
        return _STOPPED + stop.signal
    last = run.history[-1]
    console.print("Done: " + ", ".join(f"{name} {value:.4g}" for name, value in last.items()))
    _report_skipped(console, train)
    console.print(f"  keras-ssl evaluate {run.path} --data DATA", highlight=False)
    console.print(f"  keras-ssl export {run.path}", highlight=False)
    return 0


def evaluate(command: cli.Evaluate) -> int:
    """Measures a run's or an export's encoder and writes metrics.json."""
    console = _console()
    is_run = (command.run / "config.json").is_file()
    if command.baselines and not is_run:
        raise ValueError(
            "--baselines needs a run directory, which says how its encoder began. "
            f"Received: {str(command.run)!r}"
        )
    encoders: dict[str, keras.Model] = {}
    if is_run:
        settings, channels = _settings(Run(command.run).config)
        if command.baselines:
            shape = (settings.image_size, settings.image_size, channels)
            encoders["raw pixels"] = report.evaluate.pixels(shape)
            keras.utils.set_random_seed(settings.seed)
            encoders["untrained"] = _model(settings, channels).backbone
        encoders["trained"] = load_backbone(Run(command.run))
    else:
        channels = 3
        encoders["trained"] = exporting.load(command.run)
        channels = encoders["trained"].input_shape[-1]
    train, test = names.sources(command.data, command.data_dir, channels)
    _report_skipped(console, train)
    if test is None:
        if train.labels is None:
            raise ValueError(
                "Evaluation needs labels. Expected: class sub-folders, or arrays with labels. "
                f"Received: {train.name!r}, without labels"
            )
        train, test = train.split(_UNSEEN_SHARE, seed=command.seed)
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


def export(command: cli.Export) -> int:
    """Writes a run's encoder as a SavedModel."""
    console = _console()
    run = Run(command.run)
    with console.status("Writing and checking the SavedModel"):
        path = export_run(run, load_backbone(run), command.out or run.export)
    console.print(f"Written and checked: {path}")
    console.print(loading_lines(path), highlight=False)
    return 0


def demo(command: cli.Demo) -> int:
    """Runs the whole way on handwritten digits."""
    from keras_ssl.demo import run_demo

    return run_demo(command, _console())


def load_backbone(run: Run) -> keras.Model:
    """Returns the encoder of a run's newest checkpoint.

    Raises:
        FileNotFoundError: if the run has no checkpoint yet.
    """
    settings, channels = _settings(run.config)
    model = _model(settings, channels)
    if callbacks.restore(model, run.checkpoints) == 0:
        raise FileNotFoundError(
            f"The run must have a checkpoint: train for an epoch first. Received: {str(run.path)!r}"
        )
    return model.backbone


def export_run(run: Run, backbone: keras.Model, path: pathlib.Path) -> pathlib.Path:
    """Writes an encoder with its run's settings and metrics; replaces an earlier export."""
    return exporting.saved_model(
        backbone, path, metrics=run.metrics, recipe=run.config, overwrite=True
    )


def loading_lines(path: pathlib.Path) -> str:
    """Returns the three lines of Python that load an export."""
    return (
        "import keras_ssl\n"
        f"encoder = keras_ssl.export.load({str(path)!r})\n"
        "features = encoder(images)  # float32 images in [0, 1], "
        "(batch, height, width, channels)"
    )


def _console() -> Console:
    console = Console()
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.getLogger("keras_ssl").handlers = [handler]
    return console


def _sources(settings: cli.Pretrain) -> tuple[Source, Source | None]:
    return names.sources(settings.data, settings.data_dir, settings.channels)


def _completed(command: cli.Pretrain, train: Source) -> cli.Pretrain:
    """Fills in what the images decide."""
    height, width, _ = train.image_shape
    size = command.image_size or (height if height is not None and height == width else 224)
    policy = command.policy or (
        "simclr" if size > 64 else "centred" if command.data == "digits" else "simclr-small"
    )
    word = pathlib.Path(command.data.removeprefix("tfds:")).stem
    out = command.out or pathlib.Path(
        "runs", f"{command.method}-{word}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    return replace(command, image_size=size, policy=policy, out=out)


def _check_names(settings: cli.Pretrain):
    """Refuses unknown words and impossible numbers before a run directory is made."""
    for name in ("epochs", "batch_size", "image_size", "embedding", "steps_per_execution"):
        if getattr(settings, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least 1. Received: {getattr(settings, name)}")
    names.policy(settings.policy, settings.image_size)
    names.optimizer(settings.optimizer, settings.learning_rate, settings.weight_decay, 1, 1, 0)
    _model(settings, settings.channels)


def _model(settings: cli.Pretrain, channels: int) -> SelfSupervised:
    shape = (settings.image_size, settings.image_size, channels)
    backbone = names.backbone(settings.backbone, settings.width, shape)
    projector = ProjectionHead(settings.embedding)
    return names.method(settings.method)(backbone, projector, temperature=settings.temperature)


def _monitors(settings: cli.Pretrain, train: Source, test: Source | None) -> list:
    if settings.knn_data is not None:
        train, test = names.sources(settings.knn_data, settings.data_dir, settings.channels)
    if settings.knn_every < 1 or test is None or train.labels is None or test.labels is None:
        return []
    return [callbacks.KNNMonitor(train, test, every=settings.knn_every)]


def _settings(config: dict[str, Any]) -> tuple[cli.Pretrain, int]:
    """Returns a run's settings, and the channels of its images, from its config.json."""
    known = {field.name for field in fields(cli.Pretrain)}
    values = {name: value for name, value in config.items() if name in known}
    for name in ("data_dir", "out", "resume"):
        values[name] = None if values[name] is None else pathlib.Path(values[name])
    return cli.Pretrain(**values), config["image_channels"]


def _resumed(command: cli.Pretrain, config: dict[str, Any]) -> cli.Pretrain:
    settings, _ = _settings(config)
    defaults = cli.Pretrain()
    differences = [
        f"{field.name}: {getattr(settings, field.name)!r} in the run, {getattr(command, field.name)!r} now"
        for field in fields(command)
        if field.name != "resume"
        and getattr(command, field.name) != getattr(defaults, field.name)
        and getattr(command, field.name) != getattr(settings, field.name)
    ]
    if differences:
        raise ValueError(
            "A run goes on with its own settings. Expected: --resume alone, or the same settings. "
            f"Received: {'; '.join(differences)}"
        )
    return settings


def _report_skipped(console: Console, source: Source):
    if source.skipped:
        console.print(f"Skipped: {len(source.skipped)} unreadable image files, named above.")
