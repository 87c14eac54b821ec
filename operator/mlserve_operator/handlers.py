"""kopf as the source of events: every handler does no more than put a key on the queue.

kopf lists and watches, by label on the server's side, and never before all lists are in does it call an event
handler: the index handlers below fill the index first. Nothing is stored on anybody's objects: there are no change
handlers, timers or daemons, so kopf adds no finalizer and no annotation, and an uninstalled operator blocks nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import kopf

from mlserve_core.api import v1alpha1 as api
from mlserve_core.wire import COMPONENT_ROUTER, LABEL_COMPONENT, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_MODELDEPLOYMENT
from mlserve_operator import kube
from mlserve_operator.reconcile import ROUTER, Key
from mlserve_operator.resources.metadata import MANAGED
from mlserve_operator.resources.router import NAMESPACE_ROUTER, dedicated_router

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from mlserve_operator.index import Index
    from mlserve_operator.queue import WorkQueue

Object = dict[str, Any]

WATCHED: Final = (kube.POD, *kube.CHILD_KINDS)
CHILD_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED[LABEL_MANAGED_BY]}"


def build_registry(index: Index, queue: WorkQueue[Key], relisted: asyncio.Event) -> kopf.OperatorRegistry:
    """Handlers of the resource and of everything the operator makes.

    Args:
        index: is told of every object.
        queue: is given the keys to which it may matter.
        relisted: set when objects are listed: kopf tells of those that are there, and not of those that are gone.
    """
    registry = kopf.OperatorRegistry()

    def remember(body: kopf.Body, **_: Any) -> None:
        index.put(_plain(body))

    def notice(event: kopf.RawEvent, **_: Any) -> None:
        body = _plain(event["object"])
        if event["type"] == "DELETED":
            index.end(body)
        else:
            index.put(body)
        if event["type"] is None:
            relisted.set()
        for key in keys_of(body, index):
            queue.add(key)

    for kind in (kube.MODEL_DEPLOYMENT, *WATCHED):
        where = (
            (kind.group, kind.api_version.rpartition("/")[2], kind.plural) if kind.group else ("", "v1", kind.plural)
        )
        kopf.index(*where, id=f"remember-{kind.plural}", registry=registry)(remember)
        kopf.on.event(*where, id=f"notice-{kind.plural}", registry=registry)(notice)
    kopf.on.login(id="login", registry=registry)(_login)
    return registry


def build_settings(*, clusterwide: bool) -> kopf.OperatorSettings:
    """Silence kopf: no events, no peering, nothing stored; let its watches notice when they are dead.

    Args:
        clusterwide: whether namespaces and definitions may be watched as they come and go. An operator of certain
            namespaces has no right to, and looks its kinds up once.
    """
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = not clusterwide
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.peering.standalone = True
    settings.watching.server_timeout = 600
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 120
    settings.networking.request_timeout = 60
    settings.execution.max_workers = 4
    for kind in WATCHED:
        settings.watching.label_selectors[kind.group, kind.plural] = CHILD_SELECTOR
    return settings


def keys_of(body: Object, index: Index) -> Iterator[Key]:
    """Keys that a change of an object may matter to."""
    metadata = body["metadata"]
    namespace, labels = metadata.get("namespace", ""), metadata.get("labels") or {}
    if body["kind"] == api.KIND:
        yield Key(api.KIND, namespace, metadata["name"])
        yield from _routers(namespace, metadata["name"])
    elif LABEL_MODELDEPLOYMENT in labels:
        yield Key(api.KIND, namespace, labels[LABEL_MODELDEPLOYMENT])
    elif labels.get(LABEL_COMPONENT) == COMPONENT_ROUTER and LABEL_INSTANCE in labels:
        yield Key(ROUTER, namespace, labels[LABEL_INSTANCE])
        if body["kind"] == "Pod":  # a router that came or went changes what is confirmed
            for owner in index.of_kind(api.KIND, namespace):
                yield Key(api.KIND, namespace, owner["metadata"]["name"])


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    """As kube.py does: the kubeconfig if one is named, else the pod's service account."""
    return kopf.login_with_kubeconfig(**arguments) or kopf.login_with_service_account(**arguments)


def _routers(namespace: str, name: str) -> Iterator[Key]:
    """Both routers a ModelDeployment may have, or may have had before an edit."""
    yield Key(ROUTER, namespace, NAMESPACE_ROUTER)
    yield Key(ROUTER, namespace, dedicated_router(name))


def _plain(body: Any) -> Object:
    return {**body, "metadata": dict(body["metadata"])}
