"""Tensors of every number format, in both kinds of files: their values, and values without meaning."""

import json
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from keras_ssl import importers
from keras_ssl.importers import matching
from tests.importers.test_attacks import archive, tensor

# For each format: name in PyTorch, name in safetensors, bytes of [1, -2, 0] and, for those that have
# one, the bytes of NaN. Written from the definitions of the formats, not with ml_dtypes.
FORMATS = [
    ("float64", "F64", struct.pack("<3d", 1, -2, 0), struct.pack("<d", np.nan)),
    ("float32", "F32", struct.pack("<3f", 1, -2, 0), struct.pack("<f", np.nan)),
    ("float16", "F16", struct.pack("<3e", 1, -2, 0), struct.pack("<e", np.nan)),
    ("bfloat16", "BF16", bytes.fromhex("803f 00c0 0000"), bytes.fromhex("c07f")),
    ("float8_e4m3fn", "F8_E4M3", bytes.fromhex("38 c0 00"), b"\x7f"),
    ("float8_e4m3fnuz", "F8_E4M3FNUZ", bytes.fromhex("40 c8 00"), b"\x80"),
    ("float8_e5m2", "F8_E5M2", bytes.fromhex("3c c0 00"), b"\x7e"),
    ("float8_e5m2fnuz", "F8_E5M2FNUZ", bytes.fromhex("40 c4 00"), b"\x80"),
    ("int64", "I64", struct.pack("<3q", 1, -2, 0), None),
    ("int32", "I32", struct.pack("<3i", 1, -2, 0), None),
    ("int16", "I16", struct.pack("<3h", 1, -2, 0), None),
    ("int8", "I8", struct.pack("<3b", 1, -2, 0), None),
    ("uint64", "U64", struct.pack("<3Q", 1, 2, 0), None),
    ("uint32", "U32", struct.pack("<3I", 1, 2, 0), None),
    ("uint16", "U16", struct.pack("<3H", 1, 2, 0), None),
    ("uint8", "U8", b"\x01\x02\x00", None),
    ("bool", "BOOL", b"\x01\x01\x00", None),
]
NAMES = [name for name, *_ in FORMATS]
STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def expected_values(name):
    sign = 1 if name.startswith("uint") else -1
    return [1, 1, 0] if name == "bool" else [1, 2 * sign, 0]


def write_safetensors(dtype, content, shape=(3,), **changes):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(content)], **changes}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    with open("w.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + content)


def write_torch(name, content, count=3):
    """Writes the tensor as torch.save does: older formats by their storage, newer ones by a name."""
    program = tensor((count,), (1,), count)
    if name in STORAGES:
        program = program.replace(b"FloatStorage", f"{STORAGES[name]}Storage".encode())
    else:
        program = tensor((count,), (1,), len(content))
        program = program.replace(b"ctorch\nFloatStorage", b"ctorch.storage\nUntypedStorage")
        program = program.replace(b"_v2", b"_v3")
        rest = b"I00\nccollections\nOrderedDict\n(tRctorch\n" + name.encode() + b"\ntR."
        program = program.removesuffix(b"tR.") + rest
    archive({"a/data.pkl": program, "a/data/0": content}, name="w.pth")


@pytest.mark.parametrize(("name", "dtype", "content", "_"), FORMATS, ids=NAMES)
def test_every_format_in_both_files(name, dtype, content, _):
    write_safetensors(dtype, content)
    write_torch(name, content)
    from_torch = importers.read_torch("w.pth")
    from_safetensors = importers.read_safetensors("w.safetensors")["w"]
    for read in (from_torch, from_safetensors):
        assert read.shape == (3,)
        assert read.dtype == ("float32" if name == "bfloat16" else np.dtype(name))
        assert read.astype("float64").tolist() == expected_values(name)


class Variable:
    """Records what is assigned."""

    shape = (3,)
    value = None

    def assign(self, value):
        self.value = value


@pytest.mark.parametrize(("name", "dtype", "content", "nan"), FORMATS, ids=NAMES)
def test_weights_of_every_format_are_assigned_as_float32(name, dtype, content, nan):
    write_safetensors(dtype, content)
    write_torch(name, content)
    for read in (importers.read_torch("w.pth"), importers.read_safetensors("w.safetensors")["w"]):
        variable = Variable()
        matching.fill({"w": matching.Place(variable)}, {"w": read}, "the file")
        assert variable.value.dtype == "float32"
        assert variable.value.tolist() == expected_values(name)
    if nan is None:
        return
    for whole in (nan + content[len(nan) :], content[: -len(nan)] + nan):
        write_safetensors(dtype, whole)
        write_torch(name, whole)
        for read in (
            importers.read_torch("w.pth"),
            importers.read_safetensors("w.safetensors")["w"],
        ):
            message = r"finite numbers in the range of float32.*w of type \w+, with 1 of 3 values"
            variable = Variable()
            with pytest.raises(ValueError, match=message):
                matching.fill({"w": matching.Place(variable)}, {"w": read}, "the file")
            assert variable.value is None


def test_arrays_of_extension_types_and_large_numbers():
    place = {"w": matching.Place(Variable())}
    matching.fill(place, {"w": np.array([1, 2, 3], ml_dtypes.bfloat16)}, "the state dict")
    assert place["w"].variable.value.tolist() == [1, 2, 3]
    for bad in ([1e39, 0, 0], [0, -np.inf, 0]):  # 1e39 is finite in float64 only
        with pytest.raises(ValueError, match="float64, with 1 of 3 values NaN, infinite or beyond"):
            matching.fill(place, {"w": np.array(bad)}, "the state dict")
    for dtype in ("complex64", "U3", object):
        with pytest.raises(ValueError, match=r"must be numbers.*Received: w of type"):
            matching.fill(place, {"w": np.zeros(3, dtype)}, "the state dict")


def test_other_formats_are_refused_by_name():
    write_safetensors("C64", bytes(24))
    with pytest.raises(ValueError, match=r"'w' has the type 'C64'; supported are F64, F32"):
        importers.read_safetensors("w.safetensors")
    program = tensor((3,), (1,), 3).replace(b"FloatStorage", b"ComplexFloatStorage")
    archive({"a/data.pkl": program, "a/data/0": bytes(24)}, name="w.pth")
    with pytest.raises(ValueError, match=r"torch.ComplexFloatStorage are not supported.*float64"):
        importers.read_torch("w.pth")
    write_torch("complex32", bytes(12))
    with pytest.raises(ValueError, match=r"torch.complex32 are not supported"):
        importers.read_torch("w.pth")
    write_torch("uint16", bytes(7))
    with pytest.raises(ValueError, match="must have a storage of whole numbers"):
        importers.read_torch("w.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (4,)}, r"shape \(4,\) and type F32 must have 16 bytes, but has 12"),
        ({"shape": (-3,)}, "invalid shape or offset"),
        ({"shape": 3}, "invalid shape or offset"),
        ({"data_offsets": [4, 16]}, "overlaps with another, or leaves a gap"),
        ({"data_offsets": [0, 2**62], "shape": (2**60,)}, "but the file has 12"),
        ({"data_offsets": [0]}, "invalid shape or offset"),
    ],
)
def test_invalid_safetensors_files_are_refused(changes, message):
    write_safetensors("F32", bytes(12), **changes)
    with pytest.raises(ValueError, match=f"cannot be read as a safetensors file.*{message}"):
        importers.read_safetensors("w.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (struct.pack("<Q", 2**62) + b"{}", "declares 4611686018427387904"),
        (struct.pack("<Q", 10**7) + b"{}", "truncated, or declares wrong sizes"),
        (struct.pack("<Q", 2) + b"[]", "must be a dictionary"),
        (struct.pack("<Q", 2) + b"{}more", "the file has 4"),
        (struct.pack("<Q", 15) + b'{"a": 1,"a": 2}', "a name twice"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "has the type"),
        (struct.pack("<Q", 10**5) + b"[" * 10**5, "recursion"),
    ],
)
def test_broken_safetensors_files_are_refused(content, message):
    with open("w.safetensors", "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match=f"cannot be read as a safetensors file.*{message}"):
        importers.read_safetensors("w.safetensors")


def test_the_libraries_files_are_read():
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    values = {
        name: torch.tensor(expected_values(name)).to(getattr(torch, name)) for name, *_ in FORMATS
    }
    safetensors.save_file(values, "w.safetensors")
    torch.save(values, "w.pth")
    assert zipfile.is_zipfile("w.pth")
    torch.save(values, "old.pth", _use_new_zipfile_serialization=False)
    for read in (
        importers.read_safetensors("w.safetensors"),
        importers.read_torch("w.pth"),
        importers.read_torch("old.pth"),
    ):
        for name in values:
            assert read[name].astype("float64").tolist() == expected_values(name)
