"""ServiceAccount tokens: signed here, bound to a living account, checked on every request that carries one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any, Final

from mlserve_local.apiserver.registry import Registry
from mlserve_local.apiserver.request import User

ISSUER: Final = "https://kubernetes.default.svc"
AUDIENCE: Final = "https://kubernetes.default.svc"
_HEADER: Final = {"alg": "HS256", "typ": "JWT"}


class InvalidTokenError(ValueError):
    """The token was not issued here, has expired, or its account is gone."""


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def looks_like_token(text: str) -> bool:
    """Whether a bearer credential claims to be a ServiceAccount token at all."""
    return text.count(".") == 2


class TokenIssuer:
    """HMAC tokens whose key survives restarts next to the data."""

    def __init__(self, registry: Registry, directory: Path | None) -> None:
        self._registry = registry
        self._key = _key(directory)

    def issue(self, namespace: str, name: str, uid: str, audiences: list[str], seconds: int, bound: Any = None) -> str:
        """A signed token for a ServiceAccount."""
        now = int(time.time())
        claims = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}, **(bound or {})},
        }
        signed = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in (_HEADER, claims))
        return f"{signed}.{_encode(self._sign(signed))}"

    def _sign(self, text: str) -> bytes:
        return hmac.new(self._key, text.encode(), hashlib.sha256).digest()

    def verify(self, token: str, audiences: list[str] | None = None) -> tuple[User, list[str]]:
        """The user a token stands for and the audiences it is good for; InvalidTokenError otherwise."""
        signed, _, signature = token.rpartition(".")
        try:
            good = hmac.compare_digest(self._sign(signed), _decode(signature))
            claims = json.loads(_decode(signed.partition(".")[2]))
        except (ValueError, TypeError):
            raise InvalidTokenError("invalid bearer token") from None
        if not good:
            raise InvalidTokenError("invalid bearer token")
        if claims["exp"] < time.time():
            raise InvalidTokenError("token has expired")
        accepted = [a for a in claims["aud"] if a in (audiences or [AUDIENCE])]
        if not accepted:
            raise InvalidTokenError(f"token audiences {claims['aud']} are not among {audiences or [AUDIENCE]}")
        return self._user(claims), accepted

    def _user(self, claims: Any) -> User:
        space, account = claims["kubernetes.io"]["namespace"], claims["kubernetes.io"]["serviceaccount"]
        stored = self._registry.collection(self._registry.builtin("serviceaccounts")).get(space, account["name"])
        if stored is None or stored.uid != account["uid"]:
            raise InvalidTokenError("service account has been deleted")
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{space}", "system:authenticated")
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims['jti']}",)}
        return User(claims["sub"], groups, account["uid"], extra)


def _key(directory: Path | None) -> bytes:
    if directory is None:
        return os.urandom(32)
    path = directory / "token.key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(os.urandom(32))
    return path.read_bytes()
