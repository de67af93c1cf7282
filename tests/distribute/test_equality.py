"""One device, several devices and several processes train the same weights.

In float64 they agree to 1e-11, which proves that the computation is the same. In float32 the same runs
differ by up to 1e-3 of the weights after ten steps: sums over a batch are rounded in a different order,
the synchronized variance is a difference of two means, and training amplifies both.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data, distribute
from tests import cluster
from tests.distribute import equal
from tests.tiers import rest_large

FURTHER_TRAININGS = [
    *(f"{method}/1" for method in equal.METHODS),
    *(f"{method}/4" for method in (*equal.METHODS, *equal.FURTHER_METHODS)),
]


@pytest.fixture(scope="module", autouse=True)
def in_float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture(autouse=True)
def layers_in_float64(in_float64, _clean_keras):
    keras.config.set_dtype_policy("float64")


@pytest.fixture(scope="module")
def one_device():
    """Returns the weights after training on one device, by method."""
    keras.config.set_dtype_policy("float64")
    strategy = distribute.strategy("none")
    methods = (*equal.METHODS, *equal.FURTHER_METHODS)
    return {method: equal.train(strategy, method, 1) for method in methods}


@pytest.fixture(scope="module")
def few_labels_on_one_device():
    keras.config.set_dtype_policy("float64")
    strategy = distribute.strategy("none")
    return {method: equal.train(strategy, method, 1) for method in equal.FEW_LABEL_METHODS}


def assert_equal(found, expected, method):
    # Queues and banks, and values read from them, are always float32.
    has_memory = method in ("moco", "moco_split", "memory_bank", "simclr_memory")
    tolerance = 1e-6 if has_memory else 1e-11
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=0)


@pytest.mark.large
@pytest.mark.parametrize("method", rest_large(equal.METHODS))
def test_two_replicas_equal_one_device(method, one_device, two_replicas):
    assert_equal(equal.train(two_replicas, method, 4), one_device[method], method)


@pytest.mark.large
@pytest.mark.parametrize("method", equal.METHODS)
def test_two_replicas_equal_one_device_with_single_steps(method, one_device, two_replicas):
    assert_equal(equal.train(two_replicas, method, 1), one_device[method], method)


@pytest.mark.large
@pytest.mark.parametrize("method", rest_large(equal.METHODS))
def test_four_steps_per_execution_equal_one(method, one_device):
    found = equal.train(distribute.strategy("none"), method, 4)
    assert_equal(found, one_device[method], method)


@pytest.mark.large
@pytest.mark.parametrize(
    ("devices", "trainings"),
    [
        (1, [f"{method}/4" for method in equal.METHODS]),
        pytest.param(1, FURTHER_TRAININGS, marks=pytest.mark.large),
        pytest.param(2, FURTHER_TRAININGS, marks=pytest.mark.large),
    ],
)
def test_two_worker_processes_equal_one_device(devices, trainings, one_device, tmp_path):
    check_two_workers(trainings, one_device, tmp_path, devices)


def check_two_workers(trainings, expected, directory, devices=1):
    out = directory / "weights"
    words = ("multi_worker", out, *trainings)
    workers = cluster.start(2, "distribute/equal.py", *words, devices=devices)
    for status, printed in cluster.finish(workers):
        assert status == 0, printed
    for worker in range(2):
        found = np.load(f"{out}-{worker}.npz")
        for training in trainings:
            method = training.split("/")[0]
            names = [f"{training}/{index}" for index in range(len(expected[method]))]
            assert_equal([found[name] for name in names], expected[method], method)


@pytest.mark.large
@pytest.mark.parametrize("method", rest_large(equal.FEW_LABEL_METHODS))
def test_two_replicas_with_few_labels(method, few_labels_on_one_device, two_replicas):
    found = equal.train(two_replicas, method, 4)
    assert_equal(found, few_labels_on_one_device[method], method)


@pytest.mark.large
def test_two_worker_processes_with_few_labels(few_labels_on_one_device, tmp_path):
    trainings = [f"{method}/4" for method in equal.FEW_LABEL_METHODS]
    check_two_workers(trainings, few_labels_on_one_device, tmp_path)


@pytest.mark.parametrize("method", rest_large(equal.METHODS))
def test_gradients_of_replicas_sum_to_the_gradient_on_one_device(method, two_replicas):
    views = next(iter(data.views(equal.source(), equal.policy(), equal.BATCH, seed=3)))
    in_graph = tf.function(gradients, autograph=False)
    whole = in_graph(equal.make(method), views)
    with two_replicas.scope():
        model = equal.make(method)
    halves = [tf.split(view, 2) for view in views]
    parts = two_replicas.experimental_distribute_values_from_function(
        lambda context: tuple(half[context.replica_id_in_sync_group] for half in halves)
    )
    found = two_replicas.run(in_graph, args=(model, parts))
    tolerance = 1e-6 if method == "moco" else 1e-11
    for expected, of_replicas in zip(whole, found, strict=True):
        first, second = map(np.asarray, two_replicas.experimental_local_results(of_replicas))
        np.testing.assert_allclose(first + second, expected, atol=tolerance, rtol=0)
    # The two replicas have different gradients.
    assert np.abs(first - second).max() > 1e-4


def gradients(model, views):
    with tf.GradientTape() as tape:
        loss = model.ssl_loss(*views)
    return tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")


def test_an_indivisible_batch_size_is_refused(two_replicas):
    with two_replicas.scope():
        model = equal.make("simclr")
        model.compile("sgd")
    batches = data.views(equal.source(), equal.policy(), 15, seed=3)
    message = "batch_size=15, and 2 devices. The nearest valid sizes: 14 and 16"
    with pytest.raises(ValueError, match=message):
        model.fit(batches, verbose=0)
    assert int(np.asarray(model.optimizer.iterations)) == 0
