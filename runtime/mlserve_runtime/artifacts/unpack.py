"""Unpacking archives that may have been made to do harm.

Everything is refused that an artifact never needs: links, devices, absolute paths, `..`, names used twice,
passwords. What remains is bounded while it is written - entries, bytes, and bytes per byte of archive - because the
sizes an archive announces are claims. Nothing is extracted by the libraries: they only read, this module writes.
"""

from __future__ import annotations

import errno
import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Final, cast

from mlserve_core.model_spec import check_relative_path
from mlserve_runtime.artifacts.errors import FetchError

if TYPE_CHECKING:
    from pathlib import Path

    from mlserve_runtime.artifacts.policy import FetchPolicy

_CHUNK: Final = 1024 * 1024
_HEADER_BYTES: Final = 1024 * 1024
"""Most bytes of headers before one entry of a tar archive; long names need a few hundred."""
_DIRECTORY_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of a zip archive's directory, which is read into memory as a whole."""
_RATIO_FROM: Final = 64 * 1024 * 1024
_DIRECTORY_END_BYTES: Final = 22
_DIRECTORY_END_64_BYTES: Final = 76
"""The end of a ZIP64 directory, and what says where that is; they lie before the ordinary end."""
_DAMAGED: Final = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)
_OF_THE_VOLUME: Final = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors no archive is to blame for."""


def unpack(archive: Path, destination: Path, policy: FetchPolicy) -> None:
    """Unpack a tar, tar.gz or zip archive below `destination`, which exists and is empty.

    Raises:
        FetchError: The archive is damaged, hostile, or larger than the policy allows; says which entry.
        OSError: The volume is full, read-only or broken.
    """
    writer = _Writer(destination, policy, archive.stat().st_size)
    try:
        with archive.open("rb") as stream:
            if stream.read(2) == b"PK":
                _check_zip_directory(stream)
                _unpack_zip(stream, writer)
            else:
                stream.seek(0)
                _unpack_tar(stream, writer)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_VOLUME:
            raise
        raise FetchError(f"the archive is damaged: {' '.join(str(error).split())[:200]}") from error
    if writer.entries == 0:
        raise FetchError("the archive is empty")


class _Writer:
    """Writes entries below one directory and keeps the budget."""

    def __init__(self, destination: Path, policy: FetchPolicy, archive_size: int) -> None:
        self._destination = destination
        self._policy = policy
        self._limit = min(policy.max_bytes, max(_RATIO_FROM, archive_size * policy.max_ratio))
        self.written = 0
        self.entries = 0

    @property
    def remaining(self) -> int:
        return self._limit - self.written

    def path(self, name: str) -> Path:
        """The place of an entry; counts it. Raises FetchError on names that lead elsewhere."""
        self.entries += 1
        if self.entries > self._policy.max_files:
            raise FetchError(f"the archive has more than {self._policy.max_files} entries")
        try:
            return self._destination / check_relative_path(name.removeprefix("./").rstrip("/"))
        except ValueError as error:
            raise FetchError(f"archive entry {name[:200]!r} leads outside of the artifact") from error

    def directory(self, name: str) -> None:
        if name.strip("./"):
            self.path(name).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, source: IO[bytes]) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            while chunk := source.read(_CHUNK):
                self.written += len(chunk)
                if self.remaining < 0:
                    raise FetchError(
                        f"the archive unpacks to more than {self._limit} bytes, which is more than a model of its size "
                        "can need; raise MLSERVE_FETCH_MAX_BYTES or serve the files unpacked"
                    )
                target.write(chunk)


class _Budget(io.RawIOBase):
    """Reads on while a budget lasts: tarfile reads headers of announced length into memory before we see them."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.allowed = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.allowed -= len(data)
        if self.allowed < 0:
            raise FetchError("the archive's headers are larger than any artifact needs")
        return data


def _unpack_tar(stream: IO[bytes], writer: _Writer) -> None:
    is_gzip = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    budget = _Budget(cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if is_gzip else stream)
    budget.allowed = _HEADER_BYTES
    with tarfile.open(fileobj=budget, mode="r|") as tar:
        while True:
            budget.allowed = _HEADER_BYTES
            member = tar.next()
            if member is None:
                return
            if member.isdir():
                writer.directory(member.name)
                continue
            if not member.isreg() or member.issparse():
                raise FetchError(f"archive entry {member.name[:200]!r} is a link or special file; pack the file itself")
            budget.allowed = writer.remaining + _HEADER_BYTES
            source = tar.extractfile(member)
            if source is not None:
                writer.file(member.name, source)


def _check_zip_directory(stream: IO[bytes]) -> None:
    """Refuse a directory that would fill the memory before its entries can be counted."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - _DIRECTORY_END_64_BYTES - 65_557))
    tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + _DIRECTORY_END_BYTES:
        raise FetchError("the archive is damaged: a zip without an end")
    directory = int.from_bytes(tail[end + 12 : end + 16], "little")
    end_64 = tail[max(0, end - _DIRECTORY_END_64_BYTES) : end]
    if end_64.startswith(b"PK\x06\x06"):  # what it says counts, whatever the ordinary end says
        directory = int.from_bytes(end_64[40:48], "little")
    if directory > _DIRECTORY_BYTES:
        raise FetchError("the archive's directory is larger than any artifact needs")


def _unpack_zip(stream: IO[bytes], writer: _Writer) -> None:
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if entry.is_dir():
                writer.directory(entry.filename)
                continue
            if kind not in {0, stat.S_IFREG}:
                raise FetchError(
                    f"archive entry {entry.filename[:200]!r} is a link or special file; pack the file itself"
                )
            if entry.flag_bits & 0x1:
                raise FetchError("the archive is encrypted; pack it without a password")
            with archive.open(entry) as source:
                writer.file(entry.filename, source)
