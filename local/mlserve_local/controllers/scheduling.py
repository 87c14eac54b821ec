"""Does a pod fit on a node, and why not? Pure, in the words of the scheduler's own events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from mlserve_local.apiserver import quantity
from mlserve_local.objects import Obj, is_true, labels_of, name_of

Amounts = dict[str, Decimal]
_TERMINAL: Final = ("Succeeded", "Failed")


def pod_requests(pod: Obj) -> Amounts:
    """What the pod reserves: containers together with sidecars, or the largest init container if that is more."""
    spec = pod["spec"]
    running: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        amounts = _requests(container)
        if container.get("restartPolicy") == "Always":
            running = _sum(running, amounts)
            peak = _max(peak, running)
        else:
            peak = _max(peak, _sum(running, amounts))
    for container in spec["containers"]:
        running = _sum(running, _requests(container))
    return _sum(_max(running, peak), {k: quantity.parse(v) for k, v in (spec.get("overhead") or {}).items()})


def _requests(container: Obj) -> Amounts:
    resources = container.get("resources") or {}
    # A limit without a request is a request too: the API server defaults it so, extended resources always.
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity.parse(amount) for name, amount in merged.items()}


def _sum(left: Amounts, right: Amounts) -> Amounts:
    return {name: left.get(name, Decimal(0)) + right.get(name, Decimal(0)) for name in left | right}


def _max(left: Amounts, right: Amounts) -> Amounts:
    return {name: max(left.get(name, Decimal(0)), right.get(name, Decimal(0))) for name in left | right}


def used_by(pods: Iterable[Obj]) -> Amounts:
    """What the pods of a node reserve together; finished pods reserve nothing."""
    total: Amounts = {}
    for pod in pods:
        if (pod.get("status") or {}).get("phase") not in _TERMINAL:
            total = _sum(total, pod_requests(pod) | {"pods": Decimal(1)})
    return total


def unfit_reasons(pod: Obj, node: Obj, used: Amounts) -> list[str]:
    """Why the pod cannot run on the node; empty if it can."""
    spec = pod["spec"]
    if spec.get("nodeName") and spec["nodeName"] != name_of(node):
        return ["node(s) didn't match the requested node name"]
    if (node.get("spec") or {}).get("unschedulable") and not tolerates(
        pod, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    ):
        return ["node(s) were unschedulable"]
    taint = _untolerated(pod, node)
    if taint is not None:
        value = f": {taint['value']}" if taint.get("value") else ": "
        return [f"node(s) had untolerated taint {{{taint['key']}{value}}}"]
    if not is_true(node, "Ready"):
        return ["node(s) were not ready"]
    if not _selected(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    return insufficient(pod, node, used)


def insufficient(pod: Obj, node: Obj, used: Amounts) -> list[str]:
    """The resources that the node lacks, in the scheduler's words."""
    allocatable = {k: quantity.parse(v) for k, v in ((node.get("status") or {}).get("allocatable") or {}).items()}
    found = []
    if allocatable.get("pods", Decimal(0)) < used.get("pods", Decimal(0)) + 1:
        found.append("Too many pods")
    for name, wanted in sorted(pod_requests(pod).items()):
        if wanted > 0 and allocatable.get(name, Decimal(0)) - used.get(name, Decimal(0)) < wanted:
            found.append(f"Insufficient {name}")
    return found


def tolerates(pod: Obj, taint: Obj) -> bool:
    """Does one of the pod's tolerations cover the taint?"""
    for toleration in pod["spec"].get("tolerations") or ():
        if toleration.get("effect") and toleration["effect"] != taint["effect"]:
            continue
        if toleration.get("key") and toleration["key"] != taint["key"]:
            continue
        if toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


def _untolerated(pod: Obj, node: Obj) -> Obj | None:
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerates(pod, taint):
            return dict(taint)
    return None


def _selected(spec: Obj, node: Obj) -> bool:
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_term(term, node) for term in required["nodeSelectorTerms"])


def _term(term: Obj, node: Obj) -> bool:
    fields = {"metadata.name": name_of(node)}
    return all(_holds(e, labels_of(node)) for e in term.get("matchExpressions") or ()) and all(
        _holds(e, fields) for e in term.get("matchFields") or ()
    )


def _holds(expression: Obj, values: dict[str, str]) -> bool:
    value, wanted = values.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(wanted[0])
        case _:
            return value is not None and int(value) < int(wanted[0])


def explain(reasons: Sequence[Sequence[str]]) -> str:
    """The scheduler's message for the reasons of each node.

    >>> explain([["Insufficient nvidia.com/gpu"]]).split(" preemption")[0]
    '0/1 nodes are available: 1 Insufficient nvidia.com/gpu.'
    >>> explain([])
    'no nodes available to schedule pods'
    """
    if not reasons:
        return "no nodes available to schedule pods"
    counted = Counter(reason for of_node in reasons for reason in of_node)
    texts = sorted(f"{count} {reason}" for reason, count in counted.items())
    total = len(reasons)
    preemption = f"preemption: 0/{total} nodes are available: {total} Preemption is not helpful for scheduling."
    return f"0/{total} nodes are available: {', '.join(texts)}. {preemption}"


def score(node: Obj, used: Amounts) -> Decimal:
    """Prefer the node with the largest free share of cpu and memory."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    shares = []
    for name in ("cpu", "memory"):
        size = quantity.parse(allocatable.get(name, "0"))
        shares.append((size - used.get(name, Decimal(0))) / size if size else Decimal(0))
    return sum(shares, Decimal(0))
