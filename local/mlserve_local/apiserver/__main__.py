"""``python -m mlserve_local.apiserver``: serve until SIGTERM; the readiness line on stdout ends with the URL."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from mlserve_local.apiserver.server import ApiServer, ApiServerSettings

READY = "API server ready at"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mlserve_local.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one (default)")
    parser.add_argument("--data-dir", type=Path, help="keep the state here; without it, it is lost at exit")
    parser.add_argument("--kubeconfig-out", type=Path, help="write a kubeconfig of the administrator to this file")
    parser.add_argument("--service-cidr", default="10.96.0.0/16", help="addresses of Services (default %(default)s)")
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT."""
    settings = ApiServerSettings(options.port, options.data_dir, service_cidr=options.service_cidr)
    stop = asyncio.Event()
    async with ApiServer(settings) as server:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if options.kubeconfig_out is not None:
            write_private(options.kubeconfig_out, server.kubeconfig())
        sys.stdout.write(f"{READY} {server.url}\n")
        sys.stdout.flush()
        waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(server.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting)


def write_private(path: Path, text: str) -> None:
    """Write a file that only the user may read, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    temporary.replace(path)


def main() -> None:
    """Entry point of ``python -m mlserve_local.apiserver``."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # uvicorn reports every refused WebSocket upgrade as an unfinished handshake, although it has been answered.
    noise = "ASGI callable returned without completing handshake"
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(noise))
    options = parse()
    uvloop.run(serve(options))


if __name__ == "__main__":
    main()
