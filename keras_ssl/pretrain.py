"""Pretraining into a run directory: checkpoints, logs, progress, and going on after a stop."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_ssl.augment import Policy
from keras_ssl.callbacks import Checkpoint, ProgressBar, restore
from keras_ssl.data import Source, views
from keras_ssl.methods import SelfSupervised
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
    TensorBoard, history.jsonl, a progress bar, and a stop at a loss or weights that are no
    numbers.

    Args:
        model: compiled method.
        source: images.
        policy: what makes the views.
        run: where the run is kept. An interrupted one goes on where it was, with the batches that it
            would have seen; a finished one returns at once.
        epochs: passes over the data, in all.
        batch_size: images per step, over all replicas.
        seed: of the order and the views.
        callbacks: further callbacks, called before the values of an epoch are written.

    Returns:
        The values of each epoch, such as `{"epoch": 1, "loss": 5.2}`.

    Raises:
        ValueError: if the batch is larger than the data set.
        keras_ssl.callbacks.Interrupted: if a signal stopped the run; its state is saved.
        FloatingPointError: if the loss or a weight is not finite.

    Example: recipes/simclr_cifar10.py.
    """
    start = restore(model, run.checkpoints)
    batches = views(source, policy, batch_size, seed, start=start)
    steps = len(source) // batch_size
    if start >= epochs * steps:
        return run.history
    bar = ProgressBar(steps, start)
    checkpoint = Checkpoint(run.checkpoints, steps, start, interval=_CHECKPOINT_INTERVAL)
    try:
        model.fit(
            batches,
            epochs=epochs,
            initial_epoch=start // steps,
            verbose=0,
            callbacks=[
                _Finite(),
                *callbacks,
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


class _Finite(keras.callbacks.Callback):
    """Stops a run whose loss or weights are no numbers: nothing that follows could mend it."""

    def on_epoch_end(self, epoch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        # ReLU on CPUs turns what is no number into 0, so that the loss of broken weights may be finite.
        broken = [
            variable.path
            for variable in self.model.trainable_variables
            if not tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable)))
        ]
        if not tf.math.is_finite(loss) or broken:
            weights = f", and {len(broken)} variables, the first {broken[0]!r}" if broken else ""
            raise FloatingPointError(
                f"Loss and weights must be finite. Received: loss={loss} in epoch {epoch + 1}"
                f"{weights} not finite. A lower learning rate, a longer warm-up or float32 precision "
                "helps; the last checkpoint is from before this epoch."
            )
