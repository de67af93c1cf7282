"""Predicted classes of images in a CSV file."""

import csv

import numpy as np
import pytest
from PIL import Image

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.search import predict

NAMES = [f"digit, {number}" for number in range(10)]  # a comma must be quoted


@pytest.fixture(scope="module")
def network():
    classifier = with_classes(Tiny((8, 8, 1), features=16), 10)
    kernel, bias = classifier.layers[-1].get_weights()
    classifier.layers[-1].set_weights([100 * kernel, bias])  # probabilities that differ
    return classifier


@pytest.fixture(scope="module")
def digits():
    return data.digits("test").subset(np.arange(50))


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_class_and_probability_of_each_image(network, digits, tmp_path):
    sources = {"a": digits, "b": digits.subset([3])}
    path = predict(network, NAMES, sources, tmp_path / "p.csv", 16, shard_size=20)
    rows = read(path)
    assert [row["name"] for row in rows] == [*(f"a/{i}" for i in range(50)), "b/0"]
    scores = evaluate.extract(network, digits).values.astype(np.float64)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert [row["class"] for row in rows[:50]] == [NAMES[i] for i in scores.argmax(axis=1)]
    found = [float(row["probability"]) for row in rows[:50]]
    np.testing.assert_allclose(found, probabilities.max(axis=1), atol=1e-5)
    assert rows[50] == {**rows[3], "name": "b/0"}
    assert list(tmp_path.iterdir()) == [path]  # the shards are deleted


def test_it_resumes_after_the_last_shard(network, digits, tmp_path):
    def stop(done, total):
        if done >= 40:
            raise KeyboardInterrupt

    path = tmp_path / "p.csv"
    with pytest.raises(KeyboardInterrupt):
        predict(network, NAMES, {"": digits}, path, shard_size=20, progress=stop)
    assert not path.exists()
    first = min((tmp_path / "p.csv.parts").glob("*.npy"))
    np.save(first, np.eye(10, dtype=np.float32)[np.full(20, 7)] * 50)  # read, not computed again
    predict(network, NAMES, {"": digits}, path, shard_size=20)
    rows = read(path)
    assert {row["class"] for row in rows[:20]} == {NAMES[7]}
    assert len(rows) == 50
    with pytest.raises(KeyboardInterrupt):
        predict(network, NAMES, {"": digits}, path, shard_size=20, progress=stop)
    with pytest.raises(ValueError, match="Received: different images"):
        predict(network, NAMES, {"": digits.subset(np.arange(9))}, path, shard_size=20)


def test_there_must_be_a_name_for_each_score(network, digits, tmp_path):
    with pytest.raises(ValueError, match="Received: 2 names and 10 scores"):
        predict(network, ["a", "b"], {"": digits}, tmp_path / "p.csv")


def test_files_that_a_table_splits_have_their_own_paths(network, tmp_path):
    folder = tmp_path / "photos"
    (folder / "img").mkdir(parents=True)
    for number in range(4):
        pixels = np.full((8, 8), 60 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "img" / f"{number}.png")
    lines = [
        f"img/{number}.png,{number % 2},{'test' if number > 1 else 'train'}" for number in range(4)
    ]
    (folder / "labels.csv").write_text("\n".join(["file,label,split", *lines]))
    train, test = data.open_source(str(folder), channels=1)
    path = predict(network, NAMES, {"train": train, "test": test}, tmp_path / "p.csv")
    assert [row["name"] for row in read(path)] == [f"img/{number}.png" for number in range(4)]
