"""Malicious files: no code in them is run, nothing is written, and memory stays bounded."""

import io
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from keras_ssl import importers
from keras_ssl.importers import pickle_machine
from keras_ssl.importers.pickle_values import Record

GOLDEN = pathlib.Path(__file__).parents[1] / "oracles" / "golden"
READERS = (importers.read_pickle, importers.byol)
MEBIBYTE = 2**20


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function, *args, state=None, items=(), pairs=()):
        self.parts = (function, args, state, items, pairs)

    def __reduce__(self):
        *parts, items, pairs = self.parts
        return (*parts, iter(items), iter(pairs))


@pytest.fixture(autouse=True)
def no_file_is_written(tmp_path, monkeypatch):
    """Runs a test in a new folder, and checks that the attack wrote no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    yield
    assert not list(tmp_path.rglob("harm*"))
    assert not (tmp_path.parent / "harm").exists()


def peak_memory(function, *args):
    """Returns the peak memory in bytes of a call that must fail, and the message of its error."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"Expected|cannot be read") as raised:
            function(*args)
        return tracemalloc.get_traced_memory()[1], str(raised.value)
    finally:
        tracemalloc.stop()


COMMAND = Calls(os.system, "touch harm")
ATTACKS = {
    "a command": COMMAND,
    "a command among weights": {"state_dict": {"conv1.weight": np.ones(3), "x": COMMAND}},
    "a command as an argument of another call": Calls(dict, [("a", COMMAND)]),
    "a command as the state of an object": Calls(Record, "x", state=COMMAND),
    "a command as an item": Calls(Record, "x", items=[COMMAND]),
    "a command as a key": Calls(Record, "x", pairs=[(COMMAND, 1)]),
    "code": Calls(exec, "open('harm', 'w')"),
    "an expression": Calls(eval, "open('harm', 'w')"),
    "a file": Calls(open, "harm", "w"),
    "an attribute": Calls(getattr, "x", "join"),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_that_calls_a_dangerous_function(name, protocol):
    path = pathlib.Path("weights.pkl")
    path.write_bytes(pickle.dumps(ATTACKS[name], protocol))
    for read in READERS:
        with pytest.raises(ValueError, match=r"it calls .*no file of weights.*No code was run"):
            read(path)


def test_a_torch_file_that_runs_a_command():
    program = pickle.dumps({"conv1.weight": COMMAND}, 2)
    archive({"archive/data.pkl": program})
    stream = [pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    pathlib.Path("stream.pth").write_bytes(b"".join([*stream, program]))
    for name in ("archive.pth", "stream.pth"):
        for read in (importers.read_torch, importers.torch_resnet, importers.moco):
            with pytest.raises(ValueError, match=r"it calls \w+\.system"):
                read(name)


def test_an_unknown_class_becomes_a_record():
    path = pathlib.Path("weights.pkl")
    path.write_bytes(b"cantigravity\nFly\n(S'x'\ntR.")  # importing this module opens a browser
    assert importers.read_pickle(path) == Record("antigravity.Fly", ("x",))
    with pytest.raises(ValueError, match=r"not a BYOL checkpoint.*antigravity\.Fly"):
        importers.byol(path)


PROGRAMS = {
    "BUILD of a list": (b"](}b.", "sets the state"),
    "SETITEM of a function": (b"cos\nsystem\nS'a'\nI1\ns.", "sets items of os.system"),
    "APPEND to a function": (b"cos\nsystem\nI1\na.", "appends to os.system"),
    "INST": (b"(S'touch harm'\nios\nsystem\n.", "calls os.system"),
    "OBJ": (b"(cos\nsystem\nS'touch harm'\no.", "calls os.system"),
    "NEWOBJ": (b"\x80\x02cos\nsystem\nS'touch harm'\n\x85\x81.", "calls os.system"),
    "BUILD with a dictionary of setters": (
        b"N}S'__setstate__'\ncos\nsystem\nsb.",
        "sets the state",
    ),
    "a name that is not text": (b"\x80\x04]}\x93.", "refers to a value of type dict"),
    "a registered extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "a persistent id": (b"Pharm\n.", "persistent ids"),
    "a list as a key": (b"}]I1\ns.", "a key must be text or a number"),
    "an empty file": (b"", "cannot be read"),
    "an empty stack": (b"0.", "cannot be read"),
    "no STOP instruction": (b"]", "cannot be read"),
    "not a pickle": (b"\x93NUMPY\x01\x00", "cannot be read"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_is_not_data(name):
    program, message = PROGRAMS[name]
    path = pathlib.Path("weights.pkl")
    path.write_bytes(program)
    with pytest.raises(ValueError, match=message):
        importers.read_pickle(path)


def nested_pairs(depth):
    """Returns the program of a pair of equal pairs and so on, whose text has 2**depth parts."""
    return b"]" + b"2q\x00h\x00\x86" * depth


SIZES = {
    "text": b"X" + struct.pack("<I", 2**31) + b"abc.",
    "bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "a number": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
    "the shape of an array": (
        b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I4000000000\nI4000000000\ntcnumpy\ndtype\n"
        b"(S'f8'\ntRI00\nS'abcdefgh'\ntb."
    ),
    "a name of nested pairs": b"\x80\x04" + nested_pairs(60) + b"N\x93.",
    "a key of nested pairs": b"}" + nested_pairs(60) + b"I1\ns.",
    "a type of nested pairs": b"cnumpy\ndtype\n" + nested_pairs(60) + b"\x85R.",
    "an encoding of nested pairs": b"c_codecs\nencode\nS'a'\n" + nested_pairs(60) + b"\x86R.",
}


@pytest.mark.parametrize("name", SIZES)
def test_declared_sizes_do_not_allocate_memory(name):
    path = pathlib.Path("weights.pkl")
    path.write_bytes(SIZES[name])
    used, message = peak_memory(importers.read_pickle, path)
    assert used < MEBIBYTE
    assert len(message) < 1000


@pytest.mark.parametrize("instruction", [b"(", b"}", b"]", b"N"])
def test_the_number_of_instructions_is_limited(instruction, monkeypatch):
    monkeypatch.setattr(pickle_machine, "_MAX_INSTRUCTIONS", 1000)
    path = pathlib.Path("weights.pkl")
    path.write_bytes(instruction * 2000 + b".")
    with pytest.raises(ValueError, match="more than 1000 instructions"):
        importers.read_pickle(path)


def test_repeated_encoding_is_limited():
    text = b"c_codecs\nencode\nq\x000X" + struct.pack("<I", MEBIBYTE) + b"a" * MEBIBYTE + b"q\x010"
    pathlib.Path("weights.pkl").write_bytes(text + b"(" + b"h\x00h\x01\x85R" * 1000 + b"l.")
    used, message = peak_memory(importers.read_pickle, "weights.pkl")
    assert "encodes more bytes than the file has" in message
    assert used < 10 * MEBIBYTE


# --- files of torch.save -------------------------------------------------------------------------


def archive(entries, compression=zipfile.ZIP_STORED, name="archive.pth"):
    with zipfile.ZipFile(name, "w", compression) as file:
        for entry, content in entries.items():
            file.writestr(entry, content)


def tensor(size, stride, count, offset=0, key="0"):
    """Returns the pickle program of a tensor, as torch.save writes it."""

    def numbers(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    storage = b"(S'storage'\nctorch\nFloatStorage\nS'%s'\nS'cpu'\nI%d\ntQ" % (key.encode(), count)
    rest = b"I%d\n" % offset + numbers(size) + numbers(stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR."


def test_a_valid_tensor_is_read():
    archive(
        {"a/data.pkl": tensor((2, 2), (2, 1), 4), "a/data/0": np.arange(4, dtype="f4").tobytes()}
    )
    np.testing.assert_array_equal(importers.read_torch("archive.pth"), [[0, 1], [2, 3]])


def test_entries_outside_of_the_folder_are_refused():
    for name in ("../harm", "/tmp/harm", "a/../../harm", "..\\harm", "C:\\harm"):
        archive({"a/data.pkl": b"N.", name: b"harm"})
        with pytest.raises(ValueError, match=r"in one folder.*Nothing was unpacked"):
            importers.read_torch("archive.pth")
    archive({"../a/data.pkl": b"N."})
    with pytest.raises(ValueError, match="in one folder"):
        importers.read_torch("archive.pth")
    archive({"a/data/0": b"", "a/data.pkl": tensor((1,), (1,), 1, key="../../harm")})
    with pytest.raises(ValueError, match=r"no item named 'a/data/../../harm'"):
        importers.read_torch("archive.pth")


def test_zip_bombs_are_refused():
    archive({"a/data.pkl": b"N.", "a/data/0": b"0" * 50 * MEBIBYTE}, zipfile.ZIP_DEFLATED)
    used, message = peak_memory(importers.read_torch, "archive.pth")
    assert used < MEBIBYTE
    assert "is compressed, which torch.save never does" in message

    archive({"a/data.pkl": b"N.", "a/data/0": b"0" * 1000})
    content = bytearray(pathlib.Path("archive.pth").read_bytes())
    size = struct.pack("<II", 1000, 1000)  # in the central directory: compressed, uncompressed
    place = content.rindex(size)
    content[place : place + 8] = struct.pack("<II", 2**31, 2**31)
    pathlib.Path("archive.pth").write_bytes(content)
    used, message = peak_memory(importers.read_torch, "archive.pth")
    assert used < MEBIBYTE
    assert "overlap" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2**31, 2**31), (0, 0), 4), "into its storage"),
        (((5,), (1,), 4), "into its storage"),
        (((2,), (3,), 4, 1), "into its storage"),
        (((1,), (1,), 4, -1), "invalid size, stride or offset"),
        (((2,), (-1,), 4), "invalid size, stride or offset"),
        (((2, 2), (1,), 4), "invalid size, stride or offset"),
        (((1,) * 100, (1,) * 100, 4), "invalid size, stride or offset"),
        (((4,), (1,), 5), "must have 5 numbers"),
        (((4,), (1,), 2**62), "must have"),
    ],
)
def test_invalid_tensors_are_refused(arguments, message):
    archive({"a/data.pkl": tensor(*arguments), "a/data/0": bytes(16)})
    used, received = peak_memory(importers.read_torch, "archive.pth")
    assert message in received
    assert used < MEBIBYTE


def test_a_stream_with_a_storage_larger_than_the_file():
    head = [pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    file = io.BytesIO(b"".join([*head, tensor((2**40,), (1,), 2**40)]))
    pathlib.Path("stream.pth").write_bytes(file.getvalue())
    used, message = peak_memory(importers.read_torch, "stream.pth")
    assert "truncated, or declares wrong sizes" in message
    assert used < MEBIBYTE


def test_other_formats_are_refused():
    for name, content, message in (
        ("weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a file of torch.save"),
        ("plain.pth", pickle.dumps({"a": 1}), "read_pickle reads plain pickles"),
        ("cut.pth", b"PK\x03\x04" + bytes(100), "is not a file of torch.save"),
        ("empty.pth", b"", "is not a file of torch.save"),
    ):
        pathlib.Path(name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            importers.read_torch(name)
    archive({"a/data.pkl": b"N.", "a/constants.pkl": b"N."})
    with pytest.raises(ValueError, match="TorchScript program"):
        importers.read_torch("archive.pth")
    archive({"harmless.txt": b"text"})
    with pytest.raises(ValueError, match=r"one data\.pkl in a folder"):
        importers.read_torch("archive.pth")
