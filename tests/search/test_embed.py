import json

import numpy as np
import pytest
from PIL import Image

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny
from keras_ssl.search import embed, nearest, read_features
from keras_ssl.search.neighbours import draw_neighbours


@pytest.fixture(scope="module")
def backbone():
    return Tiny((8, 8, 1), features=16)


@pytest.fixture(scope="module")
def digits():
    return data.digits("test").subset(np.arange(50))


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_the_file_contains_the_result_of_extract(ending, backbone, digits, tmp_path):
    if ending == "parquet":
        pytest.importorskip("pyarrow", exc_type=ImportError)
    path = embed(
        backbone, {"": digits}, tmp_path / f"f.{ending}", {"data": "digits"}, 16, shard_size=20
    )
    found = read_features(path)
    expected = evaluate.extract(backbone, digits)
    np.testing.assert_allclose(found.features, expected.values, atol=1e-6)
    np.testing.assert_array_equal(found.labels, digits.labels)
    assert found.features.dtype == np.float32
    assert list(found.names) == [str(number) for number in range(50)]
    assert found.about["data"] == "digits"
    assert list(tmp_path.iterdir()) == [path]  # the shards are deleted


def test_names_are_paths_with_the_prefix_of_the_source(tmp_path):
    backbone = Tiny((8, 8, 3), features=4)
    for name in ("train/cat/b.png", "train/cat/a.png", "train/dog/a.png", "val/dog/c d.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 12, 3), len(name), np.uint8)).save(file)
    parts = {part: data.image_folder(tmp_path / "photos" / part) for part in ("train", "val")}
    found = read_features(embed(backbone, parts, tmp_path / "f.npz"))
    train = [f"train/{name}.png" for name in ("cat/a", "cat/b", "dog/a")]
    assert list(found.names) == [*train, "val/dog/c d.png"]
    # Label 0 is a cat in one source and a dog in the other: classes are joined by name.
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.about["class_names"] == ["cat", "dog"]
    np.testing.assert_allclose(found.features[3:], evaluate.extract(backbone, parts["val"]).values)


def test_an_interrupted_run_resumes_after_its_last_shard(backbone, digits, tmp_path):
    def stop(done, total):
        if done >= 40:
            raise KeyboardInterrupt

    path, seen = tmp_path / "f.npz", []
    with pytest.raises(KeyboardInterrupt):
        embed(backbone, {"": digits}, path, shard_size=20, progress=stop)
    assert not path.exists()
    parts = tmp_path / "f.npz.parts"
    kept = {file: file.stat().st_mtime_ns for file in parts.glob("*.npy")}
    assert len(kept) == 2
    # Changed values in the first shard show that it is read, not computed again.
    first = min(kept)
    np.save(first, np.full((20, 16), 7.0, np.float32))
    embed(backbone, {"": digits}, path, shard_size=20, progress=lambda *done: seen.append(done))
    assert seen == [(20, 50), (40, 50), (50, 50)]
    features = read_features(path).features
    assert (features[:20] == 7).all()
    np.testing.assert_allclose(
        features[20:], evaluate.extract(backbone, digits).values[20:], atol=1e-6
    )
    assert not parts.exists()


def test_shards_of_other_features_are_refused(backbone, digits, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    path = tmp_path / "f.npz"
    with pytest.raises(KeyboardInterrupt):
        embed(backbone, {"": digits}, path, shard_size=20, progress=stop)
    other = Tiny((8, 8, 1), features=16)
    with pytest.raises(ValueError, match=r"shards of other features.*different network$"):
        embed(other, {"": digits}, path, shard_size=20)
    with pytest.raises(ValueError, match=r"different images, shard_size$"):
        embed(backbone, {"": digits.subset([1, 2])}, path, shard_size=30)


def test_a_shard_folder_with_other_files_is_refused(backbone, digits, tmp_path):
    (tmp_path / "f.npz.parts").mkdir()
    (tmp_path / "f.npz.parts" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="must be new or empty"):
        embed(backbone, {"": digits}, tmp_path / "f.npz")
    assert (tmp_path / "f.npz.parts" / "thesis.tex").exists()


def test_wrong_arguments_are_refused(backbone, digits, tmp_path):
    with pytest.raises(ValueError, match=r"must end in .npz or .parquet. Received: '.*f.csv'"):
        embed(backbone, {"": digits}, tmp_path / "f.csv")
    with pytest.raises(ValueError, match="shard_size=0"):
        embed(backbone, {"": digits}, tmp_path / "f.npz", shard_size=0)
    with pytest.raises(FileNotFoundError, match="feature file does not exist"):
        read_features(tmp_path / "f.npz")
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(ValueError, match=r"written by `keras-ssl embed`.*other.npz"):
        read_features(tmp_path / "other.npz")
    assert json.dumps([file.name for file in tmp_path.iterdir()]) == '["other.npz"]'


def test_nearest_equals_a_slow_search():
    features = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
    names = np.array([f"{row}.png" for row in range(40)])
    lengths = np.sqrt((features.astype("float64") ** 2).sum(1))
    cosines = [
        (sum(a * b for a, b in zip(features[row], features[3], strict=True)) / lengths[row], row)
        for row in range(40)
        if row != 3
    ]
    slow = [(row, cosine / lengths[3]) for cosine, row in sorted(cosines, reverse=True)[:10]]
    found = nearest(features[3], features, names, leave_out=3)
    assert [each.index for each in found] == [row for row, _ in slow]
    np.testing.assert_allclose([each.similarity for each in found], [c for _, c in slow], rtol=1e-5)
    assert found[0].name == f"{found[0].index}.png"
    assert nearest(features[3], features, names, 1)[0].index == 3
    with pytest.raises(ValueError, match=r"must have 5 features.*Received: \(4,\)"):
        nearest(features[3, :4], features, names)
    with pytest.raises(ValueError, match="count=0"):
        nearest(features[3], features, names, count=0)


@pytest.mark.parametrize("count", [1, 7])
def test_neighbors_are_drawn(count, tmp_path):
    features = np.random.default_rng(0).normal(size=(9, 5)).astype("float32")
    found = nearest(features[0], features, np.arange(9).astype(str), count, leave_out=0)
    images = [np.full((8 + row, 12, 3), 20 * row, np.uint8) for row in range(count)]
    path = draw_neighbours(
        np.zeros((5, 5, 1), np.uint8), "query", found, images, tmp_path / "p.png"
    )
    with Image.open(path) as picture:
        assert min(picture.size) > 300
