"""What a request asks for: its path taken apart, its query, and which representation the client accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from mlserve_local.apiserver.errors import Obj, not_acceptable

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks. ``groups`` decide most of what is allowed."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        """Members of system:masters may do everything."""
        return "system:masters" in self.groups


ADMIN: Final = User("admin", ("system:masters", "system:authenticated"))


@dataclass(slots=True)
class Target:
    """A resource path: ``/apis/apps/v1/namespaces/ns/deployments/web/scale``."""

    group: str
    version: str
    namespace: str = ""
    plural: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


@dataclass(slots=True)
class Request:
    """One HTTP request; ``warnings`` collects what the answer's Warning headers will say."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""
    user: User = ADMIN
    secure: bool = False
    warnings: list[str] = field(default_factory=list)

    def param(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """Go's ParseBool: ``1``, ``t``, ``true``; anything else is false."""
        return self.param(name).lower() in ("1", "t", "true")

    @property
    def content_type(self) -> str:
        """The media type without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored."""
        return "All" in self.query.get("dryRun", ())

    @property
    def field_manager(self) -> str:
        """The named manager, else the program of the User-Agent, as ``kubectl/v1.37`` gives ``kubectl``."""
        agent = self.headers.get("user-agent", "")
        return self.param("fieldManager") or agent.partition("/")[0][:128] or "unknown"


@dataclass(slots=True)
class Reply:
    """A complete answer."""

    code: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Streaming:
    """An answer whose end is not known yet: a watch or a log."""

    chunks: AsyncIterator[bytes]
    content_type: str = JSON
    code: int = 200


def parse_query(raw: bytes) -> dict[str, list[str]]:
    """The query with repeated parameters kept."""
    return parse_qs(raw.decode("latin-1"), keep_blank_values=True) if raw else {}


def parse_target(path: str) -> Target | None:
    """Take a resource path apart; None if the path is not one."""
    parts = [unquote(p) for p in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) >= 2:
        target, rest = Target("", parts[1]), parts[2:]
    elif parts[0] == "apis" and len(parts) >= 3:
        target, rest = Target(parts[1], parts[2]), parts[3:]
    else:
        return None
    if rest and rest[0] == "watch":  # the old spelling of ?watch=1 is not served
        target.plural = "watch"
        return target
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        target.namespace, rest = rest[1], rest[2:]
    elif len(rest) >= 2 and rest[0] == "namespaces":
        target.namespace = rest[1]
    for name, value in zip(("plural", "name", "subresource"), rest, strict=False):
        setattr(target, name, value)
    target.rest = "/".join(rest[3:])
    return target


@dataclass(frozen=True, slots=True)
class Representation:
    """What to answer with. ``as_`` is empty, ``Table``, ``PartialObjectMetadata`` or ``PartialObjectMetadataList``."""

    media_type: str = JSON
    as_: str = ""
    version: str = "v1"

    @property
    def content_type(self) -> str:
        """The media type without parameters."""
        return self.media_type


def parse_accept(header: str) -> list[tuple[str, dict[str, str]]]:
    """Media ranges by descending quality, each with its parameters."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for clause in filter(None, (c.strip() for c in header.split(","))):
        media, *parameters = (p.strip() for p in clause.split(";"))
        pairs = dict(p.partition("=")[::2] for p in parameters)
        try:
            quality = float(pairs.pop("q", "1"))
        except ValueError:
            quality = 1.0
        found.append((quality, media.lower(), pairs))
    return [(media, pairs) for _, media, pairs in sorted(found, key=lambda f: -f[0])]


_TRANSFORMS: Final = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
ACCEPTED: Final = (JSON, YAML)


def negotiate(header: str, *, transforms: bool = True) -> Representation:
    """The first representation of the Accept header that this server can give; 406 if there is none."""
    if not header:
        return Representation()
    for media, parameters in parse_accept(header):
        as_ = parameters.get("as", "")
        if as_:
            known = transforms and as_ in _TRANSFORMS and parameters.get("g") == "meta.k8s.io"
            if media == JSON and known and parameters.get("v") in ("v1", "v1beta1"):
                return Representation(JSON, as_, parameters["v"])
            continue
        if media in (JSON, "application/*", "*/*"):
            return Representation()
        if media == YAML:
            return Representation(YAML)
    raise not_acceptable([JSON, YAML])


def wants_aggregated_discovery(header: str) -> str | None:
    """The version of aggregated discovery a client prefers, or None for the legacy form."""
    for media, parameters in parse_accept(header):
        if media == JSON and parameters.get("g") == "apidiscovery.k8s.io" and parameters.get("v") == "v2":
            return "v2"
        if media in (JSON, "*/*") and not parameters:
            return None
    return None


def system_metadata(obj: Obj) -> dict[str, Any]:
    """Metadata of an object, made if absent."""
    metadata: dict[str, Any] = obj.setdefault("metadata", {})
    return metadata
