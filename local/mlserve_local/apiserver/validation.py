"""Rules that hold for every object: names, labels, annotations, finalizers, owner references.

The texts are those of ``k8s.io/apimachinery``; users meet them in kubectl.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from mlserve_local.apiserver.errors import FieldError, Obj, forbidden_field, invalid_value, required

Check = Callable[[str], list[str]]

_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035: Final = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED: Final = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE: Final = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"

SUBDOMAIN_TEXT: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end "
    f"with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
LABEL_TEXT: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    "end with an "
    f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
LABEL_1035_TEXT: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and "
    f"end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '{_LABEL_1035}')"
)
_QUALIFIED_TEXT: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_VALUE_TEXT: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end "
    f"with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
MAX_ANNOTATIONS: Final = 256 * 1024


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def dns_subdomain(name: str) -> list[str]:
    """Most names: dotted labels, 253 bytes."""
    found = [] if len(name) <= 253 else ["must be no more than 253 bytes"]
    return found + ([] if _matches(_SUBDOMAIN, name) else [SUBDOMAIN_TEXT])


def dns_label(name: str) -> list[str]:
    """One label, 63 bytes."""
    found = [] if len(name) <= 63 else ["must be no more than 63 bytes"]
    return found + ([] if _matches(_LABEL, name) else [LABEL_TEXT])


def dns_1035_label(name: str) -> list[str]:
    """One label that starts with a letter."""
    found = [] if len(name) <= 63 else ["must be no more than 63 bytes"]
    return found + ([] if _matches(_LABEL_1035, name) else [LABEL_1035_TEXT])


def path_segment(name: str) -> list[str]:
    """Names of RBAC objects: anything that can be one part of a URL path."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{c}'" for c in "/%" if c in name]


_NAME_CHECKS: Final[dict[str, Check]] = {
    "/namespaces": dns_label,
    "rbac.authorization.k8s.io/roles": path_segment,
    "rbac.authorization.k8s.io/rolebindings": path_segment,
    "rbac.authorization.k8s.io/clusterroles": path_segment,
    "rbac.authorization.k8s.io/clusterrolebindings": path_segment,
    "/services": dns_label,
}


def qualified_name(value: str) -> list[str]:
    """A label or annotation key: ``[prefix/]name``."""
    prefix, slash, name = value.rpartition("/")
    found: list[str] = []
    if "/" in prefix:
        plain = _QUALIFIED_TEXT.removeprefix("name part")
        return [f"a qualified name{plain} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    if slash:
        found += (
            ["prefix part must be non-empty"] if not prefix else [f"prefix part {t}" for t in dns_subdomain(prefix)]
        )
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append("name part must be no more than 63 bytes")
    if not _matches(_QUALIFIED, name):
        found.append(_QUALIFIED_TEXT)
    return found


def label_value(value: str) -> list[str]:
    """The value of a label; it may be empty."""
    found = [] if len(value) <= 63 else ["must be no more than 63 bytes"]
    return found + ([] if _matches(_VALUE, value) else [_VALUE_TEXT])


def labels(values: Any, field: str) -> list[FieldError]:
    """Keys are qualified names, values are short."""
    found: list[FieldError] = []
    for key, value in sorted((values or {}).items()):
        found += [invalid_value(field, key, text) for text in qualified_name(key)]
        found += [invalid_value(field, value, text) for text in label_value(value)]
    return found


def _annotations(values: Obj, field: str) -> list[FieldError]:
    found = [invalid_value(field, key, text) for key in sorted(values) for text in qualified_name(key.lower())]
    if sum(len(k) + len(v) for k, v in values.items()) > MAX_ANNOTATIONS:
        found.append(FieldError("TooLong", field, detail=f"may not be more than {MAX_ANNOTATIONS} bytes"))
    return found


def _owners(metadata: Obj) -> list[FieldError]:
    found: list[FieldError] = []
    field = "metadata.ownerReferences"
    references = metadata.get("ownerReferences", [])
    for reference in references:
        found += [
            invalid_value(
                f"{field}.{key}",
                reference.get(key, ""),
                "must not be empty" if key != "apiVersion" else "version must not be empty",
            )
            for key in ("apiVersion", "kind", "name", "uid")
            if not reference.get(key)
        ]
    controllers = [f"{r.get('kind')}/{r.get('name')}" for r in references if r.get("controller")]
    if len(controllers) > 1:
        text = (
            f'Only one reference can have Controller set to true. Found "true" in references for '
            f"{controllers[0]} and {controllers[1]}"
        )
        found.append(invalid_value(field, references, text))
    return found


_STANDARD_FINALIZERS: Final = ("orphan", "foregroundDeletion", "kubernetes")


def _finalizers(values: Iterable[str]) -> list[FieldError]:
    found: list[FieldError] = []
    for index, name in enumerate(values):
        field = f"metadata.finalizers[{index}]"
        found += [invalid_value(field, name, text) for text in qualified_name(name)]
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            found.append(
                invalid_value(field, name, "name is neither a standard finalizer name nor is it fully qualified")
            )
    return found


def metadata_errors(metadata: Obj, key: str) -> list[FieldError]:
    """What is wrong with the metadata of an object of the resource ``key`` (``apps/deployments``)."""
    check = _NAME_CHECKS.get(key, dns_subdomain)
    found: list[FieldError] = []
    prefix = metadata.get("generateName", "")
    if prefix:
        masked = prefix[:-1] + "a" if prefix.endswith("-") else prefix
        found += [invalid_value("metadata.generateName", prefix, text) for text in check(masked)]
    name = metadata.get("name", "")
    if not name:
        found.append(required("metadata.name", "name or generateName is required"))
    else:
        found += [invalid_value("metadata.name", name, text) for text in check(name)]
    found += labels(metadata.get("labels"), "metadata.labels")
    found += _annotations(metadata.get("annotations", {}), "metadata.annotations")
    found += _owners(metadata)
    return found + _finalizers(metadata.get("finalizers", []))


def metadata_update_errors(new: Obj, old: Obj) -> list[FieldError]:
    """What an update may not do to metadata: add finalizers to an object that is being deleted."""
    if not old.get("deletionTimestamp"):
        return []
    added = [f for f in new.get("finalizers", []) if f not in old.get("finalizers", [])]
    if not added:
        return []
    names = ", ".join(f'"{f}"' for f in sorted(added))
    why = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{names}}}"
    return [forbidden_field("metadata.finalizers", why)] * 2
