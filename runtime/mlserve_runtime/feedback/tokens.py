"""Prediction ids that carry what feedback needs, so that no replica has to remember a prediction.

An id is a signed token: revision, lane, time and the compact prediction. Whoever holds it can report a label days
later to any replica, and nobody without the key can make one up or change it. The key is a Secret the operator
makes and rotates: tokens are signed with `current` and accepted under `current` and `previous`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlserve_runtime.calls import LaneName

logger = logging.getLogger(__name__)

_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">BBIi6s")
"""Format, lane, seconds since 1970, class index (or -1 for a regression), nonce."""
_MAC_BYTES: Final = 16
_LANES: Final[tuple[LaneName | None, ...]] = (None, "live", "mirror")
_MIN_KEY_BYTES: Final = 16
_MAX_TOKEN: Final = 512


class TokenError(ValueError):
    """An id that was not issued with a key known here."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an id stands for."""

    revision: str
    lane: LaneName | None
    issued: int
    """Seconds since 1970."""
    class_index: int
    """The predicted class; -1 for a regression."""
    nonce: bytes
    """Tells apart equal predictions of one second."""


class Signer:
    """Issues and verifies ids under the keys of a directory, which is read again when it changes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: tuple[int, ...] = ()
        self._keys: list[bytes] = []
        self.poll()

    @property
    def active(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self._keys)

    def poll(self) -> None:
        """Read the keys again if a file was replaced."""
        paths = [self._directory / name for name in ("current", "previous")]
        seen = tuple(stamp for path in paths for stamp in _identity(path))
        if seen == self._seen:
            return
        self._seen = seen
        self._keys = [key for path in paths if (key := _read_key(path))]

    def issue(self, prediction: Prediction) -> str:
        """The id of a prediction, URL-safe text. Raises TokenError without a key."""
        if not self._keys:
            raise TokenError("there is no key to sign with")
        body = _HEAD.pack(
            _FORMAT, _LANES.index(prediction.lane), prediction.issued, prediction.class_index, prediction.nonce
        )
        body += prediction.revision.encode()
        return base64.urlsafe_b64encode(body + _mac(self._keys[0], body)).rstrip(b"=").decode()

    def verify(self, token: str, *, now: float, lifetime: float) -> Prediction:
        """What an id stands for. Raises TokenError with the reason."""
        if not 0 < len(token) <= _MAX_TOKEN:
            raise TokenError("the id is empty or too long")
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise TokenError("the id is no prediction id of this server") from error
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if len(body) < _HEAD.size or not any(hmac.compare_digest(mac, _mac(key, body)) for key in self._keys):
            raise TokenError(
                "the id was not signed with a key this server knows; it may be older than the last rotation"
            )
        form, lane, issued, class_index, nonce = _HEAD.unpack_from(body)
        if form != _FORMAT or lane >= len(_LANES):
            raise TokenError("the id was made by another version of the server")
        if not -60 <= now - issued <= lifetime:
            raise TokenError(f"the id is older than {lifetime / 86400:.0f} days")
        return Prediction(body[_HEAD.size :].decode("utf-8", "replace"), _LANES[lane], issued, class_index, nonce)


def new_nonce() -> bytes:
    """Six random bytes."""
    return os.urandom(6)


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC_BYTES]


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_ino, stat.st_mtime_ns)


def _read_key(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
    except FileNotFoundError:
        return b""
    except OSError as error:
        logger.warning("feedback key %s cannot be read: %s", path.name, error)
        return b""
    if len(key) < _MIN_KEY_BYTES:
        logger.warning("feedback key %s has %d bytes, at least %d are needed", path.name, len(key), _MIN_KEY_BYTES)
        return b""
    return key
