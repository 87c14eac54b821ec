"""The command lines of the parts, in the order in which they start."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from mlserve_local.node.images import BIN
from mlserve_local.settings import DNS_PORT, ClusterSettings

Check = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the cluster. `health`: the URL that answers 200 when it is ready; else it announces itself."""

    name: str
    argv: list[str]
    health: str = ""


def api_server(settings: ClusterSettings) -> Part:
    """The embedded API server."""
    argv = [
        *_module("apiserver"),
        *("--port", str(settings.api_port)),
        *("--data-dir", str(settings.directory / "apiserver")),
        *("--service-cidr", settings.service_cidr),
    ]
    return Part("apiserver", argv, f"{settings.api_url}/readyz")


def controllers(settings: ClusterSettings) -> Part:
    """Scheduler and controllers; a real cluster has its own."""
    seconds = str(settings.autoscaler_seconds)
    return Part("controllers", [*_module("controllers"), *_api(settings), "--autoscaler-seconds", seconds])


def node(settings: ClusterSettings) -> Part:
    """The node that runs pods as processes."""
    argv = [
        *_module("node"),
        *_api(settings),
        *("--data-dir", str(settings.directory / "node")),
        *("--cluster-dir", settings.data_dir),
        *("--node-name", settings.node_name),
        *("--pod-cidr", settings.pod_cidr),
        *("--fake-gpus", str(settings.fake_gpus)),
        *("--backoff-seconds", str(settings.backoff_seconds)),
        *(["--node-cpu", str(settings.node_cpu)] if settings.node_cpu else []),
    ]
    for image in settings.images:
        argv += ["--image", image]
    return Part("node", argv)


def network(settings: ClusterSettings) -> Part:
    """DNS and Service addresses."""
    argv = [*_module("network"), *_api(settings), "--data-dir", str(settings.directory / "network")]
    return Part("network", [*argv, "--dns-host", settings.dns_host, "--dns-port", str(DNS_PORT)])


def operator(settings: ClusterSettings) -> Part:
    """The operator of this installation."""
    argv = [
        str(Path(BIN) / "mlserve-operator"),
        *_api(settings),
        *("--management-host", "127.0.0.1", "--management-port", str(settings.operator_port)),
        *("--data-dir", str(settings.directory / "operator")),
        *("--dns-resolver", settings.dns),
        *settings.operator_arguments,
    ]
    return Part("operator", argv, f"{settings.operator_url}/readyz")


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", f"mlserve_local.{name}"]


def _api(settings: ClusterSettings) -> list[str]:
    return ["--kubeconfig", str(settings.kubeconfig)]
