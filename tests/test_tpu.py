"""Checks without a TPU that TPUs can run the training steps.

A step of a method, including the augmentation of both views, is traced with static shapes. It must
compile with XLA, return the same as in eager mode, and contain no op that a TPU cannot run: XLA must
have a kernel for each op and its types on every kind of device, and no shape may depend on data.
"""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment, backbones, data, distribute, methods, optimizers
from keras_ssl.augment import random
from keras_ssl.augment.random import image_keys
from keras_ssl.distribute import replicas
from keras_ssl.layers import MLPHead, split_batch_norm
from tests.tiers import rest_large
from tests.tpu_ops import (
    operations,
    ops_in_float64,
    ops_of_unknown_shape,
    ops_without_kernel,
    tpu_types,
)


@pytest.fixture(autouse=True, scope="module")
def fresh_threefry():
    """Replaces `threefry`: its graph from other tests has unknown shapes and would be reused here."""
    shared = random.threefry
    random.threefry = tf.function(shared.python_function, autograph=False)
    yield
    random.threefry = shared


BATCH = 8


def tiny():
    return backbones.Tiny((8, 8, 3), features=16)


def head():
    return MLPHead(8, 16, batch_norm=True)


# Together, these cover every kind of method, every policy, random augmentation layer and optimizer.
STEPS = {
    "SimCLR": (lambda: methods.SimCLR(tiny()), augment.simclr(8), lambda: optimizers.LARS(0.1)),
    "MoCo": (
        lambda: methods.MoCo(split_batch_norm(tiny(), 2), queue_size=20),
        augment.moco_v2(8),
        lambda: optimizers.SGD(0.1, weight_decay=1e-4),
    ),
    "BYOL": (
        lambda: methods.BYOL(tiny(), head(), head()),
        augment.byol(8),
        lambda: optimizers.LARS(0.1),
    ),
    "MemoryBank": (
        lambda: methods.MemoryBank(tiny(), size=40, negatives=8),
        augment.centred(8),
        lambda: keras.optimizers.Adam(0.01),
    ),
}


class Step:
    """A method's whole step, a function of a uint8 batch, its epoch and the indices of its images."""

    def __init__(self, name):
        make, self.policy, optimizer = STEPS[name]
        self.model = make()
        self.model.compile(optimizer())
        self.model.optimizer.build(self.model.trainable_variables)
        self.variables = [*self.model.variables, *self.model.optimizer.variables]
        self.start = [variable.numpy() for variable in self.variables]
        self.traced = tf.function(self, autograph=False)
        self.graph = self.traced.get_concrete_function(*batch(0)).graph
        # XLA compiles the same trace that the tests inspect.
        self.compiled = tf.function(
            lambda *inputs: self.traced(*inputs), jit_compile=True, autograph=False
        )

    def __call__(self, images, epoch, index):
        views = tuple(
            augmentation(images, keys=image_keys(3, epoch, index, view))
            for view, augmentation in enumerate(self.policy)
        )
        extra = (index,) if self.model.takes_indices else ()
        return self.model.train_step((*views, *extra))["loss"]

    def train(self, step, steps=2):
        """Returns the losses of the first steps, and the variables after them."""
        self.model.reset_metrics()
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)
        losses = [float(step(*batch(number))) for number in range(steps)]
        return losses, [variable.numpy() for variable in self.variables]


@functools.cache
def build_step(name):
    return Step(name)


def batch(number):
    pixels = np.random.default_rng(number).integers(0, 256, (BATCH, 12, 10, 3), np.uint8)
    return tf.constant(pixels), tf.constant(number, tf.int64), tf.range(BATCH, dtype=tf.int64)


SLOWER = sorted(STEPS.keys() - {"SimCLR", "MoCo"})


@pytest.mark.large
@pytest.mark.parametrize(
    "name",
    rest_large(["MoCo", "SimCLR", *SLOWER]),
)
def test_a_compiled_step_equals_an_eager_step(name):
    step = build_step(name)
    losses, variables = step.train(step.compiled)
    assert step.traced.experimental_get_tracing_count() == 1

    # In eager mode, Python runs in every step, so side effects would change the result.
    expected_losses, expected = step.train(step)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for variable, value, other, start in zip(
        step.variables, variables, expected, step.start, strict=True
    ):
        # XLA rounds differently: the largest difference seen was 2e-6.
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=2e-5, err_msg=variable.path)
        assert "kernel" not in variable.path or not np.array_equal(value, start), variable.path


@pytest.mark.parametrize("name", STEPS)
def test_every_op_of_a_step_has_a_tpu_kernel(name):
    graph = build_step(name).graph
    assert ops_without_kernel(graph) == set()
    assert ops_of_unknown_shape(graph) == set()


# Ops of `RandomCrop.boxes`, a few numbers per image. XLA rounds `low + (high - low) * number` once,
# other compilers round the product and the sum. In float32, this occasionally moves a side of the box
# by a whole pixel when it is rounded to pixels, which changes the view.
BOX_OPS = {"AddV2", "Cast", "Floor", "GatherV2", "GreaterEqual", "LessEqual", "Maximum", "Minimum"}
BOX_OPS |= {"Mul", "Pack", "RealDiv", "Round", "SelectV2", "Sqrt", "StridedSlice", "Sub"}


@pytest.mark.parametrize("name", STEPS)
def test_only_augmentations_compute_in_float64(name):
    """TPUs emulate float64, so each new use must be intended."""
    step = build_step(name)
    expected = {*BOX_OPS, "Exp"} | ({"Cos", "Sin"} if name == "MemoryBank" else set())
    # `apply_in_float64` in augment/layer.py, and `boxes` in augment/crop.py.
    assert ops_in_float64(step.graph) == expected

    view = tf.TensorSpec((BATCH, 8, 8, 3))
    index = (tf.TensorSpec((BATCH,), tf.int64),) if step.model.takes_indices else ()
    training = tf.function(step.model.train_step, autograph=False)
    assert ops_in_float64(training.get_concrete_function((view, view, *index)).graph) == set()


def test_a_step_in_bfloat16_has_tpu_kernels():
    keras.config.set_dtype_policy("mixed_bfloat16")
    step = Step("BYOL")
    assert ops_without_kernel(step.graph) == ops_of_unknown_shape(step.graph) == set()
    assert tf.bfloat16 in {o.dtype for each in operations(step.graph) for o in each.outputs}


def print_value(x):
    tf.print(x)
    return x


def resize(x):
    return tf.image.resize(x[:, None, None, None], (2, 2), method="bicubic")


@pytest.mark.parametrize(
    ("function", "ops"),
    [
        (lambda x: tf.py_function(lambda y: y, [x], tf.float32), {"EagerPyFunc"}),
        (lambda x: tf.numpy_function(lambda y: y, [x], tf.float32), {"PyFunc"}),
        (print_value, {"PrintV2", "StringFormat"}),
        (lambda x: tf.strings.as_string(x), {"AsString"}),
        (resize, {"ResizeBicubic"}),
        (lambda x: tf.cast(x, tf.complex128), {"Cast"}),
        (lambda x: tf.io.read_file("file"), {"ReadFile"}),
    ],
)
def test_ops_without_a_tpu_kernel_are_found(function, ops):
    def nested(x):
        called = tf.function(function, autograph=False)
        return tf.cond(x[0] > 0, lambda: called(x), lambda: called(x))

    for each in (function, nested):
        graph = tf.function(each, autograph=False).get_concrete_function(tf.zeros(4)).graph
        assert ops_without_kernel(graph) >= ops


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: tf.unique(x)[0], "Unique"),
        (lambda x: tf.where(x > 0), "Where"),
        (lambda x: tf.boolean_mask(x, x > 0), "GatherV2"),
        (lambda x: x[: tf.cast(x[0], tf.int32)], "StridedSlice"),
    ],
)
def test_ops_with_data_dependent_shapes_are_found(function, op):
    called = tf.function(function, autograph=False)
    nested = tf.function(lambda x: called(x), autograph=False)
    assert op in ops_of_unknown_shape(nested.get_concrete_function(tf.zeros(4)).graph)


def test_ops_in_float64_are_found():
    function = tf.function(lambda x: tf.sin(tf.cast(x, tf.float64)), autograph=False)
    assert ops_in_float64(function.get_concrete_function(1.0).graph) >= {"Cast", "Sin"}
    assert tf.float64 in tpu_types()
    assert tf.complex128 not in tpu_types()


@pytest.mark.parametrize("name", ["SimCLR", "MoCo", "MemoryBank"])
def test_a_step_on_two_replicas_has_tpu_kernels(name, monkeypatch):
    """On a TPU with several cores, the replica id is only known when the step runs."""
    current = types.SimpleNamespace()

    def all_gather(values):
        # `TPUStrategy` then sums over the replicas with CrossReplicaSum, which is not in this build.
        mask = tf.one_hot(current.replica, 2, dtype=values.dtype)
        padded = tf.tensordot(mask, values, axes=0)  # (2, batch, ...)
        return tf.reshape(padded, tf.concat([[2 * tf.shape(values)[0]], tf.shape(values)[1:]], 0))

    for module in (distribute, replicas):
        monkeypatch.setattr(module, "replica_count", lambda: 2)
        monkeypatch.setattr(module, "replica_id", lambda: current.replica)
        monkeypatch.setattr(module, "all_gather", all_gather)
    model = STEPS[name][0]()
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)

    def replica(number, *views):
        current.replica = number
        return model.train_step(views)["loss"]

    view = tf.zeros((BATCH, 8, 8, 3))
    index = (tf.range(BATCH, dtype=tf.int64),) if model.takes_indices else ()
    step = tf.function(replica, autograph=False)
    graph = step.get_concrete_function(tf.constant(1), view, view, *index).graph
    assert ops_without_kernel(graph) == set()
    assert ops_of_unknown_shape(graph) == set()


@pytest.fixture
def tpu_calls(monkeypatch):
    """Replaces the TensorFlow functions that connect to a TPU; returns the list of their calls."""
    calls = []

    def record(module, function, result=None):
        def call(*args, **kwargs):
            calls.append((function, *args, *kwargs.values()))
            return result

        monkeypatch.setattr(module, function, call)

    record(tf.distribute.cluster_resolver, "TPUClusterResolver", "resolver")
    record(tf.config, "experimental_connect_to_cluster")
    record(tf.tpu.experimental, "initialize_tpu_system")
    record(tf.distribute, "TPUStrategy", "strategy")
    return calls


@pytest.mark.parametrize("name", ["tpu", "auto"])
def test_a_tpu_is_initialized_before_its_strategy(name, tpu_calls, monkeypatch):
    monkeypatch.setenv("TPU_NAME", "local")
    assert distribute.strategy(name) == "strategy"
    assert [call[0] for call in tpu_calls] == [
        "TPUClusterResolver",
        "experimental_connect_to_cluster",
        "initialize_tpu_system",
        "TPUStrategy",
    ]
    assert [call[1:] for call in tpu_calls[1:]] == [("resolver",)] * 3


@pytest.mark.parametrize(("variable", "name"), [(None, "local"), ("local", "local"), ("a", "a")])
def test_the_tpu_is_local_unless_it_has_a_name(variable, name, tpu_calls, monkeypatch):
    """Without a name, TensorFlow asks Google's servers for one, even if the TPU is local."""
    monkeypatch.delenv("TPU_NAME", raising=False)
    if variable is not None:
        monkeypatch.setenv("TPU_NAME", variable)
    distribute.strategy("tpu")
    assert tpu_calls[0] == ("TPUClusterResolver", name)


@pytest.mark.parametrize("name", ["none", "mirrored"])
def test_other_strategies_do_not_search_for_a_tpu(name, tpu_calls, monkeypatch):
    monkeypatch.setenv("TPU_NAME", "local")
    assert distribute.strategy(name) != "strategy"
    assert tpu_calls == []


def test_the_data_pipeline_of_a_tpu_has_no_python_ops():
    """The TPU's hosts run the pipeline, where ops that call this Python process do not work."""
    images = np.random.default_rng(0).integers(0, 256, (32, 12, 10, 3), np.uint8)
    batches = data.views(data.arrays(images), augment.simclr(8), batch_size=16, seed=0)
    share = distribute.Share(worker=0, workers=1, replicas=2)
    own = distribute.get_shares(batches).batches_of(share)
    # Static shapes, per replica.
    assert [spec.shape for spec in own.element_spec] == [(8, 8, 8, 3)] * 2

    graph = tf.compat.v1.GraphDef.FromString(own._as_serialized_graph().numpy())
    functions = (function.node_def for function in graph.library.function)
    ops = {node.op for nodes in (graph.node, *functions) for node in nodes}
    assert "RandomIndexShuffle" in ops  # so functions are searched too
    assert not {op for op in ops if "PyFunc" in op or "Generator" in op}
