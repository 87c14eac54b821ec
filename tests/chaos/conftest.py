"""A cluster whose operator belongs to the test: started, killed and frozen at will. Everything else is left alone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from mlserve_local.up import Cluster, UpOptions, down, up

BIN = Path(sys.executable).parent
CRDS = Path(__file__).resolve().parents[2] / "crds"
MODEL_SERVER = Path(__file__).with_name("model_server.py")


@dataclass
class Operators:
    """Processes of the operator; ends those that are left."""

    cluster: Cluster
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.cluster.data_dir / "logs" / "operator.log"

    def start(self, *switches: str, packages: Path | None = None) -> subprocess.Popen[bytes]:
        """One more operator. It is not waited for.

        Args:
            switches: flags, beside those every operator of this cluster has.
            packages: a directory whose Python packages come before the installed ones.
        """
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = self.cluster.settings
        arguments = [
            *(BIN / "mlserve-operator", "--kubeconfig", settings.kubeconfig, "--dns-resolver", settings.dns),
            *("--management-host", "127.0.0.1", "--management-port", port, *switches),
        ]
        with self.log.open("ab") as log:
            environment = {**os.environ, **({"PYTHONPATH": str(packages)} if packages else {})}
            process = subprocess.Popen([str(item) for item in arguments], stdout=log, stderr=log, env=environment)
        self.running.append(process)
        self.ports[process.pid] = port
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End one as a power cut would."""
        process.kill()
        process.wait()
        self.running.remove(process)

    def leads(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether this operator says that it may write."""
        with contextlib.suppress(httpx.HTTPError):
            text = httpx.get(f"http://127.0.0.1:{self.ports[process.pid]}/metrics", timeout=2).text
            return "mlserve_operator_leader 1.0" in text
        return False

    def end(self) -> None:
        """End all that are left."""
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            self.kill(process)


@pytest.fixture(scope="session")
def chaos_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Real API server, controllers, node, network and Envoy; no operator; model servers with scripted counters."""
    directory = tmp_path_factory.mktemp("chaos")
    (directory / "scripts").mkdir()
    stand_in = f"mlserve-runtime={sys.executable} -I -S {MODEL_SERVER} {directory / 'scripts'}"
    cluster = up(
        UpOptions(
            data_dir=directory,
            operator=False,
            crds=CRDS,
            images=(stand_in,),
            node_cpu=64,
            fake_gpus=4,
            autoscaler_seconds=1,
        )
    )
    try:
        yield cluster
    finally:
        down(cluster.data_dir)


@pytest.fixture
def operators(chaos_cluster: Cluster) -> Iterator[Operators]:
    found = Operators(chaos_cluster)
    yield found
    found.end()


@pytest.fixture(scope="session")
def chaos_runs(pytestconfig: pytest.Config) -> int:
    runs: int = pytestconfig.getoption("--chaos-runs")
    return runs
