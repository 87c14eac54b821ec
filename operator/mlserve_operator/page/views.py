"""What the page shows of a ModelDeployment, as plain values: the templates only place them.

A resource is read leniently. An old operator's status or a half-written one must give a page with gaps, not an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from pydantic import ValidationError

from mlserve_core.api.v1alpha1 import ConditionType, ModelDeploymentStatus, Phase, RevisionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

TONES: Final = {
    Phase.PENDING: "busy",
    Phase.HEALTHY: "good",
    Phase.PROGRESSING: "busy",
    Phase.BAKING: "busy",
    Phase.PAUSED: "held",
    Phase.ROLLING_BACK: "bad",
    Phase.ROLLED_BACK: "bad",
}
SEVERITIES: Final = {"": "none", "none": "good", "low": "held", "medium": "held", "high": "bad"}
_URGENCY: Final = ("bad", "held", "busy", "good")


@dataclass(frozen=True)
class Badge:
    """A word with a tone; the tone repeats what the word says, for those who see colours."""

    text: str
    tone: str


@dataclass(frozen=True)
class Arm:
    """A revision that gets requests, or is kept warm."""

    role: str
    revision: str
    version: str
    digest: str
    weight: int
    ready: int

    @classmethod
    def of(cls, role: str, status: RevisionStatus) -> Self:
        """From its part of the status."""
        return cls(role, status.revision, status.version, status.digest, status.weight, status.ready_replicas)


@dataclass(frozen=True)
class CheckRow:
    """One comparison of the canary with stable."""

    name: str
    verdict: Badge
    evidence: str
    message: str


@dataclass(frozen=True)
class ModelView:
    """One ModelDeployment as the page shows it."""

    namespace: str
    name: str
    status: ModelDeploymentStatus
    uri: str
    version: str

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> Self:
        """From the resource; whatever is missing is empty."""
        metadata = resource.get("metadata") or {}
        model = (resource.get("spec") or {}).get("model") or {}
        return cls(
            metadata.get("namespace", ""),
            metadata.get("name", ""),
            _read_status(resource.get("status") or {}),
            model.get("uri", ""),
            model.get("version", ""),
        )

    @property
    def path(self) -> str:
        """Where its own page is."""
        return f"/namespaces/{quote(self.namespace, safe='')}/modeldeployments/{quote(self.name, safe='')}"

    @property
    def phase(self) -> Badge:
        """Where it stands. A stalled one is bad whatever its phase."""
        phase = self.status.phase or Phase.PENDING
        stalled = self.condition(ConditionType.STALLED) == "True"
        return Badge(phase.value, "bad" if stalled else TONES[phase])

    @property
    def ready(self) -> Badge:
        """Its Ready condition."""
        status = self.condition(ConditionType.READY)
        return Badge(
            {"True": "ready", "False": "not ready"}.get(status, "unknown"), "good" if status == "True" else "held"
        )

    @property
    def drift(self) -> Badge:
        """The newest verdict about its traffic."""
        found = self.status.drift
        if found is None or not found.verdict:
            return Badge("not measured", "none")
        tone = {"NoDrift": "good", "Drift": SEVERITIES.get(found.severity, "held")}.get(found.verdict, "none")
        words = {"NoDrift": "no drift", "Drift": f"drift, {found.severity}", "InsufficientData": "too few rows"}
        return Badge(words.get(found.verdict, found.verdict), tone)

    @property
    def message(self) -> str:
        """What happens now or what is wrong, in the operator's words."""
        for kind in (ConditionType.STALLED, ConditionType.RECONCILING, ConditionType.READY):
            for condition in self.status.conditions:
                if condition.type == kind and (kind == ConditionType.READY or condition.status == "True"):
                    return condition.message or condition.reason
        return "the operator has not looked at it yet"

    @property
    def arms(self) -> list[Arm]:
        """The revisions that have pods: stable, then canary."""
        pairs = (("stable", self.status.stable), ("canary", self.status.canary))
        return [Arm.of(role, status) for role, status in pairs if status is not None and status.revision]

    @property
    def checks(self) -> list[CheckRow]:
        """Evidence of the rollout that runs, or of the last one."""
        analysis = self.status.canary.analysis if self.status.canary else None
        tones = {"Successful": "good", "Failed": "bad", "Inconclusive": "busy", "Error": "held"}
        return [
            CheckRow(check.name, Badge(check.verdict, tones.get(check.verdict, "none")), check.evidence, check.message)
            for check in (analysis.checks if analysis else ())
        ]

    @property
    def order(self) -> tuple[int, str, str]:
        """The ones that need a person come first, then by name."""
        urgency = _URGENCY.index(self.phase.tone)
        return urgency, self.namespace, self.name

    def condition(self, kind: str) -> str:
        """Status of a condition; empty without it."""
        return next((item.status for item in self.status.conditions if item.type == kind), "")


def _read_status(status: Mapping[str, Any]) -> ModelDeploymentStatus:
    """The status without the top-level fields that this version cannot read."""
    known = {key: value for key, value in status.items() if value is not None}
    try:
        return ModelDeploymentStatus.model_validate(known)
    except ValidationError as error:
        unreadable = {item["loc"][0] for item in error.errors()}
        return ModelDeploymentStatus.model_validate({k: v for k, v in known.items() if k not in unreadable})


@dataclass(frozen=True)
class Decision:
    """A row of the decision history; its time is seconds since the epoch."""

    time: str
    revision: str
    decision: Badge
    reason: str
    weight: str
    requests: str
    message: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a row; `decision` is a verb such as Promoted or RolledBack."""
        word = str(row.get("decision") or "")
        lower = word.lower()
        bad = any(part in lower for part in ("roll", "abort", "reject", "fail"))
        tone = (
            "bad" if bad else "held" if "pause" in lower or "hold" in lower else "good" if "promot" in lower else "busy"
        )
        counts = [row.get("canaryRequests"), row.get("stableRequests")]
        return cls(
            time=_moment(row.get("time")),
            revision=str(row.get("revision") or ""),
            decision=Badge(word, tone),
            reason=str(row.get("reason") or ""),
            weight="" if row.get("weight") is None else f"{row['weight']} %",
            requests="" if counts == [None, None] else f"{counts[0] or 0} / {counts[1] or 0}",
            message=str(row.get("message") or ""),
        )


@dataclass(frozen=True)
class DriftWindow:
    """A row of the drift history."""

    time: str
    revision: str
    verdict: Badge
    rows: str
    feature: str
    effect: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a closed window; the strongest of its features comes first, its effect is between 0 and 1."""
        severity, verdict = str(row.get("severity") or ""), str(row.get("verdict") or "")
        strongest: Mapping[str, Any] = next(iter(row.get("features") or ()), {})
        effect = strongest.get("effect")
        return cls(
            time=_moment(row.get("time")),
            revision=str(row.get("revision") or ""),
            verdict=Badge(verdict, "good" if verdict == "NoDrift" else SEVERITIES.get(severity, "none")),
            rows=str(row.get("rows") or ""),
            feature=str(strongest.get("name") or ""),
            effect=None if effect is None else float(effect),
        )


def _moment(seconds: float | None) -> str:
    """Seconds since the epoch, for people."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
