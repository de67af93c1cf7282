"""What can be shown about TPUs without one: the whole step is one that XLA compiles for them.

A step of a method, the augmentation of both views included, is traced for static shapes. It must
compile with XLA, give what the same Python gives without a graph, and hold nothing that a TPU cannot
run: each op needs a kernel, for its types, among those that XLA has for every kind of device, and no
shape may depend on data.
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
from tests.tpu_ops import in_float64, of_unknown_shape, operations, tpu_types, without_kernel


@pytest.fixture(autouse=True, scope="module")
def traced_for_these_shapes_alone():
    """Other tests have traced `threefry` for unknown shapes, and its graph would serve here too."""
    shared = random.threefry
    random.threefry = tf.function(shared.python_function, autograph=False)
    yield
    random.threefry = shared


BATCH = 8


def tiny():
    return backbones.Tiny((8, 8, 3), features=16)


def head():
    return MLPHead(8, 16, batch_norm=True)


# Together: every method, every policy, every layer of augment/ that is random, every optimizer.
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
    """A method's whole step: a function of a uint8 batch, its epoch and the numbers of its images."""

    def __init__(self, name):
        make, self.policy, optimizer = STEPS[name]
        self.model = make()
        self.model.compile(optimizer())
        self.model.optimizer.build(self.model.trainable_variables)
        self.variables = [*self.model.variables, *self.model.optimizer.variables]
        self.start = [variable.numpy() for variable in self.variables]
        self.traced = tf.function(self, autograph=False)
        self.graph = self.traced.get_concrete_function(*batch(0)).graph
        # One trace serves both: XLA compiles the graph that is looked at.
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

    def trained(self, step, steps=2):
        """Returns the losses of steps from the start, and the variables behind them."""
        self.model.reset_metrics()
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)
        losses = [float(step(*batch(number))) for number in range(steps)]
        return losses, [variable.numpy() for variable in self.variables]


@functools.cache
def whole_step(name):
    return Step(name)


def batch(number):
    pixels = np.random.default_rng(number).integers(0, 256, (BATCH, 12, 10, 3), np.uint8)
    return tf.constant(pixels), tf.constant(number, tf.int64), tf.range(BATCH, dtype=tf.int64)


LONGER = sorted(STEPS.keys() - {"SimCLR", "MoCo"})


@pytest.mark.parametrize(
    "name",
    rest_large(["MoCo", "SimCLR", *LONGER]),
)
def test_a_whole_step_compiles_and_is_what_python_says(name):
    step = whole_step(name)
    losses, variables = step.trained(step.compiled)
    assert step.traced.experimental_get_tracing_count() == 1

    # Without a graph Python runs in every step: anything that it does besides would show.
    expected_losses, expected = step.trained(step)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for variable, own, value, start in zip(
        step.variables, variables, expected, step.start, strict=True
    ):
        # XLA rounds otherwise: 2e-6 is the most that was seen.
        np.testing.assert_allclose(own, value, rtol=1e-4, atol=2e-5, err_msg=variable.path)
        assert "kernel" not in variable.path or not np.array_equal(own, start), variable.path


@pytest.mark.parametrize("name", STEPS)
def test_every_op_of_a_step_has_a_tpu_kernel(name):
    graph = whole_step(name).graph
    assert without_kernel(graph) == set()
    assert of_unknown_shape(graph) == set()


# `RandomCrop.boxes`, a few numbers per image. XLA makes one rounding of the product and the sum in
# `low + (high - low) * number`, other compilers two: in float32 that moves a side by a whole pixel now
# and then, where it is rounded, and the view is another one.
OF_A_BOX = {"AddV2", "Cast", "Floor", "GatherV2", "GreaterEqual", "LessEqual", "Maximum", "Minimum"}
OF_A_BOX |= {"Mul", "Pack", "RealDiv", "Round", "SelectV2", "Sqrt", "StridedSlice", "Sub"}


@pytest.mark.parametrize("name", STEPS)
def test_only_augmentations_compute_in_float64(name):
    """So that a new place where a TPU has to emulate is noticed."""
    step = whole_step(name)
    rounded = {*OF_A_BOX, "Exp"} | ({"Cos", "Sin"} if name == "MemoryBank" else set())
    # `apply_in_float64` in augment/layer.py, and `boxes` in augment/crop.py.
    assert in_float64(step.graph) == rounded

    view = tf.TensorSpec((BATCH, 8, 8, 3))
    index = (tf.TensorSpec((BATCH,), tf.int64),) if step.model.takes_indices else ()
    training = tf.function(step.model.train_step, autograph=False)
    assert in_float64(training.get_concrete_function((view, view, *index)).graph) == set()


def test_a_step_in_bfloat16_has_tpu_kernels():
    keras.config.set_dtype_policy("mixed_bfloat16")
    step = Step("BYOL")
    assert without_kernel(step.graph) == of_unknown_shape(step.graph) == set()
    assert tf.bfloat16 in {o.dtype for each in operations(step.graph) for o in each.outputs}


def printed(x):
    tf.print(x)
    return x


def resized(x):
    return tf.image.resize(x[:, None, None, None], (2, 2), method="bicubic")


@pytest.mark.parametrize(
    ("function", "ops"),
    [
        (lambda x: tf.py_function(lambda y: y, [x], tf.float32), {"EagerPyFunc"}),
        (lambda x: tf.numpy_function(lambda y: y, [x], tf.float32), {"PyFunc"}),
        (printed, {"PrintV2", "StringFormat"}),
        (lambda x: tf.strings.as_string(x), {"AsString"}),
        (resized, {"ResizeBicubic"}),
        (lambda x: tf.cast(x, tf.complex128), {"Cast"}),
        (lambda x: tf.io.read_file("file"), {"ReadFile"}),
    ],
)
def test_an_op_without_a_tpu_kernel_is_named(function, ops):
    def within(x):
        called = tf.function(function, autograph=False)
        return tf.cond(x[0] > 0, lambda: called(x), lambda: called(x))

    for each in (function, within):
        graph = tf.function(each, autograph=False).get_concrete_function(tf.zeros(4)).graph
        assert without_kernel(graph) >= ops


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: tf.unique(x)[0], "Unique"),
        (lambda x: tf.where(x > 0), "Where"),
        (lambda x: tf.boolean_mask(x, x > 0), "GatherV2"),
        (lambda x: x[: tf.cast(x[0], tf.int32)], "StridedSlice"),
    ],
)
def test_a_shape_that_depends_on_data_is_named(function, op):
    called = tf.function(function, autograph=False)
    within = tf.function(lambda x: called(x), autograph=False)
    assert op in of_unknown_shape(within.get_concrete_function(tf.zeros(4)).graph)


def test_float64_is_named():
    function = tf.function(lambda x: tf.sin(tf.cast(x, tf.float64)), autograph=False)
    assert in_float64(function.get_concrete_function(1.0).graph) >= {"Cast", "Sin"}
    assert tf.float64 in tpu_types()
    assert tf.complex128 not in tpu_types()


@pytest.mark.parametrize("name", ["SimCLR", "MoCo", "MemoryBank"])
def test_a_replicas_step_has_tpu_kernels(name, monkeypatch):
    """On a TPU of several cores, where a replica's number is known only when the step runs."""
    here = types.SimpleNamespace()

    def all_gather(values):
        # `TPUStrategy` then sums it over the replicas; CrossReplicaSum is not in this library.
        mask = tf.one_hot(here.number, 2, dtype=values.dtype)
        apart = tf.tensordot(mask, values, axes=0)  # (2, batch, ...)
        return tf.reshape(apart, tf.concat([[2 * tf.shape(values)[0]], tf.shape(values)[1:]], 0))

    for module in (distribute, replicas):
        monkeypatch.setattr(module, "replica_count", lambda: 2)
        monkeypatch.setattr(module, "replica_id", lambda: here.number)
        monkeypatch.setattr(module, "all_gather", all_gather)
    model = STEPS[name][0]()
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)

    def replica(number, *views):
        here.number = number
        return model.train_step(views)["loss"]

    view = tf.zeros((BATCH, 8, 8, 3))
    index = (tf.range(BATCH, dtype=tf.int64),) if model.takes_indices else ()
    step = tf.function(replica, autograph=False)
    graph = step.get_concrete_function(tf.constant(1), view, view, *index).graph
    assert without_kernel(graph) == set()
    assert of_unknown_shape(graph) == set()


@pytest.fixture
def tpu_calls(monkeypatch):
    """Returns the list of TensorFlow's functions that are called to find a TPU, instead of doing it."""
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
def test_a_tpu_is_connected_and_initialised_before_its_strategy(name, tpu_calls, monkeypatch):
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
def test_the_tpu_is_that_of_this_machine_or_the_named_one(variable, name, tpu_calls, monkeypatch):
    """Without a name TensorFlow asks Google's servers for it, also where the TPU is at hand."""
    monkeypatch.delenv("TPU_NAME", raising=False)
    if variable is not None:
        monkeypatch.setenv("TPU_NAME", variable)
    distribute.strategy("tpu")
    assert tpu_calls[0] == ("TPUClusterResolver", name)


@pytest.mark.parametrize("name", ["none", "mirrored"])
def test_other_strategies_look_for_no_tpu(name, tpu_calls, monkeypatch):
    monkeypatch.setenv("TPU_NAME", "local")
    assert distribute.strategy(name) != "strategy"
    assert tpu_calls == []


def test_a_tpu_gets_its_batches_without_python():
    """A TPU's hosts make them: an op that calls back to this process would not be there."""
    images = np.random.default_rng(0).integers(0, 256, (32, 12, 10, 3), np.uint8)
    batches = data.views(data.arrays(images), augment.simclr(8), batch_size=16, seed=0)
    share = distribute.Share(worker=0, workers=1, replicas=2)
    own = distribute.shares_of(batches).batches_of(share)
    assert [spec.shape for spec in own.element_spec] == [(8, 8, 8, 3)] * 2  # static, of one replica

    graph = tf.compat.v1.GraphDef.FromString(own._as_serialized_graph().numpy())
    functions = (function.node_def for function in graph.library.function)
    ops = {node.op for nodes in (graph.node, *functions) for node in nodes}
    assert "RandomIndexShuffle" in ops  # the search goes into the functions
    assert not {op for op in ops if "PyFunc" in op or "Generator" in op}
