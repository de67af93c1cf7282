"""Reads remote files over http, https, from Google Cloud Storage and the Hugging Face Hub."""

import contextlib
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any

import tensorflow as tf

_TIMEOUT = 60  # seconds without data


@contextlib.contextmanager
def open_url(url: str) -> Iterator[IO[bytes]]:
    """Opens the file at a URL for reading bytes.

    Args:
        url: `http://`, `https://`, `gs://bucket/file`, or `hf://owner/name[@revision]/file` for the
            Hugging Face Hub.

    Raises:
        FileNotFoundError: if the file does not exist or cannot be reached.
        ImportError: if `url` starts with hf:// and huggingface_hub is not installed.
        ValueError: if the scheme is unknown.

    Example:
        >>> with open_url("https://example.org/encoder/manifest.json") as file:
        ...     manifest = json.load(file)
    """
    try:
        with _OPENERS[scheme(url)](url) as file:
            yield file
    except (urllib.error.URLError, TimeoutError, ConnectionError, tf.errors.OpError) as error:
        raise FileNotFoundError(
            f"The download failed: {error}. Expected: a readable URL. Received: {url}"
        ) from error


def scheme(url: str) -> str:
    """Returns the scheme of a URL. Raises ValueError if it is not supported."""
    name = url.partition("://")[0].lower()
    if name not in _OPENERS:
        raise ValueError(
            f"A URL must begin with one of {', '.join(f'{s}://' for s in _OPENERS)}. Received: {url}"
        )
    return name


def join(url: str, name: str) -> str:
    """Returns the URL of a file in the directory at a URL. A query stays at the end."""
    base, mark, query = url.partition("?")
    quoted = urllib.parse.quote(name) if scheme(url) in ("http", "https") else name
    return f"{base.rstrip('/')}/{quoted}{mark}{query}"


def _http(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "keras_ssl"})
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _gfile(url: str) -> Any:
    return tf.io.gfile.GFile(url, "rb")


def _hugging_face(url: str) -> Any:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ImportError(
            f"hf:// needs the package huggingface_hub: pip install 'keras_ssl[hf]'. Received: {url}"
        ) from error
    parts = url.partition("://")[2].split("/")
    if len(parts) < 3 or not all(parts):
        raise ValueError(f"A URL must be hf://owner/name[@revision]/file. Received: {url}")
    name, _, revision = parts[1].partition("@")
    try:
        file = huggingface_hub.hf_hub_download(
            f"{parts[0]}/{name}", "/".join(parts[2:]), revision=revision or None
        )
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ConnectionError(str(error).splitlines()[0]) from error
    return pathlib.Path(file).open("rb")


_OPENERS: dict[str, Callable[[str], Any]] = {
    "http": _http,
    "https": _http,
    "gs": _gfile,
    "hf": _hugging_face,
}
