"""Several rollouts side by side in one namespace, each led by the test from the first apply to its end.

The counters of the pods stand still until the operator has begun to count, then run up to a known total and stand
still again. So what must be in the evidence at the end is known to the request: nothing twice, nothing forgotten,
however often the operator died meanwhile.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

import httpx

Object = dict[str, Any]

TOTAL = 3000
"""Requests each arm sees."""
RATE = 600.0
GROUP = "/apis/mlserve.io/v1alpha1"
ROLLOUT: Object = {
    "steps": [{"weight": 50, "holdSeconds": 1}],
    "analysis": {"intervalSeconds": 1, "minRequests": TOTAL, "marginPerMille": 50},
    "bakeSeconds": 1,
    "autoPromote": False,
    "progressDeadlineSeconds": 300,
}


class Stage(Enum):
    """How far the test has led a rollout."""

    FIRST = auto()
    TRIAL = auto()
    COUNTING = auto()
    PROMOTED = auto()
    ENDED = auto()


@dataclass
class Rollout:
    """One ModelDeployment: version 1, then `good` or `bad`."""

    api: httpx.Client
    scripts: Path
    namespace: str
    name: str
    version: str
    stage: Stage = Stage.FIRST
    counted: tuple[int, int] = (0, 0)
    spec: Object = field(default_factory=dict)
    """Fields that differ from those of the other rollouts."""

    @property
    def path(self) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/modeldeployments/{self.name}"

    @property
    def script(self) -> Path:
        """What the pods say they counted."""
        return self.scripts / f"{self.namespace}.{self.name}.json"

    def begin(self) -> None:
        """Apply version 1."""
        body = {
            "apiVersion": "mlserve.io/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": self.name},
            "spec": {
                "model": {"uri": "file:///model", "version": "1"},
                "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "16Mi"}}},
                "traffic": {"router": {"replicas": 1}},
                "rollout": ROLLOUT,
                "drift": {"enabled": False},
                **self.spec,
            },
        }
        self._said(self.api.post(self.path.rpartition("/")[0], json=body))

    def advance(self) -> bool:
        """Do what is due, if anything is. Returns whether the rollout has come to its end."""
        body = self.get(self.path)
        status = body.get("status", {})
        if self.stage is Stage.FIRST and _is_true(body, "Ready"):
            self.patch({"spec": {"model": {"version": self.version}}})
            self.stage = Stage.TRIAL
        elif self.stage is Stage.TRIAL:
            self.count_from_trial()
        elif self.stage is Stage.COUNTING:
            self._count(status)
        elif self.stage is Stage.PROMOTED and status.get("phase") == "Healthy" and _is_true(body, "Ready"):
            self.stage = Stage.ENDED
        return self.stage is Stage.ENDED

    def count_from_trial(self) -> None:
        """Let requests come once the operator has begun to count at the canary's weight."""
        if self.script.exists() or self.evidence().get("weight") != 50:
            return
        self.let_requests_come(TOTAL)
        self.stage = Stage.COUNTING

    def let_requests_come(self, total: int) -> None:
        """From now on every pod counts, up to so many."""
        temporary = self.script.with_suffix(".tmp")
        temporary.write_text(json.dumps({"started": time.time(), "rate": RATE, "total": total}))
        temporary.rename(self.script)

    def _count(self, status: Object) -> None:
        evidence = self.evidence()
        seen = (evidence.get("requestsCanary", 0), evidence.get("requestsStable", 0))
        assert max(seen) <= TOTAL, f"{self.name}: {seen} requests were counted of {TOTAL} that there were"
        self.counted = max(self.counted, seen)
        if self.version == "bad" and status.get("phase") == "RolledBack":
            self.stage = Stage.ENDED
        elif self.version == "good" and seen == (TOTAL, TOTAL) and "waits for" in self.checkpoint().get("message", ""):
            self.patch({"metadata": {"annotations": {"mlserve.io/command": "promote:1"}}})
            self.stage = Stage.PROMOTED

    def checkpoint(self) -> Object:
        """What the operator remembers."""
        answer = self.api.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{self.name}-rollout")
        if answer.status_code == 404:
            return {}
        state: Object = json.loads(self._said(answer)["data"]["state.json"])
        return state

    def evidence(self) -> Object:
        """What it has counted."""
        return self.checkpoint().get("evidence") or {}

    def end_state(self) -> Object:
        """Everything that must not depend on how often the operator died."""
        body, state = self.get(self.path), self.checkpoint()
        status = body["status"]
        return {
            "generation": body["metadata"]["generation"],
            "spec": body["spec"],
            "phase": status["phase"],
            "stable": status["stable"]["revision"],
            "canary": status.get("canary"),
            "weight": status["stable"]["weight"],
            "rejected": [(item["revision"], item["reason"]) for item in status.get("rejected", ())],
            "conditions": {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]},
            "command": (status.get("lastCommand") or {}).get("command"),
            "remembered": {key: state.get(key) for key in ("phase", "stable", "canary", "previous", "weight", "step")},
            "deployments": {
                item["metadata"]["name"]: (item["spec"]["replicas"], item["status"].get("readyReplicas", 0))
                for item in self.children("/apis/apps/v1", "deployments")
            },
            "services": sorted(item["metadata"]["name"] for item in self.children("/api/v1", "services")),
            "revisions": sorted(
                (item["metadata"]["name"], item["revision"])
                for item in self.children("/apis/apps/v1", "controllerrevisions")
            ),
        }

    def children(self, api: str, plural: str) -> list[Object]:
        """Objects of this ModelDeployment."""
        query = f"?labelSelector=mlserve.io/modeldeployment={self.name}"
        return list(self.get(f"{api}/namespaces/{self.namespace}/{plural}{query}")["items"])

    def get(self, path: str) -> Object:
        """An object."""
        return self._said(self.api.get(path))

    def patch(self, patch: Object) -> None:
        """Change the resource."""
        headers = {"content-type": "application/merge-patch+json"}
        self._said(self.api.patch(self.path, content=json.dumps(patch), headers=headers))

    def _said(self, answer: httpx.Response) -> Object:
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.text}"
        found: Object = answer.json()
        return found


def _is_true(body: Object, kind: str) -> bool:
    return any(
        item["type"] == kind and item["status"] == "True"
        and item["observedGeneration"] == body["metadata"]["generation"]
        for item in body.get("status", {}).get("conditions", ())
    )  # fmt: skip


@dataclass
class Batch:
    """Rollouts that run at the same time; names do not depend on the namespace, so neither do end states."""

    api: httpx.Client
    scripts: Path
    namespace: str
    rollouts: list[Rollout] = field(default_factory=list)

    def begin(self, count: int) -> None:
        """Make the namespace and apply all first versions."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        assert self.api.post("/api/v1/namespaces", json=body).is_success
        for i in range(count):
            version = "bad" if i % 2 else "good"
            rollout = Rollout(self.api, self.scripts, self.namespace, f"m{i}-{version}", version)
            rollout.begin()
            self.rollouts.append(rollout)

    def advance(self) -> bool:
        """Lead every rollout on. Returns whether all have ended."""
        ended = [rollout.advance() for rollout in self.rollouts]
        return all(ended)

    def end_states(self) -> dict[str, Object]:
        """By name."""
        return {rollout.name: rollout.end_state() for rollout in self.rollouts}

    def delete(self) -> None:
        """Delete the namespace."""
        self.api.delete(f"/api/v1/namespaces/{self.namespace}")

    def explain(self) -> str:
        """Where each rollout stands, for a failed test."""
        lines = []
        for rollout in self.rollouts:
            state = rollout.checkpoint()
            lines.append(
                f"{rollout.name}: {rollout.stage.name}, counted {rollout.counted}, {state.get('phase')}:"
                f" {state.get('message')}; {(state.get('evidence') or {}).get('message')}"
            )
        return "\n".join(lines)
