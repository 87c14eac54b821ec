"""Where artifacts lie, behind one small interface: a directory with a listing, or a single archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlserve_runtime.artifacts.progress import Progress


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a directory."""

    path: str
    size: int


class Source(Protocol):
    """A directory or a single file of a store."""

    def listing(self) -> list[RemoteFile] | None:
        """All files below the URI; None where the store cannot list."""

    def download(self, path: str, target: Path, limit: int, progress: Progress) -> None:
        """Bring one file (`""`: the URI itself) to `target`; never more than `limit` bytes.

        Raises MissingFileError, FetchError, or TransientFetchError once retries are used up.
        """

    def close(self) -> None:
        """Give connections back."""
