"""What a run prints before it starts, and the advice for a network that is too slow."""

import random

import pytest

from keras_ssl import distribute
from keras_ssl.presets import BYOL, ImageFacts, MoCo, SimCLR
from keras_ssl.runs.plan import describe
from keras_ssl.runs.smaller_network import smaller_network_advice

FACTS = ImageFacts(1, 200)
TINY = {"backbone": "tiny", "width": 0.25, "embedding": 8, "image_size": 8, "epochs": 100}


def plan(preset, image_count=200, chosen_batch=True):
    preset = preset.resolve(ImageFacts(1, image_count))
    model = preset.build_model(preset.build_backbone(FACTS), FACTS)
    lines = describe(preset, model, image_count, distribute.strategy("none"), chosen_batch)
    return model, lines


def test_the_plan_says_what_will_be_trained():
    model, lines = plan(SimCLR(**TINY, batch_size=64))
    trained = sum(int(weight.value.numpy().size) for weight in model.trainable_variables)
    assert lines[0] == (
        f"Method: simclr, tiny (width 0.25) with {model.backbone.count_params():,} parameters; "
        f"{trained:,} are trained, with the heads"
    )
    assert lines[1] == "Views: 8 x 8 pixels, 1 channel, policy simclr-small"
    assert lines[2] == "Length: 100 epochs of 3 steps of 64 images, 300 steps in all"
    assert lines[3].startswith("Device: CPU (")
    assert lines[3].endswith("), float32")
    assert len(lines) == 4


def test_a_default_batch_size_is_explained_where_it_is_smaller_than_usual():
    assert (
        "The default batch size for 200 images is 128, " in plan(SimCLR(**TINY), 200, False)[1][4]
    )
    assert len(plan(SimCLR(**TINY), 600, chosen_batch=False)[1]) == 4
    assert len(plan(SimCLR(**TINY, batch_size=128), 200)[1]) == 4


@pytest.mark.parametrize(
    ("preset", "images", "share"),
    [
        (MoCo(**TINY, batch_size=64), 200, "74%"),  # 0.999 ** 300
        (MoCo(**TINY, batch_size=64, momentum=0.99), 200, None),  # 5%
        (MoCo(**TINY, batch_size=8), 200, None),  # 8% after 2,500 steps
        (BYOL(**TINY, batch_size=64, hidden_units=8), 200, "55%"),  # 0.998 ** 300
        (BYOL(**TINY, batch_size=16, hidden_units=8), 200, None),  # 9% after 1,200 steps
    ],
)
def test_few_steps_of_a_momentum_method_are_a_warning(preset, images, share):
    lines = plan(preset, images)[1][4:]
    if share is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith("Few steps: after 300 steps with a momentum of ")
        assert f"{share} of the target network is still its random initialization" in line
        assert "use the method simclr" in line


def test_a_resnet_without_a_gpu_gets_the_hours_of_both_networks(monkeypatch):
    seconds = {"resnet18": 0.6, "small-resnet": 0.1}
    built = []

    def build(name, width, shape):
        random.random()  # as initializers do
        built.append((name, width, shape))
        return name

    monkeypatch.setattr("keras_ssl.runs.smaller_network.build_backbone", build)
    monkeypatch.setattr(
        "keras_ssl.runs.smaller_network._seconds", lambda name, batch: seconds[name]
    )
    preset = SimCLR(image_size=32).resolve(ImageFacts(3, 50_000))
    state = random.getstate()
    advice = smaller_network_advice(preset, ImageFacts(3, 50_000), 30 * 3600)
    assert advice.startswith("resnet18 needs about 30.0 h without a GPU. ")
    assert "The backbone small-resnet would need about 5.0 h" in advice
    assert "6.0 times as fast" in advice
    assert built == [("resnet18", 1.0, (32, 32, 3)), ("small-resnet", 1.0, (32, 32, 3))]
    assert random.getstate() == state  # the run must not depend on the advice
    assert smaller_network_advice(preset, ImageFacts(3), 1800) is None  # half an hour
    small = SimCLR(image_size=32, backbone="small-resnet").resolve(ImageFacts(3, 50_000))
    assert smaller_network_advice(small, ImageFacts(3), 30 * 3600) is None
    monkeypatch.setattr("keras_ssl.runs.smaller_network.accelerated", lambda: True)
    assert smaller_network_advice(preset, ImageFacts(3), 30 * 3600) is None


@pytest.mark.large  # builds and compiles two networks
def test_the_networks_are_measured():
    preset = SimCLR(backbone="resnet34", image_size=32).resolve(ImageFacts(3, 50_000))
    assert "times as fast" in smaller_network_advice(preset, ImageFacts(3), 30 * 3600)
