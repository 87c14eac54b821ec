"""What the watches told, by key: a reconcile reads here and lists nothing.

Answers to the operator's own writes are put in as well, so the next reconcile sees them before the watch has
brought them. An event that is older than what is known is dropped; resource versions are compared as numbers
where both are numbers (which Kubernetes promises since 1.35 and has always held for etcd). The answer to a write may
also come after the news that the object has ended, so what has ended is remembered for a while, too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.wire import COMPONENT_ROUTER, LABEL_COMPONENT, LABEL_INSTANCE, LABEL_MODELDEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED: Final = 4096
"""Objects whose end is remembered; an answer is under way for seconds at most."""

Object = dict[str, Any]
Name = tuple[str, str]
"""Namespace and name."""


@dataclass
class Index:
    """Objects by kind, namespace and name, and children by the ModelDeployment or router they belong to."""

    _objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    _by_model: dict[Name, set[tuple[str, str, str]]] = field(default_factory=lambda: defaultdict(set))
    _by_router: dict[Name, set[tuple[str, str, str]]] = field(default_factory=lambda: defaultdict(set))
    _by_kind: dict[str, set[tuple[str, str, str]]] = field(default_factory=lambda: defaultdict(set))
    _ended: dict[str, Object] = field(default_factory=dict)
    """Objects that ended lately, by UID, in this order."""

    def put(self, body: Object) -> bool:
        """Remember an object. Returns False if something newer is known already."""
        key = _key(body)
        ended = self._ended.get(body["metadata"].get("uid", ""))
        if ended is not None and _older(body, ended):
            return False
        known = self._objects.get(key)
        if known is not None and _older(body, known):
            return False
        if known is not None:
            self._unlink(key, known)
        self._objects[key] = body
        self._by_kind[key[0]].add(key)
        for group, name in self._groups(body):
            group[name].add(key)
        return True

    def end(self, body: Object) -> None:
        """Forget an object that has ended, or lost the label it was watched by, whatever is still told of before."""
        self.drop(body)
        metadata = {name: body["metadata"].get(name) for name in ("uid", "resourceVersion")}
        self._ended[body["metadata"]["uid"]] = {"metadata": metadata}
        if len(self._ended) > ENDED:
            del self._ended[next(iter(self._ended))]

    def drop(self, body: Object) -> None:
        """Forget an object, unless another one took its name in the meantime."""
        key = _key(body)
        known = self._objects.get(key)
        if known is None or known["metadata"].get("uid") != body["metadata"].get("uid"):
            return
        self._unlink(key, known)
        del self._objects[key]

    def drop_name(self, kind: str, namespace: str, name: str) -> None:
        """Forget whatever has that name."""
        if (known := self.get(kind, namespace, name)) is not None:
            self.drop(known)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """An object, or None."""
        return self._objects.get((kind, namespace, name))

    def of_kind(self, kind: str, namespace: str = "") -> Iterator[Object]:
        """All objects of a kind, by name."""
        for key in sorted(self._by_kind[kind]):
            if namespace in ("", key[1]):
                yield self._objects[key]

    def of_model(self, kind: str, namespace: str, name: str) -> list[Object]:
        """Objects of a kind that carry the label of a ModelDeployment, by name."""
        return [self._objects[key] for key in sorted(self._by_model[namespace, name]) if key[0] == kind]

    def of_router(self, kind: str, namespace: str, router: str) -> list[Object]:
        """Objects of a kind that are part of a router, by name."""
        return [self._objects[key] for key in sorted(self._by_router[namespace, router]) if key[0] == kind]

    def _groups(self, body: Object) -> Iterator[tuple[dict[Name, set[tuple[str, str, str]]], Name]]:
        metadata = body["metadata"]
        labels = metadata.get("labels") or {}
        namespace = metadata.get("namespace", "")
        if LABEL_MODELDEPLOYMENT in labels:
            yield self._by_model, (namespace, labels[LABEL_MODELDEPLOYMENT])
        # A ModelDeployment may have the name of a router: the component tells them apart.
        if labels.get(LABEL_COMPONENT) == COMPONENT_ROUTER and LABEL_INSTANCE in labels:
            yield self._by_router, (namespace, labels[LABEL_INSTANCE])

    def _unlink(self, key: tuple[str, str, str], body: Object) -> None:
        self._by_kind[key[0]].discard(key)
        for group, name in self._groups(body):
            group[name].discard(key)
            if not group[name]:
                del group[name]


def _key(body: Object) -> tuple[str, str, str]:
    return body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]


def _older(body: Object, known: Object) -> bool:
    if body["metadata"].get("uid") != known["metadata"].get("uid"):
        return False
    new, old = (str(item["metadata"].get("resourceVersion", "")) for item in (body, known))
    return new.isdigit() and old.isdigit() and int(new) < int(old)
