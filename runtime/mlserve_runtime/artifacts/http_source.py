"""Files over HTTPS: judged redirects, pinned addresses, sizes that are enforced, and downloads that resume.

The transport is httpcore with a network backend of our own, because the decision "may this address be reached" has
to be taken between the look-up of the name and the connection, for every redirect again.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import certifi
import httpcore

from mlserve_runtime.artifacts.errors import FetchError, MissingFileError, TransientFetchError
from mlserve_runtime.artifacts.policy import FetchPolicy
from mlserve_runtime.artifacts.progress import Progress
from mlserve_runtime.artifacts.source import RemoteFile

ATTEMPTS: Final = 6
FIRST_WAIT: Final = 0.5
"""Seconds before the second attempt; doubles with every further one."""
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_TRANSIENT: Final = {408, 425, 429}
_TIMEOUTS: Final = {"connect": 10.0, "read": 30.0, "write": 30.0, "pool": 60.0}
_BROKEN: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class RangeRefusedError(TransientFetchError):
    """The server has nothing after what has arrived, though the transfer did not end well: it begins anew."""


class GuardedBackend(httpcore.SyncBackend):
    """Connects only to addresses the policy judged, and to exactly those."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """As in httpcore; tries one usable address of the host after the other."""
        failure: Exception = httpcore.ConnectError(f"no address of {host}")
        for address in self._policy.addresses(host, port):
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class HttpSource:
    """A directory (with a manifest.json that lists it) or a single file under an http(s) address."""

    def __init__(
        self,
        base: str,
        policy: FetchPolicy,
        *,
        token: str = "",
    ) -> None:
        self._base = base
        self._policy = policy
        self._token = token
        self._origin = _origin(base)
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(), max_connections=8, network_backend=GuardedBackend(policy), http1=True
        )

    def listing(self) -> list[RemoteFile] | None:
        """HTTP has no listings."""
        return None

    def download(self, path: str, target: Path, limit: int, progress: Progress) -> None:
        """Download to `target`. A broken transfer is continued where the server proves it is the same file."""
        url = self._url(path)
        name = path or urlsplit(url).path.rsplit("/", 1)[-1]
        etag = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                offset = target.stat().st_size if etag and target.exists() else 0
                with self._open(url, offset, etag) as response:
                    resumed = response.status == 206
                    etag = _strong_etag(response)
                    _write(response, target, name, limit, progress, resumed=resumed)
                return
            except TransientFetchError as error:
                if isinstance(error, RangeRefusedError):
                    target.unlink(missing_ok=True)
                if attempt == ATTEMPTS:
                    raise TransientFetchError(f"{name}: {error} (gave up after {ATTEMPTS} attempts)") from error
                wait = min(30.0, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311  jitter, no secret
                progress.say(f"{name}: {error}; next attempt in {wait:.1f} s")
                time.sleep(wait)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _url(self, path: str) -> str:
        if not path:
            return self._base
        parts = urlsplit(self._base)
        return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quote(path)}", parts.query, ""))

    @contextmanager
    def _open(self, url: str, offset: int, etag: str) -> Iterator[httpcore.Response]:
        """The answer behind all redirects, with a status that carries a body."""
        for _ in range(_MAX_REDIRECTS + 1):
            target, host = _request_url(url)
            self._policy.check_transport(urlsplit(url).scheme, host)
            with (
                _translated(host),
                self._pool.stream(
                    "GET", target, headers=self._headers(url, offset, etag), extensions={"timeout": _TIMEOUTS}
                ) as response,
            ):
                if response.status not in _REDIRECTS:
                    _check_status(response, host, resuming=offset > 0)
                    yield response
                    return
                location = _header(response, b"location")
                if not location:
                    raise FetchError(f"{host} redirects to nowhere (status {response.status} without Location)")
                try:
                    url = urljoin(url, location)
                except ValueError as error:
                    raise FetchError(f"{host} redirects to {location[:200]!r}, which is no address") from error
        raise FetchError(f"more than {_MAX_REDIRECTS} redirects; use the final address as spec.model.uri")

    def _headers(self, url: str, offset: int, etag: str) -> list[tuple[str, str]]:
        headers = [("User-Agent", "mlserve"), ("Accept-Encoding", "identity")]
        if self._token and _origin(url) == self._origin:
            headers.append(("Authorization", f"Bearer {self._token}"))
        if offset:
            headers += [("Range", f"bytes={offset}-"), ("If-Range", etag)]
        return headers


def _write(
    response: httpcore.Response, target: Path, name: str, limit: int, progress: Progress, *, resumed: bool
) -> None:
    received = target.stat().st_size if resumed and target.exists() else 0  # 206 may come unasked
    if resumed and not _header(response, b"content-range").startswith(f"bytes {received}-"):
        target.unlink(missing_ok=True)
        raise TransientFetchError("the server continued at another place than asked")
    if _header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise FetchError(f"{name}: the server compresses the file; turn Content-Encoding off for it")
    announced = _header(response, b"content-length")
    if announced.isdecimal() and received + int(announced) > limit:
        raise FetchError(f"{name} has {received + int(announced)} bytes, expected at most {limit}")
    with target.open("ab" if resumed else "wb") as stream:
        for chunk in response.iter_stream():
            received += len(chunk)
            if received > limit:
                raise FetchError(f"{name} sends more than {limit} bytes")
            stream.write(chunk)
            progress.advance(len(chunk))


@contextmanager
def _translated(host: str) -> Iterator[None]:
    """Failures of the transport in our words."""
    try:
        yield
    except httpcore.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise FetchError(
                f"the certificate of {host} is not trusted; add its CA with SSL_CERT_FILE in spec.runtime.env"
            ) from error
        raise TransientFetchError(f"cannot connect to {host}: {error}") from error
    except _BROKEN as error:
        raise TransientFetchError(f"the connection to {host} broke: {error or type(error).__name__}") from error
    except httpcore.UnsupportedProtocol as error:
        raise FetchError(f"{host}: {error}") from error


def _check_status(response: httpcore.Response, host: str, *, resuming: bool) -> None:
    status = response.status
    if status in {200, 206}:
        return
    if status == 416 and resuming:
        raise RangeRefusedError(f"{host} has nothing after what has arrived")
    if status in {404, 410}:
        raise MissingFileError(f"{host} has no such file (status {status}); check spec.model.uri")
    if status in {401, 403}:
        raise FetchError(f"{host} refuses access (status {status}); check spec.model.credentials")
    if status in _TRANSIENT or status >= 500:
        raise TransientFetchError(f"{host} answered with status {status}")
    raise FetchError(f"{host} answered with status {status}")


def _request_url(url: str) -> tuple[httpcore.URL, str]:
    """The URL in the ASCII form HTTP wants, and its host."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise FetchError(f"redirected to {url[:200]!r}, which is no http(s) address")
    try:
        host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
        port = parts.port
    except ValueError as error:
        raise FetchError(f"{parts.hostname[:100]!r} is no host name") from error
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=path + query), host


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port


def _header(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def _strong_etag(response: httpcore.Response) -> str:
    etag = _header(response, b"etag")
    return "" if etag.startswith("W/") else etag


def _tls() -> ssl.SSLContext:
    """Trust of the system and of SSL_CERT_FILE, and certifi's, since a slim image has no certificates of its own."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
