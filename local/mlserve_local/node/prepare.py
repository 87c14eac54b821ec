"""From a container's spec to what is executed: command line, environment, working directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlserve_local.node.context import PodContext
from mlserve_local.node.environment import environment, expand_all
from mlserve_local.node.images import ADDRESS_BLIND, BIN, command_line, repository_name
from mlserve_local.node.paths import address_rewriter, rewriter
from mlserve_local.objects import Obj, name_of
from mlserve_local.processes import MARKER

FILE_ROOT: Final = "MLSERVE_FILE_ROOT"
"""Where `file:///` begins for a fetch on this node: the directory `local up` was called in, unless set."""
DNS_RESOLVER: Final = "MLSERVE_OPERATOR_DNS_RESOLVER"
"""Setting of an operator that runs as a pod: routers are processes and know no cluster DNS but by this address."""
_INHERITED: Final = (
    FILE_ROOT,
    DNS_RESOLVER,
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TZ",
    "VIRTUAL_ENV",
)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class Execution:
    """Everything a process of a container needs; `kubectl exec` reuses it with another command line."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path
    termination_log: Path
    rewrite: Callable[[str], str]
    """From what the pod's spec says to what is meant on this machine."""


def config_references(container: Obj) -> set[tuple[str, str]]:
    """(kind, name) of each ConfigMap and Secret that the environment of the container needs."""
    found: set[tuple[str, str]] = set()
    for source in container.get("envFrom") or ():
        for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if field in source:
                found.add((kind, source[field]["name"]))
    for entry in container.get("env") or ():
        for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            if field in (entry.get("valueFrom") or {}):
                found.add((kind, entry["valueFrom"][field]["name"]))
    return found


def prepare(context: PodContext, container: Obj) -> Execution:
    """Raises ImageNotFoundError or ConfigError."""
    settings = context.node.settings
    home = context.directory / "containers" / container["name"]
    home.mkdir(parents=True, exist_ok=True)
    termination_log = home / "termination-log"
    termination_log.write_bytes(b"")
    argv = command_line(
        settings.images, container["image"], container.get("command") or (), container.get("args") or ()
    )
    pod = {**context.pod, "status": {"podIP": context.pod_ip, "hostIP": settings.host_ip}}
    base = _base_environment(context, home, termination_log)
    variables = environment(container, pod, context.node.lookup(context.namespace), base, settings.allocatable())
    message_path = container.get("terminationMessagePath") or "/dev/termination-log"
    paths = rewriter({**context.mounts(container), message_path: str(termination_log)})
    own_loopback = repository_name(container["image"]) in ADDRESS_BLIND
    addresses = address_rewriter(context.pod_ip, loopback=own_loopback)

    def rewrite(text: str) -> str:
        return addresses(paths(text))

    # Only what the pod itself says is rewritten: an inherited value may name a real path.
    variables = {name: value if base.get(name) == value else rewrite(value) for name, value in variables.items()}
    working_dir = container.get("workingDir")
    return Execution(
        argv=[rewrite(word) for word in expand_all(argv, variables)],
        env=variables,
        cwd=Path(rewrite(working_dir)) if working_dir else home,
        termination_log=termination_log,
        rewrite=rewrite,
    )


def _base_environment(context: PodContext, home: Path, termination_log: Path) -> dict[str, str]:
    settings = context.node.settings
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    token = _kubeconfig(context, home)
    return {
        **inherited,
        **context.service_links,
        **({"KUBECONFIG": token} if token else {}),
        "PATH": f"{BIN}:{os.environ.get('PATH', _PATH)}",
        "HOME": str(home),
        "TMPDIR": str(_temporary(context)),
        "HOSTNAME": name_of(context.pod),
        "MLSERVE_BIND_HOST": context.pod_ip,
        "MLSERVE_TERMINATION_LOG": str(termination_log),
        MARKER: str(settings.cluster_dir),
    }


def _temporary(context: PodContext) -> Path:
    directory = context.directory / "tmp"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _kubeconfig(context: PodContext, home: Path) -> str:
    """In-cluster configuration reads fixed paths that cannot be mounted: a kubeconfig says the same."""
    mounts: Mapping[str, Path] = {
        mount["mountPath"]: context.volumes[mount["name"]]
        for container in [*context.pod["spec"]["containers"], *(context.pod["spec"].get("initContainers") or ())]
        for mount in container.get("volumeMounts") or ()
        if mount["name"] in context.volumes
    }
    directory = mounts.get(SERVICE_ACCOUNT)
    server = context.node.settings.api_server
    if directory is None or not server:
        return ""
    authority = directory / "ca.crt"
    trust = f"certificate-authority: {authority}" if authority.exists() else "insecure-skip-tls-verify: true"
    has_token = (directory / "token").exists() and (directory / "token").stat().st_size > 0
    user = f"{{tokenFile: {directory / 'token'}}}" if has_token else "{}"
    path = home / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: pod\n"
        f"clusters: [{{name: pod, cluster: {{server: {server}"
        + (f", {trust}" if server.startswith("https") else "")
        + "}}]\n"
        f"users: [{{name: pod, user: {user}}}]\n"
        f"contexts: [{{name: pod, context: {{cluster: pod, user: pod, namespace: {context.namespace}}}}}]\n"
    )
    return str(path)
