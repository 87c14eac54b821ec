"""Where the autoscaler's numbers come from: the metrics API for CPU and memory, the pods themselves for the rest.

A real cluster needs an adapter to turn a pod's own metric into `custom.metrics.k8s.io`. Here the value is read from
the pod: the gauge of that name on its `management` port, `/metrics`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final

import aiohttp

from mlserve_local.apiserver import quantity
from mlserve_local.client import NETWORK_ERRORS, ApiClient, ApiError
from mlserve_local.objects import Obj, key_of

_PORT_NAMES: Final = ("management", "metrics")
_DEFAULT_PORT: Final = 9090
_TIMEOUT: Final = aiohttp.ClientTimeout(total=2)

Usage = dict[str, dict[str, float]]
"""`namespace/name` of a pod -> resource -> cores or bytes."""


async def resource_usage(client: ApiClient, nodes: Iterable[Obj]) -> Usage:
    """CPU and memory of all pods; from the kubelets if the metrics API is not served."""
    try:
        answer = await client.request("GET", "/apis/metrics.k8s.io/v1beta1/pods")
    except ApiError as error:
        if error.code not in (404, 501, 503):
            raise
        return await _from_kubelets(client, nodes)
    usage: Usage = {}
    for item in answer.get("items") or ():
        total: dict[str, float] = {}
        for container in item.get("containers") or ():
            for name, amount in container["usage"].items():
                total[name] = total.get(name, 0.0) + float(quantity.parse(amount))
        usage[key_of(item)] = total
    return usage


async def _from_kubelets(client: ApiClient, nodes: Iterable[Obj]) -> Usage:
    usage: Usage = {}
    for node in nodes:
        try:
            async with client.session.get(f"{_kubelet(node)}/stats/summary", timeout=_TIMEOUT) as response:
                summary = await response.json()
        except (KeyError, *NETWORK_ERRORS):
            continue
        for pod in summary.get("pods") or ():
            reference = pod["podRef"]
            usage[f"{reference['namespace']}/{reference['name']}"] = {
                "cpu": pod["cpu"]["usageNanoCores"] / 1e9,
                "memory": float(pod["memory"]["workingSetBytes"]),
            }
    return usage


def _kubelet(node: Obj) -> str:
    status = node["status"]
    addresses = {address["type"]: address["address"] for address in status["addresses"]}
    return f"http://{addresses['InternalIP']}:{status['daemonEndpoints']['kubeletEndpoint']['Port']}"


async def pod_metric(client: ApiClient, pods: Iterable[Obj], name: str) -> dict[str, float]:
    """The metric's value of each pod that answers, by `namespace/name`."""
    found: dict[str, float] = {}

    async def ask(pod: Obj) -> None:
        url = f"http://{pod['status']['podIP']}:{_port(pod)}/metrics"
        try:
            async with client.session.get(url, timeout=_TIMEOUT) as response:
                value = parse_metric(await response.text(), name)
        except NETWORK_ERRORS:
            return
        if value is not None:
            found[key_of(pod)] = value

    await asyncio.gather(*(ask(pod) for pod in pods if (pod.get("status") or {}).get("podIP")))
    return found


def parse_metric(text: str, name: str) -> float | None:
    r"""The sum over all label sets of a metric in the Prometheus text format; None if it is not there.

    >>> parse_metric('in_flight{lane="live"} 2\nin_flight{lane="mirror"} 1\nin_flight_total 9', "in_flight")
    3.0
    """
    values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})?[ \t]+(\S+)", text, re.MULTILINE)
    return sum(map(float, values)) if values else None


def _port(pod: Obj) -> int:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") in _PORT_NAMES:
                return int(port["containerPort"])
    return _DEFAULT_PORT
