"""`keras-ssl pretrain`: trains an encoder, anew or from where a run stopped."""

from dataclasses import replace

import keras
from rich.console import Console

from keras_ssl import callbacks, cli, distribute, names, run_settings
from keras_ssl.commands.console import open_console, report_skipped
from keras_ssl.commands.evaluate import set_aside
from keras_ssl.data import Source
from keras_ssl.methods import SelfSupervised
from keras_ssl.pretrain import pretrain
from keras_ssl.run import Run
from keras_ssl.sources import opened

STOPPED = 128  # plus the signal's number: the shell's way to say what ended a program


def run(command: cli.Pretrain) -> int:
    """Trains an encoder, anew or from where a run stopped."""
    run = None
    if command.resume is not None and (Run(command.resume).is_begun or command.data is None):
        run = Run(command.resume)
        settings, _ = run_settings.resumed(command, run)
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
    console = open_console(quiet=not distribute.is_chief(strategy))
    train, test = _sources(settings)
    model, settings, run, monitors = begun(settings, run, train, test, strategy)
    console.print(f"Images: {train}")
    report_skipped(console, train, test)
    console.print(f"Run: {run.path}")
    try:
        history = fitted(model, settings, run, train, monitors)
    except callbacks.Interrupted as stop:
        return stopped(stop, run, console)
    console.print(
        "Done: " + ", ".join(f"{name} {value:.4g}" for name, value in history[-1].items())
    )
    report_skipped(console, train, test)
    console.print(f"  keras-ssl evaluate {run.path} --data DATA\n  keras-ssl export {run.path}")
    return 0


def begun(
    settings: cli.Pretrain,
    run: Run | None,
    train: Source,
    test: Source | None,
    strategy: distribute.Strategy,
) -> tuple[SelfSupervised, cli.Pretrain, Run, list[keras.callbacks.Callback]]:
    """Returns the compiled method, its completed settings, its run directory, and what watches it.

    Args:
        settings: of the run; those of a new one are completed.
        run: that goes on; `None` makes the directory that the settings name, once nothing is left
            that could be refused.
        train: images to train on.
        test: images to test on, for a kNN accuracy beside the training; `None` for none.
        strategy: under which it trains.
    """
    if run is None:
        settings = run_settings.completed(settings, train, strategy.num_replicas_in_sync)
        images = run_settings.images_of(train, settings)
    else:
        _, images = run_settings.of_run(run)
    _check_images(settings, images, train)
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    with strategy.scope():
        model = run_settings.network(settings, images)
        model.compile(
            optimizer(settings, len(train)),
            steps_per_execution=settings.steps_per_execution,
            chunks=settings.chunks,
        )
    names.policy(str(settings.policy), int(settings.image_size or 0))
    monitors = [*_momentum(settings), *_monitors(settings, train, test)]
    if run is None:
        if distribute.is_chief(strategy):
            Run.create(str(settings.out), run_settings.as_config(settings, images))
        distribute.gather(strategy, 0)  # the others wait until it is there
        run = Run(str(settings.out))
    return model, settings, run, monitors


def fitted(
    model: SelfSupervised,
    settings: cli.Pretrain,
    run: Run,
    train: Source,
    monitors: list[keras.callbacks.Callback],
) -> list[dict[str, float]]:
    """Trains what `begun` returned to its end and returns the values of each epoch.

    Raises:
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
    """
    return pretrain(
        model,
        train,
        names.policy(str(settings.policy), int(settings.image_size or 0)),
        run,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        callbacks=monitors,
        finish=settings.views_on,
    )


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
    return STOPPED + stop.signal


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
            train, test = set_aside(train, settings.seed)
    elif test is None or train.labels is None or test.labels is None:
        return []
    return [callbacks.KNNMonitor(train, test, every=settings.knn_every)]
