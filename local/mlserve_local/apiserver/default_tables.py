"""How defaults are written down: tables of path -> value, and the one function that applies them.

A path walks fields and lists (``containers[*].ports[*]``); the default is set in every object the path reaches that
lacks the last field. A ``?`` behind a field means that the object must be there already.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Obj = dict[str, Any]
Table = tuple[tuple[str, Any], ...]


def apply(obj: Any, table: Table) -> None:
    """Set every default of a table in place."""
    for path, value in table:
        *parents, last = path.split(".")
        for target in _reach(obj, parents):
            if target.get(last) is None:
                target[last] = copy.deepcopy(value)


def _reach(obj: Any, parents: list[str]) -> Iterator[Obj]:
    if not isinstance(obj, dict):
        return
    if not parents:
        yield obj
        return
    head, rest = parents[0], parents[1:]
    if head.endswith("[*]"):
        for item in obj.get(head[:-3]) or ():
            yield from _reach(item, rest)
    elif head.endswith("?"):
        if isinstance(obj.get(head[:-1]), dict):
            yield from _reach(obj[head[:-1]], rest)
    else:
        yield from _reach(obj.setdefault(head, {}), rest)


def null_times(status: Obj, *names: str) -> None:
    """Conditions write their times even when unset."""
    for condition in status.get("conditions") or ():
        for name in names:
            condition.setdefault(name, None)
