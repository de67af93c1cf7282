"""The public names of the package, and the old ones that still work."""

import pathlib

import pytest
import tensorflow as tf

import keras_ssl
from keras_ssl import backbones, distribute, methods

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = {path.parent.name for path in (ROOT / "keras_ssl").glob("*/__init__.py")}


def test_every_package_is_public_but_the_command_line():
    assert set(keras_ssl.__all__) - {"Run", "pretrain"} == PACKAGES - {"cli"}


def test_every_public_package_has_a_page():
    assert {path.stem for path in (ROOT / "docs" / "api").glob("*.md")} == PACKAGES - {"cli"}


def test_old_names_of_distribute_warn():
    batches = tf.data.Dataset.range(4)
    with pytest.warns(DeprecationWarning, match="`shares_of` is deprecated: use `get_shares`"):
        assert distribute.shares_of(batches) is None
    with pytest.warns(DeprecationWarning, match="use `shard_by_element`"):
        sharded = distribute.sharded_by_element(batches)
    policy = sharded.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA
    with pytest.raises(AttributeError, match=r"'keras_ssl\.distribute' has no attribute 'shard'"):
        distribute.shard  # noqa: B018


def test_the_old_name_of_split_batch_warns():
    model = methods.SimCLR(backbones.Tiny(input_shape=(8, 8, 1)))
    views = tf.zeros((2, 8, 8, 1)), tf.ones((2, 8, 8, 1))
    with pytest.warns(DeprecationWarning, match="use `split_batch`"):
        found, labels = model.checked_batch(views)
    assert found == views
    assert labels is None
