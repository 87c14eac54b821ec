"""URIs of models: what is understood and what is refused before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.artifacts.errors import FetchError, MissingFileError
from mlserve_runtime.artifacts.local_source import resolve_local
from mlserve_runtime.artifacts.uris import SCHEMES, huggingface_base, parse_uri


@pytest.mark.parametrize(
    ("text", "host", "path", "archive"),
    [
        ("s3://models/digits/2", "models", "digits/2", False),
        ("gs://models/digits.tar.gz", "models", "digits.tar.gz", True),
        ("https://example.com/a/b.zip?token=1", "example.com", "a/b.zip", True),
        ("https://example.com:8443/a/", "example.com:8443", "a", False),
        ("file:///models/digits", "", "models/digits", False),
        ("hf://acme/digits@v2/onnx", "acme", "digits@v2/onnx", False),
        ("pvc://claim/path", "claim", "path", False),
        ("oci://registry.example.com/models/digits:2", "registry.example.com", "models/digits:2", False),
    ],
)
def test_understood(text: str, host: str, path: str, archive: bool) -> None:
    uri = parse_uri(text)
    assert (uri.host, uri.path, uri.is_archive) == (host, path, archive)
    assert uri.is_mounted == text.startswith(("pvc", "oci"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "digits",
        "/models/digits",
        "ftp://example.com/x",
        "gopher://example.com/x",
        "javascript:alert(1)",
        "data:text/plain,x",
        "file://relative/path",
        "file://etc/passwd",
        "file:///models/../../etc",
        "file:///models/%2e%2e/etc",
        "s3://bucket/a/../../b",
        "s3://bucket/a//b",
        "s3:///path",
        "https:///path",
        "https://user:secret@example.com/x",
        "https://example.com:99999/x",
        "https://example.com:0/x",
        "https://[::1/x",
        "https://example.com/\r\nHost: evil",
        "https://example.com/%00",
        "pvc:///path",
        "\x00",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(FetchError):
        parse_uri(text)


@given(st.sampled_from([*SCHEMES, "ftp", ""]), st.text(max_size=60))
def test_any_text_is_understood_or_refused(scheme: str, rest: str) -> None:
    try:
        uri = parse_uri(f"{scheme}://{rest}")
    except FetchError:
        return
    assert uri.scheme in SCHEMES
    assert ".." not in uri.path.split("/") or uri.scheme in {"https", "http", "oci"}


def test_credentials_are_not_repeated_in_the_message() -> None:
    with pytest.raises(FetchError) as caught:
        parse_uri("https://user:hunter2@example.com/x")
    assert "hunter2" not in str(caught.value)


def test_query_strings_are_not_shown() -> None:
    assert "secret" not in parse_uri("https://example.com/x.zip?sig=secret").shown


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://acme/digits", "https://huggingface.co/acme/digits/resolve/main"),
        ("hf://acme/digits@refs/pr/1", "https://huggingface.co/acme/digits/resolve/refs/pr/1"),
        ("hf://acme/digits@v2", "https://huggingface.co/acme/digits/resolve/v2"),
    ],
)
def test_hugging_face(text: str, address: str) -> None:
    assert huggingface_base(parse_uri(text), "https://huggingface.co/") == address


class TestFileRoot:
    def test_paths_are_resolved_below_it(self, tmp_path: Path) -> None:
        (tmp_path / "models").mkdir()
        found = resolve_local(parse_uri("file:///models"), {"MLSERVE_FILE_ROOT": str(tmp_path)})
        assert found == tmp_path / "models"

    def test_links_do_not_lead_out(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        root.mkdir()
        (tmp_path / "secret").mkdir()
        (root / "models").symlink_to(tmp_path / "secret")
        with pytest.raises(FetchError, match="leads out"):
            resolve_local(parse_uri("file:///models"), {"MLSERVE_FILE_ROOT": str(root)})

    def test_absence_says_where_it_looked(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match="MLSERVE_FILE_ROOT="):
            resolve_local(parse_uri("file:///models"), {"MLSERVE_FILE_ROOT": str(tmp_path)})

    def test_without_it_the_path_is_absolute(self, tmp_path: Path) -> None:
        assert resolve_local(parse_uri(f"file://{tmp_path}"), {}) == tmp_path.resolve()
