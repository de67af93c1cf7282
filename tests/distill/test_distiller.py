"""Distillation trains the student to predict like its teacher, on one device and on two."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment, data, export
from keras_ssl.backbones import Tiny
from keras_ssl.distill import Distiller, TeacherOutputs, load_teacher, precompute
from keras_ssl.evaluate import fingerprint
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.optimizers import SGD

SHAPE = (8, 8, 1)
SOURCE = data.digits("train")


def make_network(seed, features=8, classes=10):
    keras.utils.set_random_seed(seed)
    built = with_classes(Tiny(SHAPE, features=features), classes, seed)
    # Predictions far from uniform give the student something to learn.
    built.layers[-1].kernel.assign(10 * built.layers[-1].kernel)
    return built


class Subclassed(keras.Model):
    def call(self, images):
        return tf.reduce_mean(images, [1, 2])


def make_subclassed():
    model = Subclassed(name="custom")
    model(np.zeros((1, *SHAPE)))
    return model


def make_views(labels=False, indices=False, batch_size=32, count=4):
    augmentation = augment.Augmentation([augment.RandomFlip(0.1)])
    return data.views(
        SOURCE.subset(range(batch_size * count)),
        augmentation,
        batch_size,
        seed=0,
        labels=labels,
        indices=indices,
    )


def train(distiller, batches, epochs=1, rate=0.5, **settings):
    distiller.compile(SGD(rate), **settings)
    history = distiller.fit(batches, epochs=epochs, verbose=0).history
    return history


def test_the_student_learns_and_the_teacher_does_not_change():
    teacher, student = make_network(0), make_network(1)
    before = fingerprint(teacher)
    distiller = Distiller(teacher, student)
    history = train(distiller, make_views(), epochs=30)
    assert history["loss"][-1] < history["loss"][0]
    assert history["agreement"][-1] > history["agreement"][0] + 0.2
    assert fingerprint(teacher) == before == fingerprint(distiller.teacher)
    assert {id(v) for v in distiller.trainable_variables} == {
        id(v) for v in student.trainable_variables
    }


def test_the_loss_equals_the_papers():
    teacher, student = make_network(0), make_network(1)
    images, labels = np.random.default_rng(0).random((6, *SHAPE), "float32"), [3, -1, 2, -1, -1, 0]
    distiller = Distiller(teacher, student, temperature=0.5, labelled_weight=0.3)
    found = distiller.batch_loss((tf.constant(images),), tf.constant(labels, tf.int64))
    # In training mode, the student returns the same scores for the same batch.
    t, s = teacher(images).numpy(), student(images, training=True).numpy()

    def log_softmax(scores):
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    distilled = -(np.exp(log_softmax(t / 0.5)) * log_softmax(s / 0.5)).sum(axis=1).mean()
    known = [(row, label) for row, label in enumerate(labels) if label >= 0]
    supervised = -sum(log_softmax(s)[row, label] for row, label in known) / len(labels)
    assert float(found) == pytest.approx(0.7 * distilled + 0.3 * supervised, rel=1e-5)


def test_labels_need_a_positive_weight():
    distiller = Distiller(make_network(0), make_network(1))
    with pytest.raises(ValueError, match=r"without labels"):
        train(distiller, make_views(labels=True))
    distiller = Distiller(make_network(0), make_network(1), labelled_weight=0.5)
    assert len(train(distiller, make_views(labels=True))["loss"]) == 1


@pytest.mark.large
def test_two_replicas_equal_one(two_replicas):
    weights = []
    for scope in (tf.distribute.get_strategy(), two_replicas):
        with scope.scope():
            distiller = Distiller(make_network(0), make_network(1))
            train(distiller, make_views(), epochs=2, steps_per_execution=2)
        weights.append(distiller.student.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_teacher_is_loaded_from_an_export(tmp_path):
    teacher = make_network(0)
    path = export.saved_model(teacher, tmp_path / "teacher")
    images = np.random.default_rng(0).random((3, *SHAPE), "float32")
    np.testing.assert_allclose(load_teacher(path)(images), teacher(images), atol=1e-5)
    distiller = Distiller(path, make_network(1))
    assert not distiller.teacher.trainable_variables
    assert len(train(distiller, make_views())["loss"]) == 1


def test_a_teacher_is_loaded_from_another_saved_model(tmp_path):
    teacher = make_network(0)
    teacher.export(tmp_path / "foreign", verbose=False)
    images = np.random.default_rng(0).random((3, *SHAPE), "float32")
    np.testing.assert_allclose(
        load_teacher(tmp_path / "foreign")(images), teacher(images), atol=1e-5
    )
    distiller = Distiller(tmp_path / "foreign", make_network(1))
    assert len(train(distiller, make_views())["loss"]) == 1
    with pytest.raises(
        FileNotFoundError, match=r"must be the directory of a SavedModel\. Received"
    ):
        load_teacher(tmp_path)


def test_a_teacher_that_writes_files_is_refused(tmp_path):
    class Teacher(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, *SHAPE), name="images")])
        def __call__(self, images):
            tf.io.write_file(str(tmp_path / "written"), "by the teacher")
            return {"scores": images[:, 0, 0]}

    teacher = Teacher()
    signatures = {"serving_default": teacher.__call__.get_concrete_function()}
    tf.saved_model.save(teacher, str(tmp_path / "untrusted"), signatures)
    with pytest.raises(ValueError, match="operations WriteFile"):
        Distiller(tmp_path / "untrusted", make_network(1))
    assert not (tmp_path / "written").exists()


def test_precomputed_outputs_replace_the_teacher(tmp_path):
    teacher, source = make_network(0), SOURCE.subset(range(128))
    outputs = precompute(teacher, source, tmp_path / "teacher.npz")
    images = np.stack([image for image, _ in source.dataset().as_numpy_iterator()]) / 255
    np.testing.assert_allclose(outputs.scores, teacher(images.astype("float32")), atol=1e-4)
    distiller = Distiller(outputs, make_network(1))
    history = train(distiller, make_views(indices=True), epochs=20)
    assert history["loss"][-1] < history["loss"][0]
    assert [file.name for file in tmp_path.iterdir()] == ["teacher.npz"]
    with pytest.raises(ValueError, match="must have been computed for the student's images"):
        TeacherOutputs.load(tmp_path / "teacher.npz", SOURCE)


def test_a_loaded_distiller_continues_with_the_same_loss(tmp_path):
    distiller = Distiller(make_network(0), make_network(1), temperature=0.3)
    train(distiller, make_views())
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert loaded.temperature == 0.3
    histories = [model.fit(make_views(), verbose=0).history for model in (distiller, loaded)]
    assert histories[0] == histories[1]


@pytest.mark.large
def test_a_keras_application_can_be_a_student():
    student = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3),
        weights=None,
        classes=3,
        classifier_activation=None,
        include_preprocessing=False,
    )
    teacher = with_classes(Tiny((32, 32, 3), features=4), 3)
    source = data.arrays(np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), np.uint8))
    batches = data.views(source, augment.crop_and_flip(32), 4, seed=0)
    assert np.isfinite(train(Distiller(teacher, student), batches, rate=0.01)["loss"][0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labelled_weight": 2}, ValueError, r"must lie in \[0, 1\]. Received: labelled_weight=2"),
        ({"temperature": 0}, ValueError, "must be positive. Received: temperature=0"),
        (
            {"student": make_network(1, classes=3)},
            ValueError,
            "10 from the teacher, 3 from the student",
        ),
        ({"student": Tiny}, TypeError, "`student` must be a keras.Model"),
        (
            {"student": make_subclassed()},
            ValueError,
            "'custom' of type Subclassed with output shape None",
        ),
        ({"teacher": 3}, TypeError, "`teacher` must be a keras.Model, the directory"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Distiller(**{"teacher": make_network(0), "student": make_network(1), **arguments})
