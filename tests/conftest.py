"""Set-up of the whole suite: one TensorFlow process with two logical CPUs, no display, no GPU."""

import functools
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.framework import ops

# Strategies of two replicas are tested on two logical CPUs; this must precede any other use.
tf.config.set_visible_devices([], "GPU")
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

_create_device_dataset = multi_device_iterator_ops._create_device_dataset


def _without_autotuner(*arguments):
    options = tf.data.Options()
    options.autotune.enabled = False
    return _create_device_dataset(*arguments).with_options(options)


# A data set's options do not reach the iterators that a strategy makes for its devices. Their
# autotuner can delay the deletion of an iterator by up to a minute: see data/parallel.py.
multi_device_iterator_ops._create_device_dataset = _without_autotuner


def pytest_addoption(parser):
    parser.addoption("--large", action="store_true", help="also run the tests that take minutes")


def pytest_configure(config):
    if not config.getoption("--large"):
        # TensorFlow's optimizer of graphs takes a seventh of the time: graphs run only a few times.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        # So does recording where each operation was created, which only some error messages show.
        ops._create_c_op = functools.partial(ops._create_c_op, extract_traceback=False)


def pytest_collection_modifyitems(config, items):
    if config.getoption("--large"):
        return
    skip = pytest.mark.skip(reason="takes minutes: run with --large")
    for item in items:
        if "large" in item.keywords or ("costly" in item.keywords and not _is_reference(item)):
            item.add_marker(skip)


def _is_reference(item):
    """Returns whether a test of the contract is that of the reference method."""
    return item.callspec.params["row"].name == "moco_v2"


@pytest.fixture(autouse=True)
def _clean_keras():
    """Each test starts from the same seed and leaves no policy or graph behind."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)


@pytest.fixture(scope="module", autouse=True)
def _collect_garbage_between_modules():
    """Frees memory after each module only. TensorFlow makes millions of objects that stay; looking
    through them again and again would take a quarter of the time.
    """
    gc.disable()
    yield
    gc.collect()
    gc.freeze()  # what is left is not looked at again


@pytest.fixture(scope="session")
def two_replicas():
    """Returns a strategy of two replicas on two logical CPUs."""
    from keras_ssl import distribute

    return distribute.strategy("mirrored")
