"""Fields the server owns: what a create resets and what an update may not touch."""

# The functions are named after the kinds they prepare.
# ruff: noqa: D103

from __future__ import annotations

from mlserve_local.apiserver import defaults, times
from mlserve_local.apiserver.errors import Obj


def workload(obj: Obj) -> None:
    """A new workload starts with the empty status of its kind."""
    obj.pop("status", None)
    kinds = {
        "replicas": {"replicas": 0},
        "minAvailable": {},
        "maxReplicas": {"desiredReplicas": 0, "currentMetrics": None},
    }
    spec = obj.get("spec", {})
    if "scaleTargetRef" in spec:
        obj["status"] = kinds["maxReplicas"]
    elif "strategy" in spec or "jobTemplate" in spec:
        obj["status"] = {}
    elif "podManagementPolicy" in spec:
        obj["status"] = {"replicas": 0, "availableReplicas": 0}
    elif "updateStrategy" in spec:
        defaults.daemon_set(obj)
    elif "template" in spec:
        obj["status"] = {"replicas": 0}
    else:
        defaults.disruption_budget(obj)


def daemon_set_update(new: Obj, old: Obj) -> None:
    """The old template counter is still written for clients of former versions."""
    count = int(old["metadata"].get("annotations", {}).get(defaults.TEMPLATE_GENERATION, "1"))
    changed = new["spec"].get("template") != old["spec"].get("template")
    new["metadata"].setdefault("annotations", {})[defaults.TEMPLATE_GENERATION] = str(count + changed)


def job(obj: Obj) -> None:
    """A job finds its pods by its own uid unless the user chose the selector."""
    obj["status"] = {}
    spec, metadata = obj["spec"], obj["metadata"]
    if not spec.get("manualSelector"):
        own = {"batch.kubernetes.io/controller-uid": metadata["uid"]}
        spec["selector"] = {"matchLabels": own}
        names = {
            "batch.kubernetes.io/job-name": metadata["name"],
            "controller-uid": metadata["uid"],
            "job-name": metadata["name"],
        }
        labels = spec["template"]["metadata"].setdefault("labels", {})
        labels |= {**own, **names}


def service(obj: Obj) -> None:
    obj["status"] = {"loadBalancer": {}}


def volume(obj: Obj) -> None:
    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": times.now()}


def volume_claim(obj: Obj) -> None:
    obj["status"] = {"phase": "Pending"}


def namespace(obj: Obj) -> None:
    obj["status"] = {"phase": "Active"}
    obj["spec"]["finalizers"] = ["kubernetes"]
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def namespace_update(new: Obj, old: Obj) -> None:
    """Only ``/finalize`` changes the finalizers of a namespace."""
    if "finalizers" in old.get("spec", {}):
        new.setdefault("spec", {})["finalizers"] = old["spec"]["finalizers"]


def pod_update(new: Obj, old: Obj) -> None:
    """The class of service is decided once; containers keep what defaulting gave them."""
    status = new.setdefault("status", {})
    if old.get("status", {}).get("qosClass"):
        status.setdefault("qosClass", old["status"]["qosClass"])


def custom_resource_definition(obj: Obj) -> None:
    storage = [v["name"] for v in obj["spec"].get("versions") or () if v.get("storage")]
    obj["status"] = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": storage}
