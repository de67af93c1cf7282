"""Training into a run directory: its files, and exact resuming."""

import os
import signal

import keras
import numpy as np
import pytest

from keras_ssl import data
from keras_ssl.augment import Augmentation, Policy, RandomFlip
from keras_ssl.backbones import Tiny
from keras_ssl.callbacks import Interrupted, KNNMonitor, MomentumEncoder
from keras_ssl.callbacks.checkpoint_files import checkpoints
from keras_ssl.layers import MLPHead, split_batch_norm
from keras_ssl.methods import BYOL, MemoryBank, MoCo, SimCLR
from keras_ssl.methods.momentum_encoder import CosineMomentum
from keras_ssl.optimizers import LARS, WarmupCosine
from keras_ssl.runs.directory import Run
from keras_ssl.runs.training import _with_momentum
from keras_ssl.runs.training import train as train_into
from tests.tiers import rest_large

POLICY = Policy(Augmentation([RandomFlip()]), Augmentation([RandomFlip()]))
EPOCHS = 3
STEPS = 4


def source():
    pixels = np.random.default_rng(0).integers(0, 256, (35, 4, 4, 1), np.uint8)
    return data.arrays(pixels, np.arange(35) % 3)


def model(seed=0, learning_rate=0.3):
    keras.utils.set_random_seed(seed)
    built = SimCLR(Tiny((4, 4, 1), features=8), temperature=0.5)
    built.compile(LARS(WarmupCosine(learning_rate, EPOCHS * STEPS, 2)))
    return built


def train(trained, path, callbacks=(), batch_size=8):
    run = Run(path) if path.exists() else Run.create(path, {})
    history = train_into(
        trained, source(), POLICY, run, EPOCHS, batch_size, seed=2, callbacks=callbacks
    )
    return run, history


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    trained = model()
    run, history = train(trained, tmp_path_factory.mktemp("runs") / "whole")
    return trained, run, history


def test_a_run_writes_history_checkpoints_and_logs(whole):
    trained, run, history = whole
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert all(np.isfinite(line["loss"]) for line in history)
    assert all(0 < line["embedding_std"] < 1 for line in history)
    assert history == run.history
    assert checkpoints(run.checkpoints)[-1][0] == EPOCHS * STEPS
    assert int(trained.optimizer.iterations) == EPOCHS * STEPS
    assert list(run.logs.rglob("events.*"))


@pytest.mark.parametrize("step", rest_large([6, 4, 12]))
def test_resuming_is_exact(whole, tmp_path, step):
    with pytest.raises(Interrupted) as stop:
        train(model(), tmp_path / "run", [StopAt(step)])
    assert stop.value.step == step
    resumed = model(seed=1)
    _, history = train(resumed, tmp_path / "run")
    uninterrupted, _, whole_history = whole
    for one, other in zip(
        [*resumed.get_weights(), *resumed.optimizer.variables],
        [*uninterrupted.get_weights(), *uninterrupted.optimizer.variables],
        strict=True,
    ):
        if np.ndim(one):  # all but the running mean of the loss, and counters
            np.testing.assert_array_equal(one, other)
    assert int(resumed.optimizer.iterations) == EPOCHS * STEPS
    # The mean loss of an interrupted epoch is that of its remaining steps.
    assert [line["epoch"] for line in history] == [1, 2, 3]
    for line, expected in zip(history, whole_history, strict=True):
        if step % STEPS == 0 or line["epoch"] != step // STEPS + 1:
            assert line == expected


@pytest.mark.large
def test_the_same_seed_gives_the_same_run(whole, tmp_path):
    _, history = train(model(), tmp_path / "run")
    assert history == whole[2]


def test_a_finished_run_returns_immediately(whole, tmp_path):
    _, run, history = whole
    fresh = model(seed=3)
    assert train(fresh, run.path)[1] == history
    assert checkpoints(run.checkpoints)[-1][0] == EPOCHS * STEPS


@pytest.mark.large
def test_values_of_further_callbacks_are_written(tmp_path):
    monitor = KNNMonitor(source(), source(), k=3, every=2)
    _, history = train(model(), tmp_path / "run", [monitor])
    assert ["knn" in line for line in history] == [False, True, False]


class Poison(keras.callbacks.Callback):
    """Makes a variable NaN in the second epoch."""

    def __init__(self, variable):
        super().__init__()
        self.variable = variable

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.variable.assign(self.variable * np.nan)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        # The loss does not depend on moving statistics, so it stays finite.
        (
            "block1_norm/moving_mean",
            r"loss=\d.* in epoch 2; .*its weights 'block1_norm/moving_mean' are not",
        ),
        pytest.param(
            "block1_conv/kernel",
            r"in epoch 2; .*its weights 'block1_conv/kernel' are not finite",
            marks=pytest.mark.large,
        ),
        pytest.param(
            "dense_2/kernel",
            r"must be finite\. Received: loss=nan in epoch 2",
            marks=pytest.mark.large,
        ),
    ],
)
def test_a_loss_or_weight_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, place, message):
    monkeypatch.setattr("keras_ssl.runs.training._INTERVAL", 0.0)
    handler = signal.getsignal(signal.SIGINT)
    monitor = KNNMonitor(source(), source(), k=3)  # would refuse the features
    trained = model()
    poison = Poison([weight for weight in trained.weights if place in weight.path][-1])
    with pytest.raises(FloatingPointError, match=message):
        train(trained, tmp_path / "run", [poison, monitor])
    assert signal.getsignal(signal.SIGINT) is handler
    # The checkpoint and the history are those of the first epoch.
    run = Run(tmp_path / "run")
    assert [step for step, _ in checkpoints(run.checkpoints)] == [STEPS]
    assert [line["epoch"] for line in run.history] == [1]


def test_a_batch_larger_than_the_data_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"must not be larger than the data set.*35 images"):
        train(model(), tmp_path / "run", batch_size=36)
    assert not (tmp_path / "run" / "checkpoints").exists()


def assert_equal_state(one, other):
    """Weights, target, queue, bank and optimizer are equal to the bit."""
    pairs = zip(
        [*one.weights, *one.optimizer.variables],
        [*other.weights, *other.optimizer.variables],
        strict=True,
    )
    for first, second in pairs:
        if "loss" not in first.path:  # the running mean of the loss starts later in the epoch
            np.testing.assert_array_equal(first, second, err_msg=first.path)


def moco(seed=0, accumulate=None):
    keras.utils.set_random_seed(seed)
    backbone = split_batch_norm(Tiny((4, 4, 1), features=8), groups=2)
    built = MoCo(backbone, MLPHead(4), queue_size=13)
    built.compile(keras.optimizers.Adam(0.01, gradient_accumulation_steps=accumulate))
    return built


def byol(seed=0):
    keras.utils.set_random_seed(seed)
    head = MLPHead(4, 8, batch_norm=True)
    built = BYOL(Tiny((4, 4, 1), features=8), head, MLPHead(4, 8, batch_norm=True))
    built.compile(LARS(WarmupCosine(0.3, EPOCHS * STEPS, 2)))
    return built


def memory_bank(seed=0):
    keras.utils.set_random_seed(seed)
    built = MemoryBank(Tiny((4, 4, 1), features=8), MLPHead(4, depth=1), size=35, negatives=9)
    built.compile(keras.optimizers.Adam(0.01))
    return built


@pytest.mark.large
@pytest.mark.parametrize(
    ("make", "momentum", "state"),
    [
        (moco, (0.5, 0.9), "keys"),
        pytest.param(byol, None, "norm", marks=pytest.mark.large),
        pytest.param(memory_bank, None, "embeddings", marks=pytest.mark.large),
    ],
)
def test_other_methods_resume_exactly_in_the_middle_of_an_epoch(make, momentum, state, tmp_path):
    encoder = [] if momentum is None else [MomentumEncoder(*momentum)]
    uninterrupted = make()
    _, whole_history = train(uninterrupted, tmp_path / "whole", encoder)
    with pytest.raises(Interrupted):
        train(make(), tmp_path / "run", [*encoder, StopAt(6)])
    resumed = make(seed=1)
    _, history = train(resumed, tmp_path / "run", encoder)
    assert_equal_state(resumed, uninterrupted)
    assert history[-1] == whole_history[-1]
    assert any(state in variable.path for variable in resumed.weights)
    if momentum is not None:
        assert encoder[0].total_steps is None  # it can be used for other runs
        schedule = CosineMomentum(*momentum, total_steps=EPOCHS * STEPS)
        expected = [schedule(epoch * STEPS - 1) for epoch in range(1, EPOCHS + 1)]
        found = [line["momentum"] for line in history]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    if make is byol:
        assert uninterrupted.momentum == CosineMomentum(0.996, 1.0, total_steps=EPOCHS * STEPS)


@pytest.mark.parametrize(("accumulate", "steps"), [(None, 12), (4, 3), (5, 2), (40, 1)])
def test_the_momentum_schedule_spans_the_steps_of_the_optimizer(accumulate, steps):
    model = moco(accumulate=accumulate)
    given = [StopAt(1), MomentumEncoder(0.5, 0.9), MomentumEncoder(0.5, 0.9, total_steps=1000)]
    stop, counted, own = _with_momentum(model, given, batches=12)
    assert stop is given[0]
    assert (counted.total_steps, own.total_steps) == (steps, 1000)
    default, _ = _with_momentum(model, given[:1], batches=12)
    assert (default.momentum, default.final, default.total_steps) == (0.999, 0.999, steps)


def test_a_method_without_target_gets_no_momentum():
    assert _with_momentum(model(), [], batches=12) == []
