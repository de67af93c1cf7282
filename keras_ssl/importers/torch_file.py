"""Files of `torch.save`, in both formats, as NumPy arrays: without PyTorch, and running nothing."""

import io
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from keras_ssl.importers.bounded_file import Bounded, bounded, existing_file
from keras_ssl.importers.pickle_values import Constructor, Global, kind_of
from keras_ssl.importers.safe_pickle import load

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MOST_AXES = 64  # NumPy's
_OUTSIDE = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^\w:")

# What PyTorch calls the storage of each type.
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
}
_SIZES = {kind: np.dtype(dtype).itemsize for kind, dtype in _DTYPES.items()} | {"BFloat16": 2}


def read_torch(path: str | os.PathLike) -> Any:
    """Reads a file that `torch.save` wrote: tensors become NumPy arrays, and nothing is run.

    Both formats are read: the zip archive, and the stream of pickles that PyTorch wrote before 1.6.

    Args:
        path: the file, .pth, .pt or .pth.tar.

    Returns:
        What was saved, such as `{"epoch": 200, "state_dict": {"conv1.weight": array, ...}}`. Tensors
        of bfloat16 become float32. An object of another class becomes a record that names it;
        `keras_ssl.importers.safe_pickle` has the details.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is of another format, is cut off, compressed or big-endian, holds
            TorchScript, or wants more than data.

    Example:
        ```python
        weights = read_torch("resnet18.pth")
        print({name: array.shape for name, array in weights.items()})
        ```

    Source: `torch/serialization.py` and `torch/_utils.py` of PyTorch 1.0 and 2.x.
    """
    path = existing_file(path)
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            return _from_zip(path, os.fstat(file.fileno()).st_size)
        file.seek(0)
        return _from_stream(bounded(file), path)


# --- the zip archive -------------------------------------------------------------------------------


def _from_zip(path: pathlib.Path, size: int) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            folder = _checked_folder(archive, path, size)
            storages: dict[str, tuple[str, np.ndarray]] = {}

            def storage(kind: str, key: str, count: int) -> np.ndarray:
                if key not in storages:
                    content = archive.read(f"{folder}/data/{key}")
                    storages[key] = kind, _numbers(content, kind, count)
                return _same(*storages[key], kind, key, count)

            entry = archive.getinfo(f"{folder}/data.pkl")
            program = Bounded(io.BytesIO(archive.read(entry)), entry.file_size)
            return _load(program, path, storage)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is not a whole archive of torch.save: {error}") from error


def _checked_folder(archive: zipfile.ZipFile, path: pathlib.Path, size: int) -> str:
    """Returns the folder that everything in the archive lies in."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(
            f"{path} is compressed, which torch.save never does, and may be larger than memory. "
            "Expected: entries stored as they are"
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
            f"{path} is not a file of torch.save: it has entries that lie outside of their folder, "
            f"or of the same name. Nothing was unpacked. Received: {_shown(outside or names)}"
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
            f"{path} is a TorchScript program. Expected: torch.save(model.state_dict(), path)"
        )
    if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") != b"little":
        raise ValueError(f"{path} was written on a big-endian machine, and is not read")
    return folder


def _numbers(content: bytes | bytearray, kind: str, count: int) -> np.ndarray:
    """Returns the numbers of a storage; those of bfloat16, which NumPy has not, as float32."""
    if len(content) != count * _SIZES[kind]:
        raise ValueError(
            f"a storage must have {count} numbers of {kind}, and has {len(content)} bytes"
        )
    if kind == "BFloat16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(content, _DTYPES[kind])


def _same(known: str, numbers: np.ndarray, kind: str, key: str, count: int) -> np.ndarray:
    if known != kind or numbers.size != count:
        raise ValueError(f"storage {kind_of(key)} is of two types or sizes")
    return numbers


# --- the stream of pickles -------------------------------------------------------------------------


def _from_stream(file: Bounded, path: pathlib.Path) -> Any:
    # Magic number, protocol, system, the object, the keys of its storages; then their contents.
    try:
        magic = load(file, str(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a file of torch.save: {error}") from error
    if magic != _LEGACY_MAGIC or load(file, str(path)) != _LEGACY_PROTOCOL:
        raise ValueError(
            f"{path} is not a file of torch.save. Expected: a zip archive, or a stream of pickles "
            f"that starts with {_LEGACY_MAGIC:#x} and {_LEGACY_PROTOCOL}. Received: a pickle of "
            f"{type(magic).__name__}; keras_ssl.importers.read_pickle reads plain ones"
        )
    system = load(file, str(path))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError(f"{path} was written on a big-endian machine, and is not read")

    storages: dict[str, tuple[str, np.ndarray]] = {}
    announced = 0

    def storage(kind: str, key: str, count: int) -> np.ndarray:
        nonlocal announced
        if key not in storages:
            # All contents are still to come: together they fit into the file.
            announced += count * _SIZES[kind]
            file.check(announced)
            storages[key] = kind, np.zeros(count, _DTYPES[kind])
        return _same(*storages[key], kind, key, count)

    result = _load(file, path, storage)
    keys = load(file, str(path))
    if not isinstance(keys, list) or set(map(_key, keys)) != set(storages):
        raise ValueError(
            f"{path} must have the contents of its storages. Expected: {_shown(storages)}"
        )
    for key in keys:
        _fill(file, *storages[_key(key)])
    return result


def _key(key: Any) -> str:
    return key if isinstance(key, str) else ""


def _fill(file: Bounded, kind: str, storage: np.ndarray) -> None:
    count = int.from_bytes(file.read(8), "little")
    storage[:] = _numbers(file.read(storage.size * _SIZES[kind]), kind, count)


# --- tensors ---------------------------------------------------------------------------------------


def _load(file: Bounded, path: pathlib.Path, storage: Callable) -> Any:
    constructors: dict[str, Constructor] = {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.Size": lambda sizes=(): tuple(sizes),
    }

    def persistent_load(identifier: Any) -> Any:
        use, *rest = identifier if isinstance(identifier, tuple) else (identifier,)
        if use == "module":  # a class, with its source code: it stays a name
            return rest[0]
        if use != "storage" or len(rest) not in (4, 5):
            raise ValueError(f"it refers to {kind_of(use)}, neither a storage nor a module")
        of_type, key, _, count, *view = rest
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise ValueError(f"storage {kind_of(key)} is not one of torch.save")
        found = storage(_storage_kind(of_type), key, count)
        if view and view[0] is not None:  # of PyTorch before 0.4
            _, start, length = view[0]
            found = _strided(found, start, (length,), (1,))
        return found

    return load(file, str(path), constructors, persistent_load)


def _storage_kind(of_type: Any) -> str:
    name = of_type.name if isinstance(of_type, Global) else ""
    kind = name.rsplit(".", 1)[-1].removesuffix("Storage")
    if not name.startswith("torch.") or kind not in _DTYPES:
        raise ValueError(
            f"tensors of {kind_of(of_type)} are not read; known are {', '.join(_DTYPES)}"
        )
    return kind


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """Returns a view of a storage; the rest is about gradients."""
    if not isinstance(storage, np.ndarray):
        raise ValueError("a tensor must have a storage")
    return _strided(storage, offset, size, stride)


def _strided(storage: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
    numbers = [offset, *size, *stride]
    known = len(size) == len(stride) <= _MOST_AXES
    if not known or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise ValueError("the size, strides and offset of a tensor are not those of one")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = 1
    for n in size:
        count *= n
    if count and (last >= storage.size or count > storage.size):
        raise ValueError(
            f"a tensor of size {tuple(size)} and strides {tuple(stride)} at {offset} does not lie "
            f"within its storage of {storage.size} numbers"
        )
    if not count:
        return np.zeros(size, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(kind_of(name) for name in sorted(names)[:10])
