"""Probes: how a container shows that it has started, is alive, and is ready for traffic.

`ProbeState` is the pure part, thresholds turned into a verdict; `probe` asks the container once. A probe of fifty pods
runs fifty times a second, so the HTTP one is a plain socket exchange and not a client library's request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from mlserve_local.objects import Obj

Execute = Callable[[list[str], float], Awaitable[tuple[int, str]]]
"""Run a command in the container's environment for at most so many seconds: (exit code, output)."""

_UNVERIFIED: Final = ssl._create_unverified_context  # noqa: SLF001 - a kubelet does not verify either


@dataclass(slots=True)
class ProbeState:
    """Consecutive results against thresholds. `verdict` is what currently counts."""

    success_threshold: int = 1
    failure_threshold: int = 3
    verdict: bool | None = None
    _last: bool | None = field(default=None)
    _run: int = field(default=0)

    def observe(self, *, ok: bool) -> bool:
        """Take one result; True if the verdict changed.

        >>> state = ProbeState(failure_threshold=2)
        >>> [(state.observe(ok=ok), state.verdict) for ok in (True, False, False, False, True)]
        [(True, True), (False, True), (True, False), (False, False), (True, True)]
        """
        self._run = self._run + 1 if ok == self._last else 1
        self._last = ok
        threshold = self.success_threshold if ok else self.failure_threshold
        if self._run < threshold or self.verdict == ok:
            return False
        self.verdict = ok
        return True


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One answer; `message` says why it failed, in a kubelet's words."""

    ok: bool
    message: str = ""


async def probe(spec: Obj, container: Obj, pod_ip: str, execute: Execute) -> ProbeResult:
    """Ask once, within the probe's timeout."""
    timeout = float(spec.get("timeoutSeconds") or 1)
    try:
        if "httpGet" in spec:
            async with asyncio.timeout(timeout):
                return await _http_get(spec["httpGet"], container, pod_ip)
        if "tcpSocket" in spec:
            action = spec["tcpSocket"]
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(
                    action.get("host") or pod_ip, port_number(action["port"], container)
                )
                writer.close()
            return ProbeResult(ok=True)
        if "exec" in spec:
            code, output = await execute(spec["exec"]["command"], timeout)
            return ProbeResult(ok=code == 0, message=output.strip() or f"exit code {code}")
    except ConnectionRefusedError:
        where = spec.get("httpGet") or spec.get("tcpSocket") or {}
        number = port_number(where.get("port", 0), container)
        return ProbeResult(
            ok=False, message=f"dial tcp {where.get('host') or pod_ip}:{number}: connect: connection refused"
        )
    except TimeoutError:
        return ProbeResult(ok=False, message=f"no answer within {timeout:g} s (timeoutSeconds)")
    except (OSError, ValueError) as error:
        return ProbeResult(ok=False, message=str(error))
    return ProbeResult(ok=False, message="this node supports httpGet, tcpSocket and exec probes only")


def port_number(port: int | str, container: Obj) -> int:
    """A port by number or by the name in the container's ports. Raises ValueError with the names there are."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    ports = {p.get("name"): p["containerPort"] for p in container.get("ports") or ()}
    if port not in ports:
        raise ValueError(
            f"container {container['name']} has no port named {port!r}; it has {sorted(filter(None, ports))}"
        )
    return int(ports[port])


async def _http_get(action: Obj, container: Obj, pod_ip: str) -> ProbeResult:
    host, port = action.get("host") or pod_ip, port_number(action["port"], container)
    path = action.get("path") or "/"
    secure = (action.get("scheme") or "HTTP").upper() == "HTTPS"
    headers = {h["name"]: h["value"] for h in action.get("httpHeaders") or ()}
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {headers.pop('Host', f'{host}:{port}')}",
        "User-Agent: kube-probe/1.37",
        "Accept: */*",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    reader, writer = await asyncio.open_connection(host, port, ssl=_UNVERIFIED() if secure else None)
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status_line = await reader.readline()
        parts = status_line.split(maxsplit=2)
        if len(parts) < 2 or not parts[1].isdigit():
            return ProbeResult(
                ok=False, message=f'Get "{action.get("scheme", "HTTP").lower()}://{host}:{port}{path}": EOF'
            )
        code = int(parts[1])
        if 200 <= code < 400:
            return ProbeResult(ok=True)
        return ProbeResult(ok=False, message=f"HTTP probe failed with statuscode: {code}")
    finally:
        writer.close()
