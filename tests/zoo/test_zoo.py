"""Loading encoders by name, path and URL, with a local test server."""

import functools
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import sys
import threading
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import export, zoo
from keras_ssl.backbones import Tiny
from keras_ssl.export.manifest import sha256, write_manifest
from keras_ssl.zoo import remote
from keras_ssl.zoo.export_again import export_again
from tests.tiers import rest_large

ABOUT = {"description": "A test", "recipe": "none", "licence": "Apache-2.0"}
# The modules, not the functions of the same names.
indexing, loading = sys.modules["keras_ssl.zoo.index"], sys.modules["keras_ssl.zoo.load"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Returns a network, and a folder with its export, an index and archives."""
    network = Tiny((8, 8, 3), features=8)
    root = tmp_path_factory.mktemp("zoo")
    rows = {"untrained": {"knn": {"accuracy": 0.1}}, "trained": {"knn": {"accuracy": 0.9}}}
    export.saved_model(network, root / "tiny", metrics={"data": "x", "rows": rows})
    zoo.index(root, {"tiny": ABOUT})
    for kind in ("zip", "gztar"):
        shutil.make_archive(str(root / "packed"), kind, root, "tiny")
    return network, root


@pytest.fixture
def folder(original, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_SSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_SSL_ZOO", raising=False)
    return shutil.copytree(original[1], tmp_path / "folder")


@pytest.fixture
def server(folder):
    """Serves the folder; returns the URL, and the list of requested paths."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()
        thread.join()


@pytest.fixture
def named(folder, monkeypatch):
    """Replaces the package's index by that of the folder."""
    monkeypatch.setattr(indexing, "PACKAGED", folder / "index.json")
    monkeypatch.setattr(loading, "CLONE", folder)
    return folder


def outputs_match(first, second):
    images = np.random.default_rng(0).uniform(size=(3, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(first(images), second(images), rtol=1e-5, atol=1e-6)
    return True


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cache_files(folder):
    """Returns the names of the cache's entries, without lock files."""
    return [path.name for path in (folder.parent / "cache").iterdir() if path.suffix != ".lock"]


def test_the_index_describes_the_exports(named):
    entry = zoo.available()["tiny"]
    assert {"description": "A test", "recipe": "none"}.items() <= entry.items()
    assert entry["accuracy"] == {"knn": 0.9}
    assert entry["preprocessing"]["size"] == [8, 8]
    assert entry["bytes"] == sum(file.stat().st_size for file in (named / "tiny").rglob("*.*"))
    file = named / "tiny" / "saved_model.pb"
    assert entry["files"]["saved_model.pb"]["sha256"] == sha256(file)
    assert zoo.index(named).read_text() == (named / "index.json").read_text()  # texts are kept


def test_the_index_needs_texts_and_undamaged_exports(folder, tmp_path):
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match="no licence for 'tiny'"):
        zoo.index(folder, {"tiny": {"description": "a", "recipe": "b"}})
    damage(folder / "tiny" / "backbone.keras")
    with pytest.raises(ValueError, match="not the one that was exported"):
        zoo.index(folder, {"tiny": ABOUT})
    with pytest.raises(FileNotFoundError, match="without any"):
        zoo.index(tmp_path / "cache")


def test_load_by_name(original, named):
    model = zoo.load("tiny")
    assert outputs_match(model, original[0])
    assert model.trainable_weights
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'tiny'\? Received: source='tinny'"):
        zoo.load("tinny")


def test_a_changed_file_is_refused_when_loaded_by_name(named):
    # The file matches its own manifest, but not the index.
    (named / "tiny" / "metrics.json").write_text('{"accuracy": 1.0}')
    write_manifest(named / "tiny")
    assert outputs_match(
        zoo.load("./" + os.path.relpath(named / "tiny")), export.load(named / "tiny")
    )
    with pytest.raises(ValueError, match=r"Expected: .*with SHA-256 [0-9a-f]{64}\. Received: "):
        zoo.load("tiny")


def test_keras_ssl_zoo_is_a_folder_or_a_url(original, named, server, monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "CLONE", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not part of the installed package"):
        zoo.load("tiny")
    monkeypatch.setenv("KERAS_SSL_ZOO", str(named))
    assert outputs_match(zoo.load("tiny"), original[0])
    monkeypatch.setenv("KERAS_SSL_ZOO", server[0])
    assert outputs_match(zoo.load("tiny"), original[0])
    assert server[1]


def test_load_by_path(original, folder):
    assert outputs_match(zoo.load(folder / "tiny"), original[0])
    digest = sha256(folder / "tiny" / "manifest.json")
    assert outputs_match(zoo.load(folder / "tiny", sha256=digest), original[0])
    with pytest.raises(ValueError, match=rf"SHA-256 {'0' * 64}\. Received: manifest.json with"):
        zoo.load(folder / "tiny", sha256="0" * 64)
    for name in ("packed.zip", "packed.tar.gz"):
        assert outputs_match(zoo.load(folder / name), original[0])


def test_a_directory_at_a_url_is_fetched_once(original, folder, server):
    url, requests = server
    assert outputs_match(zoo.load(f"{url}/tiny"), original[0])
    assert outputs_match(zoo.load(f"{url}/tiny/"), original[0])
    count = len(requests)
    assert outputs_match(zoo.load(f"{url}/tiny"), original[0])
    assert len(requests) == count
    assert len(cache_files(folder)) == 2  # one entry per spelling of the URL


def test_an_archive_is_loaded_from_a_url(original, folder, server):
    url, _ = server
    digest = sha256(folder / "packed.tar.gz")
    assert outputs_match(zoo.load(f"{url}/packed.tar.gz", sha256=digest), original[0])
    with pytest.raises(ValueError, match=f"packed.zip with SHA-256 {digest}. Received:"):
        zoo.load(f"{url}/packed.zip", sha256=digest)
    assert len(cache_files(folder)) == 1  # the failed download left nothing


@pytest.mark.parametrize("name", ["backbone.keras", "saved_model.pb"])
def test_a_damaged_file_at_a_url_is_refused(folder, server, name):
    damage(folder / "tiny" / name)
    with pytest.raises(ValueError, match=rf"Expected: http\S+/{name} with SHA-256"):
        zoo.load(f"{server[0]}/tiny")
    assert cache_files(folder) == []


def test_a_file_that_is_too_long_is_refused(folder, server):
    with (folder / "tiny" / "backbone.keras").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="file is too long"):
        zoo.load(f"{server[0]}/tiny")


def test_a_changed_file_in_the_cache_is_refused(folder, server):
    zoo.load(f"{server[0]}/tiny")
    (entry,) = cache_files(folder)
    damage(folder.parent / "cache" / entry / "backbone.keras")
    with pytest.raises(ValueError, match="not the one that was exported"):
        zoo.load(f"{server[0]}/tiny")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a\\..\\evil", "manifest.json"])
def test_a_manifest_with_files_outside_its_directory_is_refused(folder, server, name):
    manifest = folder / "tiny" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="must list files inside its directory"):
        zoo.load(f"{server[0]}/tiny")
    assert cache_files(folder) == []


def test_a_large_or_wrong_manifest_is_refused(folder, server):
    manifest = folder / "tiny" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["huge"] = {"bytes": 2**40, "sha256": "0" * 64}
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="too large"):
        zoo.load(f"{server[0]}/tiny")
    manifest.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ValueError, match="file is too long"):
        zoo.load(f"{server[0]}/tiny")
    manifest.write_text("[]")
    with pytest.raises(ValueError, match="must list files"):
        zoo.load(f"{server[0]}/tiny")


def test_a_failed_download_is_an_error_with_the_url(folder, server):
    with pytest.raises(FileNotFoundError, match=r"404.*Received: http\S+/other/manifest.json"):
        zoo.load(f"{server[0]}/other")
    with pytest.raises(FileNotFoundError, match="download failed"):
        zoo.load("http://127.0.0.1:9/tiny")
    with pytest.raises(ValueError, match="must begin with one of http://, https://, gs://, hf://"):
        zoo.load("ftp://example.org/tiny")
    with pytest.raises(ValueError, match="must begin with one of"):
        zoo.load("file:///etc/passwd")


def test_two_threads_fetch_once(folder, server):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: loading._find_directory(f"{server[0]}/tiny", None), range(2)))
    assert len([path for path in server[1] if path.endswith("manifest.json")]) == 1


def test_gs_reads_through_tensorflow(original, folder, monkeypatch):
    # TensorFlow's in-memory file system stands in for a bucket.
    import tensorflow as tf

    for file in (folder / "tiny").rglob("*"):
        if file.is_file():
            name = file.relative_to(folder / "tiny").as_posix()
            with tf.io.gfile.GFile(f"ram://bucket/tiny/{name}", "wb") as copy:
                copy.write(file.read_bytes())
    monkeypatch.setitem(remote._OPENERS, "ram", remote._OPENERS["gs"])
    assert outputs_match(zoo.load("ram://bucket/tiny"), original[0])
    with pytest.raises(FileNotFoundError, match="download failed"):
        zoo.load("ram://bucket/other")


def test_hf_downloads_with_huggingface_hub(original, folder, monkeypatch):
    requests = []

    def hf_hub_download(repository, name, revision):
        requests.append((repository, revision))
        return str(folder / name)

    errors = types.SimpleNamespace(
        HfHubHTTPError=type("A", (OSError,), {}), LocalEntryNotFoundError=type("B", (OSError,), {})
    )
    fake = types.SimpleNamespace(hf_hub_download=hf_hub_download, errors=errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    assert outputs_match(zoo.load("hf://someone/encoders@main/tiny"), original[0])
    assert set(requests) == {("someone/encoders", "main")}


def test_hf_with_the_real_library(original, folder, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words):
            pass

        def do_HEAD(self):
            file = folder / self.path.partition("/resolve/main/")[2]
            self.send_response(200 if file.is_file() else 404)
            content = file.read_bytes() if file.is_file() else b""
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
            if not content:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return content

        def do_GET(self):
            self.wfile.write(self.do_HEAD())

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{running.server_port}"
            monkeypatch.setattr(constants, "ENDPOINT", url)
            template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
            assert outputs_match(zoo.load("hf://someone/encoders@main/tiny"), original[0])
            with pytest.raises(FileNotFoundError, match=r"download failed: .*404"):
                zoo.load("hf://someone/encoders@main/other")
        finally:
            running.shutdown()
            thread.join()


def test_hf_without_its_library_names_the_pip_command(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_ssl\[hf\]'"):
        zoo.load("hf://someone/encoders/tiny")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    from keras_ssl.zoo import cache

    monkeypatch.delenv("KERAS_SSL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "keras_ssl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert cache.folder() == pathlib.Path(os.path.expanduser("~/.cache/keras_ssl"))


def test_the_example_in_the_docs_runs(tmp_path, monkeypatch):
    page = pathlib.Path(__file__).parents[2] / "docs" / "zoo.md"
    _, example = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    entry = indexing.read_entries(tmp_path / "my_zoo" / "index.json")["tiny"]
    assert entry["accuracy"] == {"knn": 0.5}


@pytest.mark.large
def test_models_are_exported_again_with_their_weights(original, folder):
    network, _ = original
    images = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    before = json.loads((folder / "index.json").read_text())["models"]["tiny"]
    recipe = (folder / "tiny" / "recipe.json").read_bytes()
    names = [f"class {letter}" for letter in "abcdefgh"]
    file = export_again(folder, {"tiny": names})
    served = tf.saved_model.load(str(folder / "tiny")).signatures
    scores = served["serving_default"](tf.constant(images))["scores"]
    np.testing.assert_allclose(scores, network(images), atol=1e-5)
    after = json.loads(file.read_text())["models"]["tiny"]
    assert after["preprocessing"] == {**before["preprocessing"], "class_names": names}
    for key in (*ABOUT, "accuracy"):
        assert after[key] == before[key]
    assert (folder / "tiny" / "recipe.json").read_bytes() == recipe
    again = json.loads(export_again(folder).read_text())["models"]["tiny"]
    assert again["preprocessing"] == after["preprocessing"]  # names are kept
    with pytest.raises(ValueError, match=r"models in the folder: tiny. Received: other"):
        export_again(folder, {"other": names})


def test_nothing_is_exported_again_without_texts(folder):
    (folder / "index.json").unlink()
    file = folder / "tiny" / "saved_model.pb"
    changed = file.stat().st_mtime_ns
    with pytest.raises(ValueError, match="no description, recipe, licence for 'tiny'"):
        export_again(folder)
    assert file.stat().st_mtime_ns == changed


SHIPPED = pathlib.Path(zoo.__file__).parents[2] / "saved_models"


def test_saved_models_match_the_packages_index(monkeypatch):
    monkeypatch.delenv("KERAS_SSL_ZOO", raising=False)
    assert (SHIPPED / "index.json").read_bytes() == indexing.PACKAGED.read_bytes()
    assert sum(entry["bytes"] for entry in zoo.available().values()) < 20e6
    for name in zoo.available():
        assert zoo.load(name).trainable_weights


@pytest.mark.parametrize("name", rest_large(["cifar10-student", "cifar10-simclr", "digits-simclr"]))
def test_saved_models_are_of_the_current_format(name):
    """`python -m keras_ssl.zoo.export_again saved_models` exports them again."""
    model = tf.saved_model.load(str(SHIPPED / name))
    trained = model.training.concrete_functions[0].structured_outputs
    output = "scores" if name == "cifar10-student" else "features"
    assert list(trained) == [output]
    assert list(model.signatures["serving_default"].structured_outputs) == [output]
    assert ("class_names" in model.signatures) == (name == "cifar10-student")
