"""What the commands of the command line do."""

import logging
import pathlib
import time
from dataclasses import asdict, fields, replace

import keras
from rich.console import Console
from rich.logging import RichHandler

from keras_ssl import callbacks, cli, distribute, names, report
from keras_ssl import export as exporting
from keras_ssl.data import Source
from keras_ssl.methods import SelfSupervised
from keras_ssl.pretrain import pretrain as run_pretraining
from keras_ssl.run import Run

_STOPPED = 128  # plus the signal's number: the shell's way to say what ended a program
_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
_UNSEEN_SHARE = 0.2  # of the images, set aside for testing where there are no test images


def pretrain(command: cli.Pretrain) -> int:
    """Trains an encoder, anew or from where a run stopped."""
    console = _console()
    if command.resume is not None:
        run = Run(command.resume)
        settings = _resumed(command, run)
        train, test = _sources(settings)
    else:
        if command.data is None:
            raise ValueError(
                "`pretrain` needs images. Expected: --data DATA, or --resume RUN. Received: neither"
            )
        if command.method not in names.METHODS:  # before the images are opened, which may take long
            raise names.unknown("method", command.method, names.METHODS)
        train, test = _sources(command)
        settings = _completed(command, train)
    check_numbers(settings)
    if len(train) < settings.batch_size:
        raise ValueError(
            "--batch-size must not be larger than the data set. "
            f"Received: {settings.batch_size}, and {len(train)} images in {train.name!r}"
        )
    channels = train.image_shape[2]
    policy = names.policy(str(settings.policy), _shape(settings, channels)[0])
    monitors = _monitors(settings, train, test)
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    with distribute.strategy(settings.strategy).scope():
        model = _model(settings, channels)
        model.compile(
            optimizer(settings, len(train)), steps_per_execution=settings.steps_per_execution
        )
    if command.resume is None:
        # Only now: what is refused above leaves no directory behind.
        run = Run.create(str(settings.out), {**asdict(settings), "image_channels": channels})
    console.print(f"Images: {train}")
    _report_skipped(console, train, test)
    console.print(f"Run: {run.path}")
    try:
        history = run_pretraining(
            model,
            train,
            policy,
            run,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=settings.seed,
            callbacks=monitors,
        )
    except callbacks.Interrupted as stop:
        return stopped(stop, run, console)
    console.print(
        "Done: " + ", ".join(f"{name} {value:.4g}" for name, value in history[-1].items())
    )
    _report_skipped(console, train, test)
    console.print(f"  keras-ssl evaluate {run.path} --data DATA\n  keras-ssl export {run.path}")
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
        settings, channels = _settings(Run(command.run))
        if command.baselines:
            encoders["raw pixels"] = report.evaluate.pixels(_shape(settings, channels))
            keras.utils.set_random_seed(settings.seed)
            encoders["untrained"] = _model(settings, channels).backbone
        encoders["trained"] = load_backbone(Run(command.run))
    else:
        encoders["trained"] = exporting.load(command.run)
        channels = encoders["trained"].input_shape[-1]
    train, test = names.sources(command.data, command.data_dir, channels)
    _report_skipped(console, train, test)
    if test is None:
        train, test = _split(train, command.seed)
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
    console.print(loading_lines(path))
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
    settings, channels = _settings(run)
    model = _model(settings, channels)
    if callbacks.restore(model, run.checkpoints) == 0:
        raise FileNotFoundError(
            f"The run must have a checkpoint: train for an epoch first. Received: {str(run.path)!r}"
        )
    return model.backbone


def optimizer(settings: cli.Pretrain, size: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a run over `size` images."""
    steps = size // settings.batch_size
    return names.optimizer(
        settings.optimizer,
        settings.learning_rate,
        settings.weight_decay,
        settings.batch_size,
        total_steps=settings.epochs * steps,
        warmup_steps=min(settings.warmup_epochs, settings.epochs // 10) * steps,
    )


def stopped(stop: callbacks.Interrupted, run: Run, console: Console) -> int:
    """Says how a run that a signal stopped goes on, and returns the exit status."""
    console.print(f"Stopped after step {stop.step}; everything is saved. To go on:")
    console.print(f"  keras-ssl pretrain --resume {run.path}")
    return _STOPPED + stop.signal


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
    # Names of files are no markup, and a line to copy must not be broken.
    console = Console(markup=False, highlight=False, soft_wrap=True)
    handler: logging.Handler = logging.StreamHandler(console.file)
    if console.is_terminal:  # where progress bars have to make room for messages
        handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.getLogger("keras_ssl").handlers = [handler]
    return console


def _sources(settings: cli.Pretrain) -> tuple[Source, Source | None]:
    return names.sources(str(settings.data), settings.data_dir, settings.channels)


def _completed(command: cli.Pretrain, train: Source) -> cli.Pretrain:
    """Fills in what the images decide."""
    height, width, _ = train.image_shape
    size = command.image_size or (height if height is not None and height == width else 224)
    policy = command.policy or (
        "simclr" if size > 64 else "centred" if command.data == "digits" else "simclr-small"
    )
    word = pathlib.Path(str(command.data).removeprefix("tfds:")).stem
    out = command.out or pathlib.Path(
        "runs", f"{command.method}-{word}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    return replace(command, image_size=size, policy=policy, out=out)


def check_numbers(settings: cli.Pretrain):
    """Refuses settings that nothing else refuses before the training.

    Raises:
        ValueError: if a number or the precision makes no sense.
    """
    for name in ("epochs", "batch_size", "image_size", "embedding", "steps_per_execution"):
        if getattr(settings, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least 1. Received: {getattr(settings, name)}")
    for name in ("warmup_epochs", "knn_every"):
        if getattr(settings, name) < 0:
            option = name.replace("_", "-")
            raise ValueError(
                f"--{option} must not be negative. Received: {getattr(settings, name)}"
            )
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"--seed must lie in 0 to 2**32 - 1. Received: {settings.seed}")
    if settings.precision not in _PRECISIONS:
        raise names.unknown("precision", settings.precision, _PRECISIONS)


def _model(settings: cli.Pretrain, channels: int) -> SelfSupervised:
    backbone = names.backbone(settings.backbone, settings.width, _shape(settings, channels))
    return names.method(settings.method, backbone, settings.embedding, settings.temperature)


def _shape(settings: cli.Pretrain, channels: int) -> tuple[int, int, int]:
    side = settings.image_size or 0  # a number since `_completed`
    return side, side, channels


def _monitors(settings: cli.Pretrain, train: Source, test: Source | None) -> list:
    if settings.knn_every == 0:
        return []
    if settings.knn_data is not None:
        train, test = names.sources(settings.knn_data, settings.data_dir, settings.channels)
        if test is None:
            train, test = _split(train, settings.seed)
    elif test is None or train.labels is None or test.labels is None:
        return []
    return [callbacks.KNNMonitor(train, test, every=settings.knn_every)]


def _split(train: Source, seed: int) -> tuple[Source, Source]:
    """Sets images aside for testing where there are no test images."""
    if train.labels is None:
        raise ValueError(
            "Evaluation needs labels. Expected: class sub-folders, or arrays with labels. "
            f"Received: {train.name!r}, without labels"
        )
    return train.split(_UNSEEN_SHARE, seed=seed)


def _settings(run: Run) -> tuple[cli.Pretrain, int]:
    """Returns a run's settings, and the channels of its images, from its config.json."""
    config = run.config
    known = {field.name for field in fields(cli.Pretrain)}
    if missing := sorted({*known, "image_channels"} - config.keys()):
        raise ValueError(
            "The run must be one of `keras-ssl`, whose config.json says how its network is built. Of "
            "another program's run, evaluate the export. "
            f"Received: {str(run.path)!r}, without the settings {', '.join(missing)}"
        )
    values = {name: config[name] for name in known}
    for name in ("data_dir", "out", "resume"):
        values[name] = None if values[name] is None else pathlib.Path(values[name])
    return cli.Pretrain(**values), config["image_channels"]


def _resumed(command: cli.Pretrain, run: Run) -> cli.Pretrain:
    settings, _ = _settings(run)
    defaults = cli.Pretrain()
    differences = []
    for name in (field.name for field in fields(command) if field.name != "resume"):
        old, new = getattr(settings, name), getattr(command, name)
        if new not in (old, getattr(defaults, name)):
            differences.append(f"{name}: {old!r} in the run, {new!r} now")
    if differences:
        raise ValueError(
            "A run goes on with its own settings. Expected: --resume alone, or the same settings. "
            f"Received: {'; '.join(differences)}"
        )
    return settings


def _report_skipped(console: Console, *sources: Source | None):
    skipped = {file for source in sources if source is not None for file in source.skipped}
    if skipped:
        console.print(f"Skipped: {len(skipped)} unreadable image files, named above.")
