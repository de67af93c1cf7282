"""A training run that tests kill: `python tests/distribute/run.py DIRECTORY [--strategy NAME] ...`.

test_survival.py starts it as a separate program, once or as the workers of a cluster. It prints a line
when training has started, and exits with the status codes of the command line.
"""

import argparse
import pathlib
import sys
import time

import keras
import numpy as np

from keras_ssl import distribute
from keras_ssl.callbacks import Interrupted
from keras_ssl.optimizers import LARS
from keras_ssl.runs import Run, train
from tests import cluster
from tests.distribute import equal


class Steps(keras.callbacks.Callback):
    """Prints a line after the first step, and slows down all steps."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        if not self.seconds and batch:
            return
        print("step", flush=True)
        time.sleep(self.seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--strategy", default="none")
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.0, help="sleep after each step")
    arguments = parser.parse_args()
    cluster.make_logical_cpus()
    strategy = distribute.strategy(arguments.strategy)
    with strategy.scope():
        model = equal.make(arguments.method)
        model.compile(LARS(0.1))
    run = Run(arguments.directory)
    if distribute.is_chief(strategy) and not run.path.exists():
        Run.create(run.path, {})
    distribute.gather(strategy, 0)  # wait until the directory exists
    try:
        train(
            model,
            equal.source(),
            equal.policy(),
            run,
            arguments.epochs,
            equal.BATCH,
            seed=3,
            callbacks=[Steps(arguments.seconds)],
            mid_epoch_interval=0.0,  # a checkpoint after every step, so a kill often interrupts one
        )
    except Interrupted as stop:
        print(stop, flush=True)
        return 128 + stop.signal
    except (OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    weights = [*model.weights, *model.optimizer.variables]
    name = f"weights-{distribute.worker_id(strategy)}.npz"
    np.savez(run.path / name, *[np.asarray(weight) for weight in weights])
    print("done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
