"""What operator, router and runtime say to each other: ports, labels, headers, paths and counters.

The runtime must not know the custom resource, and the operator must not know the server: this module is all
they share. Counters are cumulative integers since the process began, keyed by (revision, pod UID, boot id), so
that a missed scrape loses nothing and a restart counts nothing twice.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

FIELD_MANAGER: Final = "mlserve-operator"

# --- ports of a runtime pod and of the front door -----------------------------------------------------------------
HTTP_PORT: Final = 8080
GRPC_PORT: Final = 8081
MANAGEMENT_PORT: Final = 9090
FRONT_DOOR_HTTP_PORT: Final = 80
FRONT_DOOR_GRPC_PORT: Final = 8081

# --- labels and annotations ---------------------------------------------------------------------------------------
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_MODELDEPLOYMENT: Final = "mlserve.io/modeldeployment"
LABEL_REVISION: Final = "mlserve.io/revision"
COMPONENT_RUNTIME: Final = "runtime"
COMPONENT_ROUTER: Final = "router"
ANNOTATION_COMMAND: Final = "mlserve.io/command"
ANNOTATION_LOCAL_URL: Final = "mlserve.io/local-url"
"""On a front-door Service of the local cluster: the address that works from the laptop itself."""
ANNOTATION_CONFIG_HASH: Final = "mlserve.io/config-hash"

# --- headers ------------------------------------------------------------------------------------------------------
HEADER_REVISION: Final = "x-mlserve-revision"
"""On every answer: the revision that gave it."""
HEADER_PREVIEW: Final = "x-mlserve-preview"
"""`canary`: send this request to the new revision whatever its weight; never counted as evidence."""
HEADER_UNIT: Final = "x-mlserve-unit"
"""Set by the router from the sticky header: the independent unit a request belongs to. One user's many requests
are not independent, so only the first of a rollout is judged."""
HEADER_PREDICTION_ID: Final = "x-mlserve-prediction-id"
HEADER_DRAINING: Final = "x-mlserve-draining"
"""`true` on the 503 of a pod that is draining, or still loading after a crash: nothing was carried out, so the router
may ask another host. (Its health check needs a moment to see that a container was restarted.)"""
HEADER_MIRROR: Final = "x-mlserve-mirror"
"""`true`: the router's copy of a request whose answer nobody gets; counted in a lane of its own. `false`: the router
says that it is the original, whatever its host is called."""
MIRROR_HOST_SUFFIX: Final = "-shadow"
"""Gateways built on Envoy append this to the Host of a copy, and say it in no other way. (gRPC servers in Python are
not told the authority, so the router's own copies have the header above.)"""

# --- paths of the management port -----------------------------------------------------------------------------------
PATH_METRICS: Final = "/metrics"
PATH_TELEMETRY: Final = "/telemetry"
PATH_PROFILE: Final = "/profile"
"""The reference profile of the artifact that is served; stable's is what the canary's pods count on."""
PATH_LIVEZ: Final = "/livez"
PATH_READYZ: Final = "/readyz"
PATH_CONFIG_HASH: Final = "/config-hash"
"""Answered by the router's management listener: the hash of the configuration it runs."""

# --- environment of a runtime container ---------------------------------------------------------------------------
ENV_BIND_HOST: Final = "MLSERVE_BIND_HOST"
ENV_MODEL_NAME: Final = "MLSERVE_MODEL_NAME"
ENV_MODEL_DIR: Final = "MLSERVE_MODEL_DIR"
ENV_MODEL_URI: Final = "MLSERVE_MODEL_URI"
ENV_MODEL_DIGEST: Final = "MLSERVE_MODEL_DIGEST"
ENV_MODEL_VERSION: Final = "MLSERVE_MODEL_VERSION"
ENV_REVISION: Final = "MLSERVE_REVISION"
ENV_POD_NAME: Final = "MLSERVE_POD_NAME"
ENV_POD_UID: Final = "MLSERVE_POD_UID"
ENV_NAMESPACE: Final = "MLSERVE_NAMESPACE"
ENV_DEVICE: Final = "MLSERVE_DEVICE"
ENV_THREADS: Final = "MLSERVE_THREADS"
"""Threads of a forward pass."""
ENV_MAX_ROWS: Final = "MLSERVE_MAX_ROWS"
ENV_MAX_DELAY_MICROS: Final = "MLSERVE_MAX_DELAY_MICROS"
ENV_QUEUE_ROWS: Final = "MLSERVE_QUEUE_ROWS"
ENV_TIMEOUT_MILLIS: Final = "MLSERVE_TIMEOUT_MILLIS"
ENV_COMPARISON_DIR: Final = "MLSERVE_COMPARISON_DIR"
"""Directory (a ConfigMap volume) with `comparison.json`: stable's profile for the duration of a rollout."""
ENV_FEEDBACK_KEYS_DIR: Final = "MLSERVE_FEEDBACK_KEYS_DIR"
"""Directory (a Secret volume) with `current` and optionally `previous`: keys that sign prediction ids."""
ENV_FETCH_ALLOW: Final = "MLSERVE_FETCH_ALLOW"
"""Comma-separated hosts and CIDRs that a fetch may reach although they are private."""

MODEL_DIR: Final = "/var/lib/mlserve/model"
COMPARISON_DIR: Final = "/etc/mlserve/comparison"
COMPARISON_FILE: Final = "comparison.json"
FEEDBACK_KEYS_DIR: Final = "/etc/mlserve/feedback"

TERMINATION_REASONS: Final = ("ModelLoadFailed", "ChecksumMismatch", "FetchFailed")
"""First word of a runtime container's termination message (/dev/termination-log): `Reason: what to do`."""


def _latency_edges() -> tuple[int, ...]:
    """Geometric edges from 100 us to over 60 s, four a doubling: an edge is at most 19 % above any limit."""
    edges: list[int] = []
    value = 100.0
    while not edges or edges[-1] < 60_000_000:
        edges.append(round(value))
        value *= 2**0.25
    return tuple(edges)


LATENCY_EDGES_MICROS: Final = _latency_edges()
"""Upper edges of the latency buckets in microseconds; a last bucket holds what is slower."""


def latency_bucket(micros: float) -> int:
    """Index of the bucket of a latency: the first whose upper edge is not below it.

    >>> latency_bucket(100), latency_bucket(101), latency_bucket(1e12) == len(LATENCY_EDGES_MICROS)
    (0, 1, True)
    """
    return bisect_left(LATENCY_EDGES_MICROS, micros)


Count = Annotated[int, Field(ge=0, le=2**53)]
"""What no counter can reach is refused where it is read: sums of it would overflow where they are compared."""
Sum = Annotated[int, Field(ge=-(10**30), le=10**30)]
"""Of rewards or their squares, which may be large numbers each."""


class WireModel(BaseModel):
    """camelCase JSON; unknown fields are ignored so that a newer runtime can talk to an older operator."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class FeatureCounts(WireModel):
    """Counts of one feature on its profile's bins (numeric: intervals; categorical: categories, then `other`)."""

    counts: list[Count] = Field(default_factory=list)
    missing: Count = 0
    non_finite: Count = 0
    unseen: Count = 0


class ProfileCounts(WireModel):
    """Everything counted on the edges of one reference profile."""

    profile_digest: str
    rows: Count = 0
    features: dict[str, FeatureCounts] = Field(default_factory=dict)
    predictions: list[Count] = Field(default_factory=list)
    """Per class, or per score bin of a regression."""
    confidence: list[Count] = Field(default_factory=list)
    entropy: list[Count] = Field(default_factory=list)


class FeedbackCounts(WireModel):
    """What clients reported back. `confusion[label][prediction]`; rewards in thousandths."""

    confusion: dict[str, dict[str, Count]] = Field(default_factory=dict)
    rewards: Count = 0
    reward_sum_milli: Sum = 0
    reward_sum_square_milli: Annotated[Sum, Field(ge=0)] = 0

    @property
    def labelled(self) -> int:
        """Predictions whose label was reported."""
        return sum(sum(row.values()) for row in self.confusion.values())

    @property
    def right(self) -> int:
        """Those that were right."""
        return sum(row.get(label, 0) for label, row in self.confusion.items())


class LaneCounts(WireModel):
    """Requests of one kind: `live` ones are judged, `mirror` ones are the shadow's; previews are in neither."""

    requests: Count = 0
    """Predictions asked for (independent units only where a unit header is set)."""
    rows: Count = 0
    client_errors: Count = 0
    """4xx: the client's fault, never held against a revision."""
    rejected: Count = 0
    """429: refused for load."""
    server_errors: Count = 0
    """5xx that are not timeouts or draining."""
    timeouts: Count = 0
    """504: expired in the queue or in the model."""
    bad_outputs: Count = 0
    """Requests with NaN, infinite, empty or misshapen outputs."""
    latency: list[Count] = Field(default_factory=list)
    """Requests per bucket of LATENCY_EDGES_MICROS, server errors and timeouts included."""
    latency_sum_micros: Count = 0
    queue: list[Count] = Field(default_factory=list)
    own: ProfileCounts | None = None
    """On the edges of the model's own profile."""
    comparison: ProfileCounts | None = None
    """On the edges of stable's profile, during a rollout."""
    feedback: FeedbackCounts = Field(default_factory=FeedbackCounts)


class TelemetrySnapshot(WireModel):
    """`GET /telemetry` of a runtime pod: cumulative since the process began."""

    schema_version: int = 1
    name: str
    revision: str
    version: str = ""
    model_digest: str = ""
    pod: str = ""
    pod_uid: str = ""
    boot_id: str
    """New with every process: tells a restart from a counter that went backwards."""
    sequence: Count = 0
    """Rises with every snapshot of a boot."""
    ready: bool = False
    draining: bool = False
    in_flight: Count = 0
    queue_rows: Count = 0
    live: LaneCounts = Field(default_factory=LaneCounts)
    mirror: LaneCounts = Field(default_factory=LaneCounts)
    other_feedback: dict[str, FeedbackCounts] = Field(default_factory=dict)
    """By revision: feedback on live predictions of other revisions that was reported to this pod."""
