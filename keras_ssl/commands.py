"""What the commands of the command line do."""

import logging
import pathlib
from dataclasses import replace

import keras
from rich.console import Console
from rich.logging import RichHandler

from keras_ssl import callbacks, cli, distribute, names, report, run_settings
from keras_ssl import export as exporting
from keras_ssl.data import Source
from keras_ssl.pretrain import pretrain as run_pretraining
from keras_ssl.run import Run
from keras_ssl.sources import opened

_STOPPED = 128  # plus the signal's number: the shell's way to say what ended a program
_UNSEEN_SHARE = 0.2  # of the images, set aside for testing where there are no test images


def pretrain(command: cli.Pretrain) -> int:
    """Trains an encoder, anew or from where a run stopped."""
    run = None
    if command.resume is not None and (Run(command.resume).is_begun or command.data is None):
        run = Run(command.resume)
        settings, images = run_settings.resumed(command, run)
    elif command.data is None:
        raise ValueError(
            "`pretrain` needs images. Expected: --data DATA, or --resume RUN. Received: neither"
        )
    else:
        names.known_method(command.method)  # before the images are opened, which may take long
        settings = replace(command, out=command.resume or command.out, resume=None)
    strategy = distribute.strategy(settings.strategy)  # TensorFlow wants workers before data
    if distribute.worker_count(strategy) > 1 and run is None and settings.out is None:
        raise ValueError(
            "Several workers need one run directory that all of them see. Expected: --out RUN, or "
            "--resume RUN, which begins a run that is not there. Received: neither"
        )
    console = _console(quiet=not distribute.is_chief(strategy))
    train, test = _sources(settings)
    if run is None:
        settings = run_settings.completed(settings, train, strategy.num_replicas_in_sync)
        images = run_settings.images_of(train, settings)
    _check_images(settings, images, train)
    policy = names.policy(str(settings.policy), run_settings.image_shape(settings, images)[0])
    monitors = [*_momentum(settings), *_monitors(settings, train, test)]
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    with strategy.scope():
        model = run_settings.network(settings, images)
        model.compile(
            optimizer(settings, len(train)),
            steps_per_execution=settings.steps_per_execution,
            chunks=settings.chunks,
        )
    if run is None:
        # Only now: what is refused above leaves no directory behind.
        if distribute.is_chief(strategy):
            Run.create(str(settings.out), run_settings.as_config(settings, images))
        distribute.gather(strategy, 0)  # the others wait until it is there
        run = Run(str(settings.out))
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
    settings, images = run_settings.of_run(run)
    model = run_settings.network(settings, images)
    if callbacks.restore(model, run.checkpoints) == 0:
        raise FileNotFoundError(
            f"The run must have a checkpoint: train for an epoch first. Received: {str(run.path)!r}"
        )
    # Batch normalisation is split for pretraining alone: whoever fine-tunes has batches of any size.
    encoder = run_settings.backbone(settings, images)
    encoder.set_weights(model.backbone.get_weights())
    return encoder


def optimizer(settings: cli.Pretrain, size: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a run over `size` images."""
    steps = size // settings.batch_size
    return names.optimizer(
        str(settings.optimizer),
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


def _console(quiet: bool = False) -> Console:
    # Names of files are no markup, and a line to copy must not be broken.
    console = Console(markup=False, highlight=False, soft_wrap=True, quiet=quiet)
    handler: logging.Handler = logging.StreamHandler(console.file)
    if console.is_terminal:  # where progress bars have to make room for messages
        handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.getLogger("keras_ssl").handlers = [handler]
    return console


def _sources(settings: cli.Pretrain) -> tuple[Source, Source | None]:
    return opened(str(settings.data), settings.data_dir, settings.channels)


def _check_images(settings: cli.Pretrain, images: run_settings.Images, train: Source):
    """Refuses images that a run cannot train on, or go on with."""
    if len(train) < settings.batch_size:
        raise ValueError(
            "--batch-size must not be larger than the data set. "
            f"Received: {settings.batch_size}, and {len(train)} images in {train.name!r}"
        )
    if images.image_count not in (0, len(train)):  # 0: the run did not write it down
        raise ValueError(
            f"A run goes on with the images that it began with. Expected: {images.image_count} "
            f"images. Received: {len(train)} in {train.name!r}"
        )


def _momentum(settings: cli.Pretrain) -> list:
    if settings.momentum is None or settings.final_momentum is None:
        return []  # a method without a target network
    return [callbacks.MomentumEncoder(settings.momentum, settings.final_momentum)]


def _monitors(settings: cli.Pretrain, train: Source, test: Source | None) -> list:
    if settings.knn_every == 0:
        return []
    if settings.knn_data is not None:
        train, test = opened(settings.knn_data, settings.data_dir, settings.channels)
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


def _report_skipped(console: Console, *sources: Source | None):
    skipped = {file for source in sources if source is not None for file in source.skipped}
    if skipped:
        console.print(f"Skipped: {len(skipped)} unreadable image files, named above.")
