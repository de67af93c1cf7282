"""From a name, a path or a URL to a Keras model, with every file verified first."""

import difflib
import json
import os
import pathlib
from typing import Any

import keras

from keras_ssl.export import load as load_artefact
from keras_ssl.export.manifest import sha256 as sha256_of
from keras_ssl.export.publish import MANIFEST
from keras_ssl.untrusted import check_saved_model, is_safe_name, unpack
from keras_ssl.zoo import cache, remote
from keras_ssl.zoo.index import CLONE, available

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_MOST_BYTES = 2**34  # of one artefact; ResNet-152 3x with selective kernels has 6.5 GB
_MOST_MANIFEST = 2**20
_MOST_FILES = 1000


def load(source: str | os.PathLike, sha256: str | None = None) -> keras.Model:
    """Returns a pretrained encoder as a trainable Keras model.

    What comes from elsewhere is kept in a cache: the folder `KERAS_SSL_CACHE`, by default keras_ssl in
    the user's cache folder. Before it is loaded, every file is compared with its SHA-256, and its
    graph and layers are looked at: an artefact that could do more than compute is refused, see
    docs/security.md.

    Args:
        source: one of

            - a name of `keras_ssl.zoo.available()`. Its files lie in saved_models in a clone of
              keras_ssl; elsewhere, in the folder or at the URL that `KERAS_SSL_ZOO` names. They
              must have the checksums of the index, so that wherever they come from does not matter.
            - a path: the directory of an artefact, or a .zip, .tar, .tar.gz or .tgz file of one.
            - a URL, http://, https://, gs:// or hf://owner/name[@revision] (which needs
              `pip install 'keras_ssl[hf]'`), of such a directory or archive.
        sha256: of the archive, or of the directory's manifest.json, which has that of each file.
            Without it, a path or URL is only checked against its own manifest: a damaged file is
            noticed, an exchanged artefact is not.

    Raises:
        FileNotFoundError: if there is no such name or path, or it cannot be fetched.
        ImportError: if hf:// is asked for without huggingface_hub.
        ValueError: if a file is missing, is another one than expected, or could do more than
            compute; if an archive is no safe one; if the URL's scheme is unknown.

    Example:
        >>> encoder = keras_ssl.zoo.load("digits-simclr")
        >>> encoder(images).shape  # float32 in [0, 1], (batch, 8, 8, 1)
        TensorShape([2, 128])
    """
    directory = _directory(os.fspath(source), sha256)
    check_saved_model(directory)
    return load_artefact(directory)


def _directory(source: str, sha256: str | None) -> pathlib.Path:
    """Returns where a verified artefact lies on this machine."""
    if source in (known := available()):
        return _of_index(source, known[source], sha256)
    if "://" in source:
        remote.scheme(source)
        return _of_url(source, sha256)
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        if sha256 is not None and (path / MANIFEST).is_file():
            cache.check(MANIFEST, sha256, sha256_of(path / MANIFEST))
        return path
    if path.is_file():
        digest = sha256_of(path)
        cache.check(path.name, sha256, digest)
        directory, _ = cache.cached(
            path.name, digest, lambda draft: unpack(path, draft, _MOST_BYTES)
        )
        return _inner(directory)
    near = difflib.get_close_matches(source, list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise FileNotFoundError(
        f"`source` must be a name ({', '.join(known) or 'none is known'}), a path that is there, or a "
        f"URL.{hint} Received: source={source!r}"
    )


def _of_index(name: str, entry: dict[str, Any], sha256: str | None) -> pathlib.Path:
    cache.check(MANIFEST, sha256, entry["files"][MANIFEST]["sha256"])
    place = os.environ.get("KERAS_SSL_ZOO")
    if place is not None and "://" in place:
        url = remote.below(place, name)
        directory = _of_url(url, entry["files"][MANIFEST]["sha256"])
    else:
        directory = pathlib.Path(place).expanduser() / name if place else CLONE / name
    if not directory.is_dir():
        raise FileNotFoundError(
            f"The files of {name!r} are not part of the installed package. Expected: them in "
            f"{str(directory)!r}, as in a clone of keras_ssl, or KERAS_SSL_ZOO set to the folder or "
            f"URL that holds {name!r}. Received: KERAS_SSL_ZOO={place!r}"
        )
    for file, expected in entry["files"].items():
        if file != "README.md":  # people improve a model card
            present = directory / file
            cache.check(
                str(present),
                expected["sha256"],
                sha256_of(present) if present.is_file() else "of a file that is not there",
            )
    return directory


def _of_url(url: str, sha256: str | None) -> pathlib.Path:
    if url.partition("?")[0].endswith(_ARCHIVES):
        directory, _ = cache.cached(url, sha256, lambda draft: _fetch_archive(url, sha256, draft))
        return _inner(directory)
    directory, _ = cache.cached(url, sha256, lambda draft: _fetch_files(url, sha256, draft))
    return directory


def _fetch_archive(url: str, sha256: str | None, draft: pathlib.Path) -> None:
    archive = draft / ".archive"
    with remote.opened(url) as content:
        cache.copied(content, archive, _MOST_BYTES, url, sha256)
    unpack(archive, draft, _MOST_BYTES)
    archive.unlink()


def _fetch_files(url: str, sha256: str | None, draft: pathlib.Path) -> None:
    """Fetches manifest.json and the files that it names, and no other."""
    place = remote.below(url, MANIFEST)
    with remote.opened(place) as content:
        cache.copied(content, draft / MANIFEST, _MOST_MANIFEST, place, sha256)
    try:
        files = json.loads((draft / MANIFEST).read_text(encoding="utf-8"))["files"]
        sizes = {name: int(entry["bytes"]) for name, entry in files.items()}
        digests = {name: str(entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The manifest must list files with `bytes` and `sha256`. Received: {place}, {error!r}"
        ) from error
    if wrong := [name for name in sizes if not is_safe_name(name) or name == MANIFEST]:
        raise ValueError(
            f"The manifest must name files below its directory. Received: {place} with {wrong[0]!r}"
        )
    if len(sizes) > _MOST_FILES or sum(sizes.values()) > _MOST_BYTES:
        raise ValueError(
            f"The artefact is too large. Expected: at most {_MOST_FILES} files with {_MOST_BYTES} "
            f"bytes. Received: {len(sizes)} with {sum(sizes.values())}"
        )
    for name, size in sizes.items():
        place = remote.below(url, name)
        with remote.opened(place) as content:
            cache.copied(content, draft / name, size, place, digests[name])
    # Not verified, so that people may improve it, and nothing reads it.
    (draft / "README.md").write_text(f"Fetched from {url}\n", encoding="utf-8")


def _inner(directory: pathlib.Path) -> pathlib.Path:
    """Returns the artefact in what was unpacked: the directory itself, or the one directory in it."""
    inner = [entry for entry in directory.iterdir() if not entry.name.startswith(".")]
    is_wrapped = not (directory / MANIFEST).is_file() and len(inner) == 1 and inner[0].is_dir()
    return inner[0] if is_wrapped else directory
