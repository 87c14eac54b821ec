"""Fetching from object stores: moto (a process in an environment of its own) serves S3.

Google's XML protocol is the one S3 speaks, signatures aside, so the same server answers gs:// as an emulator.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import S3Store

from mlserve_core.artifact import ArtifactError, ChecksumMismatchError, build_manifest
from mlserve_runtime.artifacts.errors import FetchError
from mlserve_runtime.artifacts.fetch import fetch
from mlserve_runtime.artifacts.progress import Progress

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    spec = importlib.util.spec_from_file_location("side_environments", ROOT / "tools" / "side_environments.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    command = [tool.install("moto") / "moto_server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stderr)))
        # It logs every request; a full pipe would stop it.
        drain = threading.Thread(target=server.stderr.read)
        drain.start()
        try:
            yield address.group()
        finally:
            server.terminate()
            drain.join()


@pytest.fixture
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the init container of a pod has; the library reads the credentials from the process's environment."""
    values = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "MLSERVE_FETCH_ALLOW": "127.0.0.1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def bucket(environment: dict[str, str], archives: Path, artifact: Path, request: pytest.FixtureRequest) -> S3Store:
    """A bucket of its own for each test with the artifact below models/tiny and both archives."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    httpx.put(f"{environment['AWS_ENDPOINT_URL']}/{name}").raise_for_status()
    store = S3Store(name, endpoint=environment["AWS_ENDPOINT_URL"], client_options={"allow_http": True})
    for path in archives.rglob("*"):
        if path.is_file():
            obstore.put(store, f"models/{path.relative_to(archives).as_posix()}", path.read_bytes())
    return store


def uri(bucket: S3Store, path: str) -> str:
    return f"s3://{bucket.config['bucket']}/{path}"


@pytest.mark.parametrize("path", ["models/tiny", "models/tiny/", "models/tiny.tar.gz", "models/tiny.zip"])
def test_every_form_arrives_whole(
    path: str, bucket: S3Store, environment: dict[str, str], artifact: Path, tmp_path: Path
) -> None:
    progress = Progress(write=lambda _: None)
    found = fetch(uri(bucket, path), tmp_path / "model", environment=environment, progress=progress)
    assert found.digest == build_manifest(artifact).digest
    assert found.weights_path.read_bytes() == (artifact / "weights/model.onnx").read_bytes()
    assert progress.done > 0


def test_a_directory_without_manifest_is_listed(
    bucket: S3Store, environment: dict[str, str], artifact: Path, tmp_path: Path
) -> None:
    obstore.delete(bucket, "models/tiny/manifest.json")
    found = fetch(uri(bucket, "models/tiny"), tmp_path / "model", environment=environment)
    assert found.digest == build_manifest(artifact).digest
    assert (tmp_path / "model" / "manifest.json").is_file(), "written, so that the server need not hash again"


def test_a_changed_object_is_found(bucket: S3Store, environment: dict[str, str], tmp_path: Path) -> None:
    obstore.put(bucket, "models/tiny/model.yaml", b"name: other\n")
    with pytest.raises((ChecksumMismatchError, FetchError)):
        fetch(uri(bucket, "models/tiny"), tmp_path / "model", environment=environment)
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        pytest.param("nothing", FetchError, "nothing below", id="prefix"),
        pytest.param("models/nothing.zip", FetchError, "no object", id="archive"),
        pytest.param("models", ArtifactError, r"no model\.yaml", id="no artifact"),
    ],
)
def test_absence_is_said(
    path: str,
    error: type[Exception],
    message: str,
    bucket: S3Store,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        fetch(uri(bucket, path), tmp_path / "model", environment=environment)


def test_a_missing_bucket_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"nowhere"):
        fetch("s3://nowhere-at-all/models/tiny", tmp_path / "model", environment=environment)


def test_limits_hold(bucket: S3Store, environment: dict[str, str], tmp_path: Path) -> None:
    limited = environment | {"MLSERVE_FETCH_MAX_BYTES": "1000000"}
    with pytest.raises(FetchError, match="1000000"):
        fetch(uri(bucket, "models/tiny"), tmp_path / "model", environment=limited)


def test_a_private_endpoint_needs_permission(environment: dict[str, str], tmp_path: Path) -> None:
    closed = {name: value for name, value in environment.items() if name != "MLSERVE_FETCH_ALLOW"}
    with pytest.raises(FetchError, match="MLSERVE_FETCH_ALLOW"):
        fetch("s3://bucket/models/tiny", tmp_path / "model", environment=closed)


@pytest.mark.parametrize("path", ["models/tiny", "models/tiny.zip"], ids=["directory", "archive"])
def test_google_cloud_storage(
    path: str, endpoint: str, artifact: Path, archives: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bucket = "google" + request.node.callspec.id  # moto does not decode a hyphen in its path
    httpx.put(f"{endpoint}/{bucket}").raise_for_status()
    for file in archives.rglob("*"):
        if file.is_file():  # The emulator is asked without an account, so objects must be public.
            key = f"models/{file.relative_to(archives).as_posix()}"
            public = {"x-amz-acl": "public-read"}
            httpx.put(f"{endpoint}/{bucket}/{key}", content=file.read_bytes(), headers=public).raise_for_status()
    emulated = {"STORAGE_EMULATOR_HOST": endpoint, "MLSERVE_FETCH_ALLOW": "127.0.0.1"}
    found = fetch(f"gs://{bucket}/{path}", tmp_path / "model", environment=emulated)
    assert found.digest == build_manifest(artifact).digest
    with pytest.raises(FetchError, match="MLSERVE_FETCH_ALLOW"):
        fetch(f"gs://{bucket}/{path}", tmp_path / "other", environment={"STORAGE_EMULATOR_HOST": endpoint})
