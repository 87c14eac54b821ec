"""S3 and Google Cloud Storage through obstore (the Rust object_store crate): signing, retries and paging are its job.

Credentials come from the environment of the container, by the names their own tools use: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, AWS_SKIP_SIGNATURE=true for public buckets;
GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS, and STORAGE_EMULATOR_HOST (http://host:port) for a server that
speaks Google's protocol without its accounts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, S3Store

from mlserve_runtime.artifacts.errors import FetchError, MissingFileError, TransientFetchError
from mlserve_runtime.artifacts.policy import FetchPolicy
from mlserve_runtime.artifacts.progress import Progress
from mlserve_runtime.artifacts.source import RemoteFile
from mlserve_runtime.artifacts.uris import ModelUri

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_CHUNK = 4 * 1024 * 1024


class ObjectStoreSource:
    """Objects below a prefix of a bucket, or one object."""

    def __init__(self, uri: ModelUri, policy: FetchPolicy, environment: Mapping[str, str]) -> None:
        self._uri = uri
        self._policy = policy
        self._store = _open(uri, policy, environment)

    def listing(self) -> list[RemoteFile]:
        """Objects below the prefix; folder markers are left out."""
        prefix = self._uri.path
        files: list[RemoteFile] = []
        try:
            for page in obstore.list(self._store, prefix=prefix or None):
                for entry in page:
                    relative = entry["path"].removeprefix(prefix).lstrip("/")
                    if relative and not relative.endswith("/"):
                        files.append(RemoteFile(relative, entry["size"]))
                if len(files) > self._policy.max_files:
                    raise FetchError(f"{self._uri.shown} holds more than {self._policy.max_files} objects")
        except BaseError as error:
            raise self._explained(error, self._uri.shown) from error
        if not files:
            raise MissingFileError(f"there is nothing below {self._uri.shown}; check bucket and path")
        return files

    def download(self, path: str, target: Path, limit: int, progress: Progress) -> None:
        """Stream one object to a file."""
        key = "/".join(part for part in (self._uri.path, path) if part)
        try:
            response = obstore.get(self._store, key)
            size = response.meta["size"]
            if size > limit:
                raise FetchError(f"{path or self._uri.shown} has {size} bytes, expected at most {limit}")
            received = 0
            with target.open("wb") as stream:
                for chunk in response.stream(min_chunk_size=_CHUNK):
                    received += len(chunk)
                    if received > limit:
                        raise FetchError(f"{path or self._uri.shown} sends more than {limit} bytes")
                    stream.write(chunk)
                    progress.advance(len(chunk))
        except (FileNotFoundError, NotFoundError) as error:
            raise MissingFileError(f"{self._uri.shown}: there is no object {key!r}; check bucket and path") from error
        except BaseError as error:
            raise self._explained(error, key) from error

    def close(self) -> None:
        """Nothing to do: the library keeps its own connections."""

    def _explained(self, error: BaseError, what: str) -> FetchError:
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return FetchError(f"{what}: the store refuses access; check spec.model.credentials")
        # object_store's texts carry a Debug dump after the first line.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if any(host in first for host in _METADATA_HOSTS):
            what += ": no credentials in spec.model.credentials, and the node has no identity for this store"
        return TransientFetchError(f"{what}: {first[:300]}")


def _open(uri: ModelUri, policy: FetchPolicy, environment: Mapping[str, str]) -> Any:
    names, home = (
        (_S3_ENDPOINTS, "s3.amazonaws.com") if uri.scheme == "s3" else (_GS_ENDPOINTS, "storage.googleapis.com")
    )
    endpoint = next((environment[name] for name in names if environment.get(name)), "")
    if not endpoint:
        policy.check_transport("https", home)
        return S3Store(uri.host) if uri.scheme == "s3" else GCSStore(uri.host)
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    policy.check_transport(parts.scheme, host)
    # The library resolves the name again by itself: an endpoint is set by whoever runs the pod, not by a URI.
    policy.addresses(host, parts.port or (443 if parts.scheme == "https" else 80))
    options: ClientConfig = {"allow_http": parts.scheme == "http"}
    if uri.scheme == "s3":
        return S3Store(uri.host, endpoint=endpoint, client_options=options)
    emulator = {
        "gcs_base_url": endpoint,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return GCSStore(uri.host, service_account_key=json.dumps(emulator), client_options=options)


_METADATA_HOSTS = ("169.254.169.254", "metadata.google.internal")
"""Where a cloud's machine is asked who it is, when nobody gave credentials."""
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_GS_ENDPOINTS = ("STORAGE_EMULATOR_HOST",)
