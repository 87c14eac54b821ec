"""Archives: the honest ones arrive whole, the hostile ones write nothing outside and fill neither disk nor memory."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlserve_runtime.artifacts.errors import FetchError
from mlserve_runtime.artifacts.policy import FetchPolicy
from mlserve_runtime.artifacts.unpack import unpack

SMALL = FetchPolicy(max_bytes=4_000_000, max_files=50)


class Full(type(Path())):  # type: ignore[misc]
    """A path on a full volume."""

    def open(self, *_: Any, **__: Any) -> Any:
        return Path(self).open("wb", buffering=0)


def tar(*entries: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz", **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def special_zip(mode: int) -> bytes:
    info = zipfile.ZipInfo("weights")
    info.external_attr = mode << 16
    return zipped((info, b"/etc/passwd"))


def pax_header_bomb() -> bytes:
    """An extended header that claims and holds 200 MB: tarfile would read it into memory at once."""
    header = entry("pax", tarfile.XHDTYPE)
    header.size = 200_000_000
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as stream:
        stream.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(200):
            stream.write(b"\0" * 1_000_000)
    return buffer.getvalue()


def lying_directory() -> bytes:
    data = bytearray(zipped(("model.yaml", b"x")))
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 500_000_000)
    return bytes(data)


def lying_large_directory() -> bytes:
    """The ordinary end is honest, that of ZIP64 before it claims half a gigabyte; libraries believe the latter."""
    data = zipped(("model.yaml", b"x"))
    end = data.rfind(b"PK\x05\x06")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 500_000_000, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return data[:end] + record + locator + data[end:]


def encrypted() -> bytes:
    data = bytearray(zipped(("model.yaml", b"x")))
    central = data.rfind(b"PK\x01\x02")
    data[central + 8] |= 1
    return bytes(data)


def overlapping() -> bytes:
    """Two names of the directory point at the same bytes, the trick of the non-recursive zip bomb."""
    payload = zipped(("a", b"\0" * 3_000_000), ("b", b"\0" * 3_000_000))
    data = bytearray(payload)
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "tar: absolute path": (lambda: tar((entry("/tmp/evil"), b"x")), "leads outside"),
    "tar: parent": (lambda: tar((entry("../evil"), b"x")), "leads outside"),
    "tar: parent within": (lambda: tar((entry("a/../../evil"), b"x")), "leads outside"),
    "tar: parent directory": (lambda: tar((entry("../evil", tarfile.DIRTYPE), b"")), "leads outside"),
    "tar: backslashes": (lambda: tar((entry("..\\evil"), b"x")), "leads outside"),
    "tar: symbolic link": (lambda: tar((entry("weights", tarfile.SYMTYPE, "/etc/passwd"), b"")), "link or special"),
    "tar: hard link": (lambda: tar((entry("weights", tarfile.LNKTYPE, "/etc/passwd"), b"")), "link or special"),
    "tar: link, then through it": (
        lambda: tar((entry("d", tarfile.SYMTYPE, "/tmp"), b""), (entry("d/evil"), b"x")),
        "link or special",
    ),
    "tar: device": (lambda: tar((entry("null", tarfile.CHRTYPE), b"")), "link or special"),
    "tar: block device": (lambda: tar((entry("sda", tarfile.BLKTYPE), b"")), "link or special"),
    "tar: pipe": (lambda: tar((entry("pipe", tarfile.FIFOTYPE), b"")), "link or special"),
    "tar: name twice": (lambda: tar((entry("a"), b"x"), (entry("a"), b"y")), "damaged|twice"),
    "tar: file as directory": (lambda: tar((entry("a"), b"x"), (entry("a/b"), b"y")), "damaged"),
    "tar: many entries": (lambda: tar(*[(entry(f"f{i}"), b"") for i in range(60)]), "more than 50 entries"),
    "tar: bomb": (lambda: tar((entry("zeros"), b"\0" * 8_000_000)), "unpacks to more than"),
    "tar: uncompressed and large": (lambda: tar((entry("z"), b"\0" * 8_000_000), mode="w"), "unpacks to more"),
    "tar: header bomb": (pax_header_bomb, "headers are larger"),
    "tar: truncated": (lambda: tar((entry("a"), b"x" * 100_000), mode="w")[:50_000], "damaged"),
    "tar: truncated gzip": (lambda: tar((entry("a"), bytes(range(256)) * 400))[:-200], "damaged"),
    "tar: long name": (lambda: tar((entry("n" * 5000), b"x")), "damaged|outside"),
    "tar: empty": (tar, "empty"),
    "gzip of noise": (lambda: gzip.compress(b"noise" * 1000), "damaged|empty"),
    "gzip of a bomb": (lambda: gzip.compress(b"\0" * 50_000_000, 1), "damaged|empty|headers"),
    "no archive": (lambda: b"hello", "damaged"),
    "nothing": (lambda: b"", "damaged|empty"),
    "html": (lambda: b"<!doctype html><title>Sign in</title>" + b" " * 2000, "damaged"),
    "zip: absolute path": (lambda: zipped(("/tmp/evil", b"x")), "leads outside"),
    "zip: parent": (lambda: zipped(("../evil", b"x")), "leads outside"),
    "zip: backslashes": (lambda: zipped(("a\\..\\..\\evil", b"x")), "leads outside"),
    "zip: symbolic link": (lambda: special_zip(0o120777), "link or special"),
    "zip: device": (lambda: special_zip(0o020666), "link or special"),
    "zip: pipe": (lambda: special_zip(0o010666), "link or special"),
    "zip: file as directory": (lambda: zipped(("a", b"x"), ("a/b", b"y")), "damaged"),
    "zip: many entries": (lambda: zipped(*[(f"f{i}", b"") for i in range(60)]), "more than 50 entries"),
    "zip: bomb": (lambda: zipped(("zeros", b"\0" * 8_000_000)), "unpacks to more than"),
    "zip: overlapping": (overlapping, "damaged|unpacks to more"),
    "zip: encrypted": (encrypted, "encrypted|damaged"),
    "zip: lying directory": (lying_directory, "directory is larger"),
    "zip: lying large directory": (lying_large_directory, "directory is larger"),
    "zip: truncated": (lambda: zipped(("a", bytes(range(256)) * 400))[:-30], "damaged"),
    "zip: only a head": (lambda: b"PK\x03\x04" + b"\0" * 100, "damaged"),
    "zip: empty": (zipped, "empty"),
    "zip: wrong checksum": (
        lambda: zipped(("a", b"payload"), compression=zipfile.ZIP_STORED).replace(b"payload", b"pAyload"),
        "damaged",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives(name: str, tmp_path: Path) -> None:
    build, message = HOSTILE[name]
    archive = tmp_path / "archive"
    archive.write_bytes(build())
    destination = tmp_path / "inside" / "model"
    destination.mkdir(parents=True)
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(FetchError, match=message):
            unpack(archive, destination, SMALL)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 5
    assert peak < 40_000_000, "memory stays bounded whatever the archive claims"
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in written if not path.is_relative_to(destination)} == {archive}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert sum(path.stat().st_size for path in written - {archive}) <= SMALL.max_bytes


FILES = {"model.yaml": b"name: x\n", "sub/folder/weights.bin": bytes(range(256)) * 5000, "empty": b""}


@pytest.mark.parametrize("prefix", ["", "./"], ids=["plain", "dot"])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "zip stored"])
def test_honest_archives_arrive_whole(kind: str, prefix: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    if kind.startswith("tar"):
        entries = [(entry(prefix or "sub", tarfile.DIRTYPE), b"")]
        entries += [(entry(prefix + name), data) for name, data in FILES.items()]
        archive.write_bytes(tar(*entries, mode="w:gz" if kind == "tar.gz" else "w"))
    else:
        compression = zipfile.ZIP_STORED if kind.endswith("stored") else zipfile.ZIP_DEFLATED
        archive.write_bytes(zipped(*[(prefix + n, d) for n, d in FILES.items()], compression=compression))
    destination = tmp_path / "model"
    destination.mkdir()
    unpack(archive, destination, SMALL)
    found = {p.relative_to(destination).as_posix(): p.read_bytes() for p in destination.rglob("*") if p.is_file()}
    assert found == FILES


def test_permissions_of_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    info = entry("model.yaml")
    info.mode, info.uid = 0o4777, 0
    archive = tmp_path / "archive"
    archive.write_bytes(tar((info, b"x")))
    destination = tmp_path / "model"
    destination.mkdir()
    unpack(archive, destination, SMALL)
    assert (destination / "model.yaml").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize("archive", [tar((entry("a"), b"x" * 100)), zipped(("a", b"x" * 100))], ids=["tar", "zip"])
def test_a_full_volume_is_no_fault_of_the_archive(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive").write_bytes(archive)
    (tmp_path / "out").mkdir()
    # /dev/full fails every write with ENOSPC, as a full volume does.
    monkeypatch.setattr("mlserve_runtime.artifacts.unpack._Writer.path", lambda *_: Full("/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "archive", tmp_path / "out", SMALL)
