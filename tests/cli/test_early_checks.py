"""Mistakes on the command line are reported before TensorFlow is imported; `--version`."""

import importlib.metadata
import json
import pathlib

from keras_ssl import distribute
from keras_ssl.cli.checks import STRATEGIES
from keras_ssl.distribute import strategies
from tests.cli.test_help import python
from tests.command_line import call

# Runs command lines in one process that must not import TensorFlow, and prints what each says.
RUN = """
import contextlib, io, json, sys
from keras_ssl.cli import main
found = []
for words in json.loads({lines!r}):
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.suppress(SystemExit):
        main(words)
    found.append(error.getvalue())
    assert not {{"tensorflow", "keras", "sklearn"}} & set(sys.modules), words
print(json.dumps(found))
"""
OLD_RUN = str(pathlib.Path(__file__).parents[1] / "runs" / "old_run" / "run")
MISTAKES = {
    "pretrain --data digitz": "Did you mean 'digits'? Received: --data digitz",
    "pretrain": "`pretrain` needs images",
    "pretrain --method simclear --data digits": "Unknown method. Nearest: simclr",
    "pretrain --data digits --backbone resnet19": "Unknown backbone. Nearest: resnet18",
    "pretrain --data digits --optimizer sgdd": "Unknown optimizer. Nearest: sgd",
    "pretrain --data digits --policy moco": "Unknown policy of views. Nearest: moco-v",
    "pretrain --data digits --learning-rate -1": "`learning_rate` must be positive",
    "pretrain --data digits --strategy mirored": "Unknown strategy. Nearest: mirrored",
    "pretrain --data digits --knn-data nowhere": "--knn-data must be digits",
    "pretrain --data digits --knn-every -1": "--knn-every must be at least 0. Received: -1",
    "pretrain --data digits --epochs 0": "`epochs` must be at least 1",
    f"pretrain --data digits --out {OLD_RUN}": "A run needs a new directory",
    "pretrain --resume nowhere": "Received: 'nowhere', and there is no such directory",
    f"pretrain --resume {OLD_RUN} --temperature 3": "temperature: 0.2 in the run, 3.0 now",
    f"pretrain --resume {OLD_RUN} --epochs 1": "can be lengthened, but not shortened",
    "evaluate nowhere --data digits": "Received: 'nowhere', and there is no such directory",
    f"evaluate {OLD_RUN} --data nowhere": "Received: --data nowhere, and there is no such file",
    f"evaluate {OLD_RUN} --data digits --draws 0": "--draws must be at least 1. Received: 0",
    f"export {OLD_RUN} --format liet": "Unknown format. Nearest: lite",
    f"export {OLD_RUN} --format lite --quantize int4": "Unknown number format. Nearest: int8",
    f"embed {OLD_RUN} --data digits --out f.csv": "--out must end in .npz or .parquet",
    "predict nowhere --data digits": "Received: 'nowhere', and there is no such directory",
    f"finetune {OLD_RUN} --data digits --labels 0": "--labels must lie in (0, 1]",
    f"finetune {OLD_RUN} --data digits --learning-rate -1": "--learning-rate must be positive",
    f"finetune {OLD_RUN} --data digits --optimizer adam": "Expected one of: lars, sgd",
    "distill --data digits": "needs a teacher",
    "distill nowhere --data digits": "must be the directory of a SavedModel",
    "distill nowhere --data digits --learning-rate -1": "--learning-rate must be positive",
    "distill nowhere --data digits --student tiney": "Unknown backbone. Nearest: tiny",
    "simclrv2 --data nowhere": "Received: --data nowhere, and there is no such file",
    "import nowhere/weights.pth --kind moco --out new": "whose folder does not exist",
    "search nowhere.npz --query 1": "there is no such file",
    "demo --epochs 0": "`epochs` must be at least 1",
}


def test_mistakes_are_reported_without_tensorflow():
    lines = json.dumps([line.split() for line in MISTAKES])
    done = python(RUN.format(lines=lines))
    assert done.returncode == 0, done.stderr
    for (line, expected), found in zip(MISTAKES.items(), json.loads(done.stdout), strict=True):
        assert expected in found, (line, found)
        assert found.startswith("keras-ssl: error: ")


def test_the_strategies_are_those_that_exist():
    assert STRATEGIES == strategies._NAMES
    assert distribute.strategy(STRATEGIES[1]).num_replicas_in_sync == 1


def test_version():
    status, out, _ = call("--version")
    assert (status, out) == (0, f"keras_ssl {importlib.metadata.version('keras_ssl')}\n")
