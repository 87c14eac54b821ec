"""What a rollout remembers, what it sees, and what it decides.

An operator may die between any two instructions and another replica may take over. So everything a decision
rests on is in `RolloutState`, which is written to the checkpoint ConfigMap *before* it is acted upon, and nothing
is in memory alone. `step(state, observation)` is then a plain function: the same two arguments always give the
same `Decision`.

All times are seconds since the epoch, all weights percent.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase, Reason
from mlserve_core.statistics.drift import DriftResult
from mlserve_core.wire import TelemetrySnapshot
from mlserve_operator.rollout.evidence import Evidence

MAX_REJECTED: Final = 32


class Frozen(BaseModel):
    """Base of every type here: immutable, camelCase in JSON, tolerant of fields of another version."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


# --- what is seen -------------------------------------------------------------------------------------------------


class Verb(StrEnum):
    """What a person may ask for through the command annotation."""

    PROMOTE = "promote"
    ABORT = "abort"
    RETRY = "retry"
    PAUSE = "pause"
    RESUME = "resume"
    UNDO = "undo"


class Command(Frozen):
    """The annotation `mlserve.io/command`: `verb:nonce`, or `undo=revision:nonce` to name a revision."""

    text: str
    verb: Verb
    argument: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an annotation; `None` when it is no command (the caller says so in an Event).

        >>> Command.parse("undo=digits-7c9d5f:17").argument
        'digits-7c9d5f'
        >>> Command.parse("explode:1") is None
        True
        """
        head, _, _nonce = text.partition(":")
        verb, _, argument = head.partition("=")
        if verb not in set(Verb):
            return None
        return cls(text=text, verb=Verb(verb), argument=argument)


class Failure(Frozen):
    """Why a revision cannot become available, as told by its pods, its Deployment or the scheduler."""

    reason: Reason
    message: str
    terminal: bool = True
    """False: it may pass by itself (a pod waiting for a node), so only the progress deadline ends it."""


class RevisionHealth(Frozen):
    """Pods of one live revision."""

    desired: int = 0
    """Pods its Deployment asks for at present (set by the plan, or by an autoscaler above the plan's floor)."""
    ready: int = 0
    pods: int = 0
    """Pods that exist, those on their way out included: each of them holds its GPUs."""
    failure: Failure | None = None


class Route(Frozen):
    """How the front door splits requests. Empty weights: nothing can serve yet."""

    weights: dict[str, int] = Field(default_factory=dict)
    """Percent per revision; sums to 100 unless empty. A revision at 0 is known to the router and warm."""
    mirror: str = ""
    """Revision that gets a copy of requests, its answers discarded."""
    mirror_percent: int = 0
    preview: str = ""
    """Revision on trial: requests with the preview header go to it."""
    spare: str = ""
    """Revision that answers in place of the one on trial where that has no healthy pod; weights stay as they are."""


class PodObservation(Frozen):
    """One pod and what it told about itself; no telemetry means it could not be asked, and why."""

    name: str
    uid: str
    revision: str
    ready: bool = True
    telemetry: TelemetrySnapshot | None = None
    error: str = ""


class RouterCounters(Frozen):
    """What one router pod counted for one revision since it began: requests that no pod can report.

    `failures` are requests that ended at the router without an answer of the revision: connection refused or
    reset, no host, timeout at the router. Answers of pods, 5xx included, are not in it: pods count those.
    """

    pod_uid: str
    boot_id: str = ""
    revision: str
    failures: int = 0


class QueryResult(Frozen):
    """One Prometheus check: the value, or why there is none."""

    name: str
    value: float | None = None
    error: str = ""


class Observation(Frozen):
    """Everything that is known at one moment."""

    now: float
    generation: int
    spec: ModelDeploymentSpec
    target: str
    """Revision that the spec asks for."""
    revisions: dict[str, RevisionHealth] = Field(default_factory=dict)
    """Live revisions. One that is absent has no Deployment."""
    gpus: dict[str, int] = Field(default_factory=dict)
    """GPUs of one pod, per kept revision; one that asks for none may be absent."""
    history: tuple[str, ...] = ()
    """Revisions whose snapshot is kept and which can be started again, newest first."""
    route: Route | None = None
    """The route that *every* router pod confirmed to run; `None` while they differ or cannot be asked."""
    unreached: dict[str, int] = Field(default_factory=dict)
    """Router pods that find no healthy pod of a revision which has ready pods and a share of the requests, if any."""
    routers: int = 0
    """Router pods that could be asked."""
    pods: tuple[PodObservation, ...] = ()
    router: tuple[RouterCounters, ...] = ()
    queries: tuple[QueryResult, ...] = ()
    drift: dict[str, DriftResult] = Field(default_factory=dict)
    """Newest closed window against the reference profile, per revision."""
    inputs_moved_at: dict[str, float] = Field(default_factory=dict)
    """When the newest rows of a revision were last far from its reference."""
    command: Command | None = None

    @property
    def is_reached(self) -> bool:
        """Whether no router asks in vain for pods that are ready."""
        return not self.unreached

    def health(self, revision: str | None) -> RevisionHealth:
        """Health of a revision; one without a Deployment has no pods."""
        return self.revisions.get(revision or "", RevisionHealth())


# --- what is remembered -------------------------------------------------------------------------------------------


class Rejection(Frozen):
    """A revision that was rolled back. It is not tried again until a retry is asked for."""

    revision: str
    reason: Reason
    message: str
    at: float


class CommandRecord(Frozen):
    """The command that was carried out last; the same text is never carried out twice."""

    text: str
    at: float
    message: str


class PauseCause(StrEnum):
    """Who holds a paused rollout; it goes on when all causes are gone."""

    COMMAND = "Command"
    SPEC = "Spec"
    ANALYSIS = "Analysis"


class RolloutState(Frozen):
    """Everything remembered between two ticks; the content of the checkpoint ConfigMap."""

    schema_version: int = 1
    phase: Phase = Phase.PENDING
    stable: str | None = None
    """The revision that serves. None until the first one is available."""
    canary: str | None = None
    """The revision on trial, or on its way out while RollingBack."""
    previous: str | None = None
    """The revision kept warm after a promotion."""
    retained_until: float | None = None
    """When the previous revision's pods may go."""
    weight: int = 0
    """Percent of requests the canary is meant to get. Stable gets the rest."""
    mirror_percent: int = 0
    """Percent of requests copied to the canary."""
    step: int | None = None
    """Index into spec.rollout.steps; None before the first step."""
    step_started_at: float | None = None
    """When the step's weight was confirmed by every router pod, or the way to the next one began."""
    canary_since: float | None = None
    """Since when the canary is expected to become available; the progress deadline counts from here."""
    drained_since: float | None = None
    """RollingBack: when weight 0 was confirmed."""
    shadowed: bool = False
    """Shadow: the mirrored part is over."""
    climbing: bool = False
    """The step is done and the canary is being scaled for the next weight."""
    promoting: bool = False
    """All steps are done (or `promote` was asked for): the canary is scaled up and takes everything."""
    baseline: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Baking: units and bad events of the previous revision in the comparison that ended, per check. It is held to
    them when its pods are gone."""
    full_size: int | None = None
    """Pods of stable when the trial began: what all requests need, should stable have to give up pods for it."""
    immediate: bool = False
    """No steps: an undo, or a promote without evidence."""
    pinned: str | None = None
    """Revision chosen by `undo`; wanted instead of the spec's until the spec asks for another revision."""
    pinned_against: str | None = None
    """The spec's revision at the time of `undo`."""
    pauses: tuple[PauseCause, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    last_command: CommandRecord | None = None
    evidence: Evidence | None = None
    clock: float | None = None
    """Time of the last tick while timers run; a jump of the wall clock moves the timers with it."""
    stalled: bool = False
    """Nothing will change without a person (or the cluster) doing something."""
    reason: str = ""
    """Reason of the conditions, one of `Reason` or empty when all is well."""
    message: str = ""
    """What happened and what to do."""

    def rejection(self, revision: str) -> Rejection | None:
        """Why a revision is not tried, if so."""
        return next((item for item in self.rejected if item.revision == revision), None)

    @property
    def route(self) -> Route:
        """The route this state stands for."""
        if self.stable is None:
            return Route()
        weights = {self.stable: 100 - self.weight}
        if self.canary is not None:
            weights[self.canary] = self.weight
        elif self.previous is not None:
            weights[self.previous] = 0
        mirror = self.canary if self.canary is not None and self.mirror_percent else None
        preview = self.canary if self.canary is not None and self.phase in {Phase.PROGRESSING, Phase.PAUSED} else None
        return Route(
            weights=weights,
            mirror=mirror or "",
            mirror_percent=self.mirror_percent if mirror else 0,
            preview=preview or "",
            spare=(self.stable if self.canary is not None else self.previous) or "",
        )


# --- what is decided ----------------------------------------------------------------------------------------------


class Role(StrEnum):
    """What a live revision is for."""

    STABLE = "stable"
    CANARY = "canary"
    PREVIOUS = "previous"


class RevisionPlan(Frozen):
    """A revision that must exist. One that is live and not planned is deleted."""

    revision: str
    role: Role
    replicas: int
    """Pods wanted; with an autoscaler the floor it may not go below."""
    ceiling: int | None = None
    """With an autoscaler: the size it may not go above, where GPUs are short; None leaves it its own bound."""


class Event(Frozen):
    """A Kubernetes Event to send, once."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


class Decision(Frozen):
    """What `step` asks for. Write `state` first (compare-and-swap), then act."""

    state: RolloutState
    route: Route
    revisions: tuple[RevisionPlan, ...]
    events: tuple[Event, ...] = ()
    restart: tuple[str, ...] = ()
    """Names of pods to delete: bad ones in a revision that is otherwise good."""
    compare_on: str | None = None
    """Revision whose reference profile the canary's pods shall count on; None removes the comparison."""
    requeue_after: float | None = None
    """Seconds until the next tick is needed; None when only a change can matter."""
