"""The life of a release with the real helm: its Secrets are protobuf, its objects server-side applied."""

from __future__ import annotations

import json

from .conftest import Server


def test_install_upgrade_rollback_uninstall(server: Server, namespace: str) -> None:
    def helm(*arguments: str, check: bool = True) -> str:
        return server.run("helm", "-n", namespace, *arguments, check=check)

    assert "STATUS: deployed" in helm("install", "rel", "./tiny", "--wait=hookOnly")
    assert "cannot reuse a name" in helm("install", "rel", "./tiny", check=False)
    helm("upgrade", "rel", "./tiny", "--set", "image=example.dev/app:2")
    helm("upgrade", "--install", "rel", "./tiny", "--set", "image=example.dev/app:2")
    history = json.loads(helm("history", "rel", "-o", "json"))
    assert [(h["revision"], h["status"]) for h in history] == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
    status = helm("status", "rel")
    assert "==> v1/ConfigMap" in status
    image = ["kubectl", "-n", namespace, "get", "cm", "rel", "-o", "jsonpath={.data.image}"]
    assert server.run(*image) == "example.dev/app:2"
    helm("rollback", "rel", "1")
    assert server.run(*image) == "example.dev/app:1"
    assert "image: example.dev/app:1" in helm("get", "manifest", "rel")
    assert json.loads(helm("list", "-o", "json"))[0]["status"] == "deployed"
    assert "uninstalled" in helm("uninstall", "rel")
    left = server.run("kubectl", "-n", namespace, "get", "secret,svc,deploy,mdep,role")
    assert "No resources found" in left


def test_waiting_for_what_never_comes_fails_in_time(server: Server, namespace: str) -> None:
    arguments = ("-n", namespace, "install", "slow", "./tiny", "--wait", "--timeout=2s", "--set", "replicas=1")
    said = server.run("helm", *arguments, check=False)
    assert "not ready" in said
    assert "InProgress" in said
