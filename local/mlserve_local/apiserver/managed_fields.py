"""Who owns which field: ``metadata.managedFields`` for every write, and server-side apply on top of it.

The rules are those of Kubernetes' structured-merge-diff. An update takes over what it changes; an apply states an
intent, conflicts with the owners of what it would change, and drops what it no longer names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from mlserve_local.apiserver import fieldsets, times
from mlserve_local.apiserver.errors import Obj, StatusError, go_value
from mlserve_local.apiserver.fieldsets import Trie
from mlserve_local.apiserver.schema import Schema

MAX_UPDATE_MANAGERS: Final = 10
BEFORE_FIRST_APPLY: Final = "before-first-apply"

# Fields that belong to the system and are never owned.
_SYSTEM: Final[Trie] = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        "f:name": {},
        "f:namespace": {},
        "f:creationTimestamp": {},
        "f:selfLink": {},
        "f:uid": {},
        "f:generation": {},
        "f:managedFields": {},
        "f:resourceVersion": {},
        "f:deletionTimestamp": {},
        "f:deletionGracePeriodSeconds": {},
    },
}


@dataclass(frozen=True, slots=True)
class Manager:
    """The identity of an owner. Appliers are one owner whatever version they apply."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        text = go_value(self.name)
        if self.operation == "Update":
            text += f" with subresource {go_value(self.subresource)}" if self.subresource else ""
            text += f" using {self.api_version}"
        return text


@dataclass(slots=True)
class Entry:
    """What one manager owns, since when, and in which version it said so."""

    fields: Trie
    time: str | None
    api_version: str


Managed = dict[Manager, Entry]


def decode(entries: Any) -> Managed:
    """Read ``managedFields``; entries that make no sense are ignored, as the real server does."""
    found: Managed = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("operation") not in ("Apply", "Update"):
            continue
        version = entry.get("apiVersion", "")
        identity = Manager(
            entry.get("manager", ""),
            entry["operation"],
            "" if entry["operation"] == "Apply" else version,
            entry.get("subresource", ""),
        )
        fields = entry.get("fieldsV1")
        found[identity] = Entry(fields if isinstance(fields, dict) else {}, entry.get("time"), version)
    return found


def encode(managed: Managed) -> list[Obj]:
    """``managedFields`` in its fixed order: appliers first, then by time and name."""
    order = sorted(
        managed.items(),
        key=lambda item: (
            item[0].operation,
            item[1].time or "",
            item[0].name,
            item[1].api_version,
            item[0].subresource,
        ),
    )
    entries: list[Obj] = []
    for manager, entry in order:
        shown: Obj = {"manager": manager.name, "operation": manager.operation, "apiVersion": entry.api_version}
        if entry.time:
            shown["time"] = entry.time
        shown |= {"fieldsType": "FieldsV1", "fieldsV1": entry.fields}
        if manager.subresource:
            shown["subresource"] = manager.subresource
        entries.append(shown)
    return entries


def _strip_system(fields: Trie) -> Trie:
    metadata = fields.get("f:metadata")
    made = {k: v for k, v in fields.items() if k not in ("f:apiVersion", "f:kind", "f:metadata")}
    if metadata is not None:
        inner = {k: v for k, v in metadata.items() if k not in _SYSTEM["f:metadata"] and k != fieldsets.SELF}
        if inner:
            made["f:metadata"] = inner
    return made


def _without(managed: Managed, doomed: Trie, but: Manager | None = None) -> Managed:
    """Take paths away from every manager except one; managers left with nothing disappear."""
    made: Managed = {}
    for manager, entry in managed.items():
        fields = entry.fields if manager == but else fieldsets.difference(entry.fields, doomed)
        if fields or manager == but:
            made[manager] = replace(entry, fields=fields)
    return made


@dataclass(frozen=True, slots=True)
class Writer:
    """How a request writes: the type it writes to, in which version and through which subresource."""

    schema: Schema
    api_version: str
    manager: str
    subresource: str = ""


def update(live: Obj | None, new: Obj, skeleton: Obj, writer: Writer) -> None:
    """Set ``metadata.managedFields`` of ``new``, the result of a POST, PUT or PATCH over ``live``.

    ``skeleton`` is what an empty object of the kind already contains (the structs that Go always writes).
    """
    provided = new["metadata"].get("managedFields")
    reset = provided == [{}]  # an empty list means nothing
    stored = (live or {}).get("metadata", {}).get("managedFields")
    managed: Managed = {}
    if not reset:
        managed = (decode(provided) if not writer.subresource else {}) or decode(stored)
    new["metadata"].pop("managedFields", None)
    if not managed and live is not None:
        return  # nobody applies here and tracking was switched off
    old = _content(live) if live is not None else skeleton
    change = fieldsets.compare(old, _content(new), writer.schema)
    managed = _take_over(managed, change, writer)
    entries = encode(_cap(managed))
    if entries:
        new["metadata"]["managedFields"] = entries


def _content(obj: Obj) -> Obj:
    """An object without the metadata that the comparison must not see."""
    metadata = {k: v for k, v in obj.get("metadata", {}).items() if k != "managedFields"}
    return {**obj, "metadata": metadata}


def _take_over(managed: Managed, change: fieldsets.Comparison, writer: Writer) -> Managed:
    """An update owns what it changed, and so does nobody else any more."""
    me = Manager(writer.manager, "Update", writer.api_version, writer.subresource)
    mine = _strip_system(change.changed)
    remaining = _without(managed, fieldsets.union(change.changed, change.removed))
    if mine:
        before = remaining.get(me)
        fields = fieldsets.union(before.fields, mine) if before else mine
        remaining[me] = Entry(fields, times.now(), writer.api_version)
    return remaining


def _cap(managed: Managed) -> Managed:
    """Many different updaters are merged into one old entry per version, the oldest first."""
    updaters = sorted(
        (m for m in managed if m.operation == "Update" and not m.subresource), key=lambda m: managed[m].time or ""
    )
    if len(updaters) <= MAX_UPDATE_MANAGERS:
        return managed
    made = dict(managed)
    for manager in updaters[: len(updaters) - MAX_UPDATE_MANAGERS + 1]:
        entry = made.pop(manager)
        bucket = Manager("ancient-changes", "Update", manager.api_version)
        old = made.get(bucket)
        fields = fieldsets.union(old.fields, entry.fields) if old else entry.fields
        made[bucket] = Entry(fields, entry.time, entry.api_version)
    return made


def take_path(managed: Managed, path: Trie, api_version: str, manager: str) -> Managed:
    """Ownership after an update through ``/scale``: one path changes hands."""
    made = _without(managed, path)
    made[Manager(manager, "Update", api_version, "scale")] = Entry(path, times.now(), api_version)
    return made


def apply_path(managed: Managed, path: Trie, api_version: str, manager: str, *, changed: bool, force: bool) -> Managed:
    """Ownership after an apply through ``/scale``; 409 if somebody else wants another value, unless ``force``."""
    me = Manager(manager, "Apply", "", "scale")
    others = [m for m, e in managed.items() if m != me and fieldsets.intersection(e.fields, path)]
    if changed and others and not force:
        raise _conflict_error([Conflict(m, ".spec.replicas") for m in others])
    made = _without(managed, path, but=me) if changed else dict(managed)
    made[me] = Entry(path, times.now(), api_version)
    return made


LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def last_applied(live: Obj, schema: Schema) -> Trie:
    """What a client-side apply set and nobody has changed since, by its annotation."""
    try:
        config = json.loads(live["metadata"].get("annotations", {})[LAST_APPLIED])
        config = {k: v for k, v in config.items() if k not in ("apiVersion", "kind")}
        changes = fieldsets.compare(config, _content(live), schema)
        mine = fieldsets.applied(config, schema)
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return fieldsets.difference(mine, fieldsets.union(changes.changed, changes.removed))


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that an apply would change and another manager owns."""

    manager: Manager
    path: str


def _conflict_error(conflicts: list[Conflict]) -> StatusError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {c.manager}", "field": c.path} for c in conflicts
    ]
    if len(conflicts) == 1:
        message = f"Apply failed with 1 conflict: conflict with {conflicts[0].manager}: {conflicts[0].path}"
    else:
        by_manager: dict[str, list[str]] = {}
        for conflict in conflicts:
            by_manager.setdefault(str(conflict.manager), []).append(conflict.path)
        parts = [f"conflicts with {m}:\n" + "\n".join(f"- {p}" for p in by_manager[m]) for m in sorted(by_manager)]
        message = f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(parts)
    return StatusError(409, "Conflict", message, {"causes": causes})


def apply(
    live: Obj | None, config: Obj, skeleton: Obj, writer: Writer, *, force: bool, yielding: Trie | None = None
) -> tuple[Obj, Managed]:
    """Lay an applied configuration over ``live``. Returns the merged object and its managers.

    Raises a 409 that names every conflicting field and its owner, unless ``force``. Fields in ``yielding`` never
    conflict.
    """
    base = _content(live) if live is not None else skeleton
    managed = decode(live["metadata"].get("managedFields")) if live is not None else {}
    if live is not None and not managed:
        first = replace(writer, manager=BEFORE_FIRST_APPLY, subresource="")
        everything = fieldsets.compare(skeleton, base, writer.schema)
        managed = _take_over({}, everything, first)
    me = Manager(writer.manager, "Apply", "", writer.subresource)
    last = managed.get(me)
    merged = fieldsets.merge(base, config, writer.schema)
    mine = _strip_system(fieldsets.applied(config, writer.schema))
    managed[me] = Entry(mine, last.time if last else None, writer.api_version)
    if last is not None and last.fields:
        owned: Trie = {}
        for entry in managed.values():
            owned = fieldsets.union(owned, entry.fields)
        merged = fieldsets.remove_unowned(merged, last.fields, owned, writer.schema)
    change = fieldsets.compare(base, merged, writer.schema)
    conflicts = [
        Conflict(manager, path)
        for manager, entry in managed.items()
        if manager != me
        for path in fieldsets.paths(
            fieldsets.difference(fieldsets.intersection(entry.fields, change.changed), yielding or {})
        )
    ]
    if conflicts and not force:
        raise _conflict_error(sorted(conflicts, key=lambda c: (c.path, str(c.manager))))
    managed = _without(managed, fieldsets.union(change.changed, change.removed), but=me)
    if change.added or change.modified or change.removed or live is None:
        managed[me].time = times.now()
    return merged, {m: e for m, e in managed.items() if e.fields}


def same_but_for_times(old: Obj, new: Obj) -> bool:
    """Whether two objects differ in nothing or only in the times of their managers."""
    if old == new:
        return True
    left, right = old["metadata"].get("managedFields"), new["metadata"].get("managedFields")
    timeless = [[{k: v for k, v in e.items() if k != "time"} for e in entries or ()] for entries in (left, right)]
    return timeless[0] == timeless[1] and _content(old) == _content(new)
