"""The second half of a reconcile: make the cluster say what was decided, writing only what differs.

Nothing that another owner made is touched: an object is looked up before it is made, and one without the right
owner is left alone and reported. The size of a Deployment is written by itself and never by server-side apply: an
autoscaler owns it too, and an apply that stops naming a field would reset it to its default.

A comparison sees what an object lacks, not what it has too much of: a bound that a user took back would stay for ever.
So every object carries the digest of what was applied last, and is applied again when something else is wanted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.api import v1alpha1
from mlserve_core.wire import FIELD_MANAGER
from mlserve_operator import kube, metrics
from mlserve_operator.comparison import says
from mlserve_operator.resources.metadata import is_owned_by
from mlserve_operator.status import timestamp

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from mlserve_operator.index import Index
    from mlserve_operator.rollout.state import Event

Object = dict[str, Any]

ANNOTATION_APPLIED: Final = "mlserve.io/applied"
"""Digest of what the operator wants an object to say."""

DELETED_KINDS: Final = (
    kube.DEPLOYMENT,
    kube.AUTOSCALER,
    kube.SERVICE,
    kube.DISRUPTION_BUDGET,
    kube.NETWORK_POLICY,
    kube.HTTP_ROUTE,
    kube.GRPC_ROUTE,
    kube.CONFIG_MAP,
    kube.CONTROLLER_REVISION,
)
"""Kinds of which an object that is no longer wanted is deleted. Secrets stay as long as their owner."""


class NotOwnedError(Exception):
    """An object of that name exists and belongs to somebody else."""

    def __init__(self, body: Object) -> None:
        metadata = body["metadata"]
        super().__init__(
            f"{body['kind']} {metadata['name']} exists in namespace {metadata['namespace']} and is not owned by this"
            " resource: it is left alone; delete or rename it, or rename the ModelDeployment"
        )


class NotLeadingError(Exception):
    """Leadership was lost in the middle of a reconcile: somebody else writes now."""

    def __init__(self) -> None:
        super().__init__("another replica leads: nothing is written")


@dataclass
class Executor:
    """Writes of the operator.

    Attributes:
        api: the API server.
        index: what is known of the cluster; answers to writes go into it.
        is_leader: whether this replica may write; asked before every single write.
    """

    api: kube.Kube
    index: Index
    is_leader: asyncio.Event
    _applied: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    _made: dict[tuple[str, str], str] = field(default_factory=dict)

    async def ensure(self, body: Object, owner_uids: Collection[str]) -> bool:
        """Make an object say what `body` says. Returns whether something was written.

        Raises:
            NotOwnedError: the name is taken by somebody else's object.
            kube.ApiError: the API server refused.
        """
        kind, metadata = kube.BY_KIND[body["kind"]], body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        live = self.index.get(kind.kind, namespace, name) or await self.api.get(kind, namespace, name)
        if live is None:
            await self._write("create", kind, _sealed(body))
            return True
        if not any(is_owned_by(live, uid) for uid in owner_uids):
            raise _not_ours(live, body)
        self.index.put({**live, "kind": kind.kind})
        wanted = _without_size(_sealed(body))
        key, digest = (kind.kind, namespace, name), _digest(wanted)
        if says(live, wanted) or self._applied.get(key) == (digest, _edition(live)):
            return False
        answer = await self._write("apply", kind, wanted)
        # An API server may store a value in another form; applying it again and again would not change that.
        self._applied.pop(key, None)
        if not says(answer, wanted):
            self._applied[key] = (digest, _edition(answer))
        return True

    async def ensure_secret(self, body: Object) -> None:
        """Make a Secret once for its owner. It is read by name only, and never changed; one made by hand is as good.

        Raises:
            kube.ApiError: `conflict` while that of a deleted namesake is there: it will be collected.
        """
        metadata = body["metadata"]
        key, uid = (metadata["namespace"], metadata["name"]), metadata["ownerReferences"][0]["uid"]
        if self._made.get(key) == uid:
            return
        live = await self.api.get(kube.SECRET, *key)
        if live is None:
            self._begin("create", kube.SECRET)
            await self.api.create(kube.SECRET, body)
        elif not is_owned_by(live, uid) and _is_namesakes(live, body):
            raise _being_collected(body)
        self._made[key] = uid

    async def scale(self, namespace: str, name: str, replicas: int) -> bool:
        """Set the size of a Deployment."""
        live = self.index.get("Deployment", namespace, name)
        if live is None or live["spec"].get("replicas", 1) == replicas:
            return False
        await self._merge(kube.DEPLOYMENT, namespace, name, {"spec": {"replicas": replicas}})
        return True

    async def checkpoint(self, body: Object) -> None:
        """Write a checkpoint by compare-and-swap.

        Raises:
            kube.ApiError: `conflict` if somebody else wrote it first; what they wrote is in the index by then.
        """
        has_version = "resourceVersion" in body["metadata"]
        try:
            await self._write("apply" if has_version else "create", kube.CONFIG_MAP, body)
        except kube.ApiError as error:
            metadata = body["metadata"]
            if error.conflict or error.not_found:
                live = await self.api.get(kube.CONFIG_MAP, metadata["namespace"], metadata["name"])
                if live is None:
                    self.index.drop_name("ConfigMap", metadata["namespace"], metadata["name"])
                else:
                    self._put(live, "ConfigMap")
                    if not is_owned_by(live, metadata["ownerReferences"][0]["uid"]):
                        raise _not_ours(live, body) from error
            raise

    async def prune(self, namespace: str, name: str, uid: str, wanted: Collection[tuple[str, str]]) -> None:
        """Delete a ModelDeployment's objects that are not among the wanted (kind, name)."""
        for kind in DELETED_KINDS:
            for body in self.index.of_model(kind.kind, namespace, name):
                if (kind.kind, body["metadata"]["name"]) not in wanted and is_owned_by(body, uid):
                    await self.delete(kind, body)

    async def delete(self, kind: kube.Kind, body: Object) -> None:
        """Delete an object that is not on its way out already."""
        metadata = body["metadata"]
        if "deletionTimestamp" in metadata:
            return
        self._begin("delete", kind)
        await self.api.delete(kind, metadata["namespace"], metadata["name"], metadata["uid"])
        self.index.drop(body)

    async def touch(self, pod: Object, annotation: str, value: str) -> None:
        """Set an annotation of a pod, so that its kubelet refreshes the pod's volumes now."""
        metadata = pod["metadata"]
        if (metadata.get("annotations") or {}).get(annotation) == value:
            return
        patch = {"metadata": {"annotations": {annotation: value}}}
        await self._merge(kube.POD, metadata["namespace"], metadata["name"], patch)

    async def patch_status(self, owner: Object, patch: Object) -> None:
        """Change the status of a ModelDeployment."""
        metadata = owner["metadata"]
        await self._merge(kube.MODEL_DEPLOYMENT, metadata["namespace"], metadata["name"], {"status": patch}, "status")

    async def emit(self, owner: Object, event: Event, now: float) -> None:
        """Post an Event about a ModelDeployment."""
        metadata, time = owner["metadata"], timestamp(now)
        self._begin("create", kube.EVENT)
        await self.api.create(
            kube.EVENT,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"namespace": metadata["namespace"], "name": f"{metadata['name']}.{secrets.token_hex(8)}"},
                "involvedObject": {
                    "apiVersion": v1alpha1.API_VERSION,
                    "kind": v1alpha1.KIND,
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                },
                "type": event.type,
                "reason": event.reason,
                "message": event.message[:1024],
                "source": {"component": FIELD_MANAGER},
                "reportingComponent": FIELD_MANAGER,
                "reportingInstance": FIELD_MANAGER,
                "firstTimestamp": time,
                "lastTimestamp": time,
                "count": 1,
            },
        )

    async def _write(self, verb: str, kind: kube.Kind, body: Object) -> Object:
        # What is scaled apart is created, not applied: its creator keeps co-owning `replicas` (module docstring).
        self._begin(verb, kind)
        creates = verb == "create" and (kind is kube.CONFIG_MAP or _is_scaled_apart(body))
        answer = await (self.api.create(kind, body) if creates else self.api.apply(kind, body))
        self._put(answer, kind.kind)
        return answer

    async def _merge(self, kind: kube.Kind, namespace: str, name: str, patch: Object, subresource: str = "") -> None:
        self._begin(subresource or "merge", kind)
        try:
            answer = await self.api.merge(kind, namespace, name, patch, subresource)
        except kube.ApiError as error:
            if error.not_found:  # its end was not told yet, or got lost between two watches
                self.index.drop_name(kind.kind, namespace, name)
            raise
        self._put(answer, kind.kind)

    def _begin(self, verb: str, kind: kube.Kind) -> None:
        """Every write passes here."""
        if not self.is_leader.is_set():
            raise NotLeadingError
        metrics.API_WRITES.labels(verb, kind.kind).inc()

    def _put(self, answer: Object, kind: str) -> None:
        self.index.put({**answer, "kind": kind})


def _not_ours(live: Object, wanted: Object) -> Exception:
    """Somebody else's object; or that of an owner of the same name that was deleted: soon collected, then made anew."""
    return _being_collected(wanted) if _is_namesakes(live, wanted) else NotOwnedError(wanted)


def _is_namesakes(live: Object, wanted: Object) -> bool:
    owners = {(item["kind"], item["name"]) for item in live["metadata"].get("ownerReferences") or ()}
    return bool(owners & {(item["kind"], item["name"]) for item in wanted["metadata"]["ownerReferences"]})


def _being_collected(wanted: Object) -> kube.ApiError:
    message = f"{wanted['kind']} {wanted['metadata']['name']} of a deleted namesake is being collected"
    return kube.ApiError(409, "Conflict", message)


def _sealed(body: Object) -> Object:
    """The body with its own digest on it."""
    metadata = body["metadata"]
    annotations = {**metadata.get("annotations", {}), ANNOTATION_APPLIED: _digest(_without_size(body))[:16]}
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def _without_size(body: Object) -> Object:
    if not _is_scaled_apart(body):
        return body
    return {**body, "spec": {key: value for key, value in body["spec"].items() if key != "replicas"}}


def _is_scaled_apart(body: Object) -> bool:
    return body["kind"] == "Deployment" and v1alpha1.API_VERSION in {
        reference["apiVersion"] for reference in body["metadata"]["ownerReferences"] if reference.get("controller")
    }


def _digest(body: Object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _edition(body: Object) -> str:
    """What changes with every edit of an object, but not with its status where it has one."""
    metadata = body["metadata"]
    return str(metadata.get("generation") or metadata.get("resourceVersion"))
