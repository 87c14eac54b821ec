"""Measure: from cumulative counters of pods and routers to the counts of one look.

A look is the time between two readings with one and the same confirmed weight. Counters are cumulative, so a missed
reading loses nothing; the last-seen values are kept per process (pod uid and boot id), so a restart counts nothing
twice. What cannot be true (a counter that went back, a pod that speaks for another revision) is never used, and is
reported as a problem: the look then counts as not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.wire import LATENCY_EDGES_MICROS, FeatureCounts, FeedbackCounts, LaneCounts, latency_bucket
from mlserve_operator.rollout.evidence import MAX_SEEN, Counters, Evidence, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlserve_core.wire import ProfileCounts
    from mlserve_operator.rollout.state import Observation, PodObservation, RolloutState

PREDICTION_BINS: Final = 64
COARSE_BINS: Final = 8
"""Bins of a feature or of confidence when arms are compared: enough to see a fault, few enough for a checkpoint."""
FEATURE_CELLS: Final = 25_000
"""Counts of features that are remembered of one arm. A checkpoint is a ConfigMap, which ends at 1 MiB. Of 100 features
that is 25 pods, and the inputs of so many tell whether the arms see the same ones."""
NO_WEIGHT: Final = -1
"""In place of a weight: counting begins anew once the route is what it should be."""
LATENCY_SLACK_MICROS: Final = 5_000
"""A request is not slow for less than this above stable's p95: on a model of 2 ms a quarter more is noise."""
MIN_TIMED: Final = 100
"""Stable requests needed to know its 95th percentile."""
BINARY: Final = {"errors": ("requests", "errors"), "outputs": ("requests", "outputs"), "latency": ("timed", "slow"),
                 "labels": ("labelled", "wrong")}  # fmt: skip
"""Checks of bad events: the counters that hold their units and their bad events."""


@dataclass
class Arm:
    """Counts of one revision in one look."""

    counters: Counters = field(default_factory=Counters)
    failures: int = 0
    """Requests that ended at the router without an answer."""

    def units(self, check: str) -> tuple[int, int]:
        """Units and bad events of a check."""
        units, bad = BINARY[check]
        n, x = getattr(self.counters, units), getattr(self.counters, bad)
        extra = self.failures if check == "errors" else 0
        return max(n, x) + extra, x + extra


@dataclass
class Look:
    """Counts of both arms in one look."""

    canary: Arm = field(default_factory=Arm)
    stable: Arm = field(default_factory=Arm)
    pods: dict[str, Arm] = field(default_factory=dict)
    """The canary's pods by uid."""
    problems: tuple[str, ...] = ()
    """Why the look was not measured in full."""
    mirrored: bool = False
    complete: bool = True
    """Whether it has the requests of exactly its own time: all pods answered, in this look and the one before."""


def measure(
    evidence: Evidence | None, state: RolloutState, observation: Observation
) -> tuple[Evidence | None, Look | None]:
    """Take a look if one is due.

    Returns:
        The evidence with new last-seen counters, and the look; `None` when counting only began, or it is too early.
    """
    fresh = evidence is None or (evidence.weight, evidence.mirror_percent) != (state.weight, state.mirror_percent)
    if observation.route != state.route:
        if evidence is None or fresh or observation.route is None:
            return evidence, None
        # Somebody changed the weights behind our back: what was counted meanwhile belongs to no look.
        return evidence.model_copy(update={"weight": NO_WEIGHT}), None
    if evidence is None or fresh:
        return _begin(evidence or Evidence(), state, observation), None
    if observation.now < evidence.seen_at + observation.spec.rollout.analysis.interval_seconds:
        return evidence, None
    return _look(evidence, state, observation)


def _begin(evidence: Evidence, state: RolloutState, observation: Observation) -> Evidence:
    """Take readings from which the next look is counted; whatever happened before is dropped."""
    slow_from = evidence.slow_from if evidence.slow_from is not None else _slow_from(state, observation)
    evidence = evidence.model_copy(update={"slow_from": slow_from})
    seen, sampled = dict(evidence.seen), _sampled(state, observation)
    unasked = []
    for pod in _pods(state, observation):
        problem = _lie(pod)
        if pod.telemetry is None or problem:
            unasked.append(pod.uid)
        else:
            seen[_key(pod)] = _read(pod, state, slow_from, sampled)
            seen |= {key: counters for _, key, counters in _on_the_other_arm(pod, state)}
    failures = {_router_key(item): item.failures for item in observation.router}
    return evidence.model_copy(
        update={
            "weight": state.weight,
            "mirror_percent": state.mirror_percent,
            "seen_at": observation.now,
            "seen": _bounded(seen, observation),
            "unasked": tuple(unasked),
            "failures_seen": failures,
            "verdict": Verdict.INCONCLUSIVE,
            "hold": "",
        }
    )


def _look(evidence: Evidence, state: RolloutState, observation: Observation) -> tuple[Evidence, Look]:
    slow_from = evidence.slow_from if evidence.slow_from is not None else _slow_from(state, observation)
    look, problems = Look(mirrored=state.weight == 0), list[str]()
    seen, unasked = dict(evidence.seen), set(evidence.unasked)
    answered, silent = dict.fromkeys((state.canary, state.stable), 0), False
    sampled = _sampled(state, observation)
    for pod in _pods(state, observation):
        problem = _lie(pod)
        if pod.telemetry is None or problem:
            silent = True
            if pod.ready or problem:
                problems.append(problem or f"{pod.name} could not be asked: {pod.error or 'no answer'}")
            continue
        new, key = _read(pod, state, slow_from, sampled), _key(pod)
        old = seen.get(key)
        if old is None and pod.uid in unasked:
            unasked.discard(pod.uid)
            seen[key] = new
            seen |= {key: counters for _, key, counters in _on_the_other_arm(pod, state)}
            continue
        difference = _minus(new, old or Counters())
        if difference is None:
            problems.append(f"counters of {pod.name} went back without a restart")
            continue
        if old is not None and old.timed == 0 < old.requests:  # read before the latency limit was known
            difference = difference.model_copy(update={"slow": 0, "timed": 0})
        seen[key] = new
        answered[pod.revision] += 1
        arm = look.canary if pod.revision == state.canary else look.stable
        arm.counters = _plus(arm.counters, difference)
        if pod.revision == state.canary:
            mine = look.pods.setdefault(pod.uid, Arm())
            mine.counters = _plus(mine.counters, difference)
        for revision, key, told in _on_the_other_arm(pod, state):
            if (difference := _minus(told, seen.get(key) or Counters())) is not None:
                arm = look.canary if revision == state.canary else look.stable
                arm.counters = _plus(arm.counters, difference)
            seen[key] = told
    problems += [f"no pod of {revision} could be asked" for revision, n in answered.items() if n == 0]
    # Stable answers for a canary that a router does not reach, so nothing else would tell.
    problems += [
        f"{n} router pods reach no pod of {name}" for name, n in observation.unreached.items() if name in answered
    ]
    failures = _count_failures(evidence, state, observation, look, problems)
    look.problems, look.complete = tuple(problems), not (silent or problems or evidence.partial)
    update = {
        "seen_at": observation.now,
        "seen": _bounded(seen, observation),
        "unasked": tuple(sorted(unasked)),
        "failures_seen": failures,
        "partial": silent or bool(problems),
        "slow_from": slow_from,
    }
    return evidence.model_copy(update=update), look


def _count_failures(
    evidence: Evidence, state: RolloutState, observation: Observation, look: Look, problems: list[str]
) -> dict[str, int]:
    """Add what only the routers saw: requests that no pod answered."""
    seen = dict(evidence.failures_seen)
    if look.mirrored:
        return seen
    for item in observation.router:
        key = _router_key(item)
        new = item.failures - seen.get(key, 0)
        if new < 0:
            problems.append(f"counters of router pod {item.pod_uid} went back without a restart")
            continue
        seen[key] = item.failures
        if item.revision == state.canary:
            look.canary.failures += new
        elif item.revision == state.stable:
            look.stable.failures += new
    return seen


# --- one pod ------------------------------------------------------------------------------------------------------


def _pods(state: RolloutState, observation: Observation) -> Iterable[PodObservation]:
    return (pod for pod in observation.pods if pod.revision in {state.canary, state.stable})


def _key(pod: PodObservation) -> str:
    assert pod.telemetry is not None  # noqa: S101 - callers have checked
    return f"{pod.uid}/{pod.telemetry.boot_id}"


def _router_key(item: object) -> str:
    return "/".join(getattr(item, name) for name in ("pod_uid", "boot_id", "revision"))


def _lie(pod: PodObservation) -> str:
    """Why a pod's answer cannot be its own, or nothing."""
    told = pod.telemetry
    if told is None:
        return ""
    if told.revision != pod.revision:
        return f"{pod.name} belongs to {pod.revision} and speaks for {told.revision}"
    if told.pod_uid and told.pod_uid != pod.uid:
        return f"{pod.name} has uid {pod.uid} and speaks for {told.pod_uid}"
    return ""


def _lane(pod: PodObservation, state: RolloutState) -> tuple[LaneCounts, ProfileCounts | None]:
    """What a pod is judged by, and its counts on the profile that both arms have in common."""
    assert pod.telemetry is not None  # noqa: S101 - callers have checked
    mirrored = state.weight == 0 and pod.revision == state.canary
    lane = pod.telemetry.mirror if mirrored else pod.telemetry.live
    # Stable's own profile is the one that the canary is given to count on for the time of the rollout.
    return lane, (lane.own or lane.comparison) if pod.revision == state.stable else lane.comparison


def _sampled(state: RolloutState, observation: Observation) -> frozenset[str]:
    """Uids of the pods whose features are compared: all of them, unless they are more than a checkpoint can hold."""
    chosen: set[str] = set()
    for revision in (state.canary, state.stable):
        counted = {
            pod.uid: len(common.features)
            for pod in observation.pods
            if pod.revision == revision and pod.telemetry is not None and (common := _lane(pod, state)[1]) is not None
        }
        room = FEATURE_CELLS // ((COARSE_BINS + 2) * max([1, *counted.values()]))
        chosen.update(sorted(counted)[:room])
    return frozenset(chosen)


def _read(pod: PodObservation, state: RolloutState, slow_from: int | None, sampled: frozenset[str]) -> Counters:
    """The counters of one pod that matter in this rollout."""
    lane, common = _lane(pod, state)
    features = common.features if common is not None and pod.uid in sampled else {}
    return Counters(
        asked=lane.requests,
        requests=max(lane.requests - lane.client_errors - lane.rejected, 0),
        errors=lane.server_errors + lane.timeouts,
        outputs=lane.bad_outputs,
        slow=sum(lane.latency[slow_from:]) if slow_from is not None else 0,
        timed=sum(lane.latency) if slow_from is not None else 0,
        **_feedback(lane.feedback),
        rows=lane.rows,
        profile=common.profile_digest if common else "",
        predictions=fold(common.predictions, PREDICTION_BINS) if common else (),
        confidence=fold(common.confidence, COARSE_BINS) if common else (),
        features={name: _coarse(counts) for name, counts in features.items()},
    )


def _feedback(told: FeedbackCounts) -> dict[str, int]:
    return {
        "labelled": told.labelled,
        "wrong": told.labelled - told.right,
        "rewards": told.rewards,
        "reward_sum": told.reward_sum_milli,
        "reward_squares": told.reward_sum_square_milli,
    }


def _on_the_other_arm(pod: PodObservation, state: RolloutState) -> Iterator[tuple[str, str, Counters]]:
    """Feedback on the other arm's answers that reached this pod: revision, key of its last-seen counters, counts."""
    told = pod.telemetry.other_feedback if pod.telemetry else {}
    for revision in (state.canary, state.stable):
        if revision is not None and revision != pod.revision and revision in told:
            yield revision, f"{_key(pod)}>{revision}", Counters(**_feedback(told[revision]))


def _coarse(counts: FeatureCounts) -> tuple[int, ...]:
    return (*fold(counts.counts, COARSE_BINS), counts.missing + counts.non_finite, counts.unseen)


def fold(counts: Sequence[int], bins: int) -> tuple[int, ...]:
    """Join neighbours until there are at most so many bins.

    >>> fold([1, 2, 3, 4], 2)
    (3, 7)
    """
    n = len(counts)
    if n <= bins:
        return tuple(counts)
    return tuple(sum(counts[-(-i * n // bins) : -(-(i + 1) * n // bins)]) for i in range(bins))


def _minus(new: Counters, old: Counters) -> Counters | None:
    """What was counted since; `None` when a counter went back."""
    values: dict[str, Any] = {name: getattr(new, name) - getattr(old, name) for name in _NUMBERS}
    if any(value < 0 and name != "reward_sum" for name, value in values.items()):
        return None
    return Counters.model_construct(**values, **_profiled_since(new, old))


def _profiled_since(new: Counters, old: Counters) -> dict[str, Any]:
    """The same for counts on a profile. They may begin anew without a restart, when pods are given another profile."""
    nothing: dict[str, Any] = {"profile": "", "predictions": (), "confidence": (), "features": {}}
    if old.profile not in {"", new.profile}:
        return nothing
    predictions = _subtract(new.predictions, old.predictions)
    confidence = _subtract(new.confidence, old.confidence)
    has_joined = bool(old.profile) and not old.features  # a pod that was not sampled before: this is its beginning
    told = {} if has_joined else new.features
    features = {name: _subtract(counts, old.features.get(name, ())) for name, counts in told.items()}
    if predictions is None or confidence is None or None in features.values():
        return nothing
    return {
        "profile": new.profile,
        "predictions": predictions,
        "confidence": confidence,
        "features": features,
    }


_NUMBERS: Final = tuple(name for name, info in Counters.model_fields.items() if info.annotation is int)


def _subtract(new: tuple[int, ...], old: tuple[int, ...]) -> tuple[int, ...] | None:
    if len(new) != len(old):
        return None if old else new
    difference = tuple(a - b for a, b in zip(new, old, strict=True))
    return None if min(difference, default=0) < 0 else difference


def _plus(a: Counters, b: Counters) -> Counters:
    """Counts of two pods; those on another profile than the first pod's are left out."""
    values: dict[str, Any] = {name: getattr(a, name) + getattr(b, name) for name in _NUMBERS}
    if a.profile and b.profile not in {"", a.profile}:
        b = Counters()
    values |= {name: _add(getattr(a, name), getattr(b, name)) for name in ("predictions", "confidence")}
    names = dict.fromkeys([*a.features, *b.features])
    values["features"] = {name: _add(a.features.get(name, ()), b.features.get(name, ())) for name in names}
    return Counters.model_construct(profile=a.profile or b.profile, **values)


def _add(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if len(a) != len(b):
        return a or b
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _bounded(seen: dict[str, Counters], observation: Observation) -> dict[str, Counters]:
    """Forget of processes that ended their features at once, and the rest, oldest first, when there are too many."""
    running = {pod.uid: _key(pod) if pod.telemetry is not None else pod.uid for pod in observation.pods}
    ended = [key for key in seen if not key.startswith(running.get(key.partition("/")[0], "/"))]
    bare = {key: seen[key].model_copy(update={"features": {}}) for key in ended if seen[key].features}
    forgotten = set(ended[: max(len(seen) - MAX_SEEN, 0)])
    return {key: value for key, value in (seen | bare).items() if key not in forgotten}


# --- latency ------------------------------------------------------------------------------------------------------


def _slow_from(state: RolloutState, observation: Observation) -> int | None:
    """First bucket that is slower than max(SLO, stable's p95 × 1.25, p95 + slack); `None` while p95 is unknown."""
    lanes: list[LaneCounts] = [
        pod.telemetry.live
        for pod in observation.pods
        if pod.revision == state.stable and pod.telemetry and not _lie(pod)
    ]
    return slow_bucket(lanes, observation.spec.rollout.analysis.latency.slo_millis)


def slow_bucket(lanes: Iterable[LaneCounts], slo_millis: int | None) -> int | None:
    """The first bucket above the limit, from histograms of stable."""
    total = [0] * (len(LATENCY_EDGES_MICROS) + 1)
    for lane in lanes:
        for i, count in enumerate(lane.latency[: len(total)]):
            total[i] += count
    requests = sum(total)
    if requests < MIN_TIMED:
        return None
    below, bucket = 0, 0
    while (below := below + total[bucket]) < 0.95 * requests:
        bucket += 1
    p95 = LATENCY_EDGES_MICROS[min(bucket, len(LATENCY_EDGES_MICROS) - 1)]
    return latency_bucket(max((slo_millis or 0) * 1000, p95 * 1.25, p95 + LATENCY_SLACK_MICROS)) + 1
