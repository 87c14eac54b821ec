"""The ModelDeployment resource, version v1alpha1: its fields, their defaults and their bounds.

These types are the one source of the CustomResourceDefinition, of the reference page and of what the
operator reads. Everything a schema can refuse is refused here, so that validation works at `kubectl apply`
even while the operator is down. There are no floats: percents, milli-units and "one in N" are integers, so a
value read back from the API server is the value that was written.

One version of the API is one file, longer than modules are otherwise: it is read from top to bottom like a reference.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "mlserve.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"
SINGULAR = "modeldeployment"
SHORT_NAMES = ("mdep",)
CATEGORIES = ("all", "mlserve")
ROUTER_NAME = "mlserve-router"
"""What the router that serves a namespace is called, and a ModelDeployment must not be."""
NAME_MAX_LENGTH = 45
"""Names of children are built from a ModelDeployment's name and must stay DNS labels of at most 63 characters."""


class ApiModel(BaseModel):
    """Base of every type: camelCase on the wire, unknown fields kept out, immutable once read."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


JsonObject = dict[str, Any]
"""A Kubernetes object passed through as it is (validated by the API server when the child is applied)."""

ShortText = Annotated[str, Field(max_length=253)]
Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
Percent = Annotated[int, Field(ge=0, le=100)]
Weight = Annotated[int, Field(ge=1, le=100)]


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class TrafficMode(StrEnum):
    """Who splits traffic between revisions."""

    ENVOY = "Envoy"
    GATEWAY = "Gateway"
    DIRECT = "Direct"


class RouterScope(StrEnum):
    """Whether a router is shared by all ModelDeployments of a namespace."""

    NAMESPACE = "Namespace"
    DEDICATED = "Dedicated"


class Strategy(StrEnum):
    """How a new revision takes over."""

    CANARY = "Canary"
    SHADOW = "Shadow"
    BLUE_GREEN = "BlueGreen"
    ALL_AT_ONCE = "AllAtOnce"


class Until(StrEnum):
    """What ends a step."""

    HELD = "Held"
    CONCLUSIVE = "Conclusive"


class RegressionAction(StrEnum):
    """What to do when the canary is measurably worse."""

    ROLLBACK = "Rollback"
    PAUSE = "Pause"
    ALERT = "Alert"


class InconclusiveAction(StrEnum):
    """What to do when a step has waited `maxHoldSeconds` without evidence."""

    HOLD = "Hold"
    PROMOTE = "Promote"
    ROLLBACK = "Rollback"


class DriftPolicy(StrEnum):
    """Which detector decides."""

    CALIBRATED = "calibrated"
    CLASSIC = "classic"


class DriftAction(StrEnum):
    """What population drift leads to."""

    ALERT = "Alert"
    HOLD_PROMOTION = "HoldPromotion"
    ROLLBACK = "Rollback"


class SecretReference(ApiModel):
    """A Secret in the same namespace."""

    secret_name: ShortText = Field(min_length=1, description="Name of a Secret in the namespace of the resource.")


class Model(ApiModel):
    """Which artifact is served."""

    uri: str = Field(
        min_length=1,
        max_length=1024,
        description="Where the artifact lies: s3:// gs:// https:// hf:// oci:// pvc://claim/path or file://.",
    )
    version: str = Field(
        "", max_length=63, description="The version as people call it; part of the revision, shown in status."
    )
    digest: str = Field(
        "",
        max_length=71,
        pattern=r"^(sha256:[0-9a-f]{64})?$",
        description="sha256 of the artifact's manifest as `mlserve package` prints it; verified before a pod is ready.",
    )
    credentials: SecretReference | None = Field(None, description="Secret with the credentials of the store.")


class Gpu(ApiModel):
    """GPUs each pod asks for."""

    count: int = Field(1, ge=1, le=64, description="GPUs per pod.")
    resource: str = Field(
        "nvidia.com/gpu", min_length=1, max_length=128, description="Extended resource, for example a MIG profile."
    )


class Resources(ApiModel):
    """Compute resources of a container, as in a pod."""

    requests: dict[str, int | str] = Field(default_factory=dict, description="Requested resources.")
    limits: dict[str, int | str] = Field(default_factory=dict, description="Resource limits.")


class Batching(ApiModel):
    """How requests are joined into batches."""

    max_rows: int = Field(32, ge=1, le=65536, description="Most rows of one batch.")
    max_delay_micros: int = Field(
        0, ge=0, le=10_000_000, description="Longest wait for more rows while the model is free; 0 never waits."
    )
    queue_rows: int = Field(1024, ge=1, le=1_000_000, description="Rows that may wait; more are refused with 429.")
    timeout_millis: int = Field(5000, ge=1, le=3_600_000, description="Longest stay of a request; then 504.")


class Runtime(ApiModel):
    """The pods that serve a revision. What is set here is part of the revision; defaults are not."""

    image: str = Field("", max_length=512, description="Image of the runtime; empty takes the operator's setting.")
    device: Device = Field(Device.AUTO, description="auto takes CUDA where the pod has a GPU.")
    gpu: Gpu | None = Field(None, description="GPUs per pod: sugar for limits and a toleration.")
    resources: Resources | None = Field(None, description="Requests and limits of the serving container.")
    batching: Batching | None = Field(None, description="Batching; absent means the runtime's defaults.")
    env: list[JsonObject] = Field(default_factory=list, max_length=128, description="Environment, as in a container.")
    env_from: list[JsonObject] = Field(
        default_factory=list, max_length=32, description="Environment from ConfigMaps and Secrets, as in a container."
    )
    node_selector: dict[str, str] = Field(default_factory=dict, description="Node labels a pod needs.")
    tolerations: list[JsonObject] = Field(default_factory=list, max_length=32, description="As in a pod.")
    affinity: JsonObject | None = Field(None, description="As in a pod.")
    topology_spread_constraints: list[JsonObject] = Field(
        default_factory=list, max_length=16, description="As in a pod."
    )
    priority_class_name: ShortText = Field("", description="As in a pod.")
    runtime_class_name: ShortText = Field("", description="As in a pod.")
    service_account_name: ShortText = Field("", description="As in a pod; its token is never mounted.")
    image_pull_secrets: list[JsonObject] = Field(default_factory=list, max_length=16, description="As in a pod.")
    pod_template: JsonObject | None = Field(
        None, description="A pod template laid over the generated one as the last step (strategic merge)."
    )


class AutoscalingTargets(ApiModel):
    """What the autoscaler steers by; every target given becomes a metric of the HorizontalPodAutoscaler."""

    cpu_utilization: int | None = Field(None, ge=1, le=1000, description="Percent of the CPU request.")
    in_flight_per_replica: int | None = Field(None, ge=1, le=100_000, description="Requests in flight per pod.")
    queue_millis: int | None = Field(None, ge=1, le=600_000, description="Time spent in the queue, mean per pod.")
    metrics: list[JsonObject] = Field(
        default_factory=list, max_length=16, description="Further autoscaling/v2 metrics, passed through."
    )


class Autoscaling(ApiModel):
    """Size by load: a HorizontalPodAutoscaler per revision."""

    min_replicas: int = Field(1, ge=1, le=1000, description="Lower bound.")
    max_replicas: int = Field(..., ge=1, le=1000, description="Upper bound.")
    targets: AutoscalingTargets = Field(
        default_factory=lambda: AutoscalingTargets(cpu_utilization=70), description="What to steer by."
    )
    behavior: JsonObject | None = Field(None, description="autoscaling/v2 behavior, passed through.")


class Router(ApiModel):
    """The Envoy router in front of the revisions."""

    scope: RouterScope = Field(RouterScope.NAMESPACE, description="One router per namespace, or one of its own.")
    replicas: int = Field(2, ge=1, le=20, description="Router pods; a shared router takes the largest number asked.")
    resources: Resources | None = Field(None, description="Requests and limits of the router's container.")


class Gateway(ApiModel):
    """Where the HTTPRoute is attached in mode Gateway."""

    parent_refs: list[JsonObject] = Field(..., min_length=1, max_length=8, description="Gateway API parentRefs.")
    hostnames: list[ShortText] = Field(default_factory=list, max_length=16, description="Hostnames of the route.")


class Traffic(ApiModel):
    """How requests reach the revisions."""

    mode: TrafficMode = Field(TrafficMode.ENVOY, description="Envoy | Gateway | Direct (no router, no split).")
    router: Router = Field(default_factory=Router, description="The Envoy router.")
    gateway: Gateway | None = Field(None, description="Required by mode Gateway.")
    timeout_seconds: int = Field(30, ge=1, le=3600, description="Longest time of a request at the router.")
    sticky_header: str = Field(
        "",
        max_length=128,
        pattern=r"^([A-Za-z0-9-]+)?$",
        description="Requests with the same value of this header stay with one revision while weights hold.",
    )


class Step(ApiModel):
    """One step of a rollout."""

    weight: Weight = Field(..., description="Percent of requests the new revision gets.")
    hold_seconds: Seconds = Field(60, description="Shortest time at this weight; 60 if not given.")
    until: Until = Field(
        Until.HELD, description="Held (if not given): time and evidence. Conclusive: an A/B test, by reward."
    )
    max_seconds: Seconds | None = Field(None, description="Longest time of a Conclusive step.")


class Check(ApiModel):
    """One comparison of the canary with stable."""

    enabled: bool = Field(True, description="Whether the check takes part.")
    action: RegressionAction | None = Field(None, description="Overrides onRegression for this check.")


class LatencyCheck(Check):
    """Requests slower than a limit."""

    slo_millis: int | None = Field(
        None, ge=1, le=3_600_000, description="A request slower than this and than stable's p95 x 1.25 is bad."
    )


class OptionalCheck(Check):
    """A check that needs feedback from clients and so is silent without it."""

    enabled: bool = Field(True, description="Whether the check takes part; silent without feedback.")


class PrometheusCheck(ApiModel):
    """A PromQL query with a threshold. {{revision}}, {{name}} and {{namespace}} are replaced in it."""

    name: str = Field(..., min_length=1, max_length=63, description="Name of the check in status.")
    address: str = Field(
        ..., min_length=1, max_length=512, pattern=r"^https?://[^\s?#]+$", description="Address of Prometheus."
    )
    query: str = Field(..., min_length=1, max_length=4096, description="An instant query with one result.")
    max: str | None = Field(None, max_length=32, pattern=r"^-?[0-9]+(\.[0-9]+)?$", description="Failed above.")
    min: str | None = Field(None, max_length=32, pattern=r"^-?[0-9]+(\.[0-9]+)?$", description="Failed below.")
    failure_limit: int = Field(
        3, ge=1, le=100, description="Consecutive failures that count as a regression; 3 if not given."
    )


class Analysis(ApiModel):
    """How the canary is judged against stable on the same traffic."""

    interval_seconds: int = Field(15, ge=1, le=3600, description="Time of one look.")
    min_requests: int = Field(200, ge=0, le=10_000_000, description="Canary requests before a promotion (not a stop).")
    false_alarm_one_in: int = Field(
        100,
        ge=2,
        le=1_000_000,
        description="Of so many harmless rollouts at most one is stopped (all checks together).",
    )
    margin_percent: int = Field(
        25, ge=0, le=1000, description="Odds of a bad event that are still tolerated, relative."
    )
    margin_per_mille: int = Field(
        10, ge=1, le=1000, description="Rate of bad events tolerated when promoting, absolute, in 1/1000."
    )
    prediction_effect_percent: int = Field(
        20, ge=1, le=100, description="Total variation of predictions below which versions count as alike."
    )
    error_limit: int = Field(5, ge=1, le=1000, description="Looks that could not be measured before a pause.")
    max_hold_seconds: Seconds = Field(86_400, description="Longest stay at one step without evidence.")
    on_inconclusive: InconclusiveAction = Field(
        InconclusiveAction.HOLD, description="What happens after maxHoldSeconds: Hold | Promote | Rollback."
    )
    errors: Check = Field(default_factory=Check, description="Server errors, timeouts, failed connections.")
    latency: LatencyCheck = Field(default_factory=LatencyCheck, description="Requests slower than a limit.")
    outputs: Check = Field(default_factory=Check, description="NaN, infinite, empty or misshapen outputs.")
    labels: OptionalCheck = Field(default_factory=OptionalCheck, description="Wrong predictions, by feedback.")
    reward: OptionalCheck = Field(default_factory=OptionalCheck, description="Lower reward, by feedback.")
    predictions: Check = Field(default_factory=Check, description="Distribution of predictions against stable.")
    inputs: Check = Field(default_factory=Check, description="Both arms must see the same inputs; else pause.")
    share: Check = Field(default_factory=Check, description="The canary must get its share; else pause.")
    prometheus: list[PrometheusCheck] = Field(
        default_factory=list, max_length=16, description="Queries against a Prometheus."
    )


class Rollout(ApiModel):
    """How a new revision takes over, and when it is rolled back."""

    strategy: Strategy = Field(Strategy.CANARY, description="Canary | Shadow | BlueGreen | AllAtOnce.")
    steps: list[Step] = Field(
        default_factory=lambda: [
            Step(weight=5, hold_seconds=120),
            Step(weight=25, hold_seconds=300),
            Step(weight=50, hold_seconds=600),
        ],
        max_length=32,
        description="Steps with rising weights; 100 is reached by promotion.",
    )
    shadow_percent: Weight = Field(100, description="Share of requests mirrored to the new revision by Shadow.")
    analysis: Analysis = Field(default_factory=Analysis, description="How the canary is judged.")
    bake_seconds: Seconds = Field(600, description="The previous revision stays warm so long after a promotion.")
    progress_deadline_seconds: int = Field(
        600, ge=10, le=86_400, description="Longest time until the new revision's pods are available."
    )
    on_regression: RegressionAction = Field(RegressionAction.ROLLBACK, description="A measurably worse canary.")
    on_prediction_drift: RegressionAction = Field(
        RegressionAction.ROLLBACK, description="A canary that predicts differently from stable on the same inputs."
    )
    auto_promote: bool = Field(True, description="False: the last step waits for `mlserve rollout promote`.")
    paused: bool = Field(False, description="True: the rollout keeps its weights and goes no further.")
    max_surge_gpus: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="GPUs a rollout may take beyond what one revision needs; stable gives up pods. Unset: no bound.",
    )


class FeatureOverride(ApiModel):
    """Settings of one feature."""

    name: ShortText = Field(..., min_length=1, description="Name of the feature in the profile.")
    enabled: bool = Field(True, description="False leaves the feature out; true if not given.")
    effect_percent: int | None = Field(None, ge=1, le=100, description="Overrides effectPercent.")


class Drift(ApiModel):
    """Comparison of live traffic with the reference profile shipped with the model."""

    enabled: bool = Field(True, description="Whether drift is watched.")
    window_seconds: int = Field(300, ge=5, le=604_800, description="Time of one window.")
    min_rows: int = Field(500, ge=1, le=100_000_000, description="Fewest rows of a window; it is extended until then.")
    effect_percent: int = Field(
        10, ge=1, le=100, description="Smallest effect that counts as drift (D or TV, percent)."
    )
    false_alarm_every_windows: int = Field(
        10_000, ge=2, le=1_000_000_000, description="Clean windows per false alarm, all features together."
    )
    policy: DriftPolicy = Field(DriftPolicy.CALIBRATED, description="calibrated | classic (two-sample KS, p < 0.05).")
    on_drift: DriftAction = Field(DriftAction.HOLD_PROMOTION, description="Alert | HoldPromotion | Rollback.")
    features: list[FeatureOverride] = Field(default_factory=list, max_length=256, description="Per feature overrides.")


class ModelDeploymentSpec(ApiModel):
    """What the user wants."""

    model: Model = Field(..., description="Which artifact is served.")
    runtime: Runtime = Field(default_factory=Runtime, description="The pods that serve it.")
    replicas: int = Field(1, ge=0, le=1000, description="Pods of the serving revision (without autoscaling).")
    autoscaling: Autoscaling | None = Field(None, description="Size by load; then `replicas` is the first size only.")
    traffic: Traffic = Field(default_factory=Traffic, description="How requests reach the revisions.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a new revision takes over.")
    drift: Drift = Field(default_factory=Drift, description="Comparison with the reference profile.")
    revision_history_limit: int = Field(5, ge=0, le=100, description="Old revisions kept for undo.")


class Phase(StrEnum):
    """Where a ModelDeployment stands; sugar for printing, conditions are the truth."""

    PENDING = "Pending"
    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"


class Condition(ApiModel):
    """metav1.Condition."""

    type: str = Field(..., max_length=316, description="Type, one entry each.")
    status: str = Field(..., pattern=r"^(True|False|Unknown)$", description="True, False or Unknown.")
    observed_generation: int | None = Field(None, description="Generation this was computed from.")
    last_transition_time: str = Field(..., description="When status last changed.")
    reason: str = Field("", max_length=1024, description="CamelCase reason.")
    message: str = Field("", max_length=32768, description="What happened and what to do.")


class CheckStatus(ApiModel):
    """Result of one check so far."""

    name: str = Field(..., description="Name of the check.")
    verdict: str = Field("", description="Successful, Failed, Inconclusive or Error.")
    evidence: str = Field("", description="E-value or statistic against its threshold.")
    message: str = Field("", description="Counts in words.")


class RequestCounts(ApiModel):
    """Judged requests of each arm."""

    canary: int = Field(0, description="Requests of the canary.")
    stable: int = Field(0, description="Requests of stable.")


class AnalysisStatus(ApiModel):
    """The comparison so far."""

    verdict: str = Field("", description="Successful, Failed, Inconclusive or Error.")
    requests: RequestCounts = Field(default_factory=RequestCounts, description="Judged requests of each arm.")
    looks: int = Field(0, description="Looks taken.")
    checks: list[CheckStatus] = Field(default_factory=list, max_length=64, description="Every check.")


class RevisionStatus(ApiModel):
    """A revision that has pods."""

    revision: str = Field("", description="Name of the revision and of its Deployment, Service and autoscaler.")
    version: str = Field("", description="spec.model.version of that revision.")
    digest: str = Field("", description="Digest of the artifact it serves.")
    weight: int = Field(0, description="Percent of requests.")
    ready_replicas: int = Field(0, description="Ready pods.")
    step: int | None = Field(None, description="Index of the rollout step, from 0.")
    step_started_at: str | None = Field(None, description="When the step's weight was confirmed.")
    analysis: AnalysisStatus | None = Field(None, description="The comparison so far.")


class PreviousStatus(ApiModel):
    """The revision kept warm after a promotion."""

    revision: str = Field("", description="Name of the revision.")
    retained_until: str = Field("", description="Until when its pods are kept.")


class RejectedStatus(ApiModel):
    """A revision that was rolled back; never tried again until the spec changes or a retry is asked for."""

    revision: str = Field("", description="Name of the revision.")
    reason: str = Field("", description="Why.")
    message: str = Field("", description="The evidence in words.")
    at: str = Field("", description="When.")


class FeatureDriftStatus(ApiModel):
    """Drift of one feature."""

    name: str = Field("", description="Name of the feature.")
    effect_percent: str = Field("", description="Effect (D or TV) in percent.")
    severity: str = Field("", description="none, low, medium or high.")


class DriftStatus(ApiModel):
    """The newest closed window."""

    verdict: str = Field("", description="NoDrift, Drift or InsufficientData.")
    severity: str = Field("", description="Highest severity of a feature.")
    window: str = Field("", description="Start and end of the window.")
    rows: int = Field(0, description="Rows of the window.")
    features: list[FeatureDriftStatus] = Field(default_factory=list, max_length=16, description="The strongest few.")


class LastCommand(ApiModel):
    """The command that was carried out last."""

    command: str = Field("", description="The annotation's value: verb and nonce.")
    at: str = Field("", description="When.")
    message: str = Field("", description="What came of it.")


class ModelDeploymentStatus(ApiModel):
    """What the operator observed; written by it alone."""

    observed_generation: int | None = Field(None, description="Generation of the spec this status is about.")
    phase: Phase | None = Field(None, description="Where it stands.")
    url: str = Field("", description="Address of the front door inside the cluster.")
    replicas: int = Field(0, description="Pods of all live revisions; read by the scale subresource.")
    selector: str = Field("", description="Label selector of these pods; read by the scale subresource.")
    stable: RevisionStatus | None = Field(None, description="The revision that serves.")
    canary: RevisionStatus | None = Field(None, description="The revision on trial.")
    previous: PreviousStatus | None = Field(None, description="The revision kept warm.")
    rejected: list[RejectedStatus] = Field(default_factory=list, max_length=32, description="Rolled back revisions.")
    drift: DriftStatus | None = Field(None, description="The newest window.")
    last_command: LastCommand | None = Field(None, description="The last command carried out.")
    conditions: list[Condition] = Field(default_factory=list, max_length=32, description="metav1 conditions.")


class ConditionType(StrEnum):
    """Condition types; Reconciling and Stalled are present only while true."""

    READY = "Ready"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    CANARY_HEALTHY = "CanaryHealthy"
    DRIFT_DETECTED = "DriftDetected"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Reasons of conditions, Events and the label of `mlserve_rollbacks_total`."""

    MODEL_LOAD_FAILED = "ModelLoadFailed"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    INSUFFICIENT_RESOURCES = "InsufficientResources"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    CANARY_PROGRESSING = "CanaryProgressing"
    CANARY_PAUSED = "CanaryPaused"
    ANALYSIS_FAILED = "AnalysisFailed"
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    PREDICTION_DRIFT = "PredictionDrift"
    DRIFT_ROLLBACK = "DriftRollback"
    MANUAL_ABORT = "ManualAbort"
    INVALID_SPEC = "InvalidSpec"
    OBJECT_CONFLICT = "ObjectConflict"
    OBJECT_REFUSED = "ObjectRefused"
    ROUTER_FULL = "RouterFull"
    NO_HEALTHY_UPSTREAM = "NoHealthyUpstream"
    ROLLED_BACK = "RolledBack"
    PROMOTED = "Promoted"
