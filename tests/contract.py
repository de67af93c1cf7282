"""Tests that every method must pass. A new method adds a row to ROWS.

Tests marked `costly` (strategies, XLA, mixed precision, steps per execution, ...) are in the default
tier for the reference method, moco_v2, and large for all others, so that a new method adds seconds to
the default tier.

The tests only use a method's row and what every method must have: `ssl_loss`, attributes `target_x`
that follow `x`, and state in non-trainable variables.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export
from keras_ssl.augment import random
from keras_ssl.backbones import Tiny, ViT, of_lightness, two_streams
from keras_ssl.callbacks import MomentumEncoder
from keras_ssl.data.parallel import with_threads
from keras_ssl.layers import (
    Clusters,
    ContextNetwork,
    Decoder,
    Discriminator,
    LinearProbe,
    MapHead,
    MLPHead,
    ProjectionHead,
    SplitBatchNorm,
    split_batch_norm,
    target_pairs,
    without_batch_norm,
)
from keras_ssl.methods import (
    BYOL,
    CMC,
    CPC,
    PIRL,
    AdversarialContextEncoder,
    Colorization,
    ContextEncoder,
    DeepCluster,
    DenoisingAutoencoder,
    Exemplar,
    InvariantSpreading,
    Jigsaw,
    MemoryBank,
    MoCo,
    RelativeLocation,
    Rotation,
    SelfSupervised,
    SimCLR,
    SimCLRMemory,
    SplitBrain,
    VideoColorization,
)
from keras_ssl.methods.momentum import MomentumMethod
from keras_ssl.optimizers import SGD

SHAPE = (8, 8, 3)
BATCH = 8
BATCHES = 5  # per epoch; not divisible by four steps per execution or two batches per step
EPOCHS = 2
STEPS = BATCHES * EPOCHS
FIRST, FINAL = 0.5, 1.0  # momentum of the targets, far enough from 1 to be measured


@dataclass(frozen=True)
class Row:
    """A configuration of a method.

    Args:
        name: name of the configuration.
        make: creates the model from the arguments that all methods have.
        without_gradient: path suffixes of trainable variables that the loss does not depend on.
        not_by_parts: why replicas without synchronized batch normalization differ from one device
            with split batch normalization; empty if they do not.
        lowest: minimum of the loss.
        rounding: largest difference of weights with and without loss scaling, if TensorFlow's graph
            optimizer sums their gradients in another order; 0 if it does not.
        prepare: does with a model what its `fit` would do before the first step.
        is_variant: whether another row covers the same code; then only `make test-large` runs it.
    """

    name: str
    make: Callable[..., SelfSupervised]
    without_gradient: tuple[str, ...] = ()
    not_by_parts: str = ""
    lowest: float = 0.0
    is_variant: bool = False
    rounding: float = 0.0
    prepare: Callable[[SelfSupervised], None] = lambda model: None


def backbone():
    return Tiny(SHAPE, features=16)


def vit():
    network = ViT(patch=4, dim=16, depth=1, heads=2, input_shape=SHAPE)
    tokens = network.get_layer("tokens")
    # Normalization divides by the deviation of tokens: 0.02 would multiply rounding errors by 50.
    for weight in (tokens.class_token, tokens.embeddings):
        weight.assign(50 * weight)
    return network


def split_backbone():
    return split_batch_norm(backbone(), groups=4)


def moco(network=backbone, depth=2, temperature=0.2, symmetric=False, **shared):
    # The batch size does not divide the queue size, so the queue wraps around.
    head = MLPHead(8, depth=depth)
    return MoCo(network(), head, 20, temperature, symmetric, **shared)


def byol(**shared):
    heads = (MLPHead(8, 16, batch_norm=True, name=name) for name in ("projector", "predictor"))
    return BYOL(backbone(), *heads, **shared)


def memory_bank(**shared):
    size = BATCH * BATCHES  # one entry per image
    return MemoryBank(backbone(), MLPHead(8, depth=1), size, negatives=16, **shared)


def simclr(**shared):
    return SimCLR(backbone(), ProjectionHead(8), temperature=0.5, **shared)


def simclr_memory(**shared):
    # Two views have 16 keys, which do not divide the queue size either.
    return SimCLRMemory(backbone(), ProjectionHead(8), 20, temperature=0.5, **shared)


def invariant_spreading(**shared):
    head = MLPHead(8, depth=1)
    return InvariantSpreading(backbone(), head, temperature=0.5, **shared)


def denoising_autoencoder(**shared):
    return DenoisingAutoencoder(backbone(), Decoder(SHAPE, filters=8), **shared)


def context_encoder(**shared):
    return ContextEncoder(backbone(), Decoder(SHAPE, filters=8, activation="sigmoid"), **shared)


def adversarial_context_encoder(**shared):
    decoder = Decoder(SHAPE, filters=8, activation="sigmoid")
    judge = Discriminator(8, name="discriminator")
    return AdversarialContextEncoder(
        backbone(), decoder, discriminator=judge, adversarial_weight=0.1, **shared
    )


def colorization(**shared):
    # The colors of the images are rare, so that their weights are 9.6 instead of 1.
    prior = [0.9] + 261 * [0.1 / 261]
    network = of_lightness(Tiny((8, 8, 1), features=16))
    return Colorization(network, MapHead(262, 64), prior, **shared)


def streams():
    return two_streams(Tiny((8, 8, 1), features=16), Tiny((8, 8, 2), features=16))


def split_brain(**shared):
    return SplitBrain(streams(), MapHead(262, 512), MapHead(50, 512), **shared)


def cmc(**shared):
    heads = (MLPHead(8, depth=1, name=f"{stream}_head") for stream in ("lightness", "color"))
    return CMC(streams(), *heads, temperature=0.2, **shared)


def cpc(**shared):
    context = ContextNetwork(8, depth=2)
    model = CPC(without_batch_norm(backbone()), context=context, **shared)
    for predictor in model.predictors:  # of 16 features, which give small scores
        predictor.kernel.assign(20 * predictor.kernel)
    return model


def video_colorization(**shared):
    # Colors on a circle: the pixels of noise are near all of them.
    angles = 2 * np.pi * np.arange(16) / 16
    colors = 40 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    network = of_lightness(Tiny((8, 8, 1), features=16))
    return VideoColorization(network, colors, **shared)


def free_size():
    """A backbone that takes tiles and whole images. Its images are larger: see `batches`."""
    return Tiny((None, None, 3), features=16, strides=(1, 2, 2))


def relative_location(**shared):
    return RelativeLocation(free_size(), MLPHead(8, 32, batch_norm=True), **shared)


def jigsaw(**shared):
    return Jigsaw(free_size(), keras.layers.Dense(8), permutations=10, **shared)


def pirl(**shared):
    heads = (MLPHead(8, depth=1, name=name) for name in ("image", "tile", "joint"))
    return PIRL(free_size(), *heads, size=BATCH * BATCHES, negatives=16, **shared)


BOTH_VIEWS_TOGETHER = (
    "Both views share one pass: a replica normalizes half of each view, but a group of the batch "
    "is one entire view."
)


def deep_cluster(**shared):
    return DeepCluster(
        backbone(),
        MLPHead(8, depth=1),
        size=BATCH * BATCHES,
        clusters=(6, 4),
        temperature=0.05,
        **shared,
    )


def cluster(model):
    """Clusters all images, also if a test trains on some of the batches only."""
    model.fill_bank(labelled(model) if model.takes_labels else batches(model))
    model.cluster(0)


ROWS = [
    Row("simclr", simclr, not_by_parts=BOTH_VIEWS_TOGETHER),
    Row("simclr_memory", simclr_memory, not_by_parts=BOTH_VIEWS_TOGETHER),
    Row("moco_v1", lambda **shared: moco(depth=1, temperature=0.07, **shared), is_variant=True),
    Row("moco_v2", moco),
    Row("moco_symmetric", lambda **shared: moco(symmetric=True, **shared), is_variant=True),
    Row(
        "moco_split_batch_norm",
        lambda **shared: moco(split_backbone, **shared),
        is_variant=True,
    ),
    Row("moco_vit", lambda **shared: moco(vit, **shared), is_variant=True),
    Row("memory_bank", memory_bank),
    Row("deep_cluster", deep_cluster, prepare=cluster),
    # Batch normalization cancels the bias before it.
    Row("byol", byol, without_gradient=("projector/dense_1/bias", "predictor/dense_1/bias")),
    Row("invariant_spreading", invariant_spreading, not_by_parts=BOTH_VIEWS_TOGETHER),
    Row("denoising_autoencoder", denoising_autoencoder),
    Row("context_encoder", context_encoder),
    Row("adversarial_context_encoder", adversarial_context_encoder),
    Row("cpc", cpc, rounding=1e-6),
    Row("exemplar", lambda **shared: Exemplar(backbone(), BATCH * BATCHES, **shared)),
    Row("rotation", lambda **shared: Rotation(Tiny(SHAPE, features=32), **shared)),
    # Batch normalization cancels the bias before it.
    Row("relative_location", relative_location, without_gradient=("head/dense_1/bias",)),
    Row("jigsaw", jigsaw),
    Row("pirl", pirl),
    Row("colorization", colorization),
    Row("split_brain", split_brain),
    Row("cmc", cmc),
    Row("video_colorization", video_colorization),
]


@pytest.fixture(
    params=[
        pytest.param(row, id=row.name, marks=pytest.mark.large if row.is_variant else [])
        for row in ROWS
    ],
    scope="module",
)
def row(request):
    return request.param


def build(row, optimizer=None, probe=None, **compile_arguments):
    keras.utils.set_random_seed(1)
    model = row.make(probe=probe)
    model.compile(optimizer or SGD(0.01), **compile_arguments)
    row.prepare(model)
    return model


def batches(model, count=BATCHES):
    """Returns batches of similar views, and indices and keys if the method needs them."""
    generator = np.random.default_rng(0)
    # Images to be cut into nine tiles are larger: 12 pixels give tiles of 3.
    shape = (12, 12, 3) if None in model.backbone.input_shape[1:] else SHAPE
    images = generator.random((count * BATCH, *shape), np.float32)
    views = [
        images + 0.1 * generator.normal(size=images.shape).astype("float32")
        for _ in range(model.view_count or 2)
    ]
    if model.takes_indices:
        views.append(np.arange(len(images)))
    if model.takes_keys:
        views.append(np.asarray(random.image_keys(0, 0, np.arange(len(images)), random.METHOD)))
    return with_threads(
        tf.data.Dataset.from_tensor_slices(tuple(views)).batch(BATCH, drop_remainder=True)
    )


def train(model, data=None, epochs=1, momentum=(FIRST, FINAL), total_steps=STEPS, **arguments):
    """Calls `fit`, with a momentum schedule if there is a target; returns the logs."""
    callbacks = arguments.pop("callbacks", [])
    if isinstance(model, MomentumMethod):
        callbacks = [MomentumEncoder(*momentum, total_steps=total_steps), *callbacks]
    data = batches(model) if data is None else data
    return model.fit(data, epochs=epochs, callbacks=callbacks, verbose=0, **arguments).history


def values_of(variables):
    return [np.asarray(variable).copy() for variable in variables]


def places(model, variables):
    """Returns the positions of variables in `model.weights`."""
    ids = {id(variable) for variable in variables}
    return [place for place, weight in enumerate(model.weights) if id(weight) in ids]


def statistics(network):
    return [v for v in network.non_trainable_weights if v.name.startswith("moving_")]


def collected(model):
    """Returns queues and banks: weights not trained, not of targets, and no moving statistics."""
    others = [*model.trainable_weights, *statistics(model)]
    for layer in model._flatten_layers():
        if isinstance(layer, Clusters):  # they change once per epoch
            others += layer.weights
    for target, _ in target_pairs(model):
        others += target.weights
    return [v for v in model.weights if all(v is not other for other in others)]


def parameters(online):
    """Returns, for each weight of a network, whether it is trained and its target follows it."""
    return [weight.trainable for weight in online.weights]


def assert_equal(first, second, tolerance=0.0):
    """Compares lists of weights, by default bit for bit."""
    for place, (one, other) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=0, err_msg=f"weight {place}")


class Recorder(keras.callbacks.Callback):
    """Records the weights after each execution, and saves the model after the first epoch."""

    def __init__(self, directory=None):
        super().__init__()
        self.directory = directory
        self.after = []

    def on_train_begin(self, logs=None):
        self.after.append(values_of(self.model.weights))

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(values_of(self.model.weights))

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0 and self.directory:
            self.model.save(self.directory / "model.keras")
            self.model.save_weights(self.directory / "model.weights.h5")


@dataclass
class Run:
    """The reference training, with one step per execution."""

    model: SelfSupervised
    history: dict
    after: list  # after[n]: weights after n steps


@pytest.fixture(scope="module")
def directory(row, tmp_path_factory):
    return tmp_path_factory.mktemp(row.name)


@pytest.fixture(scope="module")
def run(row, directory):
    model = build(row)
    recorder = Recorder(directory)
    # Without `total_steps`, the schedule must find the number of steps.
    history = train(model, epochs=EPOCHS, total_steps=None, callbacks=[recorder])
    return Run(model, history, recorder.after)


def rewind(run):
    """Returns the model of the reference training as it was at the start; its step is compiled."""
    model = run.model
    for variable, value in zip(model.weights, run.after[0], strict=True):
        variable.assign(value)
    for variable in model.optimizer.variables:
        if variable is not model.optimizer.learning_rate:
            variable.assign(np.zeros(variable.shape))
    return model


@pytest.fixture(scope="module")
def run_with_fixed_target(row, run):
    model = rewind(run)
    recorder = Recorder()
    return Run(model, train(model, momentum=(1.0, 1.0), callbacks=[recorder]), recorder.after)


# Learning


class KeepCollected(keras.callbacks.Callback):
    """Resets queue and bank after each step; a fixed batch would fill them with its own images."""

    start = None

    def on_train_batch_begin(self, batch, logs=None):
        if self.start is None:  # what is computed before the first step belongs to the start
            self.start = values_of(collected(self.model))

    def on_train_batch_end(self, batch, logs=None):
        for variable, value in zip(collected(self.model), self.start, strict=True):
            variable.assign(value)


def test_the_loss_falls_on_a_fixed_batch(row, run, monkeypatch):
    model = rewind(run)
    if isinstance(model, DeepCluster):
        monkeypatch.setattr(model, "cluster", lambda epoch: None)  # keeps those of the first epoch
    batch = batches(model, 1)
    losses = train(model, batch.repeat(30), 30, callbacks=[KeepCollected()], steps_per_epoch=1)
    # A loss with the wrong sign would fall too, but below its minimum.
    above = np.array(losses["loss"]) - row.lowest
    assert above.min() > -1e-5
    assert np.mean(above[-3:]) < 0.8 * above[0]


def test_all_trainable_variables_and_no_targets_have_gradients(row):
    model = build(row)
    views = next(iter(batches(model)))
    trained = model.trainable_weights
    targets = [v for target, _ in target_pairs(model) for v in target.weights]
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in targets])
        loss = model.ssl_loss(*views)
    gradients = tape.gradient(loss, [v.value for v in [*trained, *targets]])
    assert all(gradient is None for gradient in gradients[len(trained) :])

    sizes = [float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients[: len(trained)]]
    for variable, size in zip(trained, sizes, strict=True):
        is_zero = size < 1e-5 * max(sizes)
        assert is_zero == variable.path.endswith(row.without_gradient), variable.path


def test_the_optimizer_updates_exactly_the_trainable_variables(row, run):
    model = run.model
    known = {id(v) for v in model.optimizer._trainable_variables}
    assert known == {id(v) for v in model.trainable_weights}
    for network in ("backbone", "projector", "predictor"):
        assert not hasattr(model, network) or getattr(model, network).trainable_weights
    start, first = run.after[:2]
    for place in places(model, model.trainable_weights):
        is_still = np.abs(first[place] - start[place]).max() < 1e-7
        path = model.weights[place].path
        assert is_still == path.endswith(row.without_gradient), path


# Targets


def require_target(run):
    """Skips a test of target networks if the method has none."""
    if not target_pairs(run.model):
        pytest.skip("the method has no target network")


def test_targets_start_equal_and_follow_as_moving_averages(run):
    for target, online in target_pairs(run.model):
        theirs, own = places(run.model, online.weights), places(run.model, target.weights)
        assert len(own) == len(theirs) == len(target.weights)
        twin = [run.after[0][place].astype("float64") for place in theirs]
        assert_equal(twin, [run.after[0][place] for place in own])
        is_parameter = parameters(online)
        for step in range(STEPS):
            momentum = FINAL - (FINAL - FIRST) * (np.cos(np.pi * step / STEPS) + 1) / 2
            weights = run.after[step + 1]
            for i, (their_place, own_place) in enumerate(zip(theirs, own, strict=True)):
                if is_parameter[i]:
                    twin[i] = momentum * twin[i] + (1 - momentum) * weights[their_place]
                    np.testing.assert_allclose(weights[own_place], twin[i], atol=1e-6, rtol=0)


def test_targets_have_their_own_batch_statistics(run):
    for target, online in target_pairs(run.model):
        pairs = zip(statistics(online), statistics(target), strict=True)
        for theirs, own in pairs:
            (their_place,), (own_place,) = places(run.model, [theirs]), places(run.model, [own])
            before, last = run.after[-2], run.after[-1]
            assert (
                np.abs(last[own_place] - before[own_place]).max() > 1e-6
            )  # the last step has updated them
            # They are not averages of the online statistics, which the last step would hardly change.
            assert np.abs(last[own_place] - last[their_place]).max() > 1e-6


def test_momentum_one_never_moves_the_target(run, request):
    require_target(run)
    run = request.getfixturevalue("run_with_fixed_target")
    model, after = run.model, run.after
    for target, online in target_pairs(model):
        own = np.array(places(model, target.weights))[parameters(online)]
        theirs = np.array(places(model, online.weights))[parameters(online)]
        assert_equal([after[0][place] for place in own], [after[-1][place] for place in own])
        moved = [np.abs(after[0][place] - after[-1][place]).max() for place in theirs]
        assert max(moved) > 1e-3


def test_momentum_zero_copies_the_online_network(run):
    require_target(run)
    model = rewind(run)
    train(model, batches(model, 2), momentum=(0.0, 0.0))
    for target, online in target_pairs(model):
        for theirs, own in zip(online.weights, target.weights, strict=True):
            assert not theirs.trainable or np.array_equal(theirs, own)


# The same training with other settings


@pytest.mark.costly
def test_the_same_seed_gives_the_same_weights(row, run):
    again = build(row)
    history = train(again, epochs=EPOCHS)
    assert history["loss"] == run.history["loss"]
    assert_equal(values_of(again.weights), run.after[-1])


@pytest.mark.costly
@pytest.mark.parametrize("count", [BATCHES, 4])
def test_four_steps_per_execution_change_nothing(row, run, count):
    model = build(row, steps_per_execution=4)
    train(model, batches(model).take(count), epochs=EPOCHS if count == BATCHES else 1)
    steps = STEPS if count == BATCHES else count
    assert int(model.optimizer.iterations) == steps
    assert_equal(values_of(model.weights), run.after[steps])


@pytest.mark.costly
def test_eager_equals_graph(row, run):
    model = build(row, run_eagerly=True)
    train(model, batches(model).take(3))
    assert_equal(values_of(model.weights), run.after[3], tolerance=1e-5)


@pytest.mark.costly
def test_the_step_compiles_under_xla(row, run):
    model = build(row, jit_compile=True)
    train(model, batches(model).take(3))
    assert_equal(values_of(model.weights), run.after[3], tolerance=1e-4)


def test_a_saved_model_resumes_training_exactly(run, directory):
    model = keras.saving.load_model(directory / "model.keras")
    assert_equal(values_of(model.weights), run.after[BATCHES])
    train(model, epochs=EPOCHS, initial_epoch=1, total_steps=None)
    assert_equal(values_of(model.weights), run.after[-1])


def test_a_weights_file_holds_all_state(row, run, directory):
    model = build(row)
    model.optimizer.build(model.trainable_variables)
    model.load_weights(directory / "model.weights.h5")
    assert_equal(values_of(model.weights), run.after[BATCHES])
    saved = keras.saving.load_model(directory / "model.keras")
    assert int(model.optimizer.iterations) == BATCHES
    assert_equal(
        values_of(model.optimizer.variables), values_of(saved.optimizer.variables), tolerance=0.0
    )


def test_get_config_round_trip(run):
    copy = type(run.model).from_config(run.model.get_config())
    assert copy.get_config() == run.model.get_config()
    assert [v.shape for v in copy.weights] == [v.shape for v in run.model.weights]


# Replicas


def copies(variable):
    """Returns the value of a variable on each replica."""
    return [
        np.asarray(value).copy() for value in getattr(variable.value, "values", [variable.value])
    ]


def batch_norms(model):
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.costly
def test_two_replicas_equal_one(row, run, two_replicas):
    with two_replicas.scope():
        model = build(row)
    history = train(model, epochs=EPOCHS)
    np.testing.assert_allclose(history["loss"], run.history["loss"], rtol=1e-5)
    # Sums over the batch have another order, which is rounding in float32 over ten steps.
    assert_equal(values_of(model.weights), run.after[-1], tolerance=2e-5)
    for variable in model.weights:
        assert len(copies(variable)) == 2
        np.testing.assert_array_equal(*copies(variable), err_msg=variable.path)


@pytest.mark.costly
@pytest.mark.large
def test_two_replicas_with_local_batch_norm_equal_one_with_split_batch_norm(row, two_replicas):
    # Each replica normalizes half of the batch, as split batch normalization does.
    with two_replicas.scope():
        model = build(row)
    for layer in batch_norms(model):
        layer.synchronized = False
    train(model)
    trained = [v for v in model.weights if not any(v is other for other in statistics(model))]
    for variable in trained:
        np.testing.assert_array_equal(*copies(variable), err_msg=variable.path)
    if row.not_by_parts:
        return

    single = build(row)
    for layer in batch_norms(single):
        if not isinstance(layer, SplitBatchNorm):
            layer.__class__, layer.groups = SplitBatchNorm, 2
    train(single)
    # Replicas have different moving statistics; split batch normalization averages its groups.
    means = [np.mean(copies(variable), axis=0) for variable in model.weights]
    assert_equal(means, values_of(single.weights), tolerance=2e-5)


# Mixed precision, skipped steps and accumulated gradients


@pytest.mark.costly
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_finite(row, run, policy):
    keras.config.set_dtype_policy(policy)
    model = build(row)
    history = train(model)
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (policy == "mixed_float16")
    assert all(np.all(np.isfinite(value)) for value in values_of(model.weights))
    assert {v.dtype for v in model.weights} <= {"float32", "int64"}
    # The same training except for rounding and a step that loss scaling may skip.
    assert history["loss"][0] == pytest.approx(run.history["loss"][0], rel=0.1)


@pytest.mark.costly
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_step_skipped_by_loss_scaling_changes_nothing(row, run, replicas, request):
    strategy = tf.distribute.get_strategy()
    if replicas == 2:
        strategy = request.getfixturevalue("two_replicas")
    with strategy.scope():
        endless = keras.optimizers.LossScaleOptimizer(SGD(0.01), initial_scale=float("inf"))
        model = build(row, endless)
    start = values_of(model.weights)
    train(model)
    assert np.asarray(model.optimizer.iterations) == 0
    is_statistic = places(model, statistics(model))
    still = [place for place in range(len(model.weights)) if place not in is_statistic]
    after = values_of(model.weights)
    assert_equal([after[place] for place in still], [start[place] for place in still])

    # Training then continues as if those batches had not existed.
    model.optimizer.dynamic_scale.assign(1.0)
    train(model, batches(model).take(2))
    after = values_of(model.weights)
    tolerance = row.rounding if replicas == 1 else 1e-5
    expected = [run.after[2][place] for place in still]
    assert_equal([after[place] for place in still], expected, tolerance)


OPTIMIZERS = {"ours": SGD, "keras": keras.optimizers.SGD}


@pytest.mark.costly
@pytest.mark.parametrize("optimizer", ["ours", pytest.param("keras", marks=pytest.mark.large)])
def test_accumulated_gradients_move_targets_once_per_optimizer_step(row, optimizer):
    def accumulate(steps_per_execution):
        rule = OPTIMIZERS[optimizer](0.01, gradient_accumulation_steps=2)
        model = build(row, rule, steps_per_execution=steps_per_execution)
        recorder = Recorder()
        train(model, epochs=EPOCHS, total_steps=None, callbacks=[recorder])
        return model, recorder.after

    model, after = accumulate(steps_per_execution=1)
    steps = STEPS // 2
    assert int(model.optimizer.iterations) == steps
    trained = places(model, model.trainable_weights)
    entered = places(model, collected(model))
    for batch in range(1, STEPS + 1):
        is_step = batch % 2 == 0
        before, now = after[batch - 1], after[batch]
        assert is_step == any(not np.array_equal(before[i], now[i]) for i in trained)
        assert all(
            not np.array_equal(before[i], now[i]) for i in entered
        )  # every batch adds its keys
        momentum = FINAL - (FINAL - FIRST) * (np.cos(np.pi * (batch // 2 - 1) / steps) + 1) / 2
        keep = momentum if is_step else 1.0
        for target, online in target_pairs(model):
            for theirs, own in zip(online.weights, target.weights, strict=True):
                if theirs.trainable:
                    (i,), (j,) = places(model, [theirs]), places(model, [own])
                    expected = keep * before[j] + (1 - keep) * now[i]
                    np.testing.assert_allclose(now[j], expected, atol=1e-6, rtol=0)
    # Executions of four batches end between the two batches of a step.
    assert_equal(accumulate(steps_per_execution=4)[1][-1], after[-1])


@pytest.mark.costly
def test_keras_refuses_to_accumulate_gradients_on_two_replicas(row, two_replicas):
    # Keras optimizers call `merge_call` in a branch. They raise this error before any step.
    with two_replicas.scope():
        model = build(row, SGD(0.01, gradient_accumulation_steps=2))
    start = values_of(model.weights)
    with pytest.raises(RuntimeError, match="`merge_call` called while defining a new graph"):
        train(model)
    assert_equal(values_of(model.weights), start)


# Labels and export


def labelled(model, classes=3):
    labels = tf.range(BATCH, dtype=tf.int64) % classes
    return batches(model).map(lambda *views: (views, labels))


def test_labels_in_a_batch_are_refused(row):
    model = build(row)
    with pytest.raises(ValueError, match=r"tuple of views, \(view_1, view_2\), without labels"):
        train(model, labelled(model))


@pytest.mark.costly
def test_a_probe_does_not_touch_the_encoder(row, run):
    probe = LinearProbe(classes=3)
    model = build(row, probe=probe)
    encoder = [v for v in model.weights if not any(v is w for w in probe.weights)]
    for variable, value in zip(encoder, run.after[0], strict=True):
        variable.assign(value)
    before = values_of(probe.weights)
    history = train(model, labelled(model))
    assert_equal(values_of(encoder), run.after[BATCHES])
    assert history["loss"] == run.history["loss"][:1]
    assert 0 <= history["probe"][0] <= 1
    assert all(not np.array_equal(v, old) for v, old in zip(probe.weights, before, strict=True))


@pytest.mark.costly
def test_the_online_backbone_is_exported(run_with_fixed_target, tmp_path):
    model = run_with_fixed_target.model
    for variable, value in zip(model.weights, run_with_fixed_target.after[-1], strict=True):
        variable.assign(value)  # other tests have trained the model since
    images = next(iter(batches(model)))[0]
    features = model.backbone(images).numpy()
    np.testing.assert_array_equal(model(images), features)
    loaded = export.load(export.saved_model(model, tmp_path / "artefact"))
    np.testing.assert_allclose(loaded(images), features, atol=1e-6)
    for target, online in target_pairs(model):
        if online is model.backbone:
            assert np.abs(features - target(images)).max() > 1e-3
