"""Asking pods what they counted and routers what they run: the measurements a decision rests on.

Every answer has a deadline and the number of questions in flight is bounded: a pod that hangs costs its own answer
and nothing else. Answers are kept for a moment, because many ModelDeployments share a router and one change often
wakes several of them.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from mlserve_core.wire import (
    LABEL_REVISION,
    MANAGEMENT_PORT,
    PATH_CONFIG_HASH,
    PATH_PROFILE,
    PATH_TELEMETRY,
    TelemetrySnapshot,
)
from mlserve_operator import metrics
from mlserve_operator.failures import is_ready
from mlserve_operator.rollout.state import PodObservation, QueryResult, Route, RouterCounters
from mlserve_operator.traffic.clusters import grpc_cluster, http_cluster, with_spare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlserve_core.api.v1alpha1 import PrometheusCheck

Object = dict[str, Any]

TIMEOUT_SECONDS: Final = 2.0
PARALLEL: Final = 128
"""Questions in flight: with fewer, a large fleet that does not answer would hold up everybody else's."""
FRESH_SECONDS: Final = 0.5
LARGEST_ANSWER: Final = 8 * 1024 * 1024
LONGEST_REASON: Final = 500

_FAILURE_COUNTERS: Final = (
    "upstream_cx_none_healthy",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_timeout",
    "upstream_cx_destroy_remote_with_active_rq",
)
"""What ends without an answer of the revision, by attempt: no host, no connection, too late, cut off."""
_STATS: Final = "/stats?format=json&filter=^cluster\\..*\\.(membership_healthy|" + "|".join(_FAILURE_COUNTERS) + ")$"


@dataclass(frozen=True)
class RouterAnswer:
    """What one router pod said about itself.

    Attributes:
        version: hash of the configuration it runs.
        routes: the route of every ModelDeployment it serves.
        healthy: ready pods it knows, by cluster.
        failures: requests it could not get answered, by cluster.
    """

    version: str
    routes: dict[str, Route]
    healthy: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)


@dataclass
class Telemetry:
    """Pulls measurements over HTTP.

    Attributes:
        session: the connection pool; closed by its owner.
        clock: monotonic seconds.
    """

    session: aiohttp.ClientSession
    clock: Callable[[], float]
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PARALLEL))
    _answers: dict[str, tuple[float, Any]] = field(default_factory=dict)

    async def pods(self, pods: Iterable[Object]) -> tuple[PodObservation, ...]:
        """Counters of runtime pods; those not ready are listed without being asked."""
        return tuple(await asyncio.gather(*(self._pod(pod) for pod in pods)))

    async def routers(self, pods: Sequence[Object]) -> list[tuple[Object, RouterAnswer | None]]:
        """What each ready router pod runs; None where it could not be asked."""
        ready = [pod for pod in pods if is_ready(pod)]
        return list(zip(ready, await asyncio.gather(*(self._router(pod) for pod in ready)), strict=True))

    async def queries(self, checks: Iterable[PrometheusCheck], words: Mapping[str, str]) -> tuple[QueryResult, ...]:
        """Answers of Prometheus. `{{word}}` in a query is replaced by its value from `words`."""
        return tuple(await asyncio.gather(*(self._query(check, words) for check in checks)))

    async def _query(self, check: PrometheusCheck, words: Mapping[str, str]) -> QueryResult:
        query = check.query
        for word, value in words.items():
            query = query.replace("{{" + word + "}}", value)
        url = f"{check.address.rstrip('/')}/api/v1/query"
        try:
            async with (
                self._slots,
                asyncio.timeout(TIMEOUT_SECONDS),
                self.session.get(url, params={"query": query}, allow_redirects=False) as response,
            ):
                return _query_result(check.name, await _json(response))
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, IndexError) as error:
            metrics.SCRAPE_ERRORS.labels("prometheus").inc()
            return QueryResult(name=check.name, error=f"{check.address}: {type(error).__name__}: {error}")

    async def profile(self, pod: Object) -> Object | None:
        """The reference profile of the artifact that a pod serves; None if it has none or cannot be asked."""
        try:
            answer = await self._get(pod, PATH_PROFILE)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None

    async def _pod(self, pod: Object) -> PodObservation:
        metadata = pod["metadata"]
        revision = metadata["labels"].get(LABEL_REVISION, "")
        ready = is_ready(pod)
        seen = PodObservation(name=metadata["name"], uid=metadata["uid"], revision=revision, ready=ready)
        if not _address(pod) or not ready:
            return seen.model_copy(update={"error": "not ready"})
        try:
            snapshot = TelemetrySnapshot.model_validate(await self._cached(pod, PATH_TELEMETRY))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            metrics.SCRAPE_ERRORS.labels("runtime").inc()
            return seen.model_copy(update={"error": f"{type(error).__name__}: {error}"})
        return seen.model_copy(update={"telemetry": snapshot})

    async def _router(self, pod: Object) -> RouterAnswer | None:
        try:
            config, stats = await asyncio.gather(self._cached(pod, PATH_CONFIG_HASH), self._cached(pod, _STATS))
            return _router_answer(config, stats)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            metrics.SCRAPE_ERRORS.labels("router").inc()
            return None

    async def _cached(self, pod: Object, path: str) -> Any:
        key, now = f"{pod['metadata']['uid']}{path}", self.clock()
        if key in self._answers and now - self._answers[key][0] < FRESH_SECONDS:
            return self._answers[key][1]
        answer = await self._get(pod, path)
        self._answers = {name: kept for name, kept in self._answers.items() if now - kept[0] < FRESH_SECONDS}
        self._answers[key] = (now, answer)
        return answer

    async def _get(self, pod: Object, path: str) -> Any:
        host = _address(pod)
        host = f"[{host}]" if ":" in host else host
        url = f"http://{host}:{MANAGEMENT_PORT}{path}"
        async with (
            self._slots,
            asyncio.timeout(TIMEOUT_SECONDS),
            self.session.get(url, allow_redirects=False) as response,  # a pod speaks for itself, not for another
        ):
            response.raise_for_status()
            return await _json(response)


async def _json(response: aiohttp.ClientResponse) -> Any:
    """The whole of an answer, which a network delivers in pieces.

    Raises:
        ValueError: it is too large, or no JSON.
    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise ValueError(f"the answer is larger than {LARGEST_ANSWER} bytes")
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("the answer is nested too deeply") from error


def router_counters(
    answers: Sequence[tuple[Object, RouterAnswer | None]], revisions: Iterable[str]
) -> tuple[RouterCounters, ...]:
    """Failures that only the routers saw, by pod and revision."""
    return tuple(
        RouterCounters(
            pod_uid=pod["metadata"]["uid"], boot_id=_boot(pod), revision=revision, failures=_failures(answer, revision)
        )
        for pod, answer in answers
        if answer is not None
        for revision in revisions
    )


def confirmed_route(
    answers: Sequence[tuple[Object, RouterAnswer | None]], name: str, available: Iterable[str]
) -> Route | None:
    """The route that every ready router pod runs; None while they differ or one cannot be asked.

    A revision with ready pods that a router does not know to be healthy yet is not confirmed either: a weight given
    to it now would be answered with errors.
    """
    routes = [answer.routes.get(name) if answer else None for _, answer in answers]
    if not routes or any(route is None or route != routes[0] for route in routes):
        return None
    route = routes[0]
    if route is None:
        return None
    for _, answer in answers:
        waiting = [revision for revision in available if route.weights.get(revision) == 0]
        if answer is None or any(answer.healthy.get(revision, 0) == 0 for revision in waiting):
            return None
    return route


def unreached(
    answers: Sequence[tuple[Object, RouterAnswer | None]], name: str, available: Iterable[str]
) -> dict[str, int]:
    """How many router pods send requests to a revision of which they know no healthy pod, though it has ready ones.

    The kubelet's probes pass and the router's do not: a DNS name that leads nowhere, or a network that is closed.
    """
    serving = [(answer, answer.routes[name].weights) for _, answer in answers if answer and name in answer.routes]
    found = {
        revision: sum(
            weights.get(revision, 0) > 0 and answer.healthy.get(revision, 0) == 0 for answer, weights in serving
        )
        for revision in available
    }
    return {revision: count for revision, count in found.items() if count}


def _query_result(name: str, answer: Object) -> QueryResult:
    if answer["status"] != "success":
        return QueryResult(name=name, error=str(answer.get("error", "no reason given"))[:LONGEST_REASON])
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    if kind == "scalar":
        return QueryResult(name=name, value=float(result[1]))
    if len(result) != 1:
        return QueryResult(name=name, error=f"the query has {len(result)} results; it must have exactly one")
    return QueryResult(name=name, value=float(result[0]["value"][1]))


def _failures(answer: RouterAnswer, revision: str) -> int:
    names = [name(revision) for name in (http_cluster, grpc_cluster)]
    return sum(answer.failures.get(cluster, 0) for name in names for cluster in (name, with_spare(name)))


def _router_answer(config: Object, stats: Object) -> RouterAnswer:
    routes = {name: Route.model_validate(route) for name, route in config["routes"].items()}
    healthy: dict[str, int] = {}
    failures: dict[str, int] = {}
    for item in stats["stats"]:
        if "name" not in item:
            continue
        cluster, _, counter = item["name"].removeprefix("cluster.").rpartition(".")
        if counter == "membership_healthy":
            healthy[cluster] = int(item["value"])
        else:
            failures[cluster] = failures.get(cluster, 0) + int(item["value"])
    return RouterAnswer(config["hash"], routes, healthy, failures)


def _address(pod: Object) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


def _boot(pod: Object) -> str:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return str(sum(int(status.get("restartCount", 0)) for status in statuses))
