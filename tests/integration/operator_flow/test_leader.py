"""Two operators, one writer: when the leader dies the other one goes on where it stood."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import World, model

BIN = Path(sys.executable).parent


@pytest.fixture
def replicas(cluster: Any, namespace: str) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Two operators of one namespace, by the address of their management port."""
    arguments = ["--namespace", namespace, "--leader-election", "--leader-election-namespace", namespace]
    management = ["--management-host", "127.0.0.1", "--management-port", "0"]
    common = ["--kubeconfig", str(cluster.kubeconfig), "--dns-resolver", cluster.cluster.settings.dns]
    running: dict[str, subprocess.Popen[bytes]] = {}
    for number in (1, 2):
        log = (cluster.logs / f"replica-{number}.log").open("wb")
        running[f"replica-{number}"] = subprocess.Popen(
            [str(BIN / "mlserve-operator"), *common, *arguments, *management],
            env={**cluster.environment(), "POD_NAME": f"replica-{number}"}, stderr=log,
        )  # fmt: skip
        log.close()
    yield running
    for process in running.values():
        process.kill()
        process.wait()


def test_the_other_replica_takes_over(
    cluster: Any, namespace: str, replicas: dict[str, subprocess.Popen[bytes]]
) -> None:
    world = World(cluster, namespace)
    world.apply(model())
    world.until("Ready", "True")
    holder = world.get("lease", "mlserve-operator")["spec"]["holderIdentity"]
    first = next(name for name in replicas if holder.startswith(name))
    before = world.get("mdep", "digits")["status"]["stable"]["revision"]
    replicas[first].send_signal(signal.SIGKILL)
    world.kubectl("scale", "mdep", "digits", "--replicas", "2")
    world.until("Ready", "True", seconds=60)
    assert world.get("mdep", "digits")["status"]["replicas"] == 2
    assert world.get("mdep", "digits")["status"]["stable"]["revision"] == before
    assert not world.get("lease", "mlserve-operator")["spec"]["holderIdentity"].startswith(first)
    world.kubectl("delete", "mdep", "digits", "--wait=false")
