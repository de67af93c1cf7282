"""`keras-ssl pretrain --method`: how it is spelled, and which options go with it."""

import pytest

from keras_ssl.cli.program import parse
from keras_ssl.cli.words import option_value
from tests.command_line import call


@pytest.mark.parametrize(
    ("word", "method"),
    [
        ("byol", "byol"),
        ("BYOL", "byol"),
        ("SimCLR", "simclr"),
        ("MoCo", "moco"),
        ("Simclr_Memory", "simclr-memory"),
        ("SimCLRMemory", "simclr-memory"),
        ("MEMORY_BANK", "memory-bank"),
    ],
)
def test_case_and_underscores_do_not_matter(word, method):
    for words in (["--method", word], [f"--method={word}"]):
        assert parse(["pretrain", *words]).preset.method == method


def test_the_last_method_counts():
    command = parse(["pretrain", "--method", "moco", "--method", "byol"])
    assert (command.preset.method, command.method) == ("byol", "byol")


def test_options_change_the_defaults_of_the_method():
    words = ["--method", "moco", "--queue_size", "64", "--groups=4", "--symmetric"]
    preset = parse(["pretrain", *words]).preset
    assert (preset.queue_size, preset.groups, preset.symmetric) == (64, 4, True)
    assert (preset.temperature, preset.optimizer) == (0.2, "auto")
    assert not parse(["pretrain", "--method", "moco", "--no-symmetric"]).preset.symmetric


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--method", "byol", "--queue-size", "64"],
            "--method byol has no --queue-size: that is an option of simclr-memory, moco. "
            "Received: --queue-size 64",
        ),
        (
            ["--method", "byol", "--queue_size=64"],
            "--method byol has no --queue_size: that is an option of simclr-memory, moco. "
            "Received: --queue_size=64",
        ),
        (
            ["--no-symmetric", "--seed", "1"],
            "--method simclr has no --symmetric: that is an option of moco. "
            "Received: --no-symmetric\n",
        ),
        (
            ["--method", "memory-bank", "--hidden-units", "8"],
            "--method memory-bank has no --hidden-units: that is an option of byol, ",
        ),
    ],
)
def test_options_of_other_methods_are_refused(words, message):
    status, _, err = call("pretrain", *words)
    assert status == 1
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "--data", "digits", "--temprature", "1"], "temprature"),
        (["pretrain", "--method"], "--method"),
        (["pretrain", "--epochs", "many"], "many"),
        (["pretrain", "--recipe", "simclr_cifar10", "--epoch", 3], "--epoch"),
        (["simclrv2", "--recipe", "simclrv2_cifar10_cpu", "--epoch", 3], "--epoch"),
        (["pretend"], "pretend"),
    ],
)
def test_unknown_words_are_errors(words, message):
    status, _, err = call(*words)
    assert status == 2
    assert message in err


def test_resume_takes_the_method_of_the_run(tmp_path):
    (tmp_path / "config.json").write_text('{"settings": {"method": "byol"}}')
    for words in (["--resume", str(tmp_path)], [f"--resume={tmp_path}"]):
        command = parse(["pretrain", *words, "--hidden-units", "64"])
        assert (command.method, command.preset.hidden_units) == ("byol", 64)
    command = parse(["pretrain", "--resume", str(tmp_path), "--method", "moco"])
    assert command.preset.method == "moco"
    command = parse(["pretrain", "--resume", str(tmp_path / "new"), "--data", "digits"])
    assert command.preset.method == "simclr"


def test_option_value():
    words = [
        "pretrain",
        "--out",
        "--recipe",
        "--method=moco",
        "--data",
        "digits",
        "--method",
        "byol",
    ]
    assert option_value(words, "data") == "digits"
    assert option_value(words, "method") == "byol"
    assert option_value(words, "recipe") == option_value(words, "out") == ""
    assert option_value(words, "resume") is None
