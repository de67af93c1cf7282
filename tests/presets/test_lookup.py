"""Names of the command line: how they are matched, and what an unknown one says."""

import keras
import pytest

from keras_ssl.presets import backbone_names, build_policy, lookup, spell
from keras_ssl.presets.policies import AUGMENTATIONS, POLICIES, build_augmentation
from keras_ssl.presets.simclr import SimCLR


@pytest.mark.parametrize("name", ["moco-v2", "MoCo-v2", "MOCO_V2", "mocov2"])
def test_case_dashes_and_underscores_do_not_matter(name):
    assert spell("policy", name, ["moco-v1", "moco-v2"]) == "moco-v2"
    assert lookup("policy", name, {"moco-v1": 1, "moco-v2": 2}) == 2


def test_names_that_differ_in_case_only_need_the_exact_spelling():
    names = ["resnet50", "ResNet50"]
    assert [spell("backbone", name, names) for name in names] == names
    with pytest.raises(ValueError, match=r"Unknown backbone\. Nearest: .*resnet50.*'RESNET50'"):
        spell("backbone", "RESNET50", [*names, "resnet500"])


@pytest.mark.parametrize("name", ["SIMCLEAR", "sim-clr-s"])
def test_an_unknown_name_suggests_the_nearest_in_any_case(name):
    with pytest.raises(ValueError, match=rf"Unknown method\. Nearest: SimCLR\. .*'{name}'"):
        spell("method", name, ["SimCLR", "BYOL"])


def test_backbones_are_known_without_importing_keras():
    applications = {name for name in backbone_names() if name[0].isupper()}
    found = {
        name for name in dir(keras.applications) if callable(getattr(keras.applications, name))
    }
    assert applications == found


def test_every_policy_and_augmentation_of_the_lists_can_be_built():
    assert all(build_policy(name, 32) for name in POLICIES)
    assert all(build_augmentation(name, None, 32) for name in AUGMENTATIONS)
    with pytest.raises(ValueError, match=POLICIES[-1]):  # the message lists the real table
        build_policy("none", 32)


def test_a_preset_spells_its_names_as_in_the_tables():
    preset = SimCLR(optimizer="SGD", backbone="mobilenetv2", policy="MoCo_v1", precision="AUTO")
    spelled = preset.spelled()
    assert (spelled.optimizer, spelled.backbone) == ("sgd", "MobileNetV2")
    assert (spelled.policy, spelled.precision) == ("moco-v1", "auto")
    assert spelled.spelled() is spelled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0}, r"`learning_rate` must be positive\. Received: learning_rate=0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be positive and finite"),
        ({"weight_decay": -0.1}, r"`weight_decay` must be at least 0\. Received"),
        ({"width": 0}, "`width` must be positive"),
        ({"temperature": -1}, "`temperature` must be positive"),
        ({"optimizer": "sgdd"}, "Unknown optimizer. Nearest: sgd"),
        ({"scaling": "log"}, "Unknown scaling"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        SimCLR(**options).check()
