"""What a local cluster is made of and where: chosen at the first `up`, kept in its data directory."""

from __future__ import annotations

import json
import os
import socket
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mlserve_local.processes import start_time

SETTINGS_FILE: Final = "settings.json"
STATE_FILE: Final = "state.json"
DNS_PORT: Final = 10053
_FIRST_BLOCK, _LAST_BLOCK = 64, 254
"""Second octets of 127.0.0.0/8 to choose from; the low ones are used by other software."""


class ClusterError(Exception):
    """The cluster cannot be started or stopped; the message says what to do."""


def default_data_dir() -> Path:
    """`$MLSERVE_LOCAL_DIR`, else `mlserve` in the user's state directory: one cluster per user, from any directory."""
    if os.environ.get("MLSERVE_LOCAL_DIR"):
        return Path(os.environ["MLSERVE_LOCAL_DIR"])
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "mlserve"


@dataclass(slots=True)
class ClusterSettings:
    """Switches of `up` and the addresses chosen for them. `external_kubeconfig`: the API server is not ours."""

    data_dir: str
    block: int = 0
    """This cluster's part of loopback: Services 127.BLOCK.0.0/17, pods 127.BLOCK.128.0/17."""
    api_port: int = 0
    operator_port: int = 0
    external_kubeconfig: str = ""
    with_operator: bool = True
    crds: str = ""
    node_name: str = "local"
    node_cpu: int = 0
    fake_gpus: int = 0
    images: list[str] = field(default_factory=list)
    backoff_seconds: float = 10.0
    autoscaler_seconds: float = 15.0
    operator_arguments: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @property
    def kubeconfig(self) -> Path:
        """For clients and parts alike."""
        return Path(self.external_kubeconfig) if self.external_kubeconfig else self.directory / "kubeconfig"

    @property
    def api_url(self) -> str:
        """Of the embedded API server."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def operator_url(self) -> str:
        """Of the operator's management port."""
        return f"http://127.0.0.1:{self.operator_port}"

    @property
    def service_cidr(self) -> str:
        """Addresses of Services."""
        return f"127.{self.block}.0.0/17"

    @property
    def pod_cidr(self) -> str:
        """Addresses of pods."""
        return f"127.{self.block}.128.0/17"

    @property
    def dns_host(self) -> str:
        """Address of the DNS server."""
        return f"127.{self.block}.0.10"

    @property
    def dns(self) -> str:
        """`host:port` of the DNS server."""
        return f"{self.dns_host}:{DNS_PORT}"

    def crd_files(self) -> list[Path]:
        """The custom resource definitions to apply at start."""
        return sorted(Path(self.crds).glob("*.yaml")) if self.crds else []

    def log(self, part: str) -> Path:
        """The log file of a part."""
        return self.directory / "logs" / f"{part}.log"

    def choose_addresses(self) -> None:
        """Fill in what was not chosen yet, and move ports that someone else has taken meanwhile.

        Raises ClusterError if the block of an existing cluster is in use: its Services have addresses in it.
        """
        if self.block and not _free(self.dns_host, DNS_PORT):
            raise ClusterError(
                f"{self.dns} is in use by another process, but this cluster's Services have addresses in "
                f"{self.service_cidr}: end that process, or start anew with another --data-dir"
            )
        self.block = self.block or next(_free_blocks(self.data_dir))
        for name in ("api_port", "operator_port"):
            port = getattr(self, name)
            if not port or not _free("127.0.0.1", port):
                setattr(self, name, _free_port())

    def save(self) -> None:
        """Write to the data directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        _write(self.directory / SETTINGS_FILE, asdict(self))

    @classmethod
    def load(cls, data_dir: Path) -> ClusterSettings | None:
        """The settings of an earlier `up`, if there was one."""
        stored = _read(data_dir / SETTINGS_FILE)
        return None if stored is None else cls(**stored)


def _free_blocks(seed: str) -> Iterator[int]:
    count = _LAST_BLOCK - _FIRST_BLOCK + 1
    first = zlib.crc32(seed.encode()) % count
    for offset in range(count):
        block = _FIRST_BLOCK + (first + offset) % count
        if _free(f"127.{block}.0.10", DNS_PORT):
            yield block
    raise ClusterError("every loopback block has a DNS server already; `mlserve local down` ends a cluster")


def _free(host: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with closing(socket.socket(socket.AF_INET, kind)) as attempt:
            if kind == socket.SOCK_STREAM:
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((host, port))
            except OSError:
                return False
    return True


def _free_port() -> int:
    with closing(socket.socket()) as attempt:
        attempt.bind(("127.0.0.1", 0))
        return int(attempt.getsockname()[1])


@dataclass(frozen=True, slots=True)
class PartState:
    """One process of the cluster. pid and start time together name it for good."""

    name: str
    pid: int
    started: int
    restarts: int = 0

    @property
    def running(self) -> bool:
        """Is it this very process that runs?"""
        return self.pid > 0 and start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class ClusterState:
    """Written by the supervisor whenever a process starts or ends."""

    supervisor: PartState
    parts: tuple[PartState, ...] = ()
    ready: bool = False

    def save(self, data_dir: Path) -> None:
        """Write to the data directory."""
        _write(data_dir / STATE_FILE, asdict(self))

    @classmethod
    def load(cls, data_dir: Path) -> ClusterState | None:
        """The last state, whether its processes still run or not."""
        stored = _read(data_dir / STATE_FILE)
        if stored is None:
            return None
        parts = tuple(PartState(**part) for part in stored["parts"])
        return cls(PartState(**stored["supervisor"]), parts, bool(stored["ready"]))


def operator_url(server: str, kubeconfigs: Iterable[Path]) -> str | None:
    """Management address of the operator of the local cluster with this API server.

    Somebody may have several clusters, so a kubeconfig alone does not say which one is talked to. It says where to
    look: a local cluster's lies in its data directory.

    Returns:
        None if `server` is no running local cluster's, or if that one has no operator.
    """
    for path in kubeconfigs:
        directory = path.resolve().parent
        settings, state = ClusterSettings.load(directory), ClusterState.load(directory)
        running = state is not None and state.supervisor.running
        if settings is not None and running and settings.with_operator and settings.api_url == server:
            return settings.operator_url
    return None


def _write(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1))
    temporary.replace(path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
