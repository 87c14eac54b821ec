"""`python -m mlserve_local.node`: one node against any API server that a kubeconfig names."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from mlserve_local.client import ApiClient, ClusterConfig
from mlserve_local.node.agent import Node
from mlserve_local.node.images import parse_mappings
from mlserve_local.node.registration import default_name
from mlserve_local.node.settings import DEFAULT_CPU, DEFAULT_PODS, NodeSettings
from mlserve_local.program import run_part


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(prog="python -m mlserve_local.node", description=__doc__)
    arguments.add_argument("--kubeconfig", required=True, type=Path, help="the API server and who to be there")
    arguments.add_argument("--data-dir", required=True, type=Path, help="for pods' volumes and logs")
    arguments.add_argument("--cluster-dir", type=Path, help="marks the processes; the data directory by default")
    arguments.add_argument("--node-name", default=default_name(), help="default: the host's name")
    arguments.add_argument("--pod-cidr", default="127.97.0.0/16", help="loopback addresses for pods")
    arguments.add_argument("--port", type=int, default=0, help="of the kubelet API; 0: any free one")
    arguments.add_argument("--node-cpu", type=int, default=DEFAULT_CPU, help="cores to claim, default %(default)s")
    arguments.add_argument("--node-memory", type=int, default=0, metavar="BYTES", help="default: 4 times the machine's")
    arguments.add_argument("--max-pods", type=int, default=DEFAULT_PODS)
    arguments.add_argument("--fake-gpus", type=int, default=0, metavar="N", help="publish N nvidia.com/gpu")
    arguments.add_argument("--image", action="append", default=[], metavar="NAME=COMMAND", help="a further image")
    arguments.add_argument("--backoff-seconds", type=float, default=10.0, help="first back-off of a crashing container")
    return arguments


async def _main(options: argparse.Namespace) -> None:
    config = ClusterConfig.load(options.kubeconfig)
    data_dir = options.data_dir.resolve()
    settings = NodeSettings(
        name=options.node_name,
        data_dir=data_dir,
        cluster_dir=(options.cluster_dir or data_dir).resolve(),
        pod_cidr=options.pod_cidr,
        port=options.port,
        images=parse_mappings(options.image),
        cpu=options.node_cpu,
        memory=options.node_memory,
        pods=options.max_pods,
        fake_gpus=options.fake_gpus,
        backoff_base=options.backoff_seconds,
        api_server=config.server,
    )
    async with ApiClient(config, user_agent="mlserve-local-node") as client:
        await Node(client, settings).run()


if __name__ == "__main__":
    arguments = parser().parse_args()
    run_part(lambda: asyncio.ensure_future(_main(arguments)))
