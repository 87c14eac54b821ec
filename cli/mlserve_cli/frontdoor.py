"""Where a model's front door is reached from this machine.

Inside the cluster it is `http://NAME.NAMESPACE.svc`. A laptop resolves no such name: the local cluster publishes a
loopback address as an annotation of the Service, any other cluster is reached through `kubectl port-forward`.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlserve_cli.errors import CommandError
from mlserve_cli.kubectl import RESOURCE, Kubectl, reason
from mlserve_core.wire import ANNOTATION_LOCAL_URL, FRONT_DOOR_HTTP_PORT

_FORWARDING = re.compile(r"Forwarding from (127\.0\.0\.1:\d+)")


@contextmanager
def front_door(kubectl: Kubectl, name: str, url: str | None = None) -> Iterator[str]:
    """Address of the front door of a model while the block runs, without a trailing slash.

    Raises:
        CommandError: There is no such Service, or it cannot be reached.
    """
    if url:
        yield url.rstrip("/")
        return
    service = find_service(kubectl, name)
    if published := local_url(service):
        yield published
        return
    with port_forward(kubectl, f"service/{name}", FRONT_DOOR_HTTP_PORT) as address:
        yield address


def find_service(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """The Service that is the front door of a model.

    Raises:
        CommandError: There is none; the message says which models there are.
    """
    found = kubectl.run("get", "service", name, "--ignore-not-found", "-o", "json")
    if found:
        service: dict[str, Any] = json.loads(found)
        return service
    models = sorted(item["metadata"]["name"] for item in kubectl.get(RESOURCE)["items"])
    if name in models:
        raise CommandError(f"{name} has no Service yet; `mlserve status {name}` tells what it waits for")
    there = ", ".join(models) or "none"
    raise CommandError(f"there is no model {name!r} in this namespace, there is {there}; -n names another namespace")


def local_url(service: Mapping[str, Any]) -> str:
    """The address on this machine that the local cluster published for a Service; empty on any other cluster."""
    return str(service.get("metadata", {}).get("annotations", {}).get(ANNOTATION_LOCAL_URL, "")).rstrip("/")


@contextmanager
def port_forward(kubectl: Kubectl, target: str, port: int) -> Iterator[str]:
    """A loopback address that kubectl forwards to a port of the target while the block runs."""
    command = kubectl.command("port-forward", target, f":{port}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            match = _FORWARDING.search(line)
            if match is None:
                process.terminate()
                said = reason(process.stderr.read()) if process.stderr else ""
                raise CommandError(f"port-forward to {target} failed: {said or line.strip() or 'no answer'}")
            yield f"http://{match.group(1)}"
        finally:
            process.terminate()
