"""What is told about a reconcile beside the status: Events of the shell, lines of the history, unreadable resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlserve_core.api.conditions import Claim, merge_conditions
from mlserve_core.api.v1alpha1 import ConditionType, ModelDeploymentStatus, Reason
from mlserve_operator.history import DecisionRecord
from mlserve_operator.resources.records import checkpoint_name
from mlserve_operator.rollout.state import Event, RolloutState
from mlserve_operator.status import claims, timestamp

if TYPE_CHECKING:
    from pydantic import ValidationError

    from mlserve_operator.kube import ApiError
    from mlserve_operator.observe import Observed
    from mlserve_operator.rollout.state import Decision
    from mlserve_operator.status import Situation

Object = dict[str, Any]


def own_events(observed: Observed, situation: Situation, decision: Decision) -> list[Event]:
    """Events of the shell: a failure that is news."""
    events = []
    before = next((item for item in observed.status.conditions if item.type == ConditionType.READY), None)
    ready = claims(situation)[0]
    told = {event.reason for event in decision.events}
    is_failure = ready.status is False and (situation.obstacle is not None or situation.failure is not None)
    if is_failure and ready.reason not in told and (before is None or before.reason != ready.reason):
        events.append(Event(type="Warning", reason=ready.reason, message=ready.message))
    return events


def unknown_command(text: str) -> Event:
    """Tell of a command annotation that cannot be read."""
    message = f"{text!r} is no command: write promote, abort, retry, pause, resume or undo[=revision], then :nonce"
    return Event(type="Warning", reason="UnknownCommand", message=message)


def refusal(body: Object, error: ApiError) -> tuple[str, str]:
    """Reason and message for an object that the API server does not take."""
    reason = Reason.INSUFFICIENT_RESOURCES if "exceeded quota" in str(error) else Reason.OBJECT_REFUSED
    hint = " (is the CustomResourceDefinition of this kind installed?)" if error.not_found else ""
    return reason, f"{body['kind']} {body['metadata']['name']}: {error}{hint}"


def decision_record(observed: Observed, decision: Decision, event: Event) -> DecisionRecord:
    """The line of the history for an Event of a decision: about whom, and on how many requests."""
    state, before = decision.state, observed.state
    evidence = state.evidence or before.evidence
    return DecisionRecord(
        time=observed.observation.now,
        namespace=observed.namespace,
        name=observed.name,
        revision=state.canary or before.canary or state.stable or observed.observation.target,
        decision=state.phase.value,
        reason=event.reason,
        message=event.message,
        weight=state.weight,
        canary_requests=evidence.requests_canary if evidence else 0,
        stable_requests=evidence.requests_stable if evidence else 0,
    )


def invalid(
    owner: Object, before: ModelDeploymentStatus, error: ValidationError, now: float
) -> tuple[ModelDeploymentStatus, list[Event]]:
    """Status and Events of a resource that cannot be read; no Event if that was said before."""
    first = error.errors()[0]
    message = f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    if error.title == RolloutState.__name__:
        checkpoint = checkpoint_name(owner["metadata"]["name"])
        message = f"ConfigMap {checkpoint} cannot be read (delete it to begin anew with the spec's revision): {message}"
    found = [
        Claim(ConditionType.READY, False, Reason.INVALID_SPEC, message),
        Claim(ConditionType.STALLED, True, Reason.INVALID_SPEC, message),
    ]
    generation = owner["metadata"]["generation"]
    conditions = merge_conditions(before.conditions, found, generation=generation, now=timestamp(now))
    status = before.model_copy(update={"observed_generation": generation, "conditions": conditions})
    is_news = dump(before) != dump(status)
    return status, [Event(type="Warning", reason=Reason.INVALID_SPEC, message=message)] if is_news else []


def dump(status: ModelDeploymentStatus) -> Object:
    """A status as it is stored: what says nothing is left out."""
    raw: Object = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: value for key, value in raw.items() if value not in ("", [])}
