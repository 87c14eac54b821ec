"""What the OpenAPI documents do not say about Go's types: which zero values are kept when an object is written.

A pointer field keeps an explicit zero (``replicas: 0``), a plain field with ``omitempty`` loses it
(``minReadySeconds: 0``). The default here is to keep numbers and booleans of specs and to drop empty text; the two
tables name the exceptions among the kinds this server knows.
"""

from __future__ import annotations

from typing import Any, Final

# Plain numbers and booleans: an explicit zero or false is the same as leaving the field out.
ZERO_VANISHES: Final = frozenset(
    {
        # workloads
        "minReadySeconds",
        "paused",
        "collisionCount",
        # containers, probes, pod specs
        "hostPort",
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
        "stdin",
        "stdinOnce",
        "tty",
        "readOnly",
        "hostNetwork",
        "hostPID",
        "hostIPC",
        # services, nodes, volumes
        "publishNotReadyAddresses",
        "nodePort",
        "healthCheckNodePort",
        "unschedulable",
        # metadata, events
        "generation",
        "count",
        "globalDefault",
    }
)

# Text behind a pointer: the empty string is a value of its own.
POINTER_STRINGS: Final = frozenset({"storageClassName", "ingressClassName", "holderIdentity"})


def go_text(value: Any) -> str:
    """A value the way Go's %v prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + " ".join(go_text(v) for v in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{go_text(v)}" for k, v in sorted(value.items())) + "]"
    return "<nil>" if value is None else str(value)
