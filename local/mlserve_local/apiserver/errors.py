"""Every refusal of the API server is a ``Status`` object, and clients read more than its code.

kubectl prints ``message``, client libraries switch on ``reason``, and controllers look at ``details.causes``.
This module holds the one exception type the server raises, one constructor per reason, and the field errors
that validation collects (the texts follow ``k8s.io/apimachinery/pkg/util/validation/field``).
"""

# The constructors are named after the reasons they carry.
# ruff: noqa: D102, D103

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

Obj = dict[str, Any]


class _Omitted:
    """Stands for a value that the message must not show (large objects in CEL errors)."""

    def __repr__(self) -> str:
        return "<omitted>"


OMITTED: Final = _Omitted()


def go_value(value: Any) -> str:
    """Render a value the way field errors show it: quoted strings, JSON for the rest."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule of one field. ``kind`` is the suffix of the cause's reason (``Required``, ``Invalid``, ...)."""

    kind: str
    field: str
    value: Any = OMITTED
    detail: str = ""

    def body(self) -> str:
        """Everything after ``field: `` in the message."""
        label = {
            "Required": "Required value",
            "NotSupported": "Unsupported value",
            "TypeInvalid": "Invalid value",
            "TooLong": "Too long",
            "TooMany": "Too many",
            "NotFound": "Not found",
            "Duplicate": "Duplicate value",
            "Forbidden": "Forbidden",
            "Internal": "Internal error",
        }.get(self.kind, "Invalid value")
        shown = self.kind not in ("Required", "Forbidden", "TooLong", "Internal") and self.value is not OMITTED
        parts = [label] + ([go_value(self.value)] if shown else []) + ([self.detail] if self.detail else [])
        return ": ".join(parts)

    def message(self) -> str:
        return f"{self.field}: {self.body()}"

    def cause(self) -> Obj:
        return {"reason": f"FieldValue{self.kind}", "message": self.body(), "field": self.field}


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("Required", field, OMITTED, detail)


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("Invalid", field, value, detail)


def not_supported(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    return FieldError("NotSupported", field, value, "supported values: " + ", ".join(go_value(s) for s in supported))


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("Forbidden", field, OMITTED, detail)


class StatusError(Exception):
    """A refusal: ``code`` is the HTTP status, ``reason`` and ``details`` are those of the Status object."""

    def __init__(
        self, code: int, reason: str, message: str, details: Obj | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details
        self.headers = headers or {}

    def status(self) -> Obj:
        body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


class PlainTextError(Exception):
    """The few answers of a real API server that are not JSON (unknown paths)."""

    def __init__(self, code: int = 404, text: str = "404 page not found\n") -> None:
        super().__init__(text.strip())
        self.code, self.text = code, text


def qualified(resource: str, group: str) -> str:
    """``deployments`` in ``apps`` is written ``deployments.apps``; the core group has no suffix."""
    return f"{resource}.{group}" if group else resource


def _details(name: str, group: str, kind: str) -> Obj:
    return {k: v for k, v in (("name", name), ("group", group), ("kind", kind)) if v}


def success(code: int | None = None, details: Obj | None = None) -> Obj:
    """The Status of a request that worked but has no object to show."""
    body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        body["details"] = details
    if code is not None:
        body["code"] = code
    return body


def not_found(resource: str, group: str, name: str) -> StatusError:
    return StatusError(
        404, "NotFound", f'{qualified(resource, group)} "{name}" not found', _details(name, group, resource)
    )


def unknown_resource() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: str, group: str, name: str, prefix: str = "") -> StatusError:
    message = f'{prefix}{qualified(resource, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(name, group, resource))


MODIFIED: Final = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: str, group: str, name: str, why: str = MODIFIED) -> StatusError:
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(name, group, resource))


def invalid(kind: str, group: str, name: str, errors: Iterable[FieldError]) -> StatusError:
    """422 with one cause per field error; equal messages are shown once."""
    found = list(errors)
    texts = list(dict.fromkeys(e.message() for e in found))
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details: Obj = _details(name, group, kind)
    details["causes"] = [e.cause() for e in found]
    return StatusError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {joined}', details)


def invalid_options(kind: str, errors: Iterable[FieldError]) -> StatusError:
    return invalid(kind, "meta.k8s.io", "", errors)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def internal(message: str) -> StatusError:
    """500 without a reason: what a real server answers where an error has no API form."""
    return StatusError(500, "", message)


def forbidden(resource: str, group: str, name: str, why: str) -> StatusError:
    subject = f'{qualified(resource, group)} "{name}"' if name else qualified(resource, group)
    subject = subject or '""'
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", _details(name, group, resource))


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def method_not_supported(resource: str, group: str, action: str) -> StatusError:
    message = f'{action} is not supported on resources of kind "{qualified(resource, group)}"'
    return StatusError(405, "MethodNotAllowed", message, _details("", group, resource))


def method_not_allowed() -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def unsupported_media_type(supported: Sequence[str]) -> StatusError:
    text = ", ".join(supported)
    return StatusError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {text}",
    )


def not_acceptable(supported: Sequence[str]) -> StatusError:
    text = ", ".join(supported)
    return StatusError(406, "NotAcceptable", f"only the following media types are accepted: {text}", None)


def unfit_transform(message: str) -> StatusError:
    """406: the transformation asked for is one of lists, or of single objects."""
    return StatusError(406, "NotAcceptable", message, None)
