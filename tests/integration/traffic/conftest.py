"""Two hundred real digit images a second through a front door, and an account of every answer."""

from __future__ import annotations

import asyncio
import collections
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import yaml
from sklearn.datasets import load_digits

Object = dict[str, Any]
REVISION = "x-mlserve-revision"
EXAMPLES = Path(__file__).parents[3] / "models" / "digits"


def model(name: str, version: str, **spec: Any) -> Object:
    """A ModelDeployment of one of the example artifacts."""
    file = EXAMPLES / ("modeldeployment.yaml" if version == "1" else f"modeldeployment-v{version}.yaml")
    artifact = yaml.safe_load(file.read_text())["spec"]["model"]
    return {
        "apiVersion": "mlserve.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": artifact,
            "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
            "drift": {"enabled": False},
            **spec,
        },
    }


def _pictures() -> list[bytes]:
    """Inference requests with real digits, from the least ink to the most."""
    images = sorted(load_digits().images * (255 / 16), key=lambda image: float(image.sum()))
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8]}
    return [json.dumps({"inputs": [{**tensor, "data": image.ravel().tolist()}]}).encode() for image in images]


@dataclass
class Stream:
    """Requests at a steady rate from a thread of its own, open loop: a slow answer delays no other request.

    Attributes:
        url: of the front door.
        rate: requests a second.
        dark: send only the pictures with the most ink.
    """

    url: str
    rate: float = 200
    dark: bool = False
    answers: collections.Counter[tuple[str, int]] = field(default_factory=collections.Counter)
    """By revision and status."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Revision (empty where nobody answered) and what was wrong."""
    first_problem: float | None = None
    """Monotonic time."""
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

    def revisions(self) -> set[str]:
        """Who has answered so far."""
        return {revision for revision, _ in list(self.answers)}

    def of(self, revision: str) -> dict[int, int]:
        """Answers of a revision by status."""
        return {status: count for (name, status), count in list(self.answers.items()) if name == revision}

    def more(self, count: int, seconds: float = 30) -> None:
        """Wait until so many further answers are in."""
        goal, deadline = self.answers.total() + count, time.monotonic() + seconds
        while self.answers.total() < goal:
            assert time.monotonic() < deadline, f"{self.answers}"
            self._stop.wait(0.05)

    async def _run(self) -> None:
        pictures = _pictures()
        darkest = pictures[-len(pictures) // 10 :]
        timeout, connector = aiohttp.ClientTimeout(total=15), aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
            loop = asyncio.get_running_loop()
            started, count = loop.time(), 0
            while not self._stop.is_set():
                bodies = darkest if self.dark else pictures
                group.create_task(self._one(session, bodies[(count * 7) % len(bodies)]))
                count += 1
                await asyncio.sleep(max(0.0, started + count / self.rate - loop.time()))

    async def _one(self, session: aiohttp.ClientSession, body: bytes) -> None:
        revision, status, problem = "", 0, ""
        try:
            headers = {"content-type": "application/json"}
            async with session.post(f"{self.url}/v2/models/digits/infer", data=body, headers=headers) as answer:
                revision, status = answer.headers.get(REVISION, ""), answer.status
                text = await answer.text()
                problem = "" if status == 200 else f"{status} {text[:200]}"
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = repr(error)
        self.answers[revision, status] += 1
        if problem:
            self.first_problem = self.first_problem or time.monotonic()
            self.problems.append((revision, problem))


@pytest.fixture
def place(operator_cluster: Any, operator_namespace: str) -> Place:
    return Place(operator_cluster, operator_namespace)


@dataclass(frozen=True)
class Place:
    """A namespace, and what its user sees."""

    cluster: Any
    namespace: str

    def apply(self, *objects: Object) -> None:
        self.cluster.apply(*objects, namespace=self.namespace)

    def kubectl(self, *arguments: str) -> str:
        return str(self.cluster.kubectl("--namespace", self.namespace, *arguments))

    def get(self, *arguments: str) -> Object:
        found: Object = self.cluster.get("--namespace", self.namespace, *arguments)
        return found

    def status(self, name: str) -> Object:
        found: Object = self.get("mdep", name).get("status", {})
        return found

    def until_status(self, name: str, what: str, probe: Any, seconds: float = 60) -> Object:
        """Wait until the status of the newest generation is as the probe wants it; returns it."""

        def look() -> Object:
            body = self.get("mdep", name)
            status: Object = body.get("status", {})
            if status.get("observedGeneration") == body["metadata"]["generation"] and probe(status):
                return status
            conditions = [(c["type"], c["status"], c["reason"], c["message"]) for c in status.get("conditions", ())]
            raise LookupError(f"{status.get('phase')} {conditions} {(status.get('canary') or {}).get('analysis')}")

        found: Object = self.cluster.wait(look, seconds=seconds, what=f"{name}: {what}")
        return found

    def until_ready(self, name: str) -> Object:
        def is_ready(status: Object) -> bool:
            return any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])

        return self.until_status(name, "Ready", is_ready)

    def url(self, name: str) -> str:
        def annotation() -> str:
            return str(self.get("service", name)["metadata"].get("annotations", {}).get("mlserve.io/local-url", ""))

        return str(self.cluster.wait(annotation, what="front door on this machine"))

    def pods(self, selector: str) -> list[Object]:
        """Pods that are not on their way out."""
        items = self.get("pods", "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
