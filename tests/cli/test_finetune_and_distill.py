"""`keras-ssl finetune` and `distill`, on handwritten digits."""

import csv
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import augment, data, evaluate, export
from keras_ssl.backbones import Tiny
from keras_ssl.cli.finetune import Finetune
from keras_ssl.cli.finetune_classifier import write_classifier
from keras_ssl.evaluate import label_subset
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.runs.classification import measure_classifier
from keras_ssl.runs.directory import Run
from tests.command_line import assert_same_run, call, interrupt

QUICK = ["--data", "digits", "--batch-size", 128]
NO_FLOOR = ["--min-steps", 0]
# Two epochs of two steps, because of the floor.
FOUR_STEPS = ["--data", "digits", "--labels", 0.1, "--epochs", 1, "--min-steps", 4]
FOUR_STEPS += ["--batch-size", 64, "--every", 1]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "pretrained"
    words = ["--backbone", "tiny", "--width", 0.5, "--epochs", 2, "--head-layers", 3]
    status, _, err = call("pretrain", *QUICK, *words, "--out", path, "--knn-every", 0)
    assert status == 0, err
    return path


@pytest.fixture(scope="module")
def teacher(pretrained, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "teacher"
    status, out, err = call("finetune", pretrained, *FOUR_STEPS, "--out", path)
    assert status == 0, err
    assert f"keras-ssl distill {path} --data DATA\n" in out
    return path


@pytest.mark.parametrize(
    ("layers", "dim"),
    [pytest.param(n, d, marks=pytest.mark.large) for n, d in enumerate((32, 8, 8, 8, 8))],
)
def test_a_head_of_any_depth(layers, dim, tmp_path):
    """No head, a linear one, and deeper ones: pretrained, and fine-tuned from the last layer."""
    path = tmp_path / "pretrained"
    words = ["--backbone", "tiny", "--width", 0.5, "--embedding", 8, "--head-layers", layers]
    status, _, err = call(
        "pretrain", *QUICK, *words, "--epochs", 1, "--knn-every", 0, "--out", path
    )
    assert status == 0, err
    model = Run(path).method()
    assert model.projector.depth == layers
    assert model.projector(model.backbone(np.zeros((2, 8, 8, 1)))).shape == (2, dim)
    few = {
        "labels": 0.05,
        "epochs": 1,
        "augmentation": augment.Augmentation([augment.RandomFlip(0.1)]),
    }
    splits = data.digits("train"), data.digits("test")
    result = evaluate.finetune(model, *splits, from_layer=layers, **few)
    assert result.network.layers[-1].kernel.shape == (dim, 10)
    with pytest.raises(ValueError, match=f"with a ProjectionHead of depth {layers}"):
        evaluate.finetune(model, *splits, from_layer=layers + 1, **few)


def test_finetune_writes_a_classifier_and_what_it_measured(teacher):
    run = Run(teacher)
    result = run.metrics["result"]
    assert result["settings"]["from_layer"] == 1
    assert result["labelled"] == label_subset(data.digits("train").labels, 0.1).tolist()
    assert [line["epoch"] for line in run.history] == [1, 2]
    classifier = export.load(run.export_path)
    assert classifier.output_shape == (None, 10)
    test = data.digits("test")
    images = np.stack([image for image, _ in test.dataset().as_numpy_iterator()]) / 255
    found = np.mean(np.argmax(classifier(images.astype("float32")), axis=1) == test.labels)
    assert found == pytest.approx(run.metrics["accuracy"], abs=0.003)
    assert run.metrics["parameters"] == classifier.count_params()


def test_a_failed_export_loses_nothing(tmp_path, monkeypatch, caplog):
    def fail(network, path, **options):
        raise RuntimeError("The outputs of the export differ")

    network = with_classes(Tiny((8, 8, 1), features=4), classes=2)
    history = [{"epoch": 1, "loss": 0.5}]
    result = evaluate.Finetuned("finetune", 0.75, None, 9, 9, {}, history=history, network=network)
    run = Run.create(tmp_path / "run", {"labels": 0.1, "from_layer": 0})
    monkeypatch.setattr(export, "saved_model", fail)
    with pytest.raises(RuntimeError, match="outputs of the export"):
        write_classifier(result, run)
    assert f"`keras-ssl export {run.path}` exports it" in caplog.text
    assert run.history == history
    assert run.metrics["accuracy"] == 0.75
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    np.testing.assert_allclose(run.network()(images), network(images), atol=1e-6)
    with pytest.raises(RuntimeError, match="outputs of the export"):
        run.export()
    assert (run.path / "network.keras").is_file()
    monkeypatch.setattr(export, "saved_model", lambda network, path, **options: path)
    run.export()
    assert not (run.path / "network.keras").exists()


def test_a_refused_fine_tuning_leaves_no_directory(pretrained, tmp_path, monkeypatch):
    def fail(*images, **options):
        raise ValueError("no labels")

    monkeypatch.setattr("keras_ssl.evaluate.fine_tuning.prepare_finetune", fail)
    words = ["--data", "digits", "--labels", 0.02, "--out", tmp_path / "run"]
    status, _, err = call("finetune", pretrained, *words)
    assert status == 1
    assert "no labels" in err
    assert not (tmp_path / "run").exists()


def test_finetune_prints_a_table(pretrained, tmp_path):
    words = ["--data", "digits", "--labels", 0.02, "--epochs", 1, *NO_FLOOR]
    status, out, err = call("finetune", pretrained, *words, "--out", tmp_path / "run")
    assert status == 0, err
    result = Run(tmp_path / "run").metrics["result"]
    assert "Fine-tuned: accuracy in % of 360 test images" in out
    row = next(line for line in out.splitlines() if line.startswith("│"))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:2] == ["30", f"{100 * result['accuracy']:.1f}"]
    assert re.search(r"│ optimizer +│ lars +│", out)
    assert re.search(r"│ learning rate +│ 0\.02739 +│", out)  # 0.005 * sqrt(30)


def test_a_classifier_is_evaluated_exported_embedded_and_predicts(teacher, tmp_path):
    """Its scores have class names wherever they go, and its features are those below the classes."""
    run, test = Run(teacher), data.digits("test")
    names = data.digits("train").class_names
    assert run.config["class_names"] == run.class_names == names
    words = ["--data", "digits", "--labels-per-class", 1, "--draws", 1]
    status, out, err = call("evaluate", teacher, *words, "--baselines")
    assert status == 0, err
    accuracy = run.metrics["classifier"]["accuracy"]
    assert accuracy == pytest.approx(run.metrics["accuracy"], abs=0.003)
    assert f"Classifier: {100 * accuracy:.1f}% of 360 test images" in out
    assert list(run.metrics["rows"]) == ["raw pixels", "untrained", "trained"]
    line = next(line for line in out.splitlines() if line.startswith("Classifier: "))
    status, out, err = call("evaluate", teacher / "export", *words)
    assert status == 0, err
    assert line in out
    assert run.encoder().output_shape == (None, 32)
    for path in (teacher, teacher / "export"):
        status, _, err = call("embed", path, "--data", "digits", "--out", tmp_path / "f.npz")
        assert status == 0, err
        with np.load(tmp_path / "f.npz") as file:
            assert file["features"].shape == (1797, 32)

    status, out, err = call("export", teacher, "--out", tmp_path / "export")
    assert status == 0, err
    assert "scores = classifier(images)" in out
    served = tf.saved_model.load(str(tmp_path / "export")).signatures
    assert [name.decode() for name in served["class_names"]()["class_names"].numpy()] == names
    images = np.stack([image for image, _ in test.dataset().as_numpy_iterator()])
    scores = served["uint8"](images=tf.constant(images))["scores"].numpy()
    contract = json.loads((tmp_path / "export" / "preprocessing.json").read_text())
    assert contract["class_names"] == names
    assert "The classes are, in order: `0`, `1`, `2`" in (tmp_path / "export/README.md").read_text()

    for path in (teacher, tmp_path / "export"):
        status, out, err = call("predict", path, "--data", "digits", "--out", tmp_path / "p.csv")
        assert status == 0, err
        with (tmp_path / "p.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))[-360:]
        assert rows[5]["name"] == "test/5"
        assert [row["class"] for row in rows] == [names[best] for best in scores.argmax(axis=1)]
    right = [row["class"] == names[label] for row, label in zip(rows, test.labels, strict=True)]
    assert np.mean(right) == pytest.approx(accuracy)


def test_other_classes_are_left_out_of_the_test_of_a_classifier(teacher, tmp_path, caplog):
    classifier, names = Run(teacher).network(), Run(teacher).class_names
    test = data.digits("test")
    images = np.stack([image for image, _ in test.dataset().as_numpy_iterator()])
    kept = np.flatnonzero(np.isin(test.labels, (3, 7)))
    other = data.arrays(
        images[kept],
        np.where(test.labels[kept] == 3, 1, 0),
        name="others",
        class_names=["zebra", "3"],
    )
    found = measure_classifier(classifier, names, other)
    threes = np.flatnonzero(test.labels == 3)
    expected = measure_classifier(classifier, names, test.subset(threes))
    assert (found.test_size, found.accuracy) == (len(threes), expected.accuracy)
    assert found.per_class == {"3": found.accuracy}
    assert "left out of the test" in caplog.text
    none = data.arrays(images[:2], np.zeros(2, int), name="none", class_names=["zebra"])
    assert measure_classifier(classifier, names, none) is None
    assert "it has no class of 'none'" in caplog.text


@pytest.mark.large
def test_finetune_of_an_export_and_from_scratch(teacher, tmp_path):
    words = ["--data", "digits", "--labels", 0.02, "--epochs", 1, *NO_FLOOR, "--batch-size", 16]
    for extra, name in (([], "finetune"), (["--from-scratch"], "supervised")):
        path = tmp_path / name
        status, _, err = call("finetune", teacher / "export", *words, *extra, "--out", path)
        assert status == 0, err
        assert Run(path).metrics["result"]["protocol"] == name


def test_distill_into_a_small_student(teacher, tmp_path):
    path = tmp_path / "student"
    words = ["--student", "tiny", "--student-width", 0.25, "--epochs", 1, "--out", path]
    status, out, err = call("distill", teacher, *QUICK, *words, "--precompute")
    assert status == 0, err
    assert re.search(r"accuracy 0\.\d+, mean_per_class 0\.\d+, parameters [\d,]+", out)
    student = export.load(path / "export")
    assert Run(path).class_names == Run(teacher).class_names  # the teacher's
    assert Run(path).encoder().output_shape == (None, 16)
    assert student.count_params() < Run(teacher).metrics["parameters"] / 3
    status, _, err = call("distill", "--resume", path, "--student", "small-resnet")
    assert status == 1
    assert "student: 'tiny' in the run, 'small-resnet' now" in err
    status, _, err = call("distill", "--resume", path, "--temperature", 0.1)
    assert status == 1
    assert "temperature: 1.0 in the run, 0.1 now" in err

    status, out, err = call("distill", "--resume", path, "--epochs", 2)
    assert status == 0, err
    # 11 steps of 128 images per epoch. Half a cosine of the reference's rate: 0.03 * 128 / 256.
    assert "Lengthened from 1 to 2 epochs. From step 11 on, the learning rate and all" in out
    run = Run(path)
    assert (run.config["epochs"], run.progress()) == (2, (22, 22))
    assert run.config["lengthened"] == [{"epochs": 1, "until_step": 11}]
    assert [line["epoch"] for line in run.history] == [1, 2]
    status, _, err = call("distill", "--resume", path, "--epochs", 1)
    assert status == 1
    assert "can be lengthened, but not shortened. Expected: `epochs` of at least 2" in err


@pytest.mark.large
def test_an_interrupted_distillation_resumes_exactly(teacher, tmp_path, monkeypatch):
    words = ["distill", teacher, *QUICK, "--epochs", 1]
    assert call(*words, "--out", tmp_path / "whole")[0] == 0

    interrupt(monkeypatch, *words, "--out", tmp_path / "stopped")
    status, _, err = call("distill", "--resume", tmp_path / "stopped")
    assert status == 0, err
    one, two = (
        export.load(tmp_path / name / "export").get_weights() for name in ("whole", "stopped")
    )
    for value, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(value, other)


def test_an_interrupted_fine_tuning_resumes_exactly(teacher, pretrained, tmp_path, monkeypatch):
    path = tmp_path / "stopped"
    interrupt(monkeypatch, "finetune", pretrained, *FOUR_STEPS, "--out", path)
    assert Run(path).progress() == (3, 4)
    status, _, err = call("finetune", "--resume", path)
    assert status == 0, err
    assert_same_run(teacher, path)
    assert Run(path).progress() == (4, 4)


@pytest.mark.large
def test_an_interrupted_training_from_scratch_resumes_exactly(pretrained, tmp_path, monkeypatch):
    words = ["finetune", pretrained, *FOUR_STEPS, "--from-scratch"]
    assert call(*words, "--out", tmp_path / "whole")[0] == 0
    interrupt(monkeypatch, *words, "--out", tmp_path / "stopped")
    status, _, err = call("finetune", "--resume", tmp_path / "stopped")
    assert status == 0, err
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_fine_tuning_is_lengthened(teacher, pretrained, tmp_path):
    shutil.copytree(teacher, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert (run.config["epochs"], run.config["given_epochs"]) == (2, 1)
    # The words of the first start are no change.
    words = ["--resume", run.path, "--epochs", 3]
    assert Finetune.read(run.path).epochs == 2
    same = dataclasses.replace(Finetune.read(run.path), resume=run.path, epochs=1)._resume()
    assert (same.epochs, same.min_steps) == (2, 0)

    status, out, err = call("finetune", *words)
    assert status == 0, err
    # Two thirds of a cosine: a quarter of the peak, 0.05 * 64 / 256.
    assert "Lengthened from 2 to 3 epochs. From step 4 on, the learning rate and all" in out
    assert f"the next learning rate is {0.05 * 64 / 256 / 4:.4g}." in out
    assert [line["epoch"] for line in run.history] == [1, 2, 3]
    assert run.metrics["result"]["settings"]["epochs"] == 3
    assert run.config["lengthened"] == [{"epochs": 2, "until_step": 4}]
    status, _, err = call("finetune", "--resume", run.path, "--epochs", 2)
    assert status == 1
    assert "can be lengthened, but not shortened. Expected: `epochs` of at least 3" in err
    status, _, err = call("finetune", "--resume", run.path, "--optimizer", "lars")
    assert status == 1
    assert "optimizer: None in the run, 'lars' now" in err
    # An earlier version left no checkpoints: nothing is trained again.
    shutil.rmtree(run.path / "checkpoints")
    status, _, err = call("finetune", "--resume", run.path)
    assert status == 1
    assert "The run is finished and has no checkpoint" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "digits"], "needs a teacher"),
        (["nowhere"], "needs images. Expected: --data DATA"),
        (["nowhere", *QUICK], "must be the directory of a SavedModel"),
        (["nowhere", *QUICK, "--labelled-weight", 3], "--labelled-weight must lie in"),
        (["nowhere", *QUICK, "--epochs", 0], "--epochs must be at least 1. Received: 0"),
        (
            ["--resume", "nowhere"],
            "A run directory must contain config.json. Received: 'nowhere'",
        ),
    ],
)
def test_wrong_options_of_distill_create_nothing(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = call("distill", *words)
    assert status == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_a_pretraining_is_not_resumed_as_a_distillation(pretrained):
    status, _, err = call("distill", "--resume", pretrained)
    assert status == 1
    assert "--resume takes the run directory of a distillation." in err


def test_a_finished_directory_is_not_overwritten(teacher, pretrained):
    words = ["finetune", pretrained, "--data", "digits", "--out", teacher]
    status, _, err = call(*words)
    assert status == 1
    assert "which is not empty" in err


def test_labels_of_a_distillation_are_matched_with_the_teachers_classes(teacher, tmp_path):
    """The images number their classes differently from the teacher: 9 first."""
    digits = data.digits("train").subset(np.arange(64))
    images = np.stack([image for image, _ in digits.dataset().as_numpy_iterator()])
    names = [str(number) for number in range(9, -1, -1)]
    file = tmp_path / "reversed.npz"
    np.savez(
        file,
        x_train=images,
        y_train=9 - digits.labels,
        x_test=images,
        y_test=9 - digits.labels,
        class_names=names,
    )
    results = {}
    for name, path in (("reversed", file), ("same", tmp_path / "same.npz")):
        if name == "same":
            np.savez(
                path,
                x_train=images,
                y_train=digits.labels,
                x_test=images,
                y_test=digits.labels,
                class_names=names[::-1],
            )
        words = ["--data", path, "--student", "tiny", "--epochs", 2, "--batch-size", 32]
        words += ["--labelled-weight", 0.5, "--augmentation", "centred"]
        status, _, err = call("distill", teacher, *words, "--out", tmp_path / name)
        assert status == 0, err
        results[name] = Run(tmp_path / name).metrics["accuracy"]
    assert results["reversed"] == results["same"]
