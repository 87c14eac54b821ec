"""Label and field selectors: how a client asks for some of the objects of a kind.

Both are parsed once per request into requirements that are evaluated per object; a watch evaluates them for every
event, so ``matches`` stays a plain loop over tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlserve_local.apiserver import label_syntax
from mlserve_local.apiserver.errors import bad_request


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: ``operator`` is ``in``, ``notin``, ``exists``, ``!``, ``>`` or ``<``."""

    key: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, Any]) -> bool:
        """Whether the selection includes it."""
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        try:
            left, right = int(str(value)), int(next(iter(self.values)))
        except ValueError:
            return False
        return left > right if self.operator == ">" else left < right


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A conjunction of requirements; the empty selector matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, Any] | None) -> bool:
        """Whether the selection includes it."""
        present = labels or {}
        return all(r.matches(present) for r in self.requirements)


def parse_label_selector(text: str) -> LabelSelector:
    """Parse ``a=b,c in (x,y),!d``; a malformed term is a 400."""
    return LabelSelector(tuple(Requirement(*term) for term in label_syntax.parse(text)))


def from_label_selector(selector: Mapping[str, Any] | None) -> LabelSelector:
    """The ``metav1.LabelSelector`` of a spec as requirements; an absent selector matches nothing upstream."""
    selector = selector or {}
    found = [Requirement(k, "in", frozenset([v])) for k, v in (selector.get("matchLabels") or {}).items()]
    names = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
    for expression in selector.get("matchExpressions") or []:
        operator = names.get(expression.get("operator", ""), "in")
        found.append(Requirement(expression.get("key", ""), operator, frozenset(expression.get("values") or [])))
    return LabelSelector(tuple(found))


def format_label_selector(selector: Mapping[str, Any] | None) -> str:
    """The text form that ``status.selector`` of a Scale carries; keys ascending as Kubernetes writes them."""
    selector = selector or {}
    terms = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for expression in sorted(selector.get("matchExpressions") or [], key=lambda e: str(e.get("key"))):
        key, values = expression.get("key", ""), ",".join(sorted(expression.get("values") or []))
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        terms.append(forms.get(expression.get("operator", ""), f"!{key}"))
    return ",".join(terms)


FieldGetter = Callable[[dict[str, Any]], str]


def field_text(value: Any) -> str:
    """Selectable fields compare as text; an absent one is the empty string."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def path_getter(path: str, absent: str = "") -> FieldGetter:
    """Read ``spec.nodeName`` of an object as text."""
    keys = path.split(".")

    def get(obj: dict[str, Any]) -> str:
        value: Any = obj
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return field_text(value) or absent

    return get


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Terms of (getter, must be equal, value)."""

    terms: tuple[tuple[FieldGetter, bool, str], ...] = ()
    exact_name: str | None = None
    exact_namespace: str | None = None

    def matches(self, obj: dict[str, Any]) -> bool:
        """Whether the selection includes it."""
        return all((get(obj) == value) is equal for get, equal, value in self.terms)


def parse_field_terms(text: str) -> list[tuple[str, bool, str]]:
    """``a=b,c!=d`` as (field, must be equal, value)."""
    found: list[tuple[str, bool, str]] = []
    for term in filter(None, (t.strip() for t in text.split(","))):
        for operator, equal in (("!=", False), ("==", True), ("=", True)):
            field, separator, value = term.partition(operator)
            if separator:
                found.append((field, equal, value))
                break
        else:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
    return found


def build_field_selector(
    text: str, getters: Mapping[str, FieldGetter], unsupported: Callable[[str], str]
) -> FieldSelector:
    """Bind the terms to a kind's selectable fields; ``unsupported`` words the 400 for any other field."""
    terms, name, namespace = [], None, None
    for field, equal, value in parse_field_terms(text):
        getter = getters.get(field)
        if getter is None:
            raise bad_request(unsupported(field))
        terms.append((getter, equal, value))
        if equal and field == "metadata.name":
            name = value
        if equal and field == "metadata.namespace":
            namespace = value
    return FieldSelector(tuple(terms), name, namespace)
