"""Unsafe, oversized and damaged archives are refused."""

import io
import os
import tarfile
import zipfile

import pytest

from keras_ssl.untrusted import is_safe_name, unpack


def write_tar(path, members, mode="w:gz", file_format=tarfile.GNU_FORMAT):
    """Writes a tar archive with members given as pairs (TarInfo or name, content)."""
    with tarfile.open(path, mode, format=file_format) as file:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def make_member(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_is_unpacked(tmp_path, mode):
    members = [("a.txt", b"1"), ("deep/er/b.bin", b"2" * 3_000_000), ("n" * 150, b"")]
    unpack(write_tar(tmp_path / "any.name", members, mode), tmp_path / "out")
    for name, content in members:
        assert (tmp_path / "out" / name).read_bytes() == content


def test_a_zip_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("deep/a.txt", "one")
        file.mkdir("empty") if hasattr(file, "mkdir") else None
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/deep/a.txt").read_text() == "one"


BAD_NAMES = ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "a\\..\\out.txt", "C:out.txt", "a\nb"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_outside_the_directory_are_refused(tmp_path, name, kind):
    assert not is_safe_name(name)
    if kind == "tar":
        archive = write_tar(tmp_path / "a.tar.gz", [(name, b"evil")])
    else:
        archive = tmp_path / "a.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(zipfile.ZipInfo(name), "evil")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Expected: regular files inside the directory"):
        unpack(archive, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out"])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "member",
    [
        make_member("link", tarfile.SYMTYPE, "/etc"),
        make_member("hard", tarfile.LNKTYPE, "/etc/passwd"),
        make_member("pipe", tarfile.FIFOTYPE),
        make_member("device", tarfile.CHRTYPE),
    ],
    ids=lambda member: member.name,
)
def test_links_and_devices_are_refused(tmp_path, member):
    archive = write_tar(tmp_path / "a.tar", [("good", b"1"), (member, b""), ("link/x", b"2")], "w")
    with pytest.raises(ValueError, match=f"with '{member.name}'"):
        unpack(archive, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["good"]


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc")
    with pytest.raises(ValueError, match="with 'link'"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archive_bombs_are_refused_before_they_are_written(tmp_path, kind):
    content = bytes(20_000_000)
    if kind == "tar":
        archive = write_tar(tmp_path / "a.tar.gz", [("zeros", content)])
    else:
        archive = tmp_path / "a.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("zeros", content)
    assert os.path.getsize(archive) < 100_000
    with pytest.raises(ValueError, match=r"Expected: at most 1000000 bytes.*more, at 'zeros'"):
        unpack(archive, tmp_path / "out", most_bytes=1_000_000)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_large_header_is_not_read(tmp_path):
    # `tarfile` reads an extended header into memory in one piece, with the size that it declares.
    info = tarfile.TarInfo("a")
    info.pax_headers = {"comment": "x" * 5_000_000}
    archive = write_tar(tmp_path / "a.tar.gz", [(info, b"")], file_format=tarfile.PAX_FORMAT)
    with pytest.raises(ValueError, match="a read of 500"):
        unpack(archive, tmp_path / "out")


def test_too_many_files_are_refused(tmp_path):
    archive = write_tar(tmp_path / "a.tar", [(str(number), b"") for number in range(1001)], "w")
    with pytest.raises(ValueError, match="at most 1,000"):
        unpack(archive, tmp_path / "out")


def test_a_duplicate_name_is_refused(tmp_path):
    archive = write_tar(tmp_path / "a.tar", [("a", b"1"), ("a", b"2")], "w")
    with pytest.raises(ValueError, match="each name once"):
        unpack(archive, tmp_path / "out")


def test_other_files_are_refused(tmp_path):
    for name, content in (("a.zip", b"PK\x03\x04 not"), ("b.tar.gz", b"\x1f\x8b\x08"), ("c", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"Expected: a complete \.zip, \.tar"):
            unpack(tmp_path / name, tmp_path / "out")


def test_a_truncated_archive_is_refused(tmp_path):
    archive = write_tar(tmp_path / "a.tar.gz", [("a", os.urandom(100_000))])
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(ValueError, match="Expected: a complete"):
        unpack(archive, tmp_path / "out")
