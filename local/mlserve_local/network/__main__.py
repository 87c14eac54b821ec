"""`python -m mlserve_local.network`: DNS and Service addresses for the cluster that a kubeconfig names."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path

from mlserve_local.client import ApiClient, ClusterConfig
from mlserve_local.informer import run_all
from mlserve_local.network.backends import Backends
from mlserve_local.network.dns import DnsServer
from mlserve_local.network.names import Answer, resolve
from mlserve_local.network.proxy import ServiceProxy
from mlserve_local.program import announce_ready, run_part

log = logging.getLogger("mlserve_local.network")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(prog="python -m mlserve_local.network", description=__doc__)
    arguments.add_argument("--kubeconfig", required=True, type=Path, help="the API server and who to be there")
    arguments.add_argument("--data-dir", required=True, type=Path, help="remembers the high ports of URLs")
    arguments.add_argument("--dns-host", default="127.0.0.1", help="loopback address of the DNS server")
    arguments.add_argument("--dns-port", type=int, default=0, help="0: any free one")
    return arguments


async def _main(options: argparse.Namespace) -> None:
    config = ClusterConfig.load(options.kubeconfig)
    async with ApiClient(config, user_agent="mlserve-local-network") as client:
        backends = Backends(client)
        proxy = ServiceProxy(client, backends, options.data_dir)

        def find(name: str) -> Answer:
            return resolve(
                name,
                lambda namespace, service: backends.services.get(f"{namespace}/{service}"),
                lambda namespace, service: backends.of(f"{namespace}/{service}"),
            )

        async with DnsServer(find, options.dns_host, options.dns_port) as dns, asyncio.TaskGroup() as group:
            group.create_task(run_all(backends.informers))
            for informer in backends.informers:
                await informer.synced.wait()
            log.info("DNS answers at %s:%d", options.dns_host, dns.port)
            group.create_task(proxy.run())
            announce_ready(dns=f"{options.dns_host}:{dns.port}")


if __name__ == "__main__":
    arguments = parser().parse_args()
    run_part(lambda: asyncio.ensure_future(_main(arguments)))
