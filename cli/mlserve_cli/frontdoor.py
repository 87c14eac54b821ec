"""Where a model's front door is reached from this machine.

Inside the cluster it is `http://NAME.NAMESPACE.svc`. A laptop resolves no such name: the local cluster publishes a
loopback address as an annotation of the Service, any other cluster is reached through `kubectl port-forward`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from mlserve_cli.errors import CommandError
from mlserve_cli.kubectl import Kubectl
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
    service = kubectl.get("service", name)
    published = service["metadata"].get("annotations", {}).get(ANNOTATION_LOCAL_URL)
    if published:
        yield published.rstrip("/")
        return
    with port_forward(kubectl, f"service/{name}", FRONT_DOOR_HTTP_PORT) as address:
        yield address


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
                reason = process.stderr.read().strip() if process.stderr else ""
                raise CommandError(f"port-forward to {target} failed: {reason or line.strip() or 'no answer'}")
            yield f"http://{match.group(1)}"
        finally:
            process.terminate()
