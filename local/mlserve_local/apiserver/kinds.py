"""The built-in kinds this server knows, as a table.

A row says how a kind is found (group, version, plural, short names, categories), where it lives and which
subresources it has. What its objects look like comes from the published definitions (schema.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALL_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS_VERBS: Final = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Kind:
    """A row. ``flags``: ``c`` cluster scoped, ``s`` status, ``x`` scale, ``g`` generation on spec changes,
    ``r`` a delete answers with the object, ``o`` create only (reviews).
    """

    kind: str
    plural: str
    flags: str = ""
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # name, kind with group/version, verbs


_CREATE: Final = ("create",)
_STREAM: Final = ("create", "get")
_PROXY: Final = ("create", "delete", "get", "patch", "update")

CORE: Final = (
    Kind("ConfigMap", "configmaps", short=("cm",)),
    Kind("Endpoints", "endpoints", short=("ep",)),
    Kind("Event", "events", short=("ev",)),
    Kind("LimitRange", "limitranges", short=("limits",)),
    Kind("Namespace", "namespaces", "cs", ("ns",), (), (("finalize", "Namespace", ("update",)),)),
    Kind("Node", "nodes", "cs", ("no",), (), (("proxy", "NodeProxyOptions", _PROXY),)),
    Kind("PersistentVolumeClaim", "persistentvolumeclaims", "sr", ("pvc",)),
    Kind("PersistentVolume", "persistentvolumes", "csr", ("pv",)),
    Kind(
        "Pod",
        "pods",
        "sgr",
        ("po",),
        ("all",),
        (
            ("attach", "PodAttachOptions", _STREAM),
            ("binding", "Binding", _CREATE),
            ("ephemeralcontainers", "Pod", STATUS_VERBS),
            ("eviction", "policy/v1/Eviction", _CREATE),
            ("exec", "PodExecOptions", _STREAM),
            ("log", "Pod", ("get",)),
            ("portforward", "PodPortForwardOptions", _STREAM),
            ("proxy", "PodProxyOptions", _PROXY),
        ),
    ),
    Kind("PodTemplate", "podtemplates", "r"),
    Kind("ReplicationController", "replicationcontrollers", "sxg", ("rc",), ("all",)),
    Kind("ResourceQuota", "resourcequotas", "sr", ("quota",)),
    Kind("Secret", "secrets"),
    Kind(
        "ServiceAccount",
        "serviceaccounts",
        "r",
        ("sa",),
        (),
        (("token", "authentication.k8s.io/v1/TokenRequest", _CREATE),),
    ),
    Kind("Service", "services", "sr", ("svc",), ("all",), (("proxy", "ServiceProxyOptions", _PROXY),)),
)

KINDS: Final[dict[tuple[str, str], tuple[Kind, ...]]] = {
    ("", "v1"): CORE,
    ("apps", "v1"): (
        Kind("ControllerRevision", "controllerrevisions"),
        Kind("DaemonSet", "daemonsets", "sg", ("ds",), ("all",)),
        Kind("Deployment", "deployments", "sxg", ("deploy",), ("all",)),
        Kind("ReplicaSet", "replicasets", "sxg", ("rs",), ("all",)),
        Kind("StatefulSet", "statefulsets", "sxg", ("sts",), ("all",)),
    ),
    ("events.k8s.io", "v1"): (Kind("Event", "events", short=("ev",)),),
    ("authentication.k8s.io", "v1"): (
        Kind("SelfSubjectReview", "selfsubjectreviews", "co"),
        Kind("TokenReview", "tokenreviews", "co"),
    ),
    ("authorization.k8s.io", "v1"): (
        Kind("LocalSubjectAccessReview", "localsubjectaccessreviews", "o"),
        Kind("SelfSubjectAccessReview", "selfsubjectaccessreviews", "co"),
        Kind("SelfSubjectRulesReview", "selfsubjectrulesreviews", "co"),
        Kind("SubjectAccessReview", "subjectaccessreviews", "co"),
    ),
    ("autoscaling", "v2"): (Kind("HorizontalPodAutoscaler", "horizontalpodautoscalers", "s", ("hpa",), ("all",)),),
    ("autoscaling", "v1"): (Kind("HorizontalPodAutoscaler", "horizontalpodautoscalers", "s", ("hpa",), ("all",)),),
    ("batch", "v1"): (
        Kind("CronJob", "cronjobs", "sg", ("cj",), ("all",)),
        Kind("Job", "jobs", "sg", (), ("all",)),
    ),
    ("certificates.k8s.io", "v1"): (Kind("CertificateSigningRequest", "certificatesigningrequests", "cs", ("csr",)),),
    ("networking.k8s.io", "v1"): (
        Kind("IngressClass", "ingressclasses", "cg"),
        Kind("Ingress", "ingresses", "sg", ("ing",)),
        Kind("NetworkPolicy", "networkpolicies", "g", ("netpol",)),
    ),
    ("policy", "v1"): (Kind("PodDisruptionBudget", "poddisruptionbudgets", "sg", ("pdb",)),),
    ("rbac.authorization.k8s.io", "v1"): (
        Kind("ClusterRoleBinding", "clusterrolebindings", "c"),
        Kind("ClusterRole", "clusterroles", "c"),
        Kind("RoleBinding", "rolebindings"),
        Kind("Role", "roles"),
    ),
    ("storage.k8s.io", "v1"): (
        Kind("CSIDriver", "csidrivers", "c"),
        Kind("CSINode", "csinodes", "c"),
        Kind("StorageClass", "storageclasses", "c", ("sc",)),
        Kind("VolumeAttachment", "volumeattachments", "cs"),
    ),
    ("admissionregistration.k8s.io", "v1"): (
        Kind("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "cg", (), ("api-extensions",)),
        Kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies", "csg", (), ("api-extensions",)),
        Kind("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", "cg", (), ("api-extensions",)),
        Kind("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "cg", (), ("api-extensions",)),
    ),
    ("apiextensions.k8s.io", "v1"): (
        Kind("CustomResourceDefinition", "customresourcedefinitions", "csg", ("crd", "crds"), ("api-extensions",)),
    ),
    ("scheduling.k8s.io", "v1"): (Kind("PriorityClass", "priorityclasses", "cg", ("pc",)),),
    ("coordination.k8s.io", "v1"): (Kind("Lease", "leases"),),
    ("node.k8s.io", "v1"): (Kind("RuntimeClass", "runtimeclasses", "c"),),
    ("discovery.k8s.io", "v1"): (Kind("EndpointSlice", "endpointslices", "g"),),
}

# Resources whose objects are those of another one, in another shape.
SHARED_STORAGE: Final = {
    "events.k8s.io/v1/events": "/events",
    "autoscaling/v1/horizontalpodautoscalers": "autoscaling/horizontalpodautoscalers",
}
