"""A namespace of a cluster as its user sees it, and a steady stream of real digit images, every answer accounted for.

Used by every test that has to do with models on the cluster; the fixtures are in conftest.py.
"""

from __future__ import annotations

import asyncio
import collections
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import httpx
import yaml
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "models" / "digits"
ARTIFACTS = "file:///models/digits/artifacts"
"""Below the directory the cluster was started in (MLSERVE_FILE_ROOT)."""
REVISION = "x-mlserve-revision"
ROUTER_PODS = "app.kubernetes.io/component=router"
KINDS = (
    "modeldeployments,deployments,services,configmaps,pods,poddisruptionbudgets,networkpolicies,secrets,"
    "serviceaccounts,controllerrevisions,horizontalpodautoscalers"
)

Object = dict[str, Any]


def model(name: str = "digits", *, version: int = 1, uri: str = "", **spec: Any) -> Object:
    """A ModelDeployment of one of the example artifacts, small; versions above 3 with the digest they are pinned by."""
    artifact: Object = {"uri": uri or f"{ARTIFACTS}/v{version}", "version": str(version)}
    if version > 3 and not uri:  # TorchScript, which is code, is loaded by pinned digest only
        example = yaml.safe_load((EXAMPLES / f"modeldeployment-v{version}.yaml").read_text())
        artifact = example["spec"]["model"]
    return {
        "apiVersion": "mlserve.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": artifact,
            "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
            **spec,
        },
    }


def images(count: int | None = None) -> list[list[float]]:
    """Real digits with pixels from 0 to 255, as the model wants them, in the order of the data set."""
    return [(image * (255 / 16)).ravel().tolist() for image in load_digits().images[:count]]


def body_of(image: list[float]) -> Object:
    """An inference request of the Open Inference Protocol."""
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": image}]}


@dataclass(frozen=True)
class World:
    """One namespace of the cluster."""

    cluster: Any
    namespace: str

    def apply(self, *objects: Object) -> None:
        self.cluster.apply(*objects, namespace=self.namespace)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return str(self.cluster.kubectl("--namespace", self.namespace, *arguments, **options))

    def get(self, *arguments: str) -> Object:
        found: Object = self.cluster.get("--namespace", self.namespace, *arguments)
        return found

    def status(self, name: str = "digits") -> Object:
        found: Object = self.get("mdep", name).get("status", {})
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

    def until_status(
        self, probe: Callable[[Object], Any], what: str, *, name: str = "digits", seconds: float = 60
    ) -> Object:
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

    def url(self, name: str = "digits") -> str:
        """Address of a front door for this machine."""

        def probe() -> str:
            return str(self.get("service", name)["metadata"].get("annotations", {}).get("mlserve.io/local-url", ""))

        return str(self.cluster.wait(probe, what="front door on this machine"))

    def predict(self, name: str = "digits", **headers: str) -> httpx.Response:
        """One prediction through the front door."""
        body = body_of(images(1)[0])
        return httpx.post(f"{self.url(name)}/v2/models/{name}/infer", json=body, headers=headers, timeout=10)

    def serves(self, name: str = "digits") -> bool:
        """Whether a prediction is answered."""
        try:
            return self.predict(name).status_code == 200
        except httpx.HTTPError:
            return False

    def pods(self, selector: str) -> list[Object]:
        """Pods that are not on their way out."""
        items = self.get("pods", "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def telemetry(self, revision: str) -> list[Object]:
        """What the pods of a revision counted, as they tell the operator. Raises LookupError for one that is not up."""
        addresses = [pod["status"]["podIP"] for pod in self.pods(f"mlserve.io/revision={revision}")]
        try:
            return [httpx.get(f"http://{address}:9090/telemetry", timeout=5).json() for address in addresses]
        except httpx.HTTPError as error:
            raise LookupError(f"pods of {revision} at {addresses}: {error!r}") from error

    def everything(self) -> list[str]:
        """Names of all objects of the namespace, but what every namespace has."""
        names = self.kubectl("get", KINDS, "-o", "name").split()
        return [name for name in names if name not in {"configmap/kube-root-ca.crt", "serviceaccount/default"}]

    def versions(self) -> dict[str, str]:
        """Resource version of every object the operator made."""
        items = self.get(KINDS)["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}


def operator_pid(cluster: Any) -> int:
    """Process of the operator at present (the supervisor starts a new one when it ends)."""
    state = json.loads((cluster.cluster.data_dir / "state.json").read_text())
    return next(int(part["pid"]) for part in state["parts"] if part["name"] == "operator")


class Problem(NamedTuple):
    """An answer that is not 200, or none at all."""

    revision: str
    """Empty where nobody answered."""
    text: str


@dataclass
class Stream:
    """Requests at a steady rate from a thread of its own, open loop: a slow answer delays no other request.

    Attributes:
        url: of the front door.
        name: the ModelDeployment.
        rate: requests a second.
        headers: of a request, by its number.
        dark: send only the pictures with the most ink.
    """

    url: str
    name: str = "digits"
    rate: float = 50
    headers: Callable[[int], dict[str, str]] = lambda _: {}
    dark: bool = False
    answers: collections.Counter[tuple[str, int]] = field(default_factory=collections.Counter)
    """By revision and status; nobody has answered what has status 0."""
    problems: list[Problem] = field(default_factory=list)
    first_problem: float | None = None
    """Monotonic time."""
    revisions: dict[str, set[str]] = field(default_factory=lambda: collections.defaultdict(set))
    """Who has answered requests with a header, by the header's value."""
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

    def of(self, revision: str) -> dict[int, int]:
        """Answers of a revision by status."""
        return {status: count for (name, status), count in list(self.answers.items()) if name == revision}

    def answering(self) -> set[str]:
        """Who has answered so far; an empty name where nobody did."""
        return {revision for revision, _ in list(self.answers)}

    def wait_for(self, count: int, seconds: float = 30) -> None:
        """Wait until so many further answers are in."""
        goal, deadline = self.answers.total() + count, time.monotonic() + seconds
        while self.answers.total() < goal:
            assert time.monotonic() < deadline, f"{self.answers}"
            self._stop.wait(0.05)

    async def _run(self) -> None:
        # From the least ink to the most; a stride that shares no factor with their number meets all of them.
        bodies = [json.dumps(body_of(image)).encode() for image in sorted(images(), key=sum)]
        darkest = bodies[-len(bodies) // 10 :]
        timeout, connector = aiohttp.ClientTimeout(total=15), aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
            loop = asyncio.get_running_loop()
            started, count = loop.time(), 0
            while not self._stop.is_set():
                chosen = darkest if self.dark else bodies
                group.create_task(self._one(session, count, chosen[(count * 7) % len(chosen)]))
                count += 1
                await asyncio.sleep(max(0.0, started + count / self.rate - loop.time()))

    async def _one(self, session: aiohttp.ClientSession, number: int, body: bytes) -> None:
        revision, status, problem = "", 0, ""
        headers = self.headers(number)
        url = f"{self.url}/v2/models/{self.name}/infer"
        try:
            async with session.post(url, data=body, headers={"content-type": "application/json", **headers}) as answer:
                revision, status = answer.headers.get(REVISION, ""), answer.status
                text = await answer.text()
                problem = "" if status == 200 else f"{status} {text[:200]}"
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = repr(error)
        self.answers[revision, status] += 1
        for value in headers.values():
            self.revisions[value].add(revision)
        if problem:
            self.first_problem = self.first_problem or time.monotonic()
            self.problems.append(Problem(revision, problem))
