"""Bytes sent per step: formulas against hand counts, a simulated ring, and two real processes."""

import pathlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import collectives, communication, scaling
from benchmarks.collectives import Collective, Norm, Shape
from keras_ssl import layers, methods
from keras_ssl.backbones import Tiny

DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "scaling.md"

# 100 parameters, 3 dimensions, views of 4 x 4 x 3, ten channels; 2 images on each of 4 devices.
SYNCHRONISED = (Norm(4, "synchronised"), Norm(6, "synchronised"))
SHAPE = Shape(parameters=100, dim=3, view=48, norms=SYNCHRONISED, target_norms=SYNCHRONISED[:1])
B, N = 2, 4
COMMON = {"gradients": 600.0, "logs": 6.0}  # 2 * 3/4 of 100 and of 1 numbers of 4 bytes


def sent_bytes(exchange):
    by_kind = collectives.bytes_by_kind(exchange, N)
    return {kind: number for kind, number in by_kind.items() if number}


def test_simclr_by_hand():
    # Norms of 4 and 6 channels: 9 and 13 numbers forward, 8 and 12 backward. 2 gathers of 2 x 3
    # embeddings (3 x 24 bytes each), and 2 reductions of their gradients, 8 x 3. Before each gather,
    # its shape is gathered (2 numbers). After each reduction, 1 number and its shape (1 number) are.
    assert sent_bytes(collectives.simclr(SHAPE, B, N)) == {
        **COMMON,
        "statistics": (22 + 20) * 4 * 1.5,
        "embeddings": 2 * 72 + 2 * 96 * 1.5,
        "shapes": 2 * 3 * 8 + 2 * 3 * (4 + 4),
    }


def test_simclr_memory_by_hand():
    # 1 pass: 22 + 20 numbers for the online network's norms, 9 for the target's. 2 gathers of keys.
    assert sent_bytes(collectives.simclr_memory(SHAPE, B, N)) == {
        **COMMON,
        "statistics": (42 + 9) * 4 * 1.5,
        "embeddings": 2 * 72,
        "shapes": 2 * 3 * 8,
    }


def test_byol_by_hand():
    # 2 passes: 22 + 20 numbers for the online network's norms, 9 for the target's.
    statistics = 2 * (42 + 9) * 4 * 1.5
    assert sent_bytes(collectives.byol(SHAPE, B, N)) == {**COMMON, "statistics": statistics}


@pytest.mark.parametrize("passes", [1, 2])
def test_moco_by_hand(passes):
    found = collectives.moco(SHAPE, B, N, symmetric=passes == 2)
    assert sent_bytes(found) == {
        **COMMON,
        "statistics": passes * (42 + 9) * 4 * 1.5,
        "embeddings": passes * 72,
        "shapes": passes * 3 * 8,
    }


@pytest.mark.parametrize("passes", [1, 2])
def test_shuffled_moco_by_hand(passes):
    # Gathers of mean and variance of each group (rank 3), of views (rank 4) and of keys (rank 2).
    parts = {"norms": (Norm(10, "split"),), "target_norms": (Norm(4, "split"),)}
    found = collectives.moco(replace(SHAPE, **parts), B, N, symmetric=passes == 2)
    assert sent_bytes(found) == {
        **COMMON,
        "statistics": passes * 3 * 2 * (10 + 4) * 4,
        "embeddings": passes * 72,
        "views": passes * 3 * 2 * 48 * 4,
        "shapes": passes * 3 * 4 * (2 * 3 + 4 + 2),
    }


def test_unsynchronized_moco_shuffles_but_shares_no_statistics():
    parts = {"norms": (Norm(10, "local"),), "target_norms": (Norm(10, "local"),)}
    found = sent_bytes(collectives.moco(replace(SHAPE, **parts), B, N))
    assert found["views"] == 3 * 2 * 48 * 4
    assert "statistics" not in found


def test_memory_bank_by_hand():
    assert sent_bytes(collectives.memory_bank(replace(SHAPE, target_norms=()), B, N)) == {
        **COMMON,
        "statistics": 2 * 42 * 4 * 1.5,
        "embeddings": 3 * 2 * 8 + 72,  # int64 indices of the images
        "shapes": 3 * (4 + 8),
    }


def test_keras_batch_norm_sends_more_in_more_collectives():
    found = collectives.byol(replace(SHAPE, by_keras=True), B, N)
    assert sent_bytes(found)["statistics"] == 2 * (5 * 10 + 3 * 4) * 4 * 1.5
    assert len(found) - len(collectives.byol(SHAPE, B, N)) == 2 * (2 * 3 + 2)


def test_one_device_sends_nothing():
    assert not any(collectives.bytes_by_kind(collectives.simclr(SHAPE, B, 1), 1).values())


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_sends_what_the_formulas_say(n):
    numbers = np.random.default_rng(0).normal(size=(n, 3 * n))
    reduced, sent = ring_all_reduce(numbers)
    np.testing.assert_allclose(reduced, np.tile(numbers.sum(axis=0), (n, 1)))
    assert sent == n * Collective("", "reduce", 3 * n, size=1).bytes_sent(n)

    gathered, sent = ring_all_gather(numbers)
    np.testing.assert_array_equal(gathered, np.tile(numbers.reshape(-1), (n, 1)))
    assert sent == n * Collective("", "gather", 3 * n, size=1).bytes_sent(n)


def ring_all_reduce(numbers):
    """Each device sends one n-th to the next device: n - 1 times to sum, n - 1 times to distribute."""
    n = len(numbers)
    chunks, sent = [list(np.split(row, n)) for row in numbers], 0
    for turn in range(2 * (n - 1)):
        transfers = [(device, (device - turn) % n) for device in range(n)]
        values = [chunks[device][chunk].copy() for device, chunk in transfers]
        for (device, chunk), value in zip(transfers, values, strict=True):
            target = chunks[(device + 1) % n]
            target[chunk] = target[chunk] + value if turn < n - 1 else value
            sent += value.size
    return np.array([np.concatenate(row) for row in chunks]), sent


def ring_all_gather(numbers):
    """Each device sends the chunk that it received last to the next device, n - 1 times."""
    n = len(numbers)
    found, sent = [{device: numbers[device]} for device in range(n)], 0
    for turn in range(n - 1):
        for device in range(n):
            origin = (device - turn) % n
            found[(device + 1) % n][origin] = found[device][origin]
            sent += numbers[origin].size
    return np.array([np.concatenate([row[i] for i in range(n)]) for row in found]), sent


def test_the_shape_of_a_model():
    shape = collectives.shape_of(methods.SimCLR(Tiny((8, 8, 3), 16), layers.ProjectionHead(4)))
    # Convolutions 108 + 288 + 1152 with normalization 2 * 28; dense 256 + 64 with 2 * 16 + 4.
    assert shape.parameters == 1960
    assert (shape.dim, shape.view) == (4, 192)
    assert [norm.channels for norm in shape.norms] == [4, 8, 16, 16, 4]
    assert {norm.shared for norm in shape.norms} == {"synchronised"}
    assert shape.target_norms == ()

    split = layers.split_batch_norm(Tiny((8, 8, 3), 16), groups=2)
    shape = collectives.shape_of(methods.MoCo(split, queue_size=8))
    assert shape.norms == shape.target_norms == tuple(Norm(c, "split") for c in (4, 8, 16))


def test_differences_are_listed():
    expected = collectives.tally(collectives.byol(SHAPE, B, N))
    seen = expected - Counter({("reduce", 4, 100): 1}) + Counter({("gather", 4, 7): 2})
    found = communication.differences(seen, expected)
    assert found == {
        "only in the graph": ["2 x ('gather', 4, 7)"],
        "only in the formula": ["1 x ('reduce', 4, 100)"],
    }


def test_latency_of_rings_and_trees_by_hand():
    machine, one = scaling.Machine(), Collective("statistics", "reduce", 0)
    assert machine.ring(one, 8) == pytest.approx((3.6 + 14 * 0.47) * 1e-6)
    # 1022 hops, of which 126 leave a node. The hops within a node then take 1.8 times as long.
    hops = 896 * 1.8 * 0.47 + 126 * 2.7
    assert machine.ring(one, 512) == pytest.approx((3.6 + hops) * 1e-6)
    tree = 4.4 + 2 * (7 * 1.8 * 0.52 + 6 * 5.0)
    assert machine.ring_or_tree(one, 512) == pytest.approx(tree * 1e-6)
    gather = Collective("views", "gather", 0)
    assert machine.ring_or_tree(gather, 64) == pytest.approx(
        (3.6 + 56 * 1.8 * 0.47 + 7 * 2.7) * 1e-6
    )


def test_bandwidth_of_rings_by_hand():
    machine, large = scaling.Machine(), Collective("gradients", "reduce", 10**8)
    simple = 8.4e-6 + 14 * 3.4e-6
    assert machine.ring(large, 8) == pytest.approx(simple + 2 * 7 / 8 * 4e8 / 235e9)


@pytest.fixture(scope="module")
def predicted():
    return scaling.tables()


@pytest.mark.large
def test_the_document_shows_what_the_script_predicts(predicted):
    text = DOCUMENT.read_text()
    assert [title for title, table in predicted.items() if table not in text] == []


def test_resnet_50_has_its_published_flop_count():
    resnet = scaling.backbones.ResNet(50, input_shape=(224, 224, 3))
    # torchvision documents 4.09 billion multiplications.
    assert scaling.forward_flop(resnet) / 2 == pytest.approx(4.09e9, rel=0.01)


@pytest.mark.large
@pytest.mark.parametrize("method", communication.METHODS)
def test_two_processes_send_what_the_formula_says(method):
    settings = communication.Settings((method,), filters=0, image_size=8, batch_size=8, steps=2)
    (row,) = communication.run_workers(settings)
    assert row["differences"] == {"only in the graph": [], "only in the formula": []}
    assert row["equal"]
    assert row["counted"] == row["formula"]
    if row["wire"] is not None:  # includes message headers
        assert row["formula"] < row["wire"] < row["formula"] + 5000 * row["collectives"]
