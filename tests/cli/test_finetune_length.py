"""Fine-tuning has a floor in steps, and the table warns of fine-tuning below the linear probe."""

import io
import pathlib

import numpy as np
import pytest
from rich.console import Console

from keras_ssl import data
from keras_ssl.backbones import Tiny
from keras_ssl.cli.finetune import Finetune
from keras_ssl.cli.finetune_classifier import prepare, print_label_counts
from keras_ssl.cli.finetune_length import finetune_epochs
from keras_ssl.cli.simclrv2 import SimCLRv2
from keras_ssl.cli.simclrv2_table import show, warnings
from keras_ssl.evaluate import fine_tuning

LABELS = np.arange(1000) % 10


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"share": 0.1}, 1000),  # 100 images: one step per epoch
        ({"share": 0.1, "min_steps": 2000}, 2000),
        ({"share": 1.0}, 143),  # seven steps of 128 images
        ({"share": 1.0, "batch_size": 20}, 20),  # exactly 1,000 steps
        ({"share": 0.1, "min_steps": 0}, 20),
        ({"share": 0.1, "min_steps": 50}, 50),
    ],
)
def test_more_epochs_are_trained_where_they_would_be_few_steps(settings, epochs):
    found, reason = finetune_epochs(20, LABELS, **settings)
    assert found == epochs
    assert bool(reason) == (epochs != 20)


def test_the_reason_is_given():
    _, reason = finetune_epochs(20, LABELS, share=0.1)
    assert reason.startswith("20 epochs of 100 labeled images are only 20 steps.")
    assert "Training for 1000 epochs, 1000 steps" in reason


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"epochs": 20}, 1000),
        ({"epochs": 20, "from_scratch": True}, 2000),
        ({"epochs": 20, "min_steps": 0, "from_scratch": True}, 20),
        ({"epochs": None}, None),  # the default of `evaluate.finetune` has its own floor
    ],
)
def test_the_command_has_the_floor(options, epochs, monkeypatch):
    used = {}
    for name in ("prepare_finetune", "prepare_supervised"):
        monkeypatch.setattr(fine_tuning, name, lambda *_, **settings: used.update(settings))
    console = Console(file=io.StringIO())
    source = data.arrays(np.zeros((1000, 8, 8, 1), np.uint8), LABELS)
    command = Finetune(pathlib.Path("run"), "digits", labels=0.1, **options)
    prepare(Tiny((8, 8, 1)), source, source, command, console)
    assert used["epochs"] == epochs
    assert ("are only 20 steps" in console.file.getvalue()) == (epochs not in (20, None))


def test_shares_that_the_smallest_class_limits_are_printed():
    labels = np.repeat([0, 1], [98, 2])
    source = data.arrays(np.zeros((100, 8, 8, 1), np.uint8), labels, ["many", "few"])
    console = Console(file=io.StringIO(), width=400)
    print_label_counts(source, [0.01, 0.5, 1.0], console)
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("Labels: 4 of 100 (4.0%) instead of 50.0%")
    assert "class 'few' has only 2" in line


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        ({}, 0.5),
        ({"width": 0.5}, 0.25),  # half of the teacher
        ({"width": 0.5, "student_width": 0.5}, 0.25),
        ({"width": 3.0, "student_width": 0.5}, 1.5),
        ({"width": 3.0, "student": "resnet50", "student_width": 1.0}, 1.0),  # the paper's student
        ({"width": 3.0, "student": "resnet50"}, 1.0),
    ],
)
def test_the_width_of_the_student_is_a_share_of_the_teachers(settings, width):
    complete = SimCLRv2(data="digits", backbone="resnet18", **settings)._complete()
    assert complete.student_width == width


def test_a_student_of_a_fixed_width_is_refused_before_training():
    with pytest.raises(ValueError, match=r"needs a network of its own.*--backbone MobileNetV2"):
        SimCLRv2(data="digits", backbone="MobileNetV2")._complete()
    SimCLRv2(data="digits", backbone="MobileNetV2", student="MobileNetV3Small")._complete()


def row(share, network, accuracy):
    costs = {"parameters": 1, "flops": 1, "bytes": 1, "images_per_second": 1.0}
    return {"labels": share, "network": network, "accuracy": accuracy, **costs}


def test_fine_tuning_below_the_linear_probe_is_a_warning_in_the_table():
    rows = [
        row(0.01, "linear probe", 0.82),
        row(0.01, "fine-tuned", 0.41),
        row(0.1, "linear probe", 0.85),
        row(0.1, "fine-tuned", 0.90),
    ]
    (warning,) = warnings(rows)
    assert "with 0.01 of the labels, the fine-tuned network (41.0%)" in warning
    console = Console(file=io.StringIO(), width=400)
    show(rows, console)
    assert warning[:40] in " ".join(console.file.getvalue().split())
    console = Console(file=io.StringIO(), width=400)
    show(rows[2:], console)
    assert "Warning" not in console.file.getvalue()
