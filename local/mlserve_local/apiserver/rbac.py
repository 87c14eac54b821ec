"""Who may do what: RBAC as Kubernetes defines it, for every request that does not come from the administrator.

Roles and bindings are read from the store at each decision: the sets are small, and a change counts at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mlserve_local.apiserver.registry import Registry
from mlserve_local.apiserver.request import User

Obj = dict[str, Any]
GROUP: Final = "rbac.authorization.k8s.io"

_READ: Final = ["get", "list", "watch"]
_WRITE: Final = ["create", "delete", "deletecollection", "patch", "update"]
_WORKLOADS: Final = [
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
    "daemonsets",
    "controllerrevisions",
]
_CORE: Final = [
    "configmaps",
    "endpoints",
    "events",
    "persistentvolumeclaims",
    "pods",
    "pods/log",
    "pods/status",
    "services",
    "serviceaccounts",
    "replicationcontrollers",
    "limitranges",
    "resourcequotas",
    "namespaces",
]


def _namespaced_rules(verbs: list[str], secrets: bool) -> list[Obj]:
    core = _CORE + (["secrets", "pods/exec", "pods/portforward", "pods/attach"] if secrets else [])
    return [
        {"apiGroups": [""], "resources": core, "verbs": verbs},
        {"apiGroups": ["apps"], "resources": _WORKLOADS, "verbs": verbs},
        {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": verbs},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": verbs},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": verbs},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": verbs},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
    ]


_DISCOVERY_PATHS: Final = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
]
_PUBLIC_PATHS: Final = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_ADMIN_RULES: Final = [
    *_namespaced_rules(_READ + _WRITE, secrets=True),
    {"apiGroups": [GROUP], "resources": ["roles", "rolebindings"], "verbs": _READ + _WRITE},
    {"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]},
]
_BASIC_RULES: Final = [
    {
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        "verbs": ["create"],
    },
    {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
]
ROLES: Final[dict[str, list[Obj]]] = {
    "cluster-admin": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "admin": _ADMIN_RULES,
    "edit": _namespaced_rules(_READ + _WRITE, secrets=True),
    "view": _namespaced_rules(_READ, secrets=False),
    "system:basic-user": _BASIC_RULES,
    "system:discovery": [{"nonResourceURLs": _DISCOVERY_PATHS, "verbs": ["get"]}],
    "system:public-info-viewer": [{"nonResourceURLs": _PUBLIC_PATHS, "verbs": ["get"]}],
    "system:auth-delegator": [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ],
}
BINDINGS: Final = {
    "cluster-admin": ("system:masters",),
    "system:basic-user": ("system:authenticated",),
    "system:discovery": ("system:authenticated",),
    "system:public-info-viewer": ("system:authenticated", "system:unauthenticated"),
}
AGGREGATED: Final = {"admin": "aggregate-to-admin", "edit": "aggregate-to-edit", "view": "aggregate-to-view"}


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: a verb on a resource, or on a plain path."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        """``pods/log``: the form in which rules name subresources."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def _any(values: Iterable[str], wanted: str) -> bool:
    return any(v in ("*", wanted) for v in values)


def rule_allows(rule: Obj, ask: Ask) -> bool:
    """Whether one PolicyRule answers the question with yes."""
    if not _any(rule.get("verbs") or (), ask.verb):
        return False
    if ask.path:
        urls = rule.get("nonResourceURLs") or ()
        return any(u in ("*", ask.path) or (u.endswith("*") and ask.path.startswith(u[:-1])) for u in urls)
    if not _any(rule.get("apiGroups") or (), ask.group):
        return False
    wanted = {ask.full_resource, "*"} | ({f"*/{ask.subresource}"} if ask.subresource else set())
    if not wanted & set(rule.get("resources") or ()):
        return False
    names = rule.get("resourceNames")
    return not names or ask.name in names


class Authorizer:
    """Answers questions from the stored roles and bindings."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def _stored(self, plural: str, namespace: str) -> list[Obj]:
        collection = self._registry.collection(self._registry.builtin(plural, GROUP))
        return [s.data for s in collection.list(namespace)]

    def rules_of(self, reference: Obj, namespace: str) -> list[Obj]:
        """The rules behind a roleRef; an aggregated ClusterRole includes those its selectors find."""
        plural, space = ("roles", namespace) if reference.get("kind") == "Role" else ("clusterroles", "")
        collection = self._registry.collection(self._registry.builtin(plural, GROUP))
        stored = collection.get(space, reference.get("name", ""))
        if stored is None:
            return []
        rules = list(stored.data.get("rules") or ())
        for selector in (stored.data.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
            wanted = selector.get("matchLabels") or {}
            for other in collection.list(""):
                labels = other.data["metadata"].get("labels") or {}
                if other.name != stored.name and all(labels.get(k) == v for k, v in wanted.items()):
                    rules += other.data.get("rules") or ()
        return rules

    def grants(self, user: User, namespace: str) -> Iterator[tuple[Obj, str]]:
        """Every rule that applies to a user in a namespace, with the reason that reviews show."""
        spaces = [("clusterrolebindings", "", "ClusterRoleBinding")]
        if namespace:
            spaces.append(("rolebindings", namespace, "RoleBinding"))
        for plural, space, kind in spaces:
            for binding in self._stored(plural, space):
                subject = next((t for s in binding.get("subjects") or () if (t := _subject(s, user, space))), "")
                if not subject:
                    continue
                reference = binding["roleRef"]
                name = binding["metadata"]["name"] + (f"/{space}" if space else "")
                why = f'RBAC: allowed by {kind} "{name}" of {reference["kind"]} "{reference["name"]}" to {subject}'
                for rule in self.rules_of(reference, space):
                    yield rule, why

    def decide(self, user: User, ask: Ask) -> str | None:
        """Why the answer is yes, or None for no."""
        if user.is_admin:
            return ""
        return next((why for rule, why in self.grants(user, ask.namespace) if rule_allows(rule, ask)), None)

    def may(self, user: User, verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> bool:
        """``decide`` as yes or no."""
        ask = Ask(verb, group, resource, namespace=namespace, name=name)
        return self.decide(user, ask) is not None

    def covers(self, user: User, rule: Obj, namespace: str) -> bool:
        """Whether a user holds everything that a rule grants."""
        held = [r for r, _ in self.grants(user, namespace)]
        if rule.get("nonResourceURLs"):
            asks = [Ask(v, path=u) for v in rule.get("verbs") or () for u in rule["nonResourceURLs"]]
        else:
            asks = [
                Ask(v, g, resource, sub, namespace, name)
                for v in rule.get("verbs") or ()
                for g in rule.get("apiGroups") or ()
                for resource, _, sub in (r.partition("/") for r in rule.get("resources") or ())
                for name in rule.get("resourceNames") or ("",)
            ]
        return all(any(rule_allows(r, ask) for r in held) for ask in asks)

    @staticmethod
    def escalation_text(user: User, rules: list[Obj]) -> str:
        """What a refusal to grant more than one holds says."""
        groups = " ".join(f'"{g}"' for g in user.groups)
        shown = []
        for rule in rules:
            parts = [
                f"{label}:[{' '.join(_quote(v) for v in rule[key])}]".replace('" "', '", "')
                for label, key in (
                    ("APIGroups", "apiGroups"),
                    ("Resources", "resources"),
                    ("ResourceNames", "resourceNames"),
                    ("NonResourceURLs", "nonResourceURLs"),
                    ("Verbs", "verbs"),
                )
                if rule.get(key)
            ]
            shown.append("{" + ", ".join(parts) + "}")
        return (
            f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
            + "\n".join(shown)
        )


def _quote(text: str) -> str:
    return f'"{text}"'


def _subject(subject: Obj, user: User, namespace: str) -> str:
    """The subject of a binding as a review names it, if it is this user."""
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "User" and name == user.name:
        return f'User "{name}"'
    if kind == "Group" and name in user.groups:
        return f'Group "{name}"'
    space = subject.get("namespace") or namespace
    if kind == "ServiceAccount" and user.name == f"system:serviceaccount:{space}:{name}":
        return f'ServiceAccount "{name}/{space}"'
    return ""
