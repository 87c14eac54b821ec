"""What the operator writes to an API server, object by object, and what it does about what others did there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import kopf
import pytest
import yaml

from mlserve_core.api.v1alpha1 import Autoscaling, Resources
from mlserve_core.wire import LABEL_MODELDEPLOYMENT
from mlserve_operator import kube, metrics
from mlserve_operator.execute import Executor, NotLeadingError
from mlserve_operator.handlers import build_registry, build_settings
from mlserve_operator.index import Index
from mlserve_operator.kube import ApiError
from mlserve_operator.leader import Leadership, lead
from mlserve_operator.queue import WorkQueue
from mlserve_operator.reconcile import Key
from mlserve_operator.resources.autoscaler import build_autoscaler
from mlserve_operator.resources.metadata import child, model_labels
from mlserve_operator.resources.records import build_feedback_keys
from mlserve_operator.resources.router import build_router
from mlserve_operator.work import Resync, Workers

from .conftest import NAMESPACE, Object, Operator


def owner(name: str, uid: str = "one") -> Object:
    return {"metadata": {"name": name, "namespace": NAMESPACE, "uid": f"{name}-{uid}"}}


def config(name: str, **data: str) -> Object:
    return child("v1", "ConfigMap", name, owner(name), model_labels(name), data=data)


# --- what is no longer wanted -------------------------------------------------------------------------------------


async def test_a_bound_that_was_taken_back_is_gone(operator: Operator) -> None:
    def router(resources: Resources | None) -> Object:
        (deployment,) = (
            body
            for body in build_router(
                name="bounds", namespace=NAMESPACE, owners=[owner("bounds")], files={}, replicas=1,
                resources=resources, image="envoy", log_level="warning",
            )
            if body["kind"] == "Deployment"
        )  # fmt: skip
        return deployment

    bounded = Resources.model_validate({"requests": {"cpu": "50m"}, "limits": {"cpu": "1"}})
    for resources in (bounded, Resources.model_validate({"requests": {"cpu": "50m"}})):
        assert await operator.executor.ensure(router(resources), {"bounds-one"})
    (container,) = (await operator.get(kube.DEPLOYMENT, "bounds"))["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "50m"}}


async def test_a_behaviour_that_was_taken_back_is_gone_and_then_nothing_is_written(operator: Operator) -> None:
    behaviour = {"scaleDown": {"stabilizationWindowSeconds": 60}}

    def autoscaler(**more: Any) -> Object:
        autoscaling = Autoscaling.model_validate({"maxReplicas": 3, **more})
        return build_autoscaler(owner("behaved"), "behaved", autoscaling, floor=1)

    for more in ({"behavior": behaviour}, {}):
        assert await operator.executor.ensure(autoscaler(**more), {"behaved-one"})
    assert "behavior" not in (await operator.get(kube.AUTOSCALER, "behaved"))["spec"]
    afresh = Executor(operator.api, Index(), operator.executor.is_leader)
    assert not await afresh.ensure(autoscaler(), {"behaved-one"}), "nor by an operator that was started anew"


# --- the keys of feedback -----------------------------------------------------------------------------------------


async def test_a_model_that_is_made_again_gets_keys_again(operator: Operator) -> None:
    def keys(uid: str) -> Object:
        return build_feedback_keys({**owner("reborn", uid), "kind": "ModelDeployment"}, b"key of " + uid.encode())

    await operator.executor.ensure_secret(keys("first"))
    with pytest.raises(ApiError, match="deleted namesake") as refused:
        await operator.executor.ensure_secret(keys("second"))
    assert refused.value.conflict
    old = await operator.get(kube.SECRET, "reborn-feedback")
    await operator.api.delete(kube.SECRET, NAMESPACE, "reborn-feedback", old["metadata"]["uid"])
    await operator.executor.ensure_secret(keys("second"))
    new = await operator.get(kube.SECRET, "reborn-feedback")
    assert new["metadata"]["ownerReferences"][0]["uid"] == "reborn-second"


async def test_keys_that_were_made_by_hand_are_as_good(operator: Operator) -> None:
    given = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "given-feedback", "namespace": NAMESPACE}}
    await operator.api.create(kube.SECRET, given)
    await operator.executor.ensure_secret(build_feedback_keys(owner("given"), b"another"))
    assert "data" not in await operator.get(kube.SECRET, "given-feedback")


# --- what others did ----------------------------------------------------------------------------------------------


async def test_what_was_deleted_while_nobody_watched_is_found_out(operator: Operator) -> None:
    for name in ("stays", "goes"):
        await operator.executor.ensure(config(name), {f"{name}-one"})
    lost = await operator.get(kube.CONFIG_MAP, "goes")
    await operator.api.delete(kube.CONFIG_MAP, NAMESPACE, "goes", lost["metadata"]["uid"])
    queue: WorkQueue[Key] = WorkQueue(asyncio.get_running_loop().time, debounce=0)
    workers = Workers(queue, None, operator.executor.is_leader, queue.clock)  # type: ignore[arg-type]
    await Resync(operator.api, operator.index, workers, asyncio.Event(), (), 600).compare()
    assert operator.index.get("ConfigMap", NAMESPACE, "goes") is None
    assert operator.index.get("ConfigMap", NAMESPACE, "stays") is not None
    assert await queue.take() == Key("ModelDeployment", NAMESPACE, "goes")
    assert len(queue) == 0


async def test_a_watch_that_was_cut_off_too_long_leaves_no_ghosts(
    operator: Operator, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real one: the API server has forgotten what happened, and the list it gives instead tells of no deletion."""
    monkeypatch.setenv("KUBECONFIG", str(server))
    index, relisted, stop, ready = Index(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    queue: WorkQueue[Key] = WorkQueue(asyncio.get_running_loop().time, debounce=0)
    workers = Workers(queue, None, operator.executor.is_leader, queue.clock)  # type: ignore[arg-type]
    resync = Resync(operator.api, index, workers, relisted, (NAMESPACE,), 600, settling=0.1)
    watching = asyncio.ensure_future(
        kopf.operator(
            registry=build_registry(index, queue, relisted),
            settings=build_settings(clusterwide=False),
            namespaces=[NAMESPACE],
            stop_flag=stop,
            ready_flag=ready,
        )
    )
    resyncing = asyncio.ensure_future(resync.run())
    try:
        for name in ("ghost", "busy"):
            await operator.api.create(kube.CONFIG_MAP, config(name))
        async with asyncio.timeout(20):
            while index.get("ConfigMap", NAMESPACE, "ghost") is None or relisted.is_set():
                await asyncio.sleep(0.05)
        _forget_a_deletion(server, "ghost", "busy")
        async with asyncio.timeout(20):
            while index.get("ConfigMap", NAMESPACE, "ghost") is not None:
                await asyncio.sleep(0.05)
        assert index.get("ConfigMap", NAMESPACE, "busy") is not None
    finally:
        stop.set()
        resyncing.cancel()
        await asyncio.gather(watching, resyncing, return_exceptions=True)


def _forget_a_deletion(server: Path, name: str, busy: str) -> None:
    """Delete an object between so many others' changes that neither buffers nor the API server's history hold it.

    Nothing is read meanwhile: the event loop stands still.
    """
    url = yaml.safe_load(server.read_text())["clusters"][0]["cluster"]["server"]
    path, merge = f"/api/v1/namespaces/{NAMESPACE}/configmaps", {"Content-Type": "application/merge-patch+json"}
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        for number in range(180):
            if number == 90:
                client.delete(f"{path}/{name}").raise_for_status()
            body = {"data": {"blob": f"{number}-" + "x" * 200_000}}
            client.patch(f"{path}/{busy}", json=body, headers=merge).raise_for_status()


async def test_a_list_is_read_page_by_page(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "PAGE", 2)
    names = {f"page-{number}" for number in range(5)}
    for name in names:
        await operator.api.create(kube.CONFIG_MAP, config(name))
    listed = [item async for item in operator.api.metadata(kube.CONFIG_MAP, NAMESPACE, LABEL_MODELDEPLOYMENT)]
    assert names <= {item["name"] for item in listed}
    assert len(listed) == len({item["uid"] for item in listed})


async def test_a_pod_that_is_gone_already_is_forgotten(operator: Operator) -> None:
    gone = {"kind": "Pod", "metadata": {"name": "gone", "namespace": NAMESPACE, "uid": "u", "labels": {}}}
    operator.index.put(gone)
    with pytest.raises(ApiError):
        await operator.executor.touch(gone, "mlserve.io/config-hash", "x")
    assert operator.index.get("Pod", NAMESPACE, "gone") is None


# --- leadership ---------------------------------------------------------------------------------------------------


async def test_a_replica_that_lost_writes_nothing_more(operator: Operator) -> None:
    operator.executor.is_leader.clear()
    writes = sum(sample.value for metric in metrics.API_WRITES.collect() for sample in metric.samples)
    with pytest.raises(NotLeadingError):
        await operator.executor.ensure(config("late"), {"late-one"})
    with pytest.raises(NotLeadingError):
        await operator.executor.ensure_secret(build_feedback_keys(owner("late"), b"key"))
    assert await operator.api.get(kube.CONFIG_MAP, NAMESPACE, "late") is None
    assert writes == sum(sample.value for metric in metrics.API_WRITES.collect() for sample in metric.samples)


async def test_a_key_that_comes_after_leadership_was_lost_waits(operator: Operator) -> None:
    seen: list[Key] = []

    class Reconciler:
        async def reconcile(self, key: Key) -> None:
            seen.append(key)

    queue: WorkQueue[Key] = WorkQueue(asyncio.get_running_loop().time, debounce=0)
    is_leader = operator.executor.is_leader
    workers = asyncio.ensure_future(Workers(queue, Reconciler(), is_leader, queue.clock).run(2))  # type: ignore[arg-type]
    key = Key("ModelDeployment", NAMESPACE, "m")
    try:
        queue.add(key)
        async with asyncio.timeout(5):
            while not seen:
                await asyncio.sleep(0)
        is_leader.clear()
        queue.add(key)
        async with asyncio.timeout(5):
            while len(queue):
                await asyncio.sleep(0)
        assert seen == [key]
        is_leader.set()
        async with asyncio.timeout(5):
            while seen != [key, key]:
                await asyncio.sleep(0)
    finally:
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)


async def test_a_leader_whose_connection_hangs_steps_down(
    operator: Operator, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that swallows packets answers nothing, not even an error."""
    monkeypatch.setattr(kube, "LEASE_REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(kube, "RETRY_SECONDS", 1)
    monkeypatch.setattr(kube, "RENEW_SECONDS", 2)
    is_leader = Leadership()
    standing = asyncio.ensure_future(lead(operator.api, NAMESPACE, "hang", is_leader))
    try:
        async with asyncio.timeout(10):
            await is_leader.wait()

        async def swallow(*_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(operator.api.api_client, "call_api", swallow)
        async with asyncio.timeout(10):
            while is_leader.is_set():
                await asyncio.sleep(0.05)
    finally:
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)


async def test_leadership_ends_with_the_lease_that_was_renewed_last(operator: Operator) -> None:
    """A process that was frozen for a while does not know yet that another one leads."""
    now = time.monotonic()
    is_leader = Leadership(lambda: now)
    standing = asyncio.ensure_future(lead(operator.api, NAMESPACE, "frozen", is_leader))
    try:
        async with asyncio.timeout(10):
            await is_leader.wait()
        executor = Executor(operator.api, operator.index, is_leader)
        assert await executor.ensure(config("before"), {"before-one"})
        now += 2 * kube.LEASE_SECONDS
        with pytest.raises(NotLeadingError):
            await executor.ensure(config("after"), {"after-one"})
        now -= 2 * kube.LEASE_SECONDS
        is_leader.renew(now)
        assert await executor.ensure(config("after"), {"after-one"})
    finally:
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)
