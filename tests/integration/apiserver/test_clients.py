"""The Python clients that operators are written with: kubernetes (blocking and asyncio) and kopf."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client as blocking
from kubernetes import config as blocking_config
from kubernetes import watch as blocking_watch
from kubernetes.client.exceptions import ApiException

from .conftest import MODELS, Server, config_map, model


@pytest.fixture
def api(server: Server) -> blocking.ApiClient:
    return blocking_config.new_client_from_config(str(server.kubeconfig))


def test_blocking_client_crud_patch_and_watch(api: blocking.ApiClient, namespace: str) -> None:
    core, apps = blocking.CoreV1Api(api), blocking.AppsV1Api(api)
    core.create_namespaced_config_map(namespace, config_map("a", k="1"))
    listed = core.list_namespaced_config_map(namespace, label_selector="!x")
    assert {c.metadata.name for c in listed.items} == {"a", "kube-root-ca.crt"}
    core.patch_namespaced_config_map("a", namespace, {"data": {"n": "2"}})
    read = core.read_namespaced_config_map("a", namespace)
    assert read.data == {"k": "1", "n": "2"}
    read.data["k"] = "3"
    core.replace_namespaced_config_map("a", namespace, read)
    with pytest.raises(ApiException) as refused:
        core.replace_namespaced_config_map("a", namespace, read)
    assert refused.value.status == 409
    pod = {"containers": [{"name": "c", "image": "i"}]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}
    apps.create_namespaced_deployment(namespace, {"metadata": {"name": "web"}, "spec": spec})
    assert apps.read_namespaced_deployment_scale("web", namespace).spec.replicas == 1
    seen: list[str] = []
    stream = blocking_watch.Watch()
    for event in stream.stream(core.list_namespaced_config_map, namespace, timeout_seconds=10):
        seen.append(f"{event['type']} {event['object'].metadata.name}")
        if len(seen) == 2:
            threading.Thread(target=core.delete_namespaced_config_map, args=("a", namespace)).start()
        if event["type"] == "DELETED":
            stream.stop()
    assert seen == ["ADDED a", "ADDED kube-root-ca.crt", "DELETED a"]


def test_dynamic_client_discovers_and_applies(api: blocking.ApiClient, namespace: str) -> None:
    from kubernetes.dynamic import DynamicClient

    dynamic = DynamicClient(api)
    models = dynamic.resources.get(api_version="serving.example.dev/v1alpha1", kind="ModelDeployment")
    applied = models.server_side_apply(body=model("m"), name="m", namespace=namespace, field_manager="test")
    assert applied.spec.replicas == 1
    assert applied.metadata.managedFields[0].manager == "test"
    assert [m.metadata.name for m in models.get(namespace=namespace).items] == ["m"]


async def test_asyncio_client(server: Server, namespace: str) -> None:
    from kubernetes import aio

    settings = aio.client.Configuration()
    settings.host = server.url
    async with aio.client.ApiClient(settings) as api:
        core, custom = aio.client.CoreV1Api(api), aio.client.CustomObjectsApi(api)
        made = await custom.create_namespaced_custom_object(
            "serving.example.dev", "v1alpha1", namespace, "modeldeployments", model("m")
        )
        assert made["metadata"]["generation"] == 1
        seen: list[str] = []
        async with aio.watch.Watch() as watch:
            source = custom.list_namespaced_custom_object
            arguments = ("serving.example.dev", "v1alpha1", namespace, "modeldeployments")
            async for event in watch.stream(source, *arguments, timeout_seconds=10):
                seen.append(event["type"])
                if seen == ["ADDED"]:
                    await custom.patch_namespaced_custom_object(
                        *arguments, "m", {"spec": {"replicas": 2}}, _content_type="application/merge-patch+json"
                    )
                elif len(seen) == 2:
                    await custom.delete_namespaced_custom_object(*arguments, "m")
                else:
                    break
        assert seen == ["ADDED", "MODIFIED", "DELETED"]
        events = await core.list_namespaced_event(namespace)
        assert events.items == []


OPERATOR = """
import kopf

@kopf.on.create("modeldeployments")
def created(spec, patch, **_):
    patch.status["phase"] = "Seen"

@kopf.on.update("modeldeployments", field="spec.replicas")
def scaled(new, patch, body, **_):
    patch.status["phase"] = f"Scaled{new}"
    kopf.info(body, reason="Scaled", message="to what was asked for")

@kopf.on.delete("modeldeployments")
def deleted(**_):
    pass
"""


def _until(what: str, check: Any, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        threading.Event().wait(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def test_kopf_operator(server: Server, namespace: str, client: httpx.Client, tmp_path: Path) -> None:
    program = tmp_path / "op.py"
    program.write_text(OPERATOR)
    path = MODELS.format(namespace)
    log = tmp_path / "kopf.log"
    command = [sys.executable, "-m", "kopf", "run", "-n", namespace, "--standalone", str(program)]
    with log.open("w") as out, subprocess.Popen(command, env=server.environment(), stdout=out, stderr=out) as operator:
        try:
            client.post(path, json=model("m")).raise_for_status()

            def phase() -> str:
                return client.get(f"{path}/m").json().get("status", {}).get("phase", "")

            _until("the handler ran", lambda: phase() == "Seen")
            merge = {"Content-Type": "application/merge-patch+json"}
            client.patch(f"{path}/m", json={"spec": {"replicas": 4}}, headers=merge).raise_for_status()
            _until("the update was handled", lambda: phase() == "Scaled4")
            _until(
                "an event was posted",
                lambda: [
                    e
                    for e in client.get(f"/api/v1/namespaces/{namespace}/events").json()["items"]
                    if e["reason"] == "Scaled"
                ],
            )
            assert client.get(f"{path}/m").json()["metadata"]["finalizers"]
            client.delete(f"{path}/m").raise_for_status()
            _until("the finalizer was taken off", lambda: client.get(f"{path}/m").status_code == 404)
        finally:
            operator.terminate()
            operator.wait(20)
    assert "Traceback" not in log.read_text()


def test_kubeconfig_is_private_and_complete(server: Server) -> None:
    assert server.kubeconfig.stat().st_mode & 0o077 == 0
    assert yaml.safe_load(server.kubeconfig.read_text())["current-context"]
