"""The estimate of the memory of a step, and what is said about it before training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ssl
from keras_ssl import data
from keras_ssl.data.host_memory import left_in_cgroup
from keras_ssl.presets import ImageFacts, Rotation, SimCLR
from keras_ssl.runs import memory
from keras_ssl.runs.graph_memory import count_operations, peak_bytes
from keras_ssl.runs.memory import Memory, check, estimate

GIB = 2**30
PRESET = SimCLR(batch_size=256, image_size=224).resolve(ImageFacts(3, 1000))


def graph(function, *shapes):
    specs = [tf.TensorSpec(shape) for shape in shapes]
    return tf.function(function, autograph=False).get_concrete_function(*specs).graph


def test_tensors_count_while_they_are_needed():
    shape = (100, 100)  # 40,000 bytes
    assert peak_bytes(graph(lambda x: tf.exp(tf.exp(tf.exp(x))), shape)) == 80_000
    assert peak_bytes(graph(lambda x: tf.exp(x) + tf.exp(-x), shape)) == 120_000
    assert peak_bytes(graph(lambda x: tf.reshape(tf.exp(x), (-1,)), shape)) == 40_000
    assert peak_bytes(graph(lambda x: tf.nn.relu(tf.exp(x)), shape)) == 40_000  # in place


def test_activations_are_kept_for_the_gradient():
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(10):
                y = tf.exp(y)
        return tape.gradient(y, x)

    assert 10 * 40_000 <= peak_bytes(graph(step, (100, 100))) <= 13 * 40_000


def test_functions_within_are_counted():
    inner = tf.function(lambda x: tf.reduce_sum(tf.exp(x) * tf.exp(-x)), autograph=False)
    assert peak_bytes(graph(lambda x: inner(x) + 1.0, (100, 100))) >= 80_000


def test_operations_of_functions_within_are_counted():
    inner = tf.function(lambda x: tf.exp(tf.exp(x)), autograph=False)
    alone = count_operations(graph(inner.python_function, (4,)))
    assert alone == 4  # input, two exponentials, output
    # input, call and output, and the inner graph
    assert count_operations(graph(lambda x: inner(x), (4,))) == 3 + alone


def test_the_graph_needs_memory_that_does_not_depend_on_the_batch(monkeypatch):
    monkeypatch.setattr(memory, "_SMALL", 0.0)
    monkeypatch.setattr(memory, "_trace", lambda model, shape: traced)
    traced = graph(lambda x: tf.exp(x), (100, 100))  # a tensor of 40,000 bytes, three operations
    facts = ImageFacts(3, 1000)
    preset = SimCLR(batch_size=32, image_size=32, backbone="tiny").resolve(facts)
    model = preset.build_model(preset.build_backbone(facts), facts)
    model.compile(keras.optimizers.SGD(0.1))
    found = estimate(preset, model)
    if tf.config.list_logical_devices("GPU"):
        assert found.fixed == memory._FIXED
    else:
        assert found.fixed == memory._FIXED + 3 * 10.5 * 1024
    assert found.needed == pytest.approx(1.2 * 40_000 + found.fixed)


def test_a_pretext_task_is_traced_because_its_network_takes_more_images_than_views():
    preset = Rotation(batch_size=8, image_size=8, backbone="tiny").resolve(ImageFacts(3, 100))
    model = preset.build_model(preset.build_backbone(ImageFacts(3)), ImageFacts(3))
    model.compile(keras.optimizers.SGD(0.1))
    found = estimate(preset, model)
    assert found is None or not found.is_bound


def test_options_leave_room_for_the_fixed_part():
    (line,) = check(Memory(10 * GIB, 10 * GIB, fixed=4 * GIB), PRESET)
    # 4 of the 6 GiB that depend on the batch are left: 170 of 256 images
    assert "--batch-size 128" in line
    with pytest.raises(ValueError, match="does not fit") as error:
        check(Memory(10 * GIB, 4 * GIB, fixed=4 * GIB), PRESET)
    assert "--batch-size" not in str(error.value)  # the fixed part alone is too much


@pytest.mark.parametrize(
    ("needed", "available", "expected"),
    [
        (2, 16, "about 2.0 GiB, 16.0 GiB are free"),
        (13.5, 16, "which is tight. Options that fit: "),
        (
            15.5,
            16,
            "which is tight. The system may kill the run, or the run stops for lack of memory. Opt",
        ),
    ],
)
def test_the_need_is_said(needed, available, expected):
    (line,) = check(Memory(needed * GIB, available * GIB), PRESET)
    assert expected in line


def test_what_cannot_work_is_refused_with_options_that_fit():
    with pytest.raises(ValueError, match="Training does not fit into memory") as error:
        check(Memory(48 * GIB, 8 * GIB), PRESET)
    # 0.13 of 256 images are 33; half of that for chunks, because weights are not divided
    for option in ("--batch-size 32", "--chunks 16", "--image-size 80"):
        assert option in str(error.value)
    assert "mixed_bfloat16" not in str(error.value)  # half of 48 is still too much


def test_a_larger_batch_needs_more(monkeypatch):
    monkeypatch.setattr(memory, "_SMALL", 0.0)
    needed = []
    for batch_size in (32, 64, 128):
        preset = SimCLR(batch_size=batch_size, image_size=32, backbone="tiny").resolve(
            ImageFacts(3, 1000)
        )
        model = preset.build_model(preset.build_backbone(ImageFacts(3)), ImageFacts(3))
        model.compile(keras.optimizers.SGD(0.1))
        needed.append(estimate(preset, model).needed)
    assert needed[2] - needed[1] == pytest.approx(2 * (needed[1] - needed[0]), rel=0.1)


def test_a_run_that_does_not_fit_leaves_no_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available_memory", lambda: 1e6)
    source = data.arrays(np.zeros((48, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="does not fit into memory"):
        keras_ssl.pretrain(source, out=tmp_path / "run", backbone="tiny", batch_size=16)
    assert not (tmp_path / "run").exists()


def test_a_container_limits_the_memory(tmp_path):
    (tmp_path / "memory.max").write_text("8000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    assert list(left_in_cgroup(tmp_path)) == [5500.0]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(left_in_cgroup(tmp_path)) == []
