"""Pretraining in one call: `keras_ssl.pretrain`, which the command line calls too."""

import os
import pathlib
import time
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from rich.console import Console

from keras_ssl import augment, callbacks, distribute
from keras_ssl.data import Source
from keras_ssl.data.image_folder import RULES
from keras_ssl.data.open_source import keep_labeled, open_labeled, open_source, report_skipped
from keras_ssl.data.scaled import Range, scale, warn_if_little_used
from keras_ssl.methods import SelfSupervised
from keras_ssl.presets import ImageFacts, Preset
from keras_ssl.presets.batch_size import batch_size_error
from keras_ssl.presets.image_size import default_image_size
from keras_ssl.runs import going_on
from keras_ssl.runs.arguments import Images, combine
from keras_ssl.runs.console import describe_stop, open_console
from keras_ssl.runs.directory import Run
from keras_ssl.runs.memory import check, estimate
from keras_ssl.runs.pictures import LONG_TRAINING, draw_after_training
from keras_ssl.runs.plan import accelerated, describe
from keras_ssl.runs.preset_of_run import own_class
from keras_ssl.runs.report import count_neighbours
from keras_ssl.runs.settings import PretrainSettings, resume_settings
from keras_ssl.runs.smaller_network import smaller_network_advice
from keras_ssl.runs.training import train


def pretrain(
    data: Images | None = None,
    method: str | Preset = "simclr",
    out: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    strategy: str | distribute.Strategy = "auto",
    **settings: Any,
) -> Run:
    """Trains an encoder on images without labels, into a run directory.

    Prints the images, the run directory, what will be trained and for how long, and a progress bar with
    the speed and the time left. Ctrl-C (in a notebook: interrupt) stops after the current step and
    saves; `pretrain(resume=run_directory)` continues with the batches that would have come next.

    Args:
        data: the images: "digits"; `"tfds:<name>"`; the path of an .npz file; the path of a folder of
            images; a source; or a training and a test source, for a kNN accuracy during training. For a
            method that learns from videos, the path of a folder that `keras_ssl.data.clips` reads.
        method: name of a method, such as "byol", or a preset, such as
            `keras_ssl.presets.BYOL(momentum=0.97)`, or one of your own.
        out: run directory to create; by default `runs/<method>-<data>-<date and time>`.
        resume: run directory to continue; its own settings apply. With `data`, a run starts there if
            there is none. If the data were a source, pass the same source again; if they have moved,
            pass their new path. A larger number of `epochs` lengthens the run: learning rate and
            momentum then follow the schedule of the longer run from the next step on.
        strategy: how to distribute training: "none", "mirrored" (all GPUs of this machine),
            "multi_worker" (`TF_CONFIG` or SLURM), "tpu", "auto" (whichever is there), or a strategy.
        **settings: options of the method (the fields of its preset, such as `epochs`, `batch_size`,
            `backbone`, `image_size`, `learning_rate`, `temperature`), and of the run: `data_dir`,
            `channels`, `value_range`, `verify`, `knn_every`, `knn_data`. `keras-ssl pretrain --help`
            explains them.

    Returns:
        The run: `run.encoder()`, `run.evaluate(labeled_data)`, `run.export()`.

    Raises:
        FileExistsError: if `out` is not empty.
        FileNotFoundError: if there are no such data.
        TypeError: if `data`, `method` or a setting has a wrong type. Arrays become a source with
            `keras_ssl.data.arrays(images)`.
        ValueError: if a setting makes no sense, is not an option of the method, or differs from the run
            to resume.
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
        FloatingPointError: if the loss, a weight or a feature is not finite.

    Example:
        ```python
        run = keras_ssl.pretrain("photos", method="simclr", out="runs/photos", epochs=100)
        run.evaluate("labeled")
        run.export()
        ```
    """
    word = strategy if isinstance(strategy, str) else type(strategy).__name__
    given = combine(data, method, {"strategy": word, **settings})
    run: Run | None = None
    if resume is not None and (Run(resume).exists or data is None):
        run = Run(resume, own_class(given.preset))
        given = resume_settings(run.config, run.path, given, set(settings))
    elif data is None:
        raise ValueError(
            "`pretrain` needs images. Expected: `data` (--data DATA), or `resume` (--resume RUN). "
            "Received: neither"
        )
    if isinstance(strategy, str):  # before the images: TensorFlow wants workers to connect first
        strategy = distribute.strategy(strategy)
    if run is None:
        out = out or resume
        if out is None and distribute.worker_count(strategy) > 1:
            raise ValueError(
                "Several workers need one run directory that all of them can access. Expected: `out` "
                "(--out RUN), or `resume` (--resume RUN), which starts a run if there is none. "
                "Received: neither"
            )
        if out is not None and distribute.is_chief(strategy):
            Run(out).check_new()  # before the images are opened, which may take long
    console = open_console(quiet=not distribute.is_chief(strategy))
    images, test = _open(data, given, run)
    precision = keras.config.dtype_policy().name
    chosen_batch, resumed = given.preset.batch_size is not None, run is not None
    chosen_size = given.preset.image_size is not None
    optimizer = given.preset.describe_optimizer()
    try:
        run, model, given, monitors = _prepare(given, run, out, images, test, strategy, console)
        console.print(f"Images: {images}")
        report_skipped(console, images, test)
        console.print(f"Run: {run.path}")
        lengthened = going_on.describe_lengthening(run, model, given.preset.epochs)
        if lengthened is not None:
            console.print(lengthened)
        if distribute.is_chief(strategy):
            going_on.record(run, given.flat())
        preset, facts = given.preset, _image_facts(images, given.preset)
        for line in describe(preset, model, len(images), strategy, chosen_batch):
            console.print(line)
        if optimizer is not None:
            console.print(optimizer)
        _, reason = default_image_size(images.image_shape[:2], images.typical_side)
        if reason is not None and not chosen_size and not resumed:
            console.print(reason)
        if images.value_range is not None:
            console.print(f"Pixel values that become 0 to 1: {images.value_range}")
        begun = time.monotonic()
        try:
            history = train(
                model,
                images,
                preset.build_policy(),
                run,
                preset.epochs,
                int(preset.batch_size or 0),  # a number once resolved
                preset.seed,
                monitors,
                finish=preset.views_on,
                # The network of a run cannot change when it is resumed.
                advise=None if resumed else lambda s: smaller_network_advice(preset, facts, s),
            )
        except callbacks.Interrupted as stop:
            command = f"keras-ssl pretrain --resume {run.path}"
            call = f"keras_ssl.pretrain(resume={str(run.path)!r})"
            console.print(describe_stop(stop.step, command, call))
            raise
        is_long = time.monotonic() - begun >= LONG_TRAINING
        if is_long and strategy.num_replicas_in_sync == 1:  # `panels` runs on one replica
            drawn = draw_after_training(model, preset.build_policy(), images, run, preset.seed)
            if drawn is not None:
                console.print(f"Pictures: {drawn}")
    finally:
        keras.config.set_dtype_policy(precision)
    values = ", ".join(f"{name} {value:.4g}" for name, value in history[-1].items())
    console.print(f"Done: {values}")
    return run


def _open(
    data: Images | None, given: PretrainSettings, run: Run | None
) -> tuple[Source, Source | None]:
    """Returns the images to train on, and test images if there are any.

    Those of a run to resume are found, read and scaled as when it started.
    """
    value_range: Range = given.value_range
    rules = RULES
    if run is not None:
        value_range, rules = run.value_range or "full", run.pretrain_settings[1].data_rules
    if isinstance(data, (tuple, Source)):
        images, test = data if isinstance(data, tuple) else (data, None)
        images = scale(images, value_range)
        warn_if_little_used(images)
        return images, None if test is None else scale(test, images.value_range or "full")
    if given.data is None:
        raise ValueError(
            "The images of this run were passed as a source. Expected: the same source, "
            "`keras_ssl.pretrain(source, resume=...)`. Received: none"
        )
    try:
        return open_source(
            given.data,
            given.data_dir,
            given.channels,
            given.verify,
            value_range,
            rules,
            given.preset.clip_options(),
        )
    except FileNotFoundError as error:
        if data is not None:
            raise
        raise FileNotFoundError(
            "The images of the run are not where they were. Expected: `data` (--data DATA) with their "
            f"new place. {error}"
        ) from error


def _prepare(
    given: PretrainSettings,
    run: Run | None,
    out: str | os.PathLike | None,
    images: Source,
    test: Source | None,
    strategy: distribute.Strategy,
    console: Console,
) -> tuple[Run, SelfSupervised, PretrainSettings, list[keras.callbacks.Callback]]:
    """Returns the run directory, the compiled method, the complete settings, and the callbacks.

    A new run directory is created last, when nothing is left that could be refused.
    """
    if run is None:
        facts = _image_facts(images, given.preset)
        preset = given.preset
        if preset.precision == "auto":
            precision = "mixed_bfloat16" if accelerated() else "float32"
            preset = replace(preset, precision=precision)
        replicas, sides = strategy.num_replicas_in_sync, images.image_shape[:2]
        preset = preset.resolve(facts, replicas, sides, given.data == "digits", images.typical_side)
        given = replace(given, preset=preset)
        for line in preset.check_images(images):
            console.print(line)
        facts = replace(facts, measured=preset.measure(images))
    else:
        _, facts = run.pretrain_settings
        going_on.check_images(run, images)
    preset = given.preset
    _check_count(preset, facts, images)
    keras.utils.set_random_seed(preset.seed)
    keras.config.set_dtype_policy(preset.precision)
    with strategy.scope():
        model = preset.build_model(preset.build_backbone(facts), facts)
        model.compile(
            preset.build_optimizer(len(images) // int(preset.batch_size or 0)),
            steps_per_execution=preset.steps_per_execution,
            chunks=preset.chunks,
        )
    preset.build_policy()
    needs = estimate(preset, model)
    for line in check(needs, preset) if needs else []:
        console.print(line)
    monitors = [*preset.build_callbacks(), *_build_monitors(given, images, test, model)]
    if run is None:
        word = pathlib.Path((given.data or images.name).removeprefix("tfds:")).stem
        name = f"{preset.method}-{word}-{time.strftime('%Y%m%d-%H%M%S')}"
        run = Run(out or pathlib.Path("runs", name), own_class(preset))
        if distribute.is_chief(strategy):
            fingerprint = {going_on.FINGERPRINT: images.fingerprint()}
            Run.create(run.path, {**given.to_config(facts), **fingerprint})
        distribute.gather(strategy, 0)  # the other workers wait until it exists
    return run, model, given, monitors


def _image_facts(images: Source, preset: Preset) -> ImageFacts:
    classes = 0
    if preset.probe:
        if not images.has_labels:
            raise ValueError(
                "`probe` needs labels: class sub-folders, or arrays with labels. "
                f"Received: {images.name!r}, without labels"
            )
        names = len(images.class_names or ())
        classes = names or int(np.max(images.labels)) + 1  # type: ignore[arg-type]
        if classes < 2:
            raise ValueError(
                f"`probe` needs at least two classes. Received: {images.name!r} with {classes}"
            )
    pixels = images.value_range
    return ImageFacts(
        images.image_shape[2],
        len(images),
        classes,
        None if pixels is None else pixels.low,
        None if pixels is None else pixels.high,
        images.dtype.name if pixels is None else pixels.of,
        RULES,
    )


def _check_count(preset: Preset, facts: ImageFacts, images: Source):
    batch_size = int(preset.batch_size or 0)
    if len(images) < batch_size:
        raise batch_size_error(batch_size, len(images), images.name, preset.chunks)
    if facts.image_count not in (0, len(images)):  # 0: the run did not record it
        raise ValueError(
            f"A run resumes with the images that it started with. Expected: {facts.image_count} "
            f"images. Received: {len(images)} in {images.name!r}"
        )


def _build_monitors(
    given: PretrainSettings, images: Source, test: Source | None, model: SelfSupervised
) -> list[keras.callbacks.Callback]:
    if given.knn_every == 0:
        return []
    if given.knn_data is not None:
        images, test = open_labeled(
            given.knn_data,
            given.data_dir,
            given.channels,
            given.preset.seed,
            verify=given.verify,
            value_range=images.value_range or "full",
        )
    elif test is None or images.labels is None or test.labels is None:
        return []
    known, test = keep_labeled(images), keep_labeled(test)
    neighbours = count_neighbours(np.asarray(known.labels))  # as in the tables of `evaluate`
    view = None
    if None in model.backbone.input_shape[1:]:  # of any size: measured on images of the views' size
        view = augment.evaluation(int(given.preset.image_size or 0))
    return [
        callbacks.KNNMonitor(known, test, every=given.knn_every, k=neighbours, augmentation=view)
    ]
