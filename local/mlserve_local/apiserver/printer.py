"""What a printer is: columns, and the cells of one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.selectors import format_label_selector

NONE: Final = "<none>"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; priority 1 is only shown by ``-o wide``."""

    name: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Printer:
    """How a kind is shown: its columns and the function that fills them."""

    columns: tuple[Column, ...]
    cells: Callable[[Obj], list[Any]]


def columns(*names: str) -> tuple[Column, ...]:
    """``Ready`` is text, ``Data:integer`` has a type, ``IP*`` is wide only."""
    made = []
    for name in names:
        label, _, kind = name.partition(":")
        wide = label.endswith("*")
        made.append(Column(label.rstrip("*"), kind or "string", 1 if wide else 0))
    return tuple(made)


def name_and_age(obj: Obj) -> tuple[str, str]:
    """What every row starts and nearly every row ends with."""
    metadata = obj["metadata"]
    return metadata["name"], times.age(metadata.get("creationTimestamp"))


def containers(obj: Obj) -> tuple[str, str]:
    """Names and images of a template's containers."""
    spec = obj["spec"].get("template", {}).get("spec", {})
    found = spec.get("containers") or []
    return ",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)


def label_text(selector: Obj | None) -> str:
    """A selector as text, ``<none>`` if it is empty."""
    return format_label_selector(selector) or NONE
