"""What is done to objects on their way in that needs a look at other objects: the built-in admission plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlserve_local.apiserver import quantity
from mlserve_local.apiserver.errors import Obj, forbidden
from mlserve_local.apiserver.names import random_suffix
from mlserve_local.apiserver.pod_defaults import containers

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster
    from mlserve_local.apiserver.request import User

MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SECONDS: Final = 3607
_SYSTEM_PRIORITIES: Final = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}


def pod(cluster: Cluster, obj: Obj, old: Obj | None, user: User) -> None:
    """ServiceAccount, token volume, priority and default tolerations of a new pod."""
    if old is not None:
        return
    _service_account(cluster, obj)
    _tolerations(obj["spec"])
    _priority(cluster, obj)


def _service_account(cluster: Cluster, obj: Obj) -> None:
    spec, namespace = obj["spec"], obj["metadata"]["namespace"]
    name = spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = name
    accounts = cluster.registry.collection(cluster.registry.builtin("serviceaccounts"))
    account = accounts.get(namespace, name)
    if account is None:
        why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise forbidden("pods", "", obj["metadata"].get("name", ""), why)
    if not spec.get("imagePullSecrets") and account.data.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account.data["imagePullSecrets"]
    wanted = spec.get("automountServiceAccountToken", account.data.get("automountServiceAccountToken", True))
    if wanted:
        _mount_token(spec)


def _mount_token(spec: Obj) -> None:
    """Mount a projected token into every container that has nothing at the well-known place."""
    lacking = [
        c for c in containers(spec) if all(m.get("mountPath") != MOUNT_PATH for m in c.get("volumeMounts") or ())
    ]
    if not lacking:
        return
    volume = f"kube-api-access-{random_suffix()}"
    for container in lacking:
        mount = {"name": volume, "readOnly": True, "mountPath": MOUNT_PATH}
        container.setdefault("volumeMounts", []).append(mount)
    reference = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": reference}]}},
    ]
    projected = {"sources": sources, "defaultMode": 420}
    spec.setdefault("volumes", []).append({"name": volume, "projected": projected})


def _tolerations(spec: Obj) -> None:
    tolerations = list(spec.get("tolerations") or ())
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        covered = any(
            t.get("key", "") in ("", key)
            and t.get("effect", "") in ("", "NoExecute")
            and (t.get("key") or t.get("operator") == "Exists")
            for t in spec.get("tolerations") or ()
        )
        if not covered:
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    if tolerations:
        spec["tolerations"] = tolerations


def _priority(cluster: Cluster, obj: Obj) -> None:
    spec, name = obj["spec"], obj["spec"].get("priorityClassName")
    value, policy = 0, "PreemptLowerPriority"
    classes = cluster.registry.collection(cluster.registry.builtin("priorityclasses", "scheduling.k8s.io"))
    if name:
        found = classes.get("", name)
        if found is None and name not in _SYSTEM_PRIORITIES:
            raise forbidden("pods", "", obj["metadata"].get("name", ""), f"no PriorityClass with name {name} was found")
        value = found.data.get("value", 0) if found else _SYSTEM_PRIORITIES[name]
        policy = found.data.get("preemptionPolicy", policy) if found else policy
    else:
        for stored in classes:
            if stored.data.get("globalDefault"):
                spec["priorityClassName"], value = stored.name, stored.data.get("value", 0)
                policy = stored.data.get("preemptionPolicy", policy)
    spec["priority"] = value
    spec.setdefault("preemptionPolicy", policy)


def qos_class(spec: Obj) -> str:
    """Guaranteed if every container's limits equal its requests, BestEffort if none has any."""
    guaranteed, any_set = True, False
    for container in containers(spec):
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        relevant = [k for k in ("cpu", "memory") if k in requests or k in limits]
        any_set |= bool(relevant)
        for key in ("cpu", "memory"):
            if key not in limits or quantity.parse(requests.get(key, "0")) != quantity.parse(limits[key]):
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def prepare_pod(obj: Obj) -> None:
    """A new pod is Pending and knows its class of service."""
    obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}


def node(cluster: Cluster, obj: Obj, old: Obj | None, user: User) -> None:
    """A new node is not ready until its kubelet says so."""
    if old is not None:
        return
    obj["metadata"].setdefault("annotations", {}).setdefault("node.alpha.kubernetes.io/ttl", "0")
    taints = obj["spec"].setdefault("taints", [])
    if all(t.get("key") != "node.kubernetes.io/not-ready" for t in taints):
        taints.append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})


def role_escalation(cluster: Cluster, obj: Obj, old: Obj | None, user: User) -> None:
    """Nobody may grant what they do not hold."""
    if user.is_admin or (old is not None and old.get("rules") == obj.get("rules")):
        return
    namespace = obj["metadata"].get("namespace", "")
    plural = "roles" if namespace else "clusterroles"
    if cluster.authorizer.may(user, "escalate", "rbac.authorization.k8s.io", plural, namespace):
        return
    missing = [r for r in obj.get("rules") or () if not cluster.authorizer.covers(user, r, namespace)]
    if missing:
        raise forbidden(
            plural,
            "rbac.authorization.k8s.io",
            obj["metadata"].get("name", ""),
            cluster.authorizer.escalation_text(user, missing),
        )


def binding_escalation(cluster: Cluster, obj: Obj, old: Obj | None, user: User) -> None:
    """Binding a role needs the verb ``bind`` or everything the role grants."""
    if user.is_admin:
        return
    namespace = obj["metadata"].get("namespace", "")
    reference = obj.get("roleRef", {})
    plural = "rolebindings" if namespace else "clusterrolebindings"
    target = "roles" if reference.get("kind") == "Role" else "clusterroles"
    if cluster.authorizer.may(user, "bind", "rbac.authorization.k8s.io", target, namespace, reference.get("name", "")):
        return
    rules = cluster.authorizer.rules_of(reference, namespace)
    missing = [r for r in rules if not cluster.authorizer.covers(user, r, namespace)]
    if missing:
        raise forbidden(
            plural,
            "rbac.authorization.k8s.io",
            obj["metadata"].get("name", ""),
            cluster.authorizer.escalation_text(user, missing),
        )
