"""What a model's URI means: which store, which path, an archive or a directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from mlserve_core.model_spec import check_relative_path
from mlserve_runtime.artifacts.errors import FetchError

SCHEMES: Final = ("s3", "gs", "https", "http", "hf", "oci", "pvc", "file")
ARCHIVE_SUFFIXES: Final = (".tar.gz", ".tgz", ".tar", ".zip")


@dataclass(frozen=True, slots=True)
class ModelUri:
    """A parsed URI."""

    text: str
    scheme: str
    host: str
    """Bucket, host, claim, or empty."""
    path: str
    """Without the leading slash, percent-decoded for stores and files."""
    is_archive: bool

    @property
    def is_mounted(self) -> bool:
        """Whether the kubelet brings the files (a claim, an image volume), so that there is nothing to fetch."""
        return self.scheme in {"pvc", "oci"}

    @property
    def shown(self) -> str:
        """The URI without query and credentials, for messages."""
        return self.text.partition("?")[0]


def parse_uri(text: str) -> ModelUri:
    """Read a URI. Raises FetchError with the form that would have worked."""
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise FetchError(f"{text[:200]!r} is no URI: {error}") from error
    if parts.scheme not in SCHEMES or not port_is_valid:
        raise FetchError(f"{text[:200]!r} has an unknown scheme; use one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if parts.username is not None or parts.password is not None:
        raise FetchError("credentials do not belong into the URI, which everybody can read; use spec.model.credentials")
    path = unquote(parts.path)
    if any(ord(character) < 32 for character in text) or "\0" in path:
        raise FetchError("the URI contains control characters")
    is_archive = path.lower().endswith(ARCHIVE_SUFFIXES)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not path.startswith("/"):
            raise FetchError(f"{text!r} must have the form file:///absolute/path (three slashes)")
    elif not parts.netloc:
        raise FetchError(f"{text!r} names no {_authority(parts.scheme)}; use {_form(parts.scheme)}")
    trimmed = path.strip("/")
    if parts.scheme in {"s3", "gs", "file", "hf", "pvc"} and trimmed:
        try:
            check_relative_path(trimmed)
        except ValueError as error:
            raise FetchError(f"{text[:200]!r}: the path must not contain empty parts, '.' or '..'") from error
    return ModelUri(text=text, scheme=parts.scheme, host=parts.netloc, path=trimmed, is_archive=is_archive)


def huggingface_base(uri: ModelUri, endpoint: str) -> str:
    """`hf://owner/repository[@revision][/folder]` as the https address its files resolve under.

    >>> huggingface_base(parse_uri("hf://acme/digits@v2/onnx"), "https://huggingface.co")
    'https://huggingface.co/acme/digits/resolve/v2/onnx'
    """
    repository, _, folder = uri.path.partition("/")
    name, _, revision = repository.partition("@")
    if not name:
        raise FetchError(f"{uri.shown!r} names no repository; use {_form('hf')}")
    base = f"{endpoint.rstrip('/')}/{quote(uri.host)}/{quote(name)}/resolve/{quote(revision or 'main', safe='')}"
    return f"{base}/{quote(folder)}" if folder else base


def _authority(scheme: str) -> str:
    return {"s3": "bucket", "gs": "bucket", "pvc": "claim", "hf": "owner", "oci": "registry"}.get(scheme, "host")


def _form(scheme: str) -> str:
    forms = {
        "hf": "hf://owner/repository[@revision][/folder]",
        "pvc": "pvc://claim/path",
        "oci": "oci://registry/repository:tag",
    }
    return forms.get(scheme, f"{scheme}://{_authority(scheme)}/path")
