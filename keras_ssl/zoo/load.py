"""Loads a Keras model by name, path or URL, after verifying every file."""

import difflib
import json
import os
import pathlib
from typing import Any

import keras

from keras_ssl.export import load as load_export
from keras_ssl.export.manifest import sha256 as sha256_of
from keras_ssl.export.publish import MANIFEST
from keras_ssl.untrusted import check_saved_model, is_safe_name, unpack
from keras_ssl.zoo import cache, remote
from keras_ssl.zoo.index import CLONE, available

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_MAX_BYTES = 2**34  # per model; ResNet-152 3x with selective kernels has 6.5 GB
_MAX_MANIFEST_BYTES = 2**20
_MAX_FILES = 1000


def load(source: str | os.PathLike, sha256: str | None = None) -> keras.Model:
    """Loads a pretrained encoder as a trainable Keras model.

    Downloads are kept in a cache: the folder `KERAS_SSL_CACHE`, by default keras_ssl in the user's
    cache folder. Before loading, every file is compared with its SHA-256, and the graph and the layers
    are checked: a model that could run code or access files is refused (see docs/security.md).

    Args:
        source: one of

            - a name in `keras_ssl.zoo.available()`. The files are read from saved_models in a clone of
              keras_ssl; otherwise from the folder or URL in `KERAS_SSL_ZOO`. They must have the
              checksums in the index, so the server need not be trusted.
            - a path: the directory of an exported model, or a .zip, .tar, .tar.gz or .tgz file of one.
            - a URL of such a directory or archive: http://, https://, gs://, or
              hf://owner/name[@revision] (needs `pip install 'keras_ssl[hf]'`).
        sha256: expected checksum of the archive, or of the directory's manifest.json, which contains
            the checksums of all files. Without it, a path or URL is only checked against its own
            manifest, which detects damage but not replacement.

    Raises:
        FileNotFoundError: if there is no such name or path, or the download fails.
        ImportError: if `source` starts with hf:// and huggingface_hub is not installed.
        ValueError: if a file is missing, has another checksum, or is unsafe; if an archive is unsafe
            or damaged; or if the URL's scheme is unknown.

    Example:
        >>> encoder = keras_ssl.zoo.load("digits-simclr")
        >>> encoder(images).shape  # float32 in [0, 1], (batch, 8, 8, 1)
        TensorShape([2, 128])
    """
    directory = _find_directory(os.fspath(source), sha256)
    check_saved_model(directory)
    return load_export(directory)


def _find_directory(source: str, sha256: str | None) -> pathlib.Path:
    """Returns the local directory of a verified model; downloads or unpacks it if necessary."""
    if source in (known := available()):
        return _find_by_name(source, known[source], sha256)
    if "://" in source:
        remote.scheme(source)
        return _download(source, sha256)
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        if sha256 is not None and (path / MANIFEST).is_file():
            cache.check_sha256(MANIFEST, sha256, sha256_of(path / MANIFEST))
        return path
    if path.is_file():
        digest = sha256_of(path)
        cache.check_sha256(path.name, sha256, digest)
        directory, _ = cache.fetch_once(
            path.name, digest, lambda draft: unpack(path, draft, _MAX_BYTES)
        )
        return _model_directory(directory)
    near = difflib.get_close_matches(source, list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise FileNotFoundError(
        f"`source` must be a name ({', '.join(known) or 'the index is empty'}), an existing path, or a "
        f"URL.{hint} Received: source={source!r}"
    )


def _find_by_name(name: str, entry: dict[str, Any], sha256: str | None) -> pathlib.Path:
    cache.check_sha256(MANIFEST, sha256, entry["files"][MANIFEST]["sha256"])
    location = os.environ.get("KERAS_SSL_ZOO")
    if location is not None and "://" in location:
        url = remote.join(location, name)
        directory = _download(url, entry["files"][MANIFEST]["sha256"])
    else:
        directory = pathlib.Path(location).expanduser() / name if location else CLONE / name
    if not directory.is_dir():
        raise FileNotFoundError(
            f"The files of {name!r} are not part of the installed package. Expected: a clone of "
            f"keras_ssl with {str(directory)!r}, or KERAS_SSL_ZOO set to the folder or URL that "
            f"contains {name!r}. Received: KERAS_SSL_ZOO={location!r}"
        )
    for file, expected in entry["files"].items():
        if file != "README.md":  # users may edit the model card
            path = directory / file
            received = sha256_of(path) if path.is_file() else "of a missing file"
            cache.check_sha256(str(path), expected["sha256"], received)
    return directory


def _download(url: str, sha256: str | None) -> pathlib.Path:
    if url.partition("?")[0].endswith(_ARCHIVES):
        directory, _ = cache.fetch_once(
            url, sha256, lambda draft: _fetch_archive(url, sha256, draft)
        )
        return _model_directory(directory)
    directory, _ = cache.fetch_once(url, sha256, lambda draft: _fetch_files(url, sha256, draft))
    return directory


def _fetch_archive(url: str, sha256: str | None, draft: pathlib.Path) -> None:
    archive = draft / ".archive"
    with remote.open_url(url) as content:
        cache.save_stream(content, archive, _MAX_BYTES, url, sha256)
    unpack(archive, draft, _MAX_BYTES)
    archive.unlink()


def _fetch_files(url: str, sha256: str | None, draft: pathlib.Path) -> None:
    """Downloads manifest.json and the files that it lists."""
    file_url = remote.join(url, MANIFEST)
    with remote.open_url(file_url) as content:
        cache.save_stream(content, draft / MANIFEST, _MAX_MANIFEST_BYTES, file_url, sha256)
    try:
        files = json.loads((draft / MANIFEST).read_text(encoding="utf-8"))["files"]
        sizes = {name: int(entry["bytes"]) for name, entry in files.items()}
        digests = {name: str(entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The manifest must list files with `bytes` and `sha256`. Received: {file_url}, {error!r}"
        ) from error
    if wrong := [name for name in sizes if not is_safe_name(name) or name == MANIFEST]:
        raise ValueError(
            f"The manifest must list files inside its directory. Received: {file_url} with {wrong[0]!r}"
        )
    if len(sizes) > _MAX_FILES or sum(sizes.values()) > _MAX_BYTES:
        raise ValueError(
            f"The model is too large. Expected: at most {_MAX_FILES} files and {_MAX_BYTES} "
            f"bytes. Received: {len(sizes)} files and {sum(sizes.values())} bytes"
        )
    for name, size in sizes.items():
        file_url = remote.join(url, name)
        with remote.open_url(file_url) as content:
            cache.save_stream(content, draft / name, size, file_url, digests[name])
    # `export.load` requires a model card. Manifests do not list it, because users may edit it.
    (draft / "README.md").write_text(f"Fetched from {url}\n", encoding="utf-8")


def _model_directory(directory: pathlib.Path) -> pathlib.Path:
    """Returns the model in an unpacked archive: the directory itself, or its only subdirectory."""
    inner = [entry for entry in directory.iterdir() if not entry.name.startswith(".")]
    is_wrapped = not (directory / MANIFEST).is_file() and len(inner) == 1 and inner[0].is_dir()
    return inner[0] if is_wrapped else directory
