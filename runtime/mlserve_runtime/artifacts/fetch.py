"""Bring an artifact into a directory: all of it, verified, or nothing.

Files arrive in a staging folder inside the destination (which may be the mount point of a volume and so cannot be
renamed itself), are checked against manifest and digest, and are then moved into place with manifest.json as the
last: a directory with a manifest is a whole artifact. A restarted container finds either that, or rubbish it removes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from mlserve_core.artifact import (
    MANIFEST_FILE,
    MODEL_FILE,
    Artifact,
    ArtifactError,
    ChecksumMismatchError,
    load_artifact,
    parse_manifest,
    write_manifest,
)
from mlserve_core.model_spec import check_relative_path
from mlserve_runtime.artifacts.errors import FetchError, MissingFileError
from mlserve_runtime.artifacts.local_source import LocalSource, resolve_local
from mlserve_runtime.artifacts.policy import FetchPolicy
from mlserve_runtime.artifacts.progress import Progress, megabytes
from mlserve_runtime.artifacts.source import RemoteFile, Source
from mlserve_runtime.artifacts.unpack import unpack
from mlserve_runtime.artifacts.uris import ModelUri, huggingface_base, parse_uri

ENV_TOKEN: Final = "MLSERVE_FETCH_TOKEN"  # noqa: S105  a name, no secret
"""Bearer token for https:// URIs; sent to that host only."""
STAGING: Final = ".incoming"
_PARALLEL: Final = 4
_MANIFEST_LIMIT: Final = 8 * 1024 * 1024


def fetch(
    uri_text: str,
    destination: Path,
    digest: str = "",
    *,
    policy: FetchPolicy | None = None,
    environment: Mapping[str, str] = os.environ,
    progress: Progress | None = None,
) -> Artifact:
    """Fetch and verify an artifact.

    Args:
        uri_text: Where it lies. For pvc:// and oci:// the kubelet has mounted it at `destination`; it is verified only.
        destination: Directory that will hold it; created if absent.
        digest: Expected digest of the manifest; empty accepts any.
        policy: What may be reached; default from the environment.
        environment: Credentials and settings.
        progress: Receives bytes and lines.

    Raises:
        FetchError: It cannot be had.
        ChecksumMismatchError: It is not what was promised.
        ArtifactError: It is no artifact.
    """
    uri = parse_uri(uri_text)
    policy = policy or FetchPolicy.from_environment(environment)
    progress = progress or Progress()
    if uri.is_mounted:
        policy.check_scheme(uri.scheme)
        return load_artifact(destination, digest)
    present = _already_there(destination, digest)
    if present:
        progress.say(f"{present.digest} is already in place")
        return present
    with contextlib.closing(open_source(uri, policy, environment)) as source:
        artifact = _bring(uri, source, destination, digest, policy, progress)
    progress.say(f"fetched {megabytes(artifact.manifest.total_size)}, digest {artifact.digest}")
    return Artifact(directory=destination, spec=artifact.spec, manifest=artifact.manifest)


def open_source(uri: ModelUri, policy: FetchPolicy, environment: Mapping[str, str] = os.environ) -> Source:
    """The source of a URI that has something to fetch; only what that needs is imported, since a pod waits.

    Raises:
        FetchError: The policy forbids it.
    """
    policy.check_scheme(uri.scheme)
    if uri.scheme == "file":
        return LocalSource(resolve_local(uri, environment))
    if uri.scheme in {"s3", "gs"}:
        from mlserve_runtime.artifacts.object_stores import ObjectStoreSource

        return ObjectStoreSource(uri, policy, environment)
    from mlserve_runtime.artifacts.http_source import HttpSource

    if uri.scheme == "hf":
        endpoint = environment.get("HF_ENDPOINT") or "https://huggingface.co"
        return HttpSource(huggingface_base(uri, endpoint), policy, token=environment.get("HF_TOKEN", ""))
    return HttpSource(uri.text, policy, token=environment.get(ENV_TOKEN, ""))


def _bring(
    uri: ModelUri, source: Source, destination: Path, digest: str, policy: FetchPolicy, progress: Progress
) -> Artifact:
    destination.mkdir(parents=True, exist_ok=True)
    staging = destination / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        progress.say(f"fetching {uri.shown}")
        bring = _bring_archive if uri.is_archive else _bring_directory
        root = bring(uri, source, staging, digest, policy, progress)
        if not (root / MANIFEST_FILE).is_file():
            write_manifest(root)
        artifact = load_artifact(root, digest)
        _move_into_place(root, destination)
        return artifact
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _already_there(destination: Path, digest: str) -> Artifact | None:
    """The artifact of a container that was restarted after it had finished."""
    if not digest or not (destination / MANIFEST_FILE).is_file():
        return None
    try:
        return load_artifact(destination, digest)
    except ArtifactError:
        return None


def _bring_directory(
    uri: ModelUri, source: Source, staging: Path, digest: str, policy: FetchPolicy, progress: Progress
) -> Path:
    files = _files_of(uri, source, staging, digest, progress)
    if len(files) > policy.max_files:
        raise FetchError(f"{uri.shown} holds more than {policy.max_files} files")
    progress.total = sum(file.size for file in files)
    if progress.total > policy.max_bytes:
        raise FetchError(f"{uri.shown} has {progress.total} bytes; at most {policy.max_bytes} are fetched")

    def bring(file: RemoteFile) -> None:
        try:
            target = staging / check_relative_path(file.path)
        except ValueError as error:
            raise FetchError(f"{uri.shown}: {error}") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        source.download(file.path, target, file.size, progress)

    with ThreadPoolExecutor(_PARALLEL) as executor:
        pending = [executor.submit(bring, file) for file in files]
        try:
            for future in pending:
                future.result()
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
    return staging


def _files_of(uri: ModelUri, source: Source, staging: Path, digest: str, progress: Progress) -> list[RemoteFile]:
    """What to bring: what the manifest lists or, without one, what the store lists."""
    manifest_path = staging / MANIFEST_FILE
    try:
        source.download(MANIFEST_FILE, manifest_path, _MANIFEST_LIMIT, progress)
    except MissingFileError:
        manifest_path.unlink(missing_ok=True)
        listed = source.listing()
        if listed is None:
            raise FetchError(
                f"{uri.shown} has no {MANIFEST_FILE}, and HTTP cannot list a directory; upload what `mlserve package` "
                "wrote, or an archive of it (.tar.gz, .zip)"
            ) from None
        if not any(file.path == MODEL_FILE for file in listed):
            raise ArtifactError(
                f"there is no {MODEL_FILE} in {uri.shown}; build the artifact with `mlserve package`"
            ) from None
        return listed
    manifest = parse_manifest(manifest_path.read_bytes())
    if digest and manifest.digest != digest:
        raise ChecksumMismatchError(
            f"{uri.shown} has digest {manifest.digest}, expected {digest}; "
            "set spec.model.digest to the first if that is the model you mean"
        )
    return [RemoteFile(file.path, file.size) for file in manifest.files]


def _bring_archive(
    uri: ModelUri, source: Source, staging: Path, _digest: str, policy: FetchPolicy, progress: Progress
) -> Path:
    archive, unpacked = staging / "archive", staging / "unpacked"
    source.download("", archive, policy.max_bytes, progress)
    unpacked.mkdir()
    progress.say("unpacking")
    unpack(archive, unpacked, policy)
    archive.unlink()
    if (unpacked / MODEL_FILE).is_file():
        return unpacked
    folders = [path for path in unpacked.iterdir() if path.is_dir()]
    if len(folders) == 1 and (folders[0] / MODEL_FILE).is_file():
        return folders[0]
    raise ArtifactError(f"there is no {MODEL_FILE} in {uri.shown}, neither at its top nor in its only folder")


def _move_into_place(root: Path, destination: Path) -> None:
    """Clear what lies in the destination and move the artifact there, manifest.json last."""
    (destination / MANIFEST_FILE).unlink(missing_ok=True)
    for old in destination.iterdir():
        if old.name != STAGING:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    entries = sorted(root.iterdir(), key=lambda path: path.name == MANIFEST_FILE)
    for entry in entries:
        entry.rename(destination / entry.name)
