"""Pretraining into a run directory: checkpoints, logs, progress, and going on after a stop."""

import copy
from collections.abc import Sequence
from typing import Any

import keras

from keras_ssl.augment import Policy
from keras_ssl.callbacks import (
    Checkpoint,
    CollapseMonitor,
    MomentumEncoder,
    ProgressBar,
    restore,
)
from keras_ssl.data import Source, views
from keras_ssl.methods import SelfSupervised
from keras_ssl.methods.momentum import MomentumMethod
from keras_ssl.run import HistoryFile, Run

_CHECKPOINT_INTERVAL = 30.0  # seconds: what a power cut costs at most, beyond the epoch under way


def pretrain(
    model: SelfSupervised,
    source: Source,
    policy: Policy,
    run: Run,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Fits a model on views of unlabelled images, from the run's newest checkpoint on.

    It is `model.fit` with the callbacks that a long run wants: checkpoints that answer Ctrl-C,
    TensorBoard, history.jsonl, a progress bar, and a `CollapseMonitor`, which measures the features
    after each epoch and stops at a loss or weights that are not finite.

    Args:
        model: compiled method.
        source: images; their labels are for the model's probe alone, if it has one.
        policy: what makes the views.
        run: where the run is kept. An interrupted one goes on where it was, with the batches that it
            would have seen; a finished one returns at once.
        epochs: passes over the data, in all.
        batch_size: images per step, over all replicas.
        seed: of the order and the views.
        callbacks: further callbacks, called before the values of an epoch are written. A method with
            a target network takes its default momentum if there is no `MomentumEncoder` among them.

    Returns:
        The values of each epoch, such as `{"epoch": 1, "loss": 5.2}`.

    Raises:
        ValueError: if the batch is larger than the data set.
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
        FloatingPointError: if the loss, a weight or a feature is not finite.

    Example: recipes/simclr_cifar10.py.
    """
    start = restore(model, run.checkpoints)
    batches = views(
        source,
        policy,
        batch_size,
        seed,
        start=start,
        labels=model.probe is not None,
        indices=model.takes_indices,
    )
    steps = len(source) // batch_size
    if start >= epochs * steps:
        return run.history
    bar = ProgressBar(steps, start)
    # Inference costs a third of training: where a sixteenth of the images is measured, some 2 %.
    monitor = CollapseMonitor(images=min(512, max(64, len(source) // 16)))
    checkpoint = Checkpoint(run.checkpoints, steps, start, interval=_CHECKPOINT_INTERVAL)
    try:
        model.fit(
            batches,
            epochs=epochs,
            initial_epoch=start // steps,
            verbose=0,
            callbacks=[
                monitor,
                *_with_momentum(model, callbacks, epochs * steps),
                keras.callbacks.TensorBoard(run.logs, write_graph=False),
                HistoryFile(run),
                bar,
                checkpoint,
            ],
        )
    finally:
        bar.stop()
        checkpoint.stop()
    return run.history


def _with_momentum(
    model: SelfSupervised, callbacks: Sequence[keras.callbacks.Callback], batches: int
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks, whose momentum now goes over the whole run.

    By itself `MomentumEncoder` counts the steps of a `fit`, which does not know them where a run goes
    on in the middle of an epoch.
    """
    optimizer: Any = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    total_steps = max(1, batches // (inner.gradient_accumulation_steps or 1))
    complete = []
    for callback in callbacks:
        if isinstance(callback, MomentumEncoder) and callback.total_steps is None:
            callback = copy.copy(callback)  # the caller's serves for other runs
            callback.total_steps = total_steps
        complete.append(callback)
    has_one = any(isinstance(callback, MomentumEncoder) for callback in complete)
    if isinstance(model, MomentumMethod) and not has_one:
        first, final = model.default_momentum
        complete.insert(0, MomentumEncoder(first, final, total_steps))
    return complete
