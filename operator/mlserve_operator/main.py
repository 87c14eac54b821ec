"""The process `mlserve-operator`: connect the parts, run until told to stop.

kopf fills the index and puts keys on the queue, workers reconcile them while this replica leads, and the management
port says how it goes. If any part ends, the process ends: a kubelet restarts it, and nothing is lost by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
import warnings
from typing import TYPE_CHECKING

import aiohttp
import kopf

from mlserve_operator import logs, metrics
from mlserve_operator.drift import DriftWatch
from mlserve_operator.execute import Executor
from mlserve_operator.handlers import build_registry, build_settings
from mlserve_operator.history import History
from mlserve_operator.history_routes import history_routes
from mlserve_operator.index import Index
from mlserve_operator.kube import ApiError, Kube
from mlserve_operator.leader import Leadership, lead
from mlserve_operator.management import build_application, serve
from mlserve_operator.page.routes import routes
from mlserve_operator.queue import WorkQueue
from mlserve_operator.reconcile import Key, Reconciler
from mlserve_operator.settings import Settings, load_settings, release
from mlserve_operator.telemetry import PARALLEL, Telemetry
from mlserve_operator.work import Resync, Workers

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    settings = load_settings(sys.argv[1:] if arguments is None else arguments)
    logs.configure(settings.log_format, settings.log_level)
    if settings.kubeconfig:
        os.environ["KUBECONFIG"] = settings.kubeconfig  # kopf reads it from there
    try:
        asyncio.run(run(settings))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    except (OSError, ApiError) as error:
        logger.critical("%s", error)
        return 1
    return 0


async def run(settings: Settings) -> None:
    """Run the operator until kopf is told to stop by a signal."""
    index, ready, relisted, is_leader = Index(), asyncio.Event(), asyncio.Event(), Leadership()
    queue: WorkQueue[Key] = WorkQueue(time.monotonic)
    limits = aiohttp.TCPConnector(limit=PARALLEL, keepalive_timeout=30)
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube(settings.kubeconfig))
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=limits))
        telemetry, history = Telemetry(session, time.monotonic), History(settings.data_dir)
        stack.callback(history.close)
        reconciler = Reconciler(
            settings=settings,
            index=index,
            executor=Executor(kube, index, is_leader),
            telemetry=telemetry,
            drift=DriftWatch(index, telemetry, history),
            history=history,
            queue=queue,
            now=time.time,
        )
        workers = Workers(queue, reconciler, is_leader, time.monotonic)
        pages = [*routes(index, history, release()), *history_routes(history)]
        application = build_application(workers.trouble, ready.is_set, pages)
        runner = await serve(application, settings.management_host, settings.management_port)
        stack.push_async_callback(runner.cleanup)
        resync = Resync(kube, index, workers, relisted, settings.namespaces, settings.resync_seconds)
        await _until_first_ends(
            _watch(settings, build_registry(index, queue, relisted), ready),
            workers.run(settings.workers),
            resync.run(),
            _lead(kube, settings, is_leader),
            _signal(ready),
        )


async def _watch(settings: Settings, registry: kopf.OperatorRegistry, ready: asyncio.Event) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        await kopf.operator(
            registry=registry,
            settings=build_settings(clusterwide=not settings.namespaces),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            ready_flag=ready,
        )


async def _signal(ready: asyncio.Event) -> None:
    """End on SIGTERM or SIGINT: what is left undone is found undone by the next operator.

    kopf has its own handlers by then. They give every task in the process five seconds to end by itself, and the
    workers never do.
    """
    await ready.wait()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _lead(kube: Kube, settings: Settings, is_leader: Leadership) -> None:
    if not settings.leader_election:
        metrics.LEADER.set(1)
        is_leader.set()
        await asyncio.Event().wait()
    await lead(kube, settings.leader_election_namespace, settings.leader_election_name, is_leader)


async def _until_first_ends(*parts: Coroutine[object, object, None]) -> None:
    """Run all parts; when one ends, in whatever way, end the others and pass on how it ended."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


if __name__ == "__main__":
    sys.exit(main())
