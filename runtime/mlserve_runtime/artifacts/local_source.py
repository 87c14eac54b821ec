"""Artifacts that lie on this machine: a directory or an archive below one root."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mlserve_core.model_spec import check_relative_path
from mlserve_runtime.artifacts.errors import FetchError, MissingFileError
from mlserve_runtime.artifacts.policy import ENV_FILE_ROOT
from mlserve_runtime.artifacts.progress import Progress
from mlserve_runtime.artifacts.source import RemoteFile
from mlserve_runtime.artifacts.uris import ModelUri

_CHUNK: Final = 1024 * 1024


def resolve_local(uri: ModelUri, environment: Mapping[str, str] = os.environ) -> Path:
    """The path of a file:// URI: below MLSERVE_FILE_ROOT when that is set, and never outside of it."""
    root = Path(environment.get(ENV_FILE_ROOT) or "/").resolve()
    path = (root / uri.path).resolve()
    if not path.is_relative_to(root):
        raise FetchError(f"{uri.shown} leads out of {ENV_FILE_ROOT} by a link; put the files themselves there")
    if not path.exists():
        below = f" (below {ENV_FILE_ROOT}={root})" if root != Path("/") else ""
        raise MissingFileError(f"{uri.shown} does not exist on this node{below}; check spec.model.uri")
    return path


class LocalSource:
    """A directory or archive of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def listing(self) -> list[RemoteFile] | None:
        """Regular files; hidden ones are left out, links are refused."""
        if not self._path.is_dir():
            raise FetchError(
                f"{self._path.name} is a file; name the artifact's directory, or a .tar.gz or .zip archive"
            )
        files = []
        for root, folders, names in os.walk(self._path):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
            for name in names:
                path = Path(root, name)
                if name.startswith("."):
                    continue
                relative = path.relative_to(self._path).as_posix()
                if not path.is_file() or path.is_symlink():
                    raise FetchError(f"{relative} is a link or special file; an artifact holds the files themselves")
                files.append(RemoteFile(relative, path.stat().st_size))
        return files

    def download(self, path: str, target: Path, limit: int, progress: Progress) -> None:
        """Copy."""
        source = self._path / check_relative_path(path) if path else self._path
        if not source.is_file():
            raise MissingFileError(f"{path or source.name} does not exist")
        if not source.resolve().is_relative_to(self._path):
            raise FetchError(f"{path} is a link that leads out of the artifact; put the file itself there")
        with source.open("rb") as reader, target.open("wb") as writer:
            copied = 0
            while chunk := reader.read(_CHUNK):
                copied += len(chunk)
                if copied > limit:
                    raise FetchError(f"{path or source.name} has more than {limit} bytes")
                writer.write(chunk)
                progress.advance(len(chunk))

    def close(self) -> None:
        """Nothing to do."""
