"""kNN and linear accuracy of each block: equal to those of the cut encoders, in one pass."""

import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import data, evaluate
from keras_ssl.backbones import Tiny, ViT, cut
from keras_ssl.evaluate.classifier import with_classes
from keras_ssl.evaluate.classifier_parts import encoder_of_classifier
from keras_ssl.evaluate.grid_pooling import GridPooling


@pytest.fixture(scope="module")
def digits():
    train, test = data.digits("train"), data.digits("test")
    return train.subset(np.arange(300)), test.subset(np.arange(200))


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    return Tiny((8, 8, 1), features=16)


@pytest.fixture(scope="module")
def results(backbone, digits):
    return evaluate.by_block(backbone, *digits, grid=True, k=20)


def test_each_block_equals_the_encoder_that_ends_there(backbone, digits, results):
    assert list(results.pooled) == ["block1", "block2", "block3"]
    for block, row in results.pooled.items():
        encoder = cut(backbone, block)
        assert row["knn"].accuracy == evaluate.knn(encoder, *digits, k=20).accuracy
        assert row["linear"].accuracy == evaluate.linear(encoder, *digits).accuracy
    last = results.pooled["block3"]
    assert last["knn"].accuracy == evaluate.knn(backbone, *digits, k=20).accuracy
    assert last["linear"].to_dict() == evaluate.linear(backbone, *digits).to_dict()


def test_a_grid_keeps_the_place(backbone, digits, results):
    # 4 features of 8 x 8 places, fewer than 9,216 numbers: the whole map.
    whole = keras.Model(backbone.input, keras.layers.Flatten()(backbone.get_layer("block1").output))
    expected = evaluate.linear(whole, *digits)
    assert results.grid["block1"]["linear"].accuracy == pytest.approx(expected.accuracy, abs=0.006)
    accuracy = results.pooled["block1"]["linear"].accuracy
    assert results.grid["block1"]["linear"].accuracy > accuracy + 0.1


def test_the_results_are_printed_and_written_as_json(results):
    lines = str(results).splitlines()
    assert lines[0].split() == [
        "accuracy",
        "in",
        "%",
        "kNN",
        "linear",
        "kNN,",
        "grid",
        "linear,",
        "grid",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["block1", "block2", "block3"]
    assert lines[3].split()[2] == f"{100 * results.pooled['block3']['linear'].accuracy:.2f}"
    assert len({len(line) for line in lines}) == 1
    written = json.loads(json.dumps(results.to_dict()))
    assert written["pooled"]["block2"]["knn"]["settings"]["k"] == 20
    accuracies = {block: row["linear"].accuracy for block, row in results.pooled.items()}
    assert accuracies[results.best] == max(accuracies.values())


@pytest.mark.parametrize("shape", [(7, 5), (8, 8), (2, 3)])
def test_the_cells_of_a_grid_average_their_pixels(shape):
    maps = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    rows, columns = 3, 2
    expected = np.zeros((2, rows, columns, 3))
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * shape[0] // rows, -(-(row + 1) * shape[0] // rows)
            left, right = column * shape[1] // columns, -(-(column + 1) * shape[1] // columns)
            expected[:, row, column] = maps[:, top:bottom, left:right].mean(axis=(1, 2))
    received = GridPooling(rows, columns)(maps)
    np.testing.assert_allclose(received, expected.reshape(2, -1), atol=1e-6)


def test_a_grid_has_at_most_9216_numbers():
    images = keras.Input((64, 64, 3))
    maps = keras.layers.Conv2D(100, 1, name="block1")(images)
    network = keras.Model(images, keras.layers.GlobalAveragePooling2D()(maps))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    found = evaluate.by_block(network, *[(pixels, np.arange(12) % 2)] * 2, grid=True)
    assert found.grid["block1"]["linear"].settings["solver"] == "logistic"
    from keras_ssl.evaluate.by_block import _grid

    assert _grid(network, "block1").shape == (None, 9 * 9 * 100)


def test_the_images_are_read_once(backbone):
    read = []

    def images():
        for label in (0, 1, 0, 1):
            read.append(label)
            yield np.full((8, 8, 1), 100 * label, np.uint8), label

    spec = (tf.TensorSpec((8, 8, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(images, output_signature=spec)
    evaluate.by_block(backbone, dataset, dataset, k=1)
    assert len(read) == 8  # four to train, four to test


def test_an_encoder_with_layers_behind_the_last_block_has_a_row_of_its_own(backbone, digits):
    head = keras.layers.Dense(5)(backbone.output)
    encoder = keras.Model(backbone.input, head)
    found = evaluate.by_block(encoder, *digits, blocks=["block3"], k=20)
    assert list(found.pooled) == ["block3", "output"]
    assert found.pooled["output"]["knn"].accuracy == evaluate.knn(encoder, *digits, k=20).accuracy


def test_the_encoder_of_a_classifier_has_blocks(backbone, digits, results):
    encoder = encoder_of_classifier(with_classes(backbone, classes=10))
    found = evaluate.by_block(encoder, *digits, k=20)
    assert found.to_dict()["pooled"] == results.to_dict()["pooled"]


def test_tokens_have_rows_but_no_grid(digits):
    encoder = ViT(patch=4, dim=16, depth=2, heads=2, input_shape=(8, 8, 1))
    found = evaluate.by_block(encoder, *digits, k=20)
    assert list(found.pooled) == ["block1", "block2"]
    assert found.pooled["block2"]["linear"].accuracy == evaluate.linear(encoder, *digits).accuracy
    with pytest.raises(
        ValueError, match=r"`grid` needs .* Received: 'block1' of 'vit', which returns"
    ):
        evaluate.by_block(encoder, *digits, grid=True)


def test_classes_are_matched_by_name_once(backbone, digits, caplog):
    pixels = np.stack([digits[0].read(index) for index in range(40)])
    train = data.arrays(pixels[:20], np.arange(20) % 2, class_names=["a", "b"])
    test = data.arrays(pixels[20:], np.arange(20) % 3, class_names=["b", "c", "a"])
    with caplog.at_level(logging.WARNING):
        found = evaluate.by_block(backbone, train, test, k=5)
    assert len(caplog.records) == 1
    expected = evaluate.linear(backbone, train, test)
    assert found.pooled["block3"]["linear"].to_dict() == expected.to_dict()


def test_what_cannot_be_measured_is_refused(backbone, digits):
    with pytest.raises(ValueError, match=r"layers named stem, block1.* Received: 'pixels'"):
        evaluate.by_block(evaluate.pixels((8, 8, 1)), *digits)
    with pytest.raises(
        ValueError, match=r"Expected: block1, block2, block3. Received: block='block9'"
    ):
        evaluate.by_block(backbone, *digits, blocks=["block9"])
    with pytest.raises(TypeError, match=r"`train` must be images.* Received: Features"):
        evaluate.by_block(backbone, evaluate.Features(np.eye(3), np.arange(3)), digits[1])
