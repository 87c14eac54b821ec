"""ModelDeployments of the digits model in a namespace of their own, and a steady stream of real images."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[3]
ARTIFACTS = "file:///models/digits/artifacts"
"""Below the directory the cluster was started in (MLSERVE_FILE_ROOT)."""
KINDS = (
    "modeldeployments,deployments,services,configmaps,pods,poddisruptionbudgets,networkpolicies,secrets,"
    "serviceaccounts,controllerrevisions,horizontalpodautoscalers"
)

Object = dict[str, Any]


def model(name: str = "digits", *, version: int = 1, uri: str = "", **spec: Any) -> Object:
    """A ModelDeployment of one of the example artifacts."""
    return {
        "apiVersion": "mlserve.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": uri or f"{ARTIFACTS}/v{version}", "version": str(version)},
            "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
            **spec,
        },
    }


def images(count: int) -> list[list[float]]:
    """Real digits with pixels from 0 to 255, as the model wants them."""
    return [(image * (255 / 16)).ravel().tolist() for image in load_digits().images[:count]]


@dataclass
class World:
    """One namespace of the cluster, seen by a user."""

    cluster: Any
    namespace: str

    def apply(self, *objects: Object) -> None:
        self.cluster.apply(*objects, namespace=self.namespace)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return str(self.cluster.kubectl("--namespace", self.namespace, *arguments, **options))

    def get(self, *arguments: str) -> Object:
        found: Object = self.cluster.get("--namespace", self.namespace, *arguments)
        return found

    def condition(self, kind: str, name: str = "digits") -> Object:
        """A condition of the newest generation; empty while there is none."""
        body = self.get("mdep", name)
        conditions = body.get("status", {}).get("conditions", [])
        found = [
            c for c in conditions if c["type"] == kind and c["observedGeneration"] == body["metadata"]["generation"]
        ]
        return found[0] if found else {}

    def until(self, kind: str, status: str, reason: str = "", *, name: str = "digits", seconds: float = 60) -> Object:
        """Wait for a condition; returns it."""

        def probe() -> Object | None:
            found = self.condition(kind, name)
            fits = found.get("status") == status and reason in ("", found.get("reason"))
            if fits:
                return found
            raise LookupError(f"{kind} is {found.get('status')}/{found.get('reason')}: {found.get('message')}")

        found: Object = self.cluster.wait(probe, seconds=seconds, what=f"{name}: {kind}={status}/{reason}")
        return found

    def url(self, name: str = "digits") -> str:
        """Address of a front door for this machine."""

        def probe() -> str | None:
            return self.get("service", name)["metadata"].get("annotations", {}).get("mlserve.io/local-url")

        return str(self.cluster.wait(probe, what="front door on this machine"))

    def predict(self, name: str = "digits", **headers: str) -> httpx.Response:
        """One prediction through the front door."""
        return httpx.post(
            f"{self.url(name)}/v2/models/{name}/infer", json=body_of(images(1)[0]), headers=headers, timeout=10
        )

    def serves(self, name: str = "digits") -> bool:
        """Whether a prediction is answered."""
        try:
            return self.predict(name).status_code == 200
        except httpx.HTTPError:
            return False

    def everything(self) -> list[str]:
        """Names of all objects of the namespace, but what every namespace has."""
        names = self.kubectl("get", KINDS, "-o", "name").split()
        return [name for name in names if name not in {"configmap/kube-root-ca.crt", "serviceaccount/default"}]

    def versions(self) -> dict[str, str]:
        """Resource version of every object the operator made."""
        items = self.get(KINDS)["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}


def body_of(image: list[float]) -> Object:
    """An OIP request."""
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": image}]}


@pytest.fixture
def world(operator_cluster: Any, operator_namespace: str) -> World:
    return World(operator_cluster, operator_namespace)


@pytest.fixture
def operator_pid(operator_cluster: Any) -> Callable[[], int]:
    """Process of the operator at present (the supervisor starts a new one when it ends)."""

    def find() -> int:
        import json

        state = json.loads((operator_cluster.cluster.data_dir / "state.json").read_text())
        return next(int(part["pid"]) for part in state["parts"] if part["name"] == "operator")

    return find


@pytest.fixture
def operator_down(operator_pid: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Freeze the operator: it neither acts nor is it restarted. It goes on after the test."""
    stopped: list[int] = []

    def stop() -> None:
        stopped.append(operator_pid())
        os.kill(stopped[-1], signal.SIGSTOP)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


@dataclass
class Stream:
    """Requests at a steady rate from a thread of its own."""

    url: str
    name: str
    rate: float
    headers: Callable[[int], dict[str, str]] = lambda _: {}
    answers: collections.Counter[tuple[int | str, str]] = field(default_factory=collections.Counter)
    problems: list[str] = field(default_factory=list)
    revisions: dict[str, set[str]] = field(default_factory=lambda: collections.defaultdict(set))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def wait_for(self, count: int, seconds: float = 30) -> None:
        """Wait until so many more answers are in."""
        import time

        goal, deadline = self.answers.total() + count, time.monotonic() + seconds
        while self.answers.total() < goal:
            assert time.monotonic() < deadline, f"{self.answers}"
            self._stop.wait(0.05)

    @property
    def failures(self) -> list[str]:
        return self.problems

    async def _run(self) -> None:
        bodies = [body_of(image) for image in images(200)]
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(timeout=10, limits=limits) as client, asyncio.TaskGroup() as group:
            loop = asyncio.get_running_loop()
            started, count = loop.time(), 0
            while not self._stop.is_set():
                group.create_task(self._one(client, count, bodies[count % len(bodies)]))
                count += 1
                await asyncio.sleep(max(0.0, started + count / self.rate - loop.time()))

    async def _one(self, client: httpx.AsyncClient, number: int, body: Object) -> None:
        headers = self.headers(number)
        try:
            answer = await client.post(f"{self.url}/v2/models/{self.name}/infer", json=body, headers=headers)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__, ""] += 1
            self.problems.append(repr(error))
            return
        revision = answer.headers.get("x-mlserve-revision", "")
        self.answers[answer.status_code, revision] += 1
        for value in headers.values():
            self.revisions[value].add(revision)
        if answer.status_code != 200:
            self.problems.append(f"{answer.status_code} from {revision}: {answer.text[:200]}")


@pytest.fixture
def stream(world: World) -> Callable[..., Stream]:
    def start(
        name: str = "digits", *, rate: float = 50, headers: Callable[[int], dict[str, str]] | None = None
    ) -> Stream:
        return Stream(world.url(name), name, rate, headers or (lambda _: {}))

    return start
