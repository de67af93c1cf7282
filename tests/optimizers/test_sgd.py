import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.optimizers import SGD, WarmupCosine


class NumpySGD:
    """`torch.optim.SGD` on a list of arrays, from its documentation."""

    def __init__(self, weights, momentum=0.9, weight_decay=0.0, nesterov=False):
        self.weights = [weight.astype("float64") for weight in weights]
        self.buffers = [np.zeros_like(weight) for weight in self.weights]
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov

    def apply(self, gradients, rate, decayed):
        for i, gradient in enumerate(gradients):
            if decayed[i]:
                gradient = gradient + self.weight_decay * self.weights[i]
            self.buffers[i] = self.momentum * self.buffers[i] + gradient
            ahead = gradient + self.momentum * self.buffers[i]
            gradient = ahead if self.nesterov else self.buffers[i]
            self.weights[i] = self.weights[i] - rate * gradient


def make_variables():
    generator = np.random.default_rng(0)
    dense = keras.layers.Dense(3, name="dense")
    norm = keras.layers.BatchNormalization(name="norm")
    dense.build((None, 4))
    norm.build((None, 3))
    variables = [*dense.trainable_variables, *norm.trainable_variables]
    for variable in variables:
        variable.assign(generator.normal(size=variable.shape))
    gradients = [
        [generator.normal(size=v.shape).astype("float32") for v in variables] for _ in range(5)
    ]
    return variables, gradients


def assert_equal_to(twin, variables):
    for variable, expected in zip(variables, twin.weights, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.0, False)])
def test_equals_its_numpy_twin(mode, momentum, nesterov):
    variables, gradients = make_variables()
    settings = {"momentum": momentum, "weight_decay": 0.3, "nesterov": nesterov}
    twin = NumpySGD([np.asarray(v) for v in variables], **settings)
    # The rate changes at each step, so a rate inside the buffer would give other results.
    schedule = WarmupCosine(0.5, total_steps=5)
    optimizer = SGD(schedule, **settings)
    optimizer.build(variables)

    def step(gradients):
        optimizer.apply(gradients, variables)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for number, gradient in enumerate(gradients):
        step([tf.constant(g) for g in gradient])
        twin.apply(gradient, float(schedule(number)), [True] * 4)
        assert_equal_to(twin, variables)


@pytest.mark.parametrize(
    ("exclude", "decayed"),
    [
        ((), [True] * 4),
        (None, [True, False, False, False]),
        (["norm/"], [True, True, False, False]),
    ],
)
def test_exclusions(exclude, decayed):
    variables, gradients = make_variables()
    twin = NumpySGD([np.asarray(v) for v in variables], weight_decay=0.3)
    optimizer = SGD(0.1, weight_decay=0.3, exclude=exclude)
    for gradient in gradients:
        optimizer.apply([tf.constant(g) for g in gradient], variables)
        twin.apply(gradient, 0.1, decayed)
    assert_equal_to(twin, variables)


def test_gradient_accumulation_equals_the_mean_gradient():
    variables, gradients = make_variables()
    twin = NumpySGD([np.asarray(v) for v in variables], weight_decay=0.3)
    optimizer = SGD(0.1, weight_decay=0.3, gradient_accumulation_steps=2)
    for gradient in gradients[:2]:
        optimizer.apply([tf.constant(g) for g in gradient], variables)
    means = [(a + b) / 2 for a, b in zip(*gradients[:2], strict=True)]
    twin.apply(means, 0.1, [True] * 4)
    assert_equal_to(twin, variables)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_in_fit(jit_compile):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(SGD(0.02), "mse", jit_compile=jit_compile)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    history = model.fit(x, x.sum(1, keepdims=True), epochs=5, batch_size=16, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]


def test_configuration_makes_the_same_optimizer():
    optimizer = SGD(WarmupCosine(0.5, 100), 0.8, 1e-4, True, None, use_ema=True)
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is SGD
    assert copy.get_config() == optimizer.get_config()
    assert SGD.from_config(SGD(30).get_config()).exclude == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"momentum": -0.1}, r"`momentum` must be in \[0, 1\). Received: momentum=-0.1"),
        ({"weight_decay": -1}, "`weight_decay` must not be negative. Received: weight_decay=-1"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SGD(0.1, **kwargs)
