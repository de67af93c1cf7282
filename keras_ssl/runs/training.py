"""The training loop of a run: checkpoints, logs, progress, and resuming."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute
from keras_ssl.augment import Augmentation, Policy
from keras_ssl.callbacks import (
    Checkpoint,
    CollapseMonitor,
    Interrupted,
    MomentumEncoder,
    ProgressBar,
    checkpoint_files,
    restore,
)
from keras_ssl.data import Source, views
from keras_ssl.methods import Learner, SelfSupervised
from keras_ssl.methods.momentum import MomentumMethod
from keras_ssl.presets.batch_size import batch_size_error
from keras_ssl.runs.directory import Run
from keras_ssl.runs.history import HistoryFile
from keras_ssl.runs.identity import EARLY_MOMENTUM, identity

_INTERVAL = 30.0  # seconds between checkpoints at the ends of epochs


def train(
    model: Learner,
    source: Source,
    policy: Policy | Augmentation | tuple[Augmentation, ...],
    run: Run,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    mid_epoch_interval: float = 600.0,
    keep: int = 2,
    finish: str = "host",
    advise: Callable[[float], str | None] | None = None,
    history_names: Mapping[str, str] | None = None,
) -> list[dict[str, float]]:
    """Trains a compiled model on views of images, from the newest checkpoint of a run onwards.

    It calls `model.fit` with the callbacks that a long run needs: checkpoints, also after Ctrl-C;
    TensorBoard; `history.jsonl`; a progress bar; and a `CollapseMonitor`, which measures the features
    after each epoch and stops training if the loss or the weights are not finite.

    Resuming is exact: a run that was killed at any moment ends with the same weights as one that was
    not, to the bit on one device. The model, the policy, the images, the batch size and the seed must
    be those that the run started with.

    With several workers, each worker calls this function, and the first one writes.

    Args:
        model: compiled method, or another learner, such as a `keras_ssl.distill.Distiller`.
        source: images. Their labels are used by a model that takes labels, such as one with a probe.
        policy: makes the views.
        run: run directory. An interrupted run continues with the batches that would have come next; a
            finished one returns immediately.
        epochs: passes over the data, in total.
        batch_size: global batch size.
        seed: seed of the order and the views.
        callbacks: further callbacks. They are called before the values of an epoch are written. Without
            a `MomentumEncoder`, a method with a target network gets its default momentum.
        mid_epoch_interval: seconds after which a long epoch gets a checkpoint in its middle.
        keep: number of checkpoints to keep.
        finish: where the views are finished, "host" or "step"; see `keras_ssl.data.views`.
        advise: called with the estimated seconds of the whole run when the speed is known; returns a
            text to print, or `None`.
        history_names: names of values in `history.jsonl`, by their names in `fit`, where they differ.

    Returns:
        The values of each epoch, such as `{"epoch": 1, "loss": 5.2}`.

    Raises:
        ValueError: if the batch is larger than the data set or does not divide evenly among the
            replicas; if the run started with another method, network, policy, batch size, seed or
            images, which are listed; if all its checkpoints are damaged; if workers differ.
        BlockingIOError: if another process trains in the run directory.
        OSError: if a checkpoint cannot be written.
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
        keras_ssl.distribute.WorkerLostError: if another worker died.
        FloatingPointError: if the loss, a weight or a feature is not finite.

    Example:
        ```python
        run = Run.create("runs/own", {"note": "a model of my own"})
        train(model, source, keras_ssl.augment.simclr(96), run, epochs=100, batch_size=256)
        ```
    """
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    if len(source) < batch_size:
        raise batch_size_error(batch_size, len(source), source.name, replicas)
    distribute.check_batch_size(batch_size, replicas)
    with distribute.other_workers(strategy), _locked(run, strategy):
        _keep_momentum_of_earlier_version(model, run)
        settings = identity(model, source, policy, batch_size, seed)
        start = restore(model, run.checkpoints, settings)
        distribute.check_equal(
            strategy,
            {
                "step": start,
                "epochs": epochs,
                "seed": seed,
                "images": len(source),
                "their fingerprint": int(source.fingerprint()[:12], 16),
            },
        )
        steps = len(source) // batch_size
        if start < epochs * steps:
            batches = views(
                source,
                policy,
                batch_size,
                seed,
                start=start,
                labels=model.takes_labels,
                indices=model.takes_indices,
                finish=finish,
                keys=model.takes_keys,
                clips=model.takes_clips,
            )
            checkpoint = Checkpoint(
                run.checkpoints,
                steps,
                start,
                keep=keep,
                interval=_INTERVAL,
                mid_epoch_interval=mid_epoch_interval,
                settings=settings,
            )
            history = HistoryFile(run, history_names)
            _fit(model, batches, history, checkpoint, epochs, callbacks, advise)
    return run.history


def _fit(
    model: Learner,
    batches: tf.data.Dataset,
    history: HistoryFile,
    checkpoint: Checkpoint,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    advise: Callable[[float], str | None] | None,
):
    run, steps, start = history.run, checkpoint.steps_per_epoch, checkpoint.start
    # Inference costs a third of training, so measuring a sixteenth of the images costs about 2%.
    batch_size = tf.nest.flatten(batches.element_spec)[0].shape[0]
    images = steps * batch_size
    monitors = []
    if isinstance(model, SelfSupervised):
        monitors = [CollapseMonitor(images=min(512, max(64, images // 16)))]
    written: list[keras.callbacks.Callback] = []  # by the first worker only
    bar = ProgressBar(steps, start, batch_size=batch_size, advise=advise)
    if distribute.is_chief(model.distribute_strategy):
        log = keras.callbacks.TensorBoard(run.logs, write_graph=False)
        written = [log, history, bar]
    try:
        model.fit(
            batches,
            epochs=epochs,
            initial_epoch=start // steps,
            verbose=0,
            callbacks=[
                *monitors,
                *_with_momentum(model, callbacks, epochs * steps),
                *written,
                checkpoint,
            ],
        )
    except Interrupted as stop:
        # The signal arrived while callbacks measured the epoch, which they did not finish.
        epoch, left = divmod(stop.step, steps)
        if written and not left and epoch and not any(e["epoch"] == epoch for e in run.history):
            history.on_epoch_end(epoch - 1, model.get_metrics_result())
        raise
    finally:
        bar.stop()
        checkpoint.stop()


@contextlib.contextmanager
def _locked(run: Run, strategy: distribute.Strategy) -> Iterator[None]:
    """Locks the run directory for all workers."""
    with contextlib.ExitStack() as stack:
        refused = None
        if distribute.is_chief(strategy):
            try:
                stack.enter_context(run.locked())
            except OSError as error:
                refused = error
        if any(distribute.gather(strategy, refused is not None)):
            raise refused or BlockingIOError(
                f"The first worker could not lock {str(run.path)!r}; see its error message."
            )
        yield


def _keep_momentum_of_earlier_version(model: Learner, run: Run):
    """Lets a run that started without `early_momentum` go on without it, with the same results."""
    for _, path in checkpoint_files.checkpoints(run.checkpoints)[:1]:
        with contextlib.suppress(OSError, ValueError):  # `restore` reports damaged checkpoints
            settings = checkpoint_files.read_state(path).get("settings", {})
            model.has_early_momentum = model.has_early_momentum and EARLY_MOMENTUM in settings


def _with_momentum(
    model: SelfSupervised, callbacks: Sequence[keras.callbacks.Callback], batches: int
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks, with a `MomentumEncoder` that spans the entire run.

    By default, `MomentumEncoder` counts the steps of a `fit`, which does not know them if a run resumes
    in the middle of an epoch.
    """
    optimizer: Any = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    total_steps = max(1, batches // (inner.gradient_accumulation_steps or 1))
    complete = []
    for callback in callbacks:
        if isinstance(callback, MomentumEncoder) and callback.total_steps is None:
            callback = copy.copy(callback)  # the caller may use theirs for other runs
            callback.total_steps = total_steps
        complete.append(callback)
    has_one = any(isinstance(callback, MomentumEncoder) for callback in complete)
    if isinstance(model, MomentumMethod) and not has_one:
        first, final = model.default_momentum
        complete.insert(0, MomentumEncoder(first, final, total_steps))
    return complete
