"""Settings of the operator process: flags, each with an environment variable of the same name.

A flag `--dns-resolver` is also read from `MLSERVE_OPERATOR_DNS_RESOLVER`; the flag wins. The table in
docs/operator.md is made from the very parser, so a setting cannot be undocumented.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.wire import ENV_BIND_HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENV_PREFIX: Final = "MLSERVE_OPERATOR_"


def release() -> str:
    """Version of this installation."""
    try:
        return version("mlserve")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "latest"


@dataclass(frozen=True)
class Settings:
    """What an installation decides once, for all its ModelDeployments."""

    kubeconfig: str = ""
    namespaces: tuple[str, ...] = ()
    management_host: str = "0.0.0.0"
    management_port: int = 9090
    data_dir: str = ""
    runtime_image: str = f"ghcr.io/mlserve/mlserve-runtime:{release()}"
    router_image: str = "envoyproxy/envoy:v1.40-latest"
    router_log_level: str = "warning"
    cluster_domain: str = "cluster.local"
    dns_resolver: str = ""
    network_policy: bool = True
    fetch_allow: tuple[str, ...] = ()
    leader_election: bool = False
    leader_election_namespace: str = "mlserve-system"
    leader_election_name: str = "mlserve-operator"
    workers: int = 8
    resync_seconds: int = 600
    log_format: str = "json"
    log_level: str = "info"


_HELP: Final[dict[str, str]] = {
    "kubeconfig": "path of a kubeconfig; empty: the pod's service account, or KUBECONFIG",
    "namespaces": "namespace to work in, repeatable; none: all namespaces",
    "management_host": "address of the management server",
    "management_port": "port of the management server: /livez /readyz /metrics and the overview page",
    "data_dir": "directory of the history database; empty: kept in memory",
    "runtime_image": "image of runtime pods whose spec.runtime.image is empty; pinned in a revision at its creation",
    "router_image": "Envoy image of the routers",
    "router_log_level": "log level of the routers",
    "cluster_domain": "DNS domain of the cluster",
    "dns_resolver": "host:port of the DNS server that routers ask; empty: the pod's resolver",
    "network_policy": "create NetworkPolicies that let only routers and monitoring reach runtime pods",
    "fetch_allow": "host or CIDR a model may be fetched from although it is private, repeatable",
    "leader_election": "elect one writer among several replicas by a Lease",
    "leader_election_namespace": "namespace of that Lease",
    "leader_election_name": "name of that Lease; one for each group of replicas",
    "workers": "reconciles that run at the same time",
    "resync_seconds": "slow resync: what the watch told is compared with a list, everything is looked at again",
    "log_format": "json | text",
    "log_level": "debug | info | warning | error",
}

_SINGULAR: Final = {"namespaces": "namespace"}


def build_parser() -> argparse.ArgumentParser:
    """The command line of `mlserve-operator`."""
    parser = argparse.ArgumentParser(
        prog="mlserve-operator", description="Serve ModelDeployments and keep every new version safe."
    )
    for field in fields(Settings):
        flag = "--" + _SINGULAR.get(field.name, field.name).replace("_", "-")
        default = field.default
        if isinstance(default, bool):
            parser.add_argument(
                flag, dest=field.name, action=argparse.BooleanOptionalAction, default=None, help=_HELP[field.name]
            )
        elif isinstance(default, tuple):
            parser.add_argument(flag, dest=field.name, action="append", default=None, help=_HELP[field.name])
        else:
            parser.add_argument(flag, dest=field.name, type=type(default), default=None, help=_HELP[field.name])
    return parser


def load_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from flags and environment.

    Raises:
        SystemExit: a flag or an environment variable is wrong; argparse has said which.
    """
    parser = build_parser()
    flags: list[str] = []
    for field in fields(Settings):
        text = environment.get(ENV_PREFIX + _SINGULAR.get(field.name, field.name).upper(), "")
        if field.name == "management_host" and not text:
            # A node without network namespaces tells each pod which address is its own.
            text = environment.get(ENV_BIND_HOST, "")
        flag = "--" + _SINGULAR.get(field.name, field.name).replace("_", "-")
        if not text:
            continue
        if isinstance(field.default, bool):
            flags.append(flag if text.lower() in {"1", "true", "yes"} else flag.replace("--", "--no-", 1))
        elif isinstance(field.default, tuple):
            flags += [part for item in text.split(",") for part in (flag, item.strip())]
        else:
            flags += [flag, text]
    values = vars(parser.parse_args(flags)) | {
        name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None
    }
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def settings_table() -> str:
    """The table of docs/operator.md."""
    rows = ["| flag | default | meaning |", "| --- | --- | --- |"]
    for field in fields(Settings):
        flag = "--" + _SINGULAR.get(field.name, field.name).replace("_", "-")
        default = field.default if field.name != "runtime_image" else "ghcr.io/mlserve/mlserve-runtime:<release>"
        shown = "" if default in ("", ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        rows.append(f"| `{flag}` | {shown} | {_HELP[field.name].replace('|', chr(92) + '|')} |")
    return "\n".join(rows)
