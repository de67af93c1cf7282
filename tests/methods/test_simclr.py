"""SimCLR as a Keras model: training, saving, precision, replicas, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl.backbones import Tiny
from keras_ssl.layers import ProjectionHead
from keras_ssl.methods import SimCLR

SHAPE = (8, 8, 3)


def batches(count=4, batch=8, seed=0):
    views = np.random.default_rng(seed).random((2, count * batch, *SHAPE), np.float32)
    return tf.data.Dataset.from_tensor_slices((views[0], views[1])).batch(batch, True)


def model(optimizer=None, **compile_arguments):
    keras.utils.set_random_seed(1)
    built = SimCLR(Tiny(SHAPE, features=16), ProjectionHead(8), temperature=0.5)
    built.compile(optimizer or keras.optimizers.SGD(0.1), **compile_arguments)
    return built


def weights(trained):
    return [np.asarray(value) for value in trained.get_weights()]


def assert_equal(first, second, tolerance=0.0):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=0)


def test_the_loss_falls_on_a_fixed_batch():
    history = model().fit(batches(1).repeat(30), epochs=1, verbose=0, steps_per_epoch=1).history
    trained = model()
    losses = [trained.fit(batches(1), verbose=0).history["loss"][0] for _ in range(30)]
    assert losses[0] == pytest.approx(history["loss"][0], rel=1e-6)
    assert losses[-1] < losses[0] - 0.3


def test_every_trainable_variable_learns():
    trained = model()
    before = {v.path: v.numpy() for v in trained.trainable_variables}
    trained.fit(batches(), verbose=0)
    still = [v.path for v in trained.trainable_variables if np.array_equal(v, before[v.path])]
    assert still == []


def test_same_seed_same_run_to_the_bit():
    first, second = model(), model()
    assert (
        first.fit(batches(), epochs=2, verbose=0).history
        == second.fit(batches(), epochs=2, verbose=0).history
    )
    assert_equal(weights(first), weights(second))


@pytest.mark.parametrize("steps", [3, 4, 7])
def test_steps_per_execution_change_nothing(steps):
    one, many = model(), model(steps_per_execution=steps)
    one_history = one.fit(batches(5), epochs=2, verbose=0).history
    many_history = many.fit(batches(5), epochs=2, verbose=0).history
    assert one_history == many_history
    assert int(many.optimizer.iterations) == 10
    assert_equal(weights(one), weights(many))


@pytest.mark.parametrize("steps", [1, 3])
def test_two_replicas_equal_one(two_replicas, steps):
    one = model()
    one_history = one.fit(batches(), epochs=2, verbose=0).history
    with two_replicas.scope():
        two = model(steps_per_execution=steps)
    two_history = two.fit(batches(), epochs=2, verbose=0).history
    np.testing.assert_allclose(one_history["loss"], two_history["loss"], rtol=1e-5)
    # Sums over the batch are added in another order: float32 rounding, over eight steps.
    assert_equal(weights(one), weights(two), tolerance=1e-5)


def test_eager_equals_graph():
    graph, eager = model(), model(run_eagerly=True)
    graph.fit(batches(), verbose=0)
    eager.fit(batches(), verbose=0)
    assert_equal(weights(graph), weights(eager), tolerance=1e-5)


def test_the_step_compiles_under_xla():
    plain, compiled = model(), model(jit_compile=True)
    plain.fit(batches(1), verbose=0)
    compiled.fit(batches(1), verbose=0)
    assert_equal(weights(plain), weights(compiled), tolerance=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_stays_finite(policy):
    keras.config.set_dtype_policy(policy)
    trained = model()
    history = trained.fit(batches(), epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert all(np.all(np.isfinite(w)) for w in weights(trained))


def test_weight_penalties_of_the_backbone_count():
    def penalised(strength):
        keras.utils.set_random_seed(1)
        backbone = keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(strength)),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
        trained = SimCLR(backbone, ProjectionHead(8))
        trained.compile(keras.optimizers.SGD(0.1))
        first_loss = trained.fit(batches(1), verbose=0).history["loss"][0]
        return first_loss, trained.backbone.layers[0].kernel

    plain_loss, _ = penalised(0.0)
    loss, kernel = penalised(1.0)
    assert loss > plain_loss + 0.1
    assert kernel.shape == (3, 3, 3, 4)


def test_keras_and_weights_files_round_trip(tmp_path):
    trained = model()
    trained.fit(batches(), verbose=0)
    images = np.random.default_rng(3).random((4, *SHAPE), np.float32)

    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), trained.predict(images, verbose=0)
    )
    assert loaded.temperature == 0.5
    assert_equal(weights(trained), weights(loaded))

    trained.save_weights(tmp_path / "model.weights.h5")
    fresh = model()
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert_equal(weights(trained), weights(fresh))

    # Training goes on in both as if nothing had happened.
    assert trained.fit(batches(), verbose=0).history == loaded.fit(batches(), verbose=0).history


def test_calling_the_model_gives_the_backbones_features():
    built = model()
    images = np.random.default_rng(3).random((4, *SHAPE), np.float32)
    np.testing.assert_array_equal(built(images), built.backbone(images))


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0"])
def test_keras_applications_serve_as_backbones(name):
    backbone = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    trained = SimCLR(backbone, ProjectionHead(8))
    trained.compile(keras.optimizers.SGD(0.01))
    views = np.random.default_rng(0).random((2, 4, 32, 32, 3), np.float32)
    data = tf.data.Dataset.from_tensors((views[0], views[1]))
    assert np.isfinite(trained.fit(data, verbose=0).history["loss"][0])


def test_refuses_labels_in_the_batch():
    labelled = batches().map(lambda view_1, view_2: ((view_1, view_2), tf.zeros(8, tf.int64)))
    with pytest.raises(ValueError, match=r"tuple of views, \(view_1, view_2\)"):
        model().fit(labelled, verbose=0)


def test_refuses_views_of_different_images():
    view_1 = batches(batch=8).map(lambda view, _: view)
    view_2 = batches(batch=4).map(lambda view, _: view)
    with pytest.raises(ValueError, match="must show the same images"):
        model().fit(tf.data.Dataset.zip(view_1, view_2), verbose=0)


def test_refuses_to_test_without_labels():
    with pytest.raises(TypeError, match=r"keras_ssl\.evaluate\.knn"):
        model().fit(batches(), validation_data=batches(), verbose=0)


def test_refuses_a_negative_temperature():
    with pytest.raises(
        ValueError, match=r"`temperature` must be positive\. Received: temperature=-1"
    ):
        SimCLR(Tiny(SHAPE), temperature=-1)


def test_refuses_a_backbone_that_gives_maps():
    backbone = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(4, 3)])
    with pytest.raises(ValueError, match="one vector per image"):
        SimCLR(backbone)


def test_refuses_a_backbone_that_is_no_model():
    with pytest.raises(TypeError, match=r"keras\.Model that maps images to features"):
        SimCLR("resnet18")
