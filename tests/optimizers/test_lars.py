import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.optimizers import LARS, WarmupCosine


class NumpyLARS:
    """SimCLR's `lars_optimizer.py` with classic momentum, on a list of arrays."""

    def __init__(self, weights, momentum=0.9, weight_decay=1e-6, eta=0.001, nesterov=False):
        self.weights = [weight.astype("float64") for weight in weights]
        self.buffers = [np.zeros_like(weight) for weight in self.weights]
        self.momentum, self.weight_decay, self.eta = momentum, weight_decay, eta
        self.nesterov = nesterov

    def apply(self, gradients, rate, excluded):
        for i, gradient in enumerate(gradients):
            weight, trust = self.weights[i], 1.0
            if not excluded[i]:
                gradient = gradient + self.weight_decay * weight
                norms = np.linalg.norm(weight), np.linalg.norm(gradient)
                if norms[0] > 0 and norms[1] > 0:
                    trust = self.eta * norms[0] / norms[1]
            scaled = rate * trust * gradient
            self.buffers[i] = self.momentum * self.buffers[i] + scaled
            step = self.momentum * self.buffers[i] + scaled if self.nesterov else self.buffers[i]
            self.weights[i] = weight - step


def make_layers():
    """Returns the variables of a convolution and a batch normalisation, and random gradients."""
    generator = np.random.default_rng(0)
    conv = keras.layers.Conv2D(4, 3, name="conv")
    norm = keras.layers.BatchNormalization(name="norm")
    conv.build((None, 8, 8, 3))
    norm.build((None, 8, 8, 4))
    variables = [*conv.trainable_variables, *norm.trainable_variables]
    for variable in variables:
        variable.assign(generator.normal(size=variable.shape))
    gradients = [
        [generator.normal(size=v.shape).astype("float32") for v in variables] for _ in range(5)
    ]
    return variables, gradients


RANK_RULE = [False, True, True, True]  # kernel, bias, gamma, beta


def values(variables):
    return [np.asarray(variable) for variable in variables]


def assert_close(received, expected, rtol=1e-5):
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_equals_its_numpy_twin(mode, nesterov):
    variables, gradients = make_layers()
    # Large decay and eta, so that every term changes the result.
    settings = {"momentum": 0.8, "weight_decay": 0.3, "eta": 0.1, "nesterov": nesterov}
    twin = NumpyLARS(values(variables), **settings)
    schedule = WarmupCosine(0.5, total_steps=5, warmup_steps=2)
    optimizer = LARS(schedule, **settings)
    optimizer.build(variables)

    def step(gradients):
        optimizer.apply(gradients, variables)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for number, gradient in enumerate(gradients):
        step([tf.constant(g) for g in gradient])
        twin.apply(gradient, float(schedule(number)), RANK_RULE)
        assert_close(values(variables), twin.weights)


@pytest.mark.parametrize(
    ("exclude", "excluded"),
    [
        (None, RANK_RULE),
        ((), [False] * 4),
        (("bias", "norm/"), [False, True, True, True]),
        (["gamma$"], [False, False, True, False]),
        (["^conv/"], [True, True, False, False]),
    ],
)
def test_exclusions_by_rank_and_by_path(exclude, excluded):
    variables, gradients = make_layers()
    settings = {"weight_decay": 0.3, "eta": 0.1}
    twin = NumpyLARS(values(variables), **settings)
    optimizer = LARS(0.5, exclude=exclude, **settings)
    for gradient in gradients:
        optimizer.apply([tf.constant(g) for g in gradient], variables)
        twin.apply(gradient, 0.5, excluded)
    assert_close(values(variables), twin.weights)
    assert [optimizer.is_excluded(variable) for variable in variables] == excluded


@pytest.mark.parametrize(
    ("weight", "gradient", "expected"),
    [
        ([[0.0, 0.0]], [[3.0, 4.0]], [[-1.5, -2.0]]),  # no weight: a plain step
        ([[3.0, 4.0]], [[0.0, 0.0]], [[3.0, 4.0]]),  # no gradient: no step
    ],
)
def test_trust_ratio_is_one_where_a_norm_is_zero(weight, gradient, expected):
    variable = keras.Variable(weight)
    LARS(0.5, weight_decay=0.0).apply([tf.constant(gradient)], [variable])
    np.testing.assert_allclose(variable, expected, rtol=1e-6)


def test_step_does_not_depend_on_the_scale_of_the_gradient():
    small, large = keras.Variable([[3.0, 4.0]]), keras.Variable([[3.0, 4.0]])
    LARS(1.0, weight_decay=0.0).apply([tf.constant([[1e-12, 0.0]])], [small])
    LARS(1.0, weight_decay=0.0).apply([tf.constant([[1e6, 0.0]])], [large])
    np.testing.assert_allclose(small, [[2.995, 4.0]], rtol=1e-6)
    np.testing.assert_allclose(large, [[2.995, 4.0]], rtol=1e-6)


def test_gradient_accumulation_equals_the_mean_gradient():
    variables, gradients = make_layers()
    start = values(variables)
    twin = NumpyLARS(start, weight_decay=0.3, eta=0.1)
    optimizer = LARS(0.5, weight_decay=0.3, eta=0.1, gradient_accumulation_steps=2)
    for number, gradient in enumerate(gradients[:4]):
        optimizer.apply([tf.constant(g) for g in gradient], variables)
        if number == 0:
            assert_close(values(variables), start)
    for pair in (gradients[0:2], gradients[2:4]):
        twin.apply([(a + b) / 2 for a, b in zip(*pair, strict=True)], 0.5, RANK_RULE)
    assert_close(values(variables), twin.weights)


def test_loss_scaling_changes_nothing_and_skips_overflows():
    variables, gradients = make_layers()
    twin = NumpyLARS(values(variables), weight_decay=0.3, eta=0.1)
    inner = LARS(0.5, weight_decay=0.3, eta=0.1)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024.0)
    optimizer.build(variables)
    for gradient in gradients[:2]:
        optimizer.apply([tf.constant(g * 1024) for g in gradient], variables)
        twin.apply(gradient, 0.5, RANK_RULE)
    assert_close(values(variables), twin.weights)
    optimizer.apply([tf.constant(np.full_like(g, np.inf)) for g in gradients[0]], variables)
    assert_close(values(variables), twin.weights)
    assert int(inner.iterations) == 2


def small_model():
    layers = [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    return keras.Sequential(layers)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_in_fit(jit_compile):
    keras.utils.set_random_seed(0)
    model = small_model()
    model.compile(LARS(0.02, eta=0.5), "mse", jit_compile=jit_compile)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    history = model.fit(x, x.sum(1, keepdims=True), epochs=5, batch_size=16, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]


def test_configuration_makes_the_same_optimizer():
    schedule = WarmupCosine(0.5, 100, 10)
    optimizer = LARS(schedule, 0.8, 1e-4, 0.01, ("bias",), True, clipnorm=1.0)
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is LARS
    assert copy.get_config() == optimizer.get_config()
    assert copy.get_config()["exclude"] == ["bias"]
    assert LARS.from_config(LARS(1).get_config()).exclude is None


def test_state_is_saved_with_the_model(tmp_path):
    x = np.ones((8, 4), "float32")
    model = small_model()
    model.compile(LARS(0.5, eta=0.1), "mse")
    model.fit(x, x[:, :1], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(x, x[:, :1], verbose=0)
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.fixture
def two_replicas():
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    if len(devices) < 2:
        pytest.skip("needs two logical CPUs")
    # No collective operations: their keys clash between two strategies in one process.
    return tf.distribute.MirroredStrategy(
        devices[:2], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def test_two_replicas_share_one_step(two_replicas):
    start, gradient = np.ones((2, 3), "float32"), np.full((2, 3), 0.5, "float32")
    twin = NumpyLARS([start], weight_decay=0.3, eta=0.1)
    with two_replicas.scope():
        variable = keras.Variable(start)
        optimizer = LARS(0.5, weight_decay=0.3, eta=0.1)
        optimizer.build([variable])

    @tf.function
    def step():
        two_replicas.run(lambda: optimizer.apply([tf.constant(gradient / 2)], [variable]))

    for _ in range(2):
        step()
        twin.apply([gradient], 0.5, [False])
    assert_close([np.asarray(variable)], twin.weights)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"eta": 0}, "`eta` must be positive. Received: eta=0"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\). Received: momentum=1.0"),
        ({"weight_decay": -1}, "`weight_decay` must not be negative. Received: weight_decay=-1"),
        ({"exclude": "bias"}, r"such as \('bias',\). Received: exclude='bias'"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LARS(0.1, **kwargs)


def test_keras_exclusions_are_rejected():
    with pytest.raises(ValueError, match="LARS expects exclusions in its argument `exclude`"):
        LARS(0.1).exclude_from_weight_decay(var_names=["bias"])
