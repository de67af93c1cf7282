"""Reads files of `torch.save` as NumPy arrays, without PyTorch and without running code in them."""

import io
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_ssl.importers.bounded_file import BoundedFile, find_file, limit_reads
from keras_ssl.importers.number_formats import FORMATS
from keras_ssl.importers.pickle_values import Constructor, Global, describe
from keras_ssl.importers.safe_pickle import load

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_AXES = 64  # limit of NumPy
_OUTSIDE = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^\w:")

# Types by the name of their storage in PyTorch; bfloat16 becomes float32. An untyped storage has
# bytes: each tensor that uses it names its own type.
_DTYPES = {
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "BFloat16": "<f4",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "Untyped": "u1",
}
_SIZES = {kind: np.dtype(dtype).itemsize for kind, dtype in _DTYPES.items()} | {"BFloat16": 2}


def read_torch(path: str | os.PathLike) -> Any:
    """Reads a file of `torch.save`, with tensors as NumPy arrays. No code in the file is run.

    Both formats are supported: zip archives, and the streams of pickles of PyTorch before 1.6.

    Args:
        path: the file, .pth, .pt or .pth.tar.

    Returns:
        The saved object, such as `{"epoch": 200, "state_dict": {"conv1.weight": array, ...}}`.
        bfloat16 tensors become float32; float8 tensors keep their types, those of `ml_dtypes`.
        Objects of other classes become records with the name of the class; see
        `keras_ssl.importers.read_pickle`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has another format, is truncated, compressed or big-endian, or
            contains TorchScript or anything else than data.

    Example:
        ```python
        weights = read_torch("resnet18.pth")
        print({name: array.shape for name, array in weights.items()})
        ```

    Source: `torch/serialization.py` and `torch/_utils.py` of PyTorch 1.0 and 2.x.
    """
    path = find_file(path)
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            return _from_zip(path, os.fstat(file.fileno()).st_size)
        file.seek(0)
        return _from_stream(limit_reads(file), path)


# --- zip archives ----------------------------------------------------------------------------------


def _from_zip(path: pathlib.Path, size: int) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            folder = _checked_folder(archive, path, size)
            storages: dict[str, tuple[str, np.ndarray]] = {}

            def storage(kind: str, key: str, count: int) -> np.ndarray:
                if key not in storages:
                    content = archive.read(f"{folder}/data/{key}")
                    storages[key] = kind, _numbers(content, kind, count)
                return _checked_storage(*storages[key], kind, key, count)

            entry = archive.getinfo(f"{folder}/data.pkl")
            program = BoundedFile(io.BytesIO(archive.read(entry)), entry.file_size)
            return _load(program, path, storage)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is not a complete archive of torch.save: {error}") from error


def _checked_folder(archive: zipfile.ZipFile, path: pathlib.Path, size: int) -> str:
    """Returns the folder in the archive that contains its entries, after checking all of them."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(
            f"{path} is compressed, which torch.save never does, and may not fit into memory. "
            "Expected: uncompressed entries"
        )
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size:
        raise ValueError(
            f"The entries of {path} overlap. Expected: at most {size} bytes, the size of the file. "
            f"Received: {unpacked}"
        )
    names = {entry.filename for entry in entries}
    outside = [name for name in names if _OUTSIDE.search(name)]
    if outside or len(names) < len(entries):
        raise ValueError(
            f"{path} is not a file of torch.save. Expected: entries with different names in one "
            f"folder. Received: {_shown(outside or names)}. Nothing was unpacked"
        )
    folders = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise ValueError(
            f"{path} is not a file of torch.save. Expected: one data.pkl in a folder. "
            f"Received: {_shown(names)}"
        )
    (folder,) = folders
    if f"{folder}/constants.pkl" in names:
        raise ValueError(
            f"{path} is a TorchScript program. Expected: a file of torch.save(model.state_dict(), path)"
        )
    if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") != b"little":
        raise ValueError(f"{path} is big-endian, which is not supported")
    return folder


def _numbers(content: bytes | bytearray, kind: str, count: int) -> np.ndarray:
    """Returns the numbers of a storage; bfloat16, which NumPy lacks, becomes float32."""
    if len(content) != count * _SIZES[kind]:
        raise ValueError(
            f"a storage must have {count} numbers of type {kind}, but has {len(content)} bytes"
        )
    if kind == "BFloat16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(content, _DTYPES[kind])


def _checked_storage(
    known: str, numbers: np.ndarray, kind: str, key: str, count: int
) -> np.ndarray:
    if known != kind or numbers.size != count:
        raise ValueError(f"storage {describe(key)} is used with two types or sizes")
    return numbers


# --- streams of pickles ----------------------------------------------------------------------------


def _from_stream(file: BoundedFile, path: pathlib.Path) -> Any:
    # The stream has: magic number, protocol, system, object, keys of the storages, their contents.
    try:
        magic = load(file, str(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a file of torch.save: {error}") from error
    if magic != _LEGACY_MAGIC or load(file, str(path)) != _LEGACY_PROTOCOL:
        raise ValueError(
            f"{path} is not a file of torch.save. Expected: a zip archive, or a stream of pickles "
            f"that starts with {_LEGACY_MAGIC:#x} and {_LEGACY_PROTOCOL}. Received: a pickle of "
            f"{type(magic).__name__}; keras_ssl.importers.read_pickle reads plain pickles"
        )
    system = load(file, str(path))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError(f"{path} is big-endian, which is not supported")

    storages: dict[str, tuple[str, np.ndarray]] = {}
    declared = 0

    def storage(kind: str, key: str, count: int) -> np.ndarray:
        nonlocal declared
        if key not in storages:
            # The contents follow later in the file, so together they must fit into its rest.
            declared += count * _SIZES[kind]
            file.check(declared)
            storages[key] = kind, np.zeros(count, _DTYPES[kind])
        return _checked_storage(*storages[key], kind, key, count)

    result = _load(file, path, storage)
    keys = load(file, str(path))
    if not isinstance(keys, list) or set(map(_key, keys)) != set(storages):
        raise ValueError(
            f"{path} must list the contents of its storages. Expected: {_shown(storages)}"
        )
    for key in keys:
        _fill(file, *storages[_key(key)])
    return result


def _key(key: Any) -> str:
    return key if isinstance(key, str) else ""


def _fill(file: BoundedFile, kind: str, storage: np.ndarray) -> None:
    count = int.from_bytes(file.read(8), "little")
    storage[:] = _numbers(file.read(storage.size * _SIZES[kind]), kind, count)


# --- tensors ---------------------------------------------------------------------------------------


def _load(file: BoundedFile, path: pathlib.Path, storage: Callable) -> Any:
    constructors: dict[str, Constructor] = {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _typed_tensor,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.Size": lambda sizes=(): tuple(sizes),
    }

    def persistent_load(identifier: Any) -> Any:
        use, *rest = identifier if isinstance(identifier, tuple) else (identifier,)
        if use == "module":  # a class with its source code; only the name is kept
            return rest[0]
        if use != "storage" or len(rest) not in (4, 5):
            raise ValueError(
                f"it refers to {describe(use)}, which is neither a storage nor a module"
            )
        of_type, key, _, count, *view = rest
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise ValueError(f"storage {describe(key)} does not have the form of torch.save")
        found = storage(_storage_kind(of_type), key, count)
        if view and view[0] is not None:  # a view, in files of PyTorch before 0.4
            _, start, length = view[0]
            found = _strided(found, start, (length,), (1,))
        return found

    return load(file, str(path), constructors, persistent_load)


def _storage_kind(of_type: Any) -> str:
    name = of_type.name if isinstance(of_type, Global) else ""
    kind = name.rsplit(".", 1)[-1].removesuffix("Storage")
    if not name.startswith("torch.") or kind not in _DTYPES:
        raise ValueError(
            f"tensors of {describe(of_type)} are not supported; supported are {', '.join(FORMATS)}"
        )
    return kind


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """Returns a view of a storage; the other arguments are about gradients."""
    if not isinstance(storage, np.ndarray):
        raise ValueError("a tensor must have a storage")
    return _strided(storage, offset, size, stride)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> np.ndarray:
    """Returns a view of an untyped storage, for the types that have no storage of their own."""
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else ""
    if name not in FORMATS:
        raise ValueError(
            f"tensors of {describe(dtype)} are not supported; supported are {', '.join(FORMATS)}"
        )
    if not isinstance(storage, np.ndarray) or storage.nbytes % FORMATS[name].itemsize:
        raise ValueError(f"a tensor of {name} must have a storage of whole numbers")
    # `as_strided` does not know types that NumPy lacks.
    numbers = storage.view(f"u{FORMATS[name].itemsize}")
    return _strided(numbers, offset, size, stride).view(FORMATS[name])


def _strided(storage: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
    numbers = [offset, *size, *stride]
    axes_match = len(size) == len(stride) <= _MAX_AXES
    if not axes_match or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise ValueError("a tensor has an invalid size, stride or offset")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = 1
    for n in size:
        count *= n
    if count and (last >= storage.size or count > storage.size):
        raise ValueError(
            f"a tensor of size {tuple(size)} and strides {tuple(stride)} at {offset} does not fit "
            f"into its storage of {storage.size} numbers"
        )
    if not count:
        return np.zeros(size, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(describe(name) for name in sorted(names)[:10])
