"""`.keras` files that contain code or unknown names are refused."""

import json
import zipfile

import keras
import pytest

from keras_ssl import export
from keras_ssl.backbones import ResNet, Tiny
from keras_ssl.export.manifest import write_manifest
from keras_ssl.export.publish import FILES
from keras_ssl.untrusted import check_keras_file


def rewrite(source, target, change_config=None, **files):
    """Copies a .keras file with a changed configuration or additional files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json" and change_config is not None:
                content = json.dumps(change_config(json.loads(content)))
            new.writestr(name, content)
        for name, content in files.items():
            new.writestr(name, content)
    return target


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "tiny.keras"
    Tiny((8, 8, 3), features=8).save(path)
    return path


@pytest.mark.parametrize(
    "network", [Tiny, lambda: ResNet(18, 0.25), lambda: ResNet(50, 0.25, sk_ratio=0.0625)]
)
def test_keras_ssl_networks_pass(network, tmp_path):
    network().save(tmp_path / "network.keras")
    check_keras_file(tmp_path / "network.keras")


def test_a_lambda_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer = keras.layers.Lambda(
        lambda x: (__import__("pathlib").Path("written").touch(), x)[1], output_shape=(4,)
    )
    keras.Sequential([keras.Input((4,)), layer]).save("lambda.keras")
    (tmp_path / "written").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"Expected: layers without code.*with a Lambda"):
        check_keras_file("lambda.keras")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("keras.utils", "get_file"),
        ("keras.src.utils.file_utils", "get_file"),
        ("keras_sslx", "Tiny"),
        ("keras.layers", "TFSMLayer"),
        ("keras.layers", "TorchModuleWrapper"),
    ],
)
def test_names_from_other_modules_are_refused(tiny, tmp_path, module, name):
    def change_config(content):
        layer = {"module": module, "class_name": name, "config": {}, "registered_name": name}
        content["config"]["layers"][1]["config"]["kernel_initializer"] = layer
        return content

    with pytest.raises(ValueError, match="may be unsafe"):
        check_keras_file(rewrite(tiny, tmp_path / "bad.keras", change_config))


def test_functions_are_refused_by_their_module(tiny, tmp_path):
    def change_config(content):
        function = {"module": "subprocess", "class_name": "function", "config": "run"}
        content["config"]["layers"][1]["config"]["activation"] = function
        return content

    with pytest.raises(ValueError, match="subprocess"):
        check_keras_file(rewrite(tiny, tmp_path / "bad.keras", change_config))


def test_registered_classes_pass(tiny, tmp_path):
    @keras.saving.register_keras_serializable(package="test_keras_file")
    class Ones(keras.initializers.Ones):
        pass

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, kernel_initializer=Ones())])
    model.save(tmp_path / "ones.keras")
    check_keras_file(tmp_path / "ones.keras")


def test_additional_and_damaged_files_are_refused(tiny, tmp_path):
    extended = rewrite(tiny, tmp_path / "more.keras", **{"../evil.py": "print()"})
    with pytest.raises(ValueError, match=r"with '\.\./evil\.py'"):
        check_keras_file(extended)
    (tmp_path / "half.keras").write_bytes(tiny.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read"):
        check_keras_file(tmp_path / "half.keras")
    deep = rewrite(tiny, tmp_path / "deep.keras", lambda content: content)
    with zipfile.ZipFile(deep, "w") as file:
        file.writestr("config.json", "[" * 100_000)
    with pytest.raises(ValueError, match="cannot be read"):
        check_keras_file(deep)


def test_load_refuses_a_lambda_with_correct_checksums(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text("{}")
    layer = keras.layers.Lambda(lambda x: x, output_shape=(8, 8, 3))
    model = keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Flatten()])
    model.save(tmp_path / "backbone.keras")
    write_manifest(tmp_path)
    with pytest.raises(ValueError, match="with a Lambda"):
        export.load(tmp_path)
