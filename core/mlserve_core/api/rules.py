"""What a schema cannot say about a ModelDeployment: rules across fields, in CEL.

They are evaluated by the API server, so a wrong resource is refused at `kubectl apply` with the sentence written
here, whether or not the operator runs. Everything a rule reads is bounded (maxItems, maxLength, enum): a
kube-apiserver refuses a CustomResourceDefinition with rules whose cost it cannot bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mlserve_core.api import v1alpha1 as api

URI_SCHEMES: Final = ("s3", "gs", "https", "hf", "oci", "pvc", "file")
MAX_STEPS: Final = 32


@dataclass(frozen=True)
class Rule:
    """One CEL rule of an object.

    Attributes:
        rule: the expression; `self` is the object the rule is attached to.
        message: what the user reads when it is false: what is wrong and what would be right.
        field: path of the culprit relative to the object, for the error's `field`; empty for the object itself.
    """

    rule: str
    message: str
    field: str = ""

    def to_schema(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.rule, "message": self.message}
        return {**entry, "fieldPath": self.field} if self.field else entry


def _ascending_weights() -> str:
    # Positions are spelled out: CEL has no indexed comprehension in the oldest supported Kubernetes.
    positions = ",".join(str(i) for i in range(MAX_STEPS - 1))
    return f"[{positions}].all(i, i + 1 >= self.steps.size() || self.steps[i].weight < self.steps[i + 1].weight)"


ROOT_RULES: Final = (
    Rule(
        f"self.metadata.name.size() <= {api.NAME_MAX_LENGTH}",
        f"metadata.name must have at most {api.NAME_MAX_LENGTH} characters: names of Services are built from it",
    ),
    Rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must be a DNS label that begins with a letter (a-z, 0-9 and -): a Service is named after it",
    ),
    Rule(
        f"self.metadata.name != '{api.ROUTER_NAME}'",
        f"metadata.name must not be {api.ROUTER_NAME}: objects of the namespace's router have that name",
    ),
)

RULES: Final[dict[type[api.ApiModel], tuple[Rule, ...]]] = {
    api.Model: (
        Rule(
            f"self.uri.matches('^({'|'.join(URI_SCHEMES)})://.+')",
            f"uri must begin with one of {', '.join(f'{scheme}://' for scheme in URI_SCHEMES)}",
            ".uri",
        ),
        Rule(
            "!self.uri.startsWith('pvc://') || self.uri.matches('^pvc://[a-z0-9][-.a-z0-9]*/.+')",
            "a pvc uri names a claim and a path in it: pvc://claim/path",
            ".uri",
        ),
    ),
    api.Runtime: (
        Rule(
            "!has(self.gpu) || !has(self.device) || self.device != 'cpu'",
            "gpu asks for GPUs but device is cpu: remove gpu, or set device to auto or cuda",
            ".device",
        ),
    ),
    api.Autoscaling: (
        Rule("self.minReplicas <= self.maxReplicas", "minReplicas must not be above maxReplicas", ".minReplicas"),
    ),
    api.AutoscalingTargets: (
        Rule(
            "has(self.cpuUtilization) || has(self.inFlightPerReplica) || has(self.queueMillis)"
            " || (has(self.metrics) && self.metrics.size() > 0)",
            "give at least one target: cpuUtilization, inFlightPerReplica, queueMillis or metrics",
        ),
    ),
    api.Traffic: (
        Rule("self.mode != 'Gateway' || has(self.gateway)", "mode Gateway needs gateway.parentRefs", ".gateway"),
        Rule(
            "self.mode == 'Envoy' || !has(self.stickyHeader) || self.stickyHeader == ''",
            "stickyHeader works in mode Envoy only: an HTTPRoute cannot choose by hash and mode Direct does not split",
            ".stickyHeader",
        ),
    ),
    api.Step: (
        Rule(
            "!has(self.until) || self.until != 'Conclusive' || has(self.maxSeconds)",
            "a step with until: Conclusive needs maxSeconds: an experiment without a winner must end too",
            ".maxSeconds",
        ),
        Rule(
            "!has(self.maxSeconds) || self.maxSeconds >= (has(self.holdSeconds) ? self.holdSeconds : 60)",
            "maxSeconds must not be below holdSeconds",
            ".maxSeconds",
        ),
    ),
    api.Rollout: (
        Rule(_ascending_weights(), "weights of steps must rise from step to step", ".steps"),
        Rule(
            "!self.steps.exists(step, has(step.until) && step.until == 'Conclusive') || self.analysis.reward.enabled",
            "a Conclusive step is decided by rewards: enable analysis.reward",
            ".analysis.reward",
        ),
    ),
    api.PrometheusCheck: (Rule("has(self.max) || has(self.min)", "give max, min or both"),),
    api.ModelDeploymentSpec: (
        Rule(
            "self.traffic.mode != 'Direct' || self.rollout.strategy in ['AllAtOnce', 'BlueGreen']",
            "traffic.mode Direct cannot split requests: set rollout.strategy to AllAtOnce or BlueGreen",
            ".rollout.strategy",
        ),
        Rule(
            "self.traffic.mode != 'Direct' || !has(self.rollout.maxSurgeGpus)",
            "rollout.maxSurgeGpus moves requests pod by pod, which mode Direct cannot: set traffic.mode to Envoy",
            ".rollout.maxSurgeGpus",
        ),
    ),
}
