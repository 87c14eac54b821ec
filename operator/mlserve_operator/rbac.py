"""What the operator may do in a cluster: one table, from which every Role and ClusterRole is written.

A permission that is missing shows only in somebody's cluster, and one too many never shows at all. So the rules
are neither written by hand nor copied between chart and manifests: this table holds them with the reason for each,
`make generate` writes them as the chart's file, and the integration tests run the operator under
exactly these rules with an API server that enforces them. This module imports no other part of the operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

READ: Final = ("get", "list", "watch")
APPLY: Final = ("create", "patch")
"""Server-side apply: `create` for an object that is not there yet, `patch` for one that is."""


@dataclass(frozen=True)
class Permission:
    """Verbs on resources of one API group, and why the operator cannot do without them."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    """Only objects of these names; none means any."""

    def as_rule(self) -> dict[str, list[str]]:
        """The rule as RBAC writes it."""
        rule = {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}
        return {**rule, "resourceNames": list(self.names)} if self.names else rule


WATCHED: Final = (
    Permission("mlserve.io", ("modeldeployments",), ("list", "watch"), "what it is here for; it never writes a spec"),
    Permission("mlserve.io", ("modeldeployments/status",), ("patch",), "conditions, revisions, evidence"),
    Permission("", ("services", "configmaps"), (*READ, *APPLY, "delete"), "front door, revisions, router, checkpoint"),
    Permission("", ("secrets",), ("get", "create"), "the keys that sign prediction ids: by name, never a list"),
    Permission("", ("serviceaccounts",), (*READ, *APPLY, "delete"), "the identity without rights of routers"),
    Permission(
        "",
        ("pods",),
        (*READ, "patch", "delete"),
        "telemetry, reasons of failures; touching a router pod refreshes its files, a bad pod is replaced",
    ),
    Permission("", ("events",), ("create",), "decisions, next to the object they are about"),
    Permission("apps", ("deployments",), (*READ, *APPLY, "delete"), "one per live revision, and the router"),
    Permission("apps", ("controllerrevisions",), (*READ, *APPLY, "delete"), "the snapshot of every revision"),
    Permission("autoscaling", ("horizontalpodautoscalers",), (*READ, *APPLY, "delete"), "one per live revision"),
    Permission("policy", ("poddisruptionbudgets",), (*READ, *APPLY, "delete"), "of runtime and router"),
    Permission("networking.k8s.io", ("networkpolicies",), (*READ, *APPLY, "delete"), "who may reach a runtime pod"),
    Permission(
        "gateway.networking.k8s.io", ("httproutes", "grpcroutes"), (*READ, *APPLY, "delete"), "traffic mode Gateway"
    ),
)
"""Needed in every namespace whose ModelDeployments are served."""

EVERY_NAMESPACE: Final = (
    Permission("", ("namespaces",), ("list", "watch"), "namespaces that come and go"),
    Permission(
        "apiextensions.k8s.io", ("customresourcedefinitions",), ("list", "watch"), "the resource's own definition"
    ),
)
"""Needed in addition by an operator that works in all namespaces."""

LEADER: Final = (
    Permission("coordination.k8s.io", ("leases",), ("create",), "the first election"),
    Permission(
        "coordination.k8s.io", ("leases",), ("get", "update"), "one writer at a time", names=("mlserve-operator",)
    ),
)
"""Needed in the operator's own namespace when it elects a leader."""

VIEW: Final = (Permission("mlserve.io", ("modeldeployments", "modeldeployments/status"), READ, "for people"),)
EDIT: Final = (
    Permission(
        "mlserve.io", ("modeldeployments",), ("create", "update", "patch", "delete", "deletecollection"), "for people"
    ),
    Permission("mlserve.io", ("modeldeployments/scale",), ("get", "update", "patch"), "kubectl scale"),
)
"""What the built-in roles view, edit and admin gain by aggregation."""

SECTIONS: Final = {
    "watched": WATCHED,
    "everyNamespace": EVERY_NAMESPACE,
    "leader": LEADER,
    "view": VIEW,
    "edit": EDIT,
}


def render() -> str:
    """The table as the chart's `files/rbac.yaml`, each rule under the reason for it."""
    lines = ["# Written by `make generate`; the table is operator/mlserve_operator/rbac.py."]
    for section, permissions in SECTIONS.items():
        lines.append(f"{section}:")
        lines.extend(_render_rules(permissions))
    return "\n".join(lines) + "\n"


def generated_files() -> dict[str, str]:
    """The generated file by its path below the root."""
    return {"charts/mlserve/files/rbac.yaml": render()}


def _render_rules(permissions: Iterable[Permission]) -> Iterator[str]:
    for permission in permissions:
        yield f"  # {permission.why}"
        text = yaml.safe_dump([permission.as_rule()], default_flow_style=None, sort_keys=False, width=120)
        yield from (f"  {line}" for line in text.splitlines())
