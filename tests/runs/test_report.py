"""The table of protocols over encoders."""

import io

import numpy as np
import pytest
from rich.console import Console

from keras_ssl import data, evaluate
from keras_ssl.runs import report


@pytest.fixture(scope="module")
def sources():
    return data.digits("train").subset(np.arange(300)), data.digits("test").subset(np.arange(80))


@pytest.fixture(scope="module")
def rows(sources):
    encoders = {"raw pixels": evaluate.pixels((8, 8, 1)), "again": evaluate.pixels((8, 8, 1))}
    return report.measure(encoders, *sources, per_class=(1, 5, 1000), draws=3, progress=False)


def test_every_encoder_is_measured(rows, sources):
    assert list(rows) == ["raw pixels", "again"]
    assert rows["raw pixels"] == {**rows["again"]}
    row = rows["raw pixels"]
    train, test = sources
    linear = evaluate.linear(evaluate.pixels((8, 8, 1)), train, test, progress=False)
    assert row["linear"]["accuracy"] == pytest.approx(linear.accuracy)
    assert row["knn"]["accuracy"] > 0.8
    few = {(result["protocol"], result["per_class"]) for result in row["few_labels"]}
    assert few == {("knn", 1), ("knn", 5), ("linear", 1), ("linear", 5)}  # no class has 1000
    for result in row["few_labels"]:
        assert len(result["accuracies"]) == 3
        assert result["mean"] == pytest.approx(np.mean(result["accuracies"]))


def shown(rows):
    console = Console(file=io.StringIO(), width=120)
    report.show(rows, console)
    return console.file.getvalue()


def test_accuracies_are_shown_in_percent(rows):
    table = shown(rows)
    assert "mean ± std of 3" in table
    row = rows["raw pixels"]
    assert f"{100 * row['linear']['accuracy']:.1f}" in table
    few = row["few_labels"][0]
    assert f"{100 * few['mean']:.1f} ± {100 * few['std']:.1f}" in table
    assert "collapsed" not in table


def test_without_few_labels(sources):
    encoders = {"raw pixels": evaluate.pixels((8, 8, 1))}
    rows = report.measure(encoders, *sources, per_class=(1000,), progress=False)
    assert rows["raw pixels"]["few_labels"] == []
    assert "draws" not in shown(rows)


def test_collapsed_features_are_reported(rows):
    collapsed = {
        name: {**row, "knn": {**row["knn"], "collapsed": True}} for name, row in rows.items()
    }
    assert "have collapsed" in shown(collapsed)


@pytest.mark.parametrize(("role", "place"), [("training", 0), ("test", 1)])
def test_images_without_labels_are_refused(sources, role, place):
    pair = list(sources)
    pair[place] = data.arrays(np.zeros((4, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=f"needs labeled {role} images.*without labels"):
        report.measure({"pixels": evaluate.pixels((8, 8, 1))}, *pair)
