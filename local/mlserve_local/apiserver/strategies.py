"""The table of per-kind behaviour: which functions make an object of a built-in kind complete and judge it."""

from __future__ import annotations

from typing import Any, Final

from mlserve_local.apiserver import (
    admission,
    crd_rules,
    defaults,
    kind_rules,
    network_rules,
    pod_defaults,
    pod_rules,
    prepare,
    services,
)
from mlserve_local.apiserver.strategy import Strategy

_TEMPLATE: Final[dict[str, Any]] = {"spec": {"template": {"metadata": {}, "spec": {}}}}

STRATEGIES: Final[dict[str, Strategy]] = {
    "/configmaps": Strategy(validate=kind_rules.config_map, validate_update=kind_rules.config_map_update),
    "/endpoints": Strategy(default=defaults.endpoints, create_on_update=True, warn=kind_rules.endpoints_warning),
    "/events": Strategy(
        default=defaults.event,
        validate=kind_rules.event,
        validate_update=kind_rules.event_update,
        create_on_update=True,
        skeleton={"involvedObject": {}, "source": {}},
    ),
    "events.k8s.io/v1/events": Strategy(
        default=defaults.event,
        validate=kind_rules.new_event,
        validate_update=kind_rules.event_update,
        create_on_update=True,
        skeleton={"involvedObject": {}, "source": {}},
    ),
    "/limitranges": Strategy(default=defaults.limit_range, create_on_update=True),
    "/namespaces": Strategy(
        default=defaults.namespace, prepare_create=prepare.namespace, prepare_update=prepare.namespace_update
    ),
    "/nodes": Strategy(
        default=defaults.node,
        admit=admission.node,
        validate=kind_rules.node,
        skeleton={"status": {"daemonEndpoints": {"kubeletEndpoint": {}}, "nodeInfo": {}}},
    ),
    "/persistentvolumeclaims": Strategy(
        default=defaults.volume_claim,
        prepare_create=prepare.volume_claim,
        validate=kind_rules.volume_claim,
        validate_update=kind_rules.volume_claim_update,
        skeleton={"spec": {"resources": {}}},
    ),
    "/persistentvolumes": Strategy(default=defaults.volume, prepare_create=prepare.volume, validate=kind_rules.volume),
    "/pods": Strategy(
        default=pod_defaults.pod,
        admit=admission.pod,
        prepare_create=admission.prepare_pod,
        prepare_update=prepare.pod_update,
        validate=pod_rules.pod,
        validate_update=pod_rules.pod_update,
    ),
    "/podtemplates": Strategy(default=pod_defaults.template, skeleton={"template": {"metadata": {}, "spec": {}}}),
    "/replicationcontrollers": Strategy(default=defaults.replication_controller, prepare_create=prepare.workload),
    "/resourcequotas": Strategy(default=defaults.quota),
    "/secrets": Strategy(default=defaults.secret, validate=kind_rules.secret, validate_update=kind_rules.secret_update),
    "/services": Strategy(
        default=defaults.service,
        admit=services.admit,
        prepare_create=prepare.service,
        validate=network_rules.service,
        validate_update=network_rules.service_update,
        create_on_update=True,
        skeleton={"status": {"loadBalancer": {}}},
    ),
    "apps/daemonsets": Strategy(
        default=defaults.daemon_set,
        prepare_create=prepare.workload,
        prepare_update=prepare.daemon_set_update,
        validate=pod_rules.daemon_set,
        validate_update=pod_rules.workload_update,
        skeleton={"spec": {**_TEMPLATE["spec"], "updateStrategy": {}}},
    ),
    "apps/deployments": Strategy(
        default=defaults.deployment,
        prepare_create=prepare.workload,
        validate=pod_rules.workload,
        validate_update=pod_rules.workload_update,
        skeleton={"spec": {**_TEMPLATE["spec"], "strategy": {}}},
    ),
    "apps/replicasets": Strategy(
        default=defaults.replica_set,
        prepare_create=prepare.workload,
        validate=pod_rules.workload,
        validate_update=pod_rules.workload_update,
        skeleton=_TEMPLATE,
    ),
    "apps/statefulsets": Strategy(
        default=defaults.stateful_set,
        prepare_create=prepare.workload,
        validate=pod_rules.stateful_set,
        validate_update=pod_rules.stateful_set_update,
        skeleton={"spec": {**_TEMPLATE["spec"], "updateStrategy": {}}},
    ),
    "autoscaling/horizontalpodautoscalers": Strategy(
        default=defaults.autoscaler,
        prepare_create=prepare.workload,
        validate=kind_rules.autoscaler,
        skeleton={"spec": {"scaleTargetRef": {}}},
    ),
    "batch/cronjobs": Strategy(
        default=defaults.cron_job,
        prepare_create=prepare.workload,
        validate=pod_rules.cron_job,
        skeleton={"spec": {"jobTemplate": {"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {}}}}}},
    ),
    "batch/jobs": Strategy(
        default=defaults.job,
        prepare_create=prepare.job,
        validate=pod_rules.job,
        validate_update=pod_rules.job_update,
        skeleton=_TEMPLATE,
    ),
    "policy/poddisruptionbudgets": Strategy(
        default=defaults.disruption_budget, prepare_create=prepare.workload, validate=kind_rules.disruption_budget
    ),
    "networking.k8s.io/networkpolicies": Strategy(
        default=defaults.network_policy, skeleton={"spec": {"podSelector": {}}}
    ),
    "networking.k8s.io/ingresses": Strategy(
        default=defaults.ingress, validate=network_rules.ingress, skeleton={"status": {"loadBalancer": {}}}
    ),
    "rbac.authorization.k8s.io/roles": Strategy(
        default=defaults.role, admit=admission.role_escalation, create_on_update=True
    ),
    "rbac.authorization.k8s.io/clusterroles": Strategy(
        default=defaults.role, admit=admission.role_escalation, create_on_update=True
    ),
    "rbac.authorization.k8s.io/rolebindings": Strategy(
        default=defaults.role_binding,
        admit=admission.binding_escalation,
        validate=kind_rules.role_binding,
        validate_update=kind_rules.role_binding_update,
        create_on_update=True,
        skeleton={"roleRef": {}},
    ),
    "rbac.authorization.k8s.io/clusterrolebindings": Strategy(
        default=defaults.role_binding,
        admit=admission.binding_escalation,
        validate=kind_rules.role_binding,
        validate_update=kind_rules.role_binding_update,
        create_on_update=True,
        skeleton={"roleRef": {}},
    ),
    "coordination.k8s.io/leases": Strategy(default=defaults.lease, validate=kind_rules.lease, create_on_update=True),
    "discovery.k8s.io/endpointslices": Strategy(default=defaults.endpoint_slice, validate=kind_rules.endpoint_slice),
    "scheduling.k8s.io/priorityclasses": Strategy(
        default=defaults.priority_class,
        validate=kind_rules.priority_class,
        validate_update=kind_rules.priority_class_update,
    ),
    "storage.k8s.io/storageclasses": Strategy(
        default=defaults.storage_class,
        validate=kind_rules.storage_class,
        validate_update=kind_rules.storage_class_update,
    ),
    "admissionregistration.k8s.io/validatingwebhookconfigurations": Strategy(default=defaults.validating_webhooks),
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": Strategy(default=defaults.mutating_webhooks),
    "apiextensions.k8s.io/customresourcedefinitions": Strategy(
        default=defaults.custom_resource_definition,
        prepare_create=prepare.custom_resource_definition,
        validate=crd_rules.definition,
        validate_update=crd_rules.definition_update,
        skeleton={"spec": {"names": {}}, "status": {"acceptedNames": {}}},
    ),
}
