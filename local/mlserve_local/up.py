"""`up`, `down` and `status` of the embedded cluster, for the command line, for tests and for notebooks.

    cluster = up(UpOptions(detach=True))        # idempotent; prints nothing, reports through a callback
    print(cluster.export_line)
    down(cluster.data_dir)                      # ends exactly what `up` started

It is for development and tests, runs on Linux only (other systems lack 127.0.0.0/8), needs no root and listens on
loopback alone. State lies in one directory, by default `mlserve` in the user's state directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from mlserve_local.node.images import parse_mappings
from mlserve_local.node.prepare import DNS_RESOLVER, FILE_ROOT
from mlserve_local.processes import MARKER, marked, start_time
from mlserve_local.settings import ClusterError, ClusterSettings, ClusterState, default_data_dir

__all__ = ["Cluster", "ClusterError", "UpOptions", "default_data_dir", "down", "status", "up"]

Report = Callable[[str], None]
_STOP_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Switches of `up`. With `kubeconfig` the API server and controllers are those of that cluster.

    Without `operator` no definitions are applied but those that `crds` names.
    """

    data_dir: Path | None = None
    kubeconfig: Path | None = None
    operator: bool = True
    crds: Path | None = None
    node_cpu: int = 0
    fake_gpus: int = 0
    images: tuple[str, ...] = ()
    backoff_seconds: float = 10.0
    autoscaler_seconds: float = 15.0
    operator_arguments: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster, or what is left of one."""

    settings: ClusterSettings
    state: ClusterState | None

    @property
    def data_dir(self) -> Path:
        """Where its state lies."""
        return self.settings.directory

    @property
    def running(self) -> bool:
        """Is its supervisor there?"""
        return self.state is not None and self.state.supervisor.running

    @property
    def export_line(self) -> str:
        """For the shell."""
        return f"export KUBECONFIG={shlex.quote(str(self.settings.kubeconfig))}"

    def to_dict(self) -> dict[str, Any]:
        """For `--output json`. Addresses are empty until a first `up` has chosen them."""
        parts = [self.state.supervisor, *self.state.parts] if self.state else []
        settings = self.settings
        chosen = settings.block > 0
        return {
            "running": self.running,
            "ready": self.running and bool(self.state and self.state.ready),
            "dataDir": settings.data_dir,
            "kubeconfig": str(settings.kubeconfig),
            "apiServer": settings.api_url if chosen and not settings.external_kubeconfig else "",
            "operator": settings.operator_url if chosen and settings.with_operator else "",
            "dns": settings.dns if chosen else "",
            "logs": str(settings.directory / "logs"),
            "parts": [{"name": p.name, "pid": p.pid, "running": p.running, "restarts": p.restarts} for p in parts],
        }


def up(options: UpOptions = UpOptions(), report: Report = lambda _: None) -> Cluster:
    """Start a cluster in the background and wait until it is ready; one that runs already is left as it is.

    Raises ClusterError with the reason and where the logs are. Whatever was started is ended again, also by Ctrl-C.
    """
    settings = _prepare(options)
    if (present := _present(settings.directory)).running:
        report(f"the cluster in {settings.directory} is running already")
        return present
    if not sys.platform.startswith("linux"):
        raise ClusterError("the local cluster needs Linux: other systems have no 127.0.0.0/8; use kind there")
    report("a cluster of local processes for development and tests; it listens on loopback only")
    settings.choose_addresses()
    settings.save()
    _write_kubeconfig(settings)
    supervisor, progress = _start_supervisor(settings)
    failure = "it ended without a word"
    try:
        with progress:
            for line in progress:
                message = json.loads(line)
                if message["step"] == "started":
                    report(f"started {message['text']}")
                elif message["step"] == "ready":
                    supervisor.returncode = 0  # Not ours to wait for any more: it outlives this process.
                    return _present(settings.directory)
                else:
                    failure = message["text"]
        supervisor.wait()
    except KeyboardInterrupt:
        _end(supervisor.pid)
        down(settings.directory)
        raise
    raise ClusterError(f"the local cluster did not start: {failure} (logs: {settings.directory}/logs)")


def _prepare(options: UpOptions) -> ClusterSettings:
    data_dir = (options.data_dir or default_data_dir()).resolve()
    settings = ClusterSettings.load(data_dir) or ClusterSettings(str(data_dir))
    if options.kubeconfig is not None:
        if not options.kubeconfig.is_file():
            raise ClusterError(f"{options.kubeconfig}: no such kubeconfig")
        settings.external_kubeconfig = str(options.kubeconfig.resolve())
        settings.node_name = f"mlserve-{os.uname().nodename.lower()}"
    settings.with_operator = options.operator
    # Without the operator its definition is left out as well: whoever installs the one brings the other.
    settings.crds = str(options.crds or (_find_crds() if options.operator else None) or "")
    if options.operator and not settings.crd_files():
        where = settings.crds or "crds beside this installation"
        raise ClusterError(f"no *.yaml in {where}: --crds names the directory of the definitions to apply")
    try:
        parse_mappings(options.images)
    except ValueError as error:
        raise ClusterError(str(error)) from None
    settings.node_cpu, settings.fake_gpus = options.node_cpu, options.fake_gpus
    settings.images = list(options.images)
    settings.backoff_seconds, settings.autoscaler_seconds = options.backoff_seconds, options.autoscaler_seconds
    settings.operator_arguments = list(options.operator_arguments)
    return settings


def _find_crds() -> Path | None:
    """The `crds` folder of the source tree this package lies in."""
    directory = Path(__file__).resolve().parents[2] / "crds"
    return directory if any(directory.glob("*.yaml")) else None


def _write_kubeconfig(settings: ClusterSettings) -> None:
    """The administrator's kubeconfig; none for a cluster that brought its own."""
    if settings.external_kubeconfig:
        return
    name = "mlserve-local"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": settings.api_url}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
    }
    settings.kubeconfig.write_text(json.dumps(document, indent=1))
    settings.kubeconfig.chmod(0o600)


def _start_supervisor(settings: ClusterSettings) -> tuple[subprocess.Popen[bytes], IO[str]]:
    reader, writer = os.pipe()
    path = settings.log("supervisor")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlserve_local", "supervise", settings.data_dir, "--progress", str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            start_new_session=True,
            cwd="/",
            env={
                FILE_ROOT: str(Path.cwd()),
                **os.environ,
                DNS_RESOLVER: settings.dns,
                MARKER: settings.data_dir,
            },
        )
    os.close(writer)
    return process, os.fdopen(reader)


def _present(data_dir: Path) -> Cluster:
    settings = ClusterSettings.load(data_dir) or ClusterSettings(str(data_dir))
    return Cluster(settings, ClusterState.load(data_dir))


def status(data_dir: Path | None = None) -> Cluster:
    """What runs, by the state file checked against the processes."""
    return _present((data_dir or default_data_dir()).resolve())


def down(data_dir: Path | None = None, report: Report = lambda _: None) -> bool:
    """End what `up` started in this directory, and nothing else; False if nothing was running. The data stays."""
    directory = (data_dir or default_data_dir()).resolve()
    cluster = _present(directory)
    found = False
    if cluster.state is not None and cluster.running:
        found = True
        _end(cluster.state.supervisor.pid)
    # A supervisor that was killed may have left something: every process of the cluster bears its mark.
    left = list(marked(directory))
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if left:
        report(f"ended {len(left)} left-over process{'es' if len(left) > 1 else ''}")
    (directory / "state.json").unlink(missing_ok=True)
    report(f"the cluster in {directory} is down" if found or left else f"no cluster is running in {directory}")
    return found or bool(left)


def _end(pid: int) -> None:
    """SIGTERM, and SIGKILL if the process is still there after half a minute."""
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not _wait_for_exit(pid, descriptor):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            _wait_for_exit(pid, descriptor)
    except ProcessLookupError:
        return
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_for_exit(pid: int, descriptor: int) -> bool:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + _STOP_SECONDS
    ended = bool(poll.poll(int(1000 * (deadline - time.monotonic()))))
    with contextlib.suppress(ChildProcessError):  # a zombie if this very process is its parent
        os.waitpid(pid, os.WNOHANG)
    return ended or start_time(pid) is None


def supervise(data_dir: Path, progress: int | None) -> None:
    """The body of the supervisor process."""
    from mlserve_local.program import run_part
    from mlserve_local.supervisor import Supervisor

    settings = ClusterSettings.load(data_dir)
    if settings is None:
        raise ClusterError(f"{data_dir} holds no settings: use `up`")
    run_part(lambda: asyncio.ensure_future(Supervisor(settings, progress).run()))
