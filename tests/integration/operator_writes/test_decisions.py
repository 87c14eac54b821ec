"""A decision is remembered, then acted upon, then told: once, whatever fails in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml

from mlserve_operator import kube
from mlserve_operator.drift import DriftWatch
from mlserve_operator.history import History
from mlserve_operator.kube import ApiError
from mlserve_operator.obstacles import ObstacleError
from mlserve_operator.queue import WorkQueue
from mlserve_operator.reconcile import Key, Reconciler
from mlserve_operator.settings import Settings
from mlserve_operator.telemetry import Telemetry

from .conftest import NAMESPACE, Object, Operator, serving

CRD = Path(__file__).parents[3] / "crds" / "mlserve.io_modeldeployments.yaml"
STARTING = "CanaryProgressing"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of an API server that knows ModelDeployments."""
    with serving(tmp_path_factory.mktemp("apiserver")) as (kubeconfig, url):
        kinds = f"{url}/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        httpx.post(kinds, json=yaml.safe_load(CRD.read_text()), timeout=20, trust_env=False).raise_for_status()
        yield kubeconfig


@dataclass
class Model:
    """A ModelDeployment, and reconciles of it without a watch: what is written is what is known."""

    operator: Operator
    reconciler: Reconciler
    history: History
    name: str

    async def reconcile(self) -> None:
        await self.reconciler.reconcile(Key("ModelDeployment", NAMESPACE, self.name))

    async def status(self) -> Object:
        found: Object = (await self.operator.get(kube.MODEL_DEPLOYMENT, self.name))["status"]
        return found

    async def ready(self) -> tuple[str, str]:
        (found,) = [item for item in (await self.status())["conditions"] if item["type"] == "Ready"]
        return found["status"], found["reason"]

    async def told(self, reason: str) -> int:
        """How many Events there are of it with a reason."""
        path = kube.EVENT.path(NAMESPACE)
        events = (await self.operator.api._request("get", path))["items"]
        return sum((e["involvedObject"]["name"], e["reason"]) == (self.name, reason) for e in events)


@pytest.fixture
async def model(operator: Operator, request: pytest.FixtureRequest) -> AsyncIterator[Model]:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    body: Object = {
        "apiVersion": "mlserve.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"model": {"uri": "file:///m"}},
    }
    operator.index.put({**await operator.api.create(kube.MODEL_DEPLOYMENT, body), "kind": "ModelDeployment"})
    history = History("")
    async with aiohttp.ClientSession() as session:
        telemetry = Telemetry(session, time.monotonic)
        yield Model(
            operator=operator,
            reconciler=Reconciler(
                settings=Settings(),
                index=operator.index,
                executor=operator.executor,
                telemetry=telemetry,
                drift=DriftWatch(operator.index, telemetry, history),
                history=history,
                queue=WorkQueue(asyncio.get_running_loop().time),
                now=time.time,
            ),
            history=history,
            name=name,
        )
    history.close()


async def test_what_cannot_be_remembered_is_not_told(model: Model) -> None:
    checkpoint = f"{model.name}-rollout"
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": checkpoint, "namespace": NAMESPACE}}
    made = await model.operator.api.create(kube.CONFIG_MAP, foreign)
    for _ in range(2):
        with pytest.raises(ObstacleError, match=checkpoint):
            await model.reconcile()
    assert await model.ready() == ("False", "ObjectConflict")
    assert await model.told(STARTING) == 0
    assert await model.told("ObjectConflict") == 1
    assert model.history.decisions(NAMESPACE, model.name, 0) == []

    await model.operator.api.delete(kube.CONFIG_MAP, NAMESPACE, checkpoint, made["metadata"]["uid"])
    model.operator.index.drop_name("ConfigMap", NAMESPACE, checkpoint)
    await model.reconcile()
    assert await model.told(STARTING) == 1
    assert len(model.history.decisions(NAMESPACE, model.name, 0)) == 1


async def test_a_checkpoint_that_is_refused_is_said(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a quota, or because it is too large: the API server's own sentence, in the condition."""
    create = model.operator.api.create

    async def refuse(kind: kube.Kind, body: Object) -> Any:
        if kind is kube.CONFIG_MAP:
            raise ApiError(403, "Forbidden", "exceeded quota: configmaps")
        return await create(kind, body)

    monkeypatch.setattr(model.operator.api, "create", refuse)
    with pytest.raises(ObstacleError, match="exceeded quota"):
        await model.reconcile()
    assert await model.ready() == ("False", "InsufficientResources")


async def test_what_was_decided_is_told_though_acting_failed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, broken = model.operator.api.apply, True

    async def fail(kind: kube.Kind, body: Object) -> Any:
        if broken and kind is kube.SERVICE:
            raise ApiError(500, "InternalError", "etcd has no leader")
        return await apply(kind, body)

    monkeypatch.setattr(model.operator.api, "apply", fail)
    with pytest.raises(ApiError, match="etcd"):
        await model.reconcile()
    assert await model.told(STARTING) == 1
    broken = False
    await model.reconcile()
    assert await model.told(STARTING) == 1, "and not again when it has come about"
    assert len(model.history.decisions(NAMESPACE, model.name, 0)) == 1
