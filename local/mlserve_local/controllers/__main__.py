"""`python -m mlserve_local.controllers`: all controllers against the API server that a kubeconfig names."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from mlserve_local.client import ApiClient, ClusterConfig
from mlserve_local.controllers.autoscaler import PERIOD_SECONDS, AutoscalerController
from mlserve_local.controllers.deployment import DeploymentController
from mlserve_local.controllers.disruption import DisruptionController
from mlserve_local.controllers.endpoints import EndpointsController
from mlserve_local.controllers.job import JobController
from mlserve_local.controllers.node_lifecycle import NodeLifecycleController
from mlserve_local.controllers.replica_set import ReplicaSetController
from mlserve_local.controllers.scheduler import Scheduler
from mlserve_local.controllers.shared import Context, Controller
from mlserve_local.program import run_part


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(prog="python -m mlserve_local.controllers", description=__doc__)
    arguments.add_argument("--kubeconfig", required=True, type=Path, help="the API server and who to be there")
    arguments.add_argument(
        "--autoscaler-seconds", type=float, default=PERIOD_SECONDS, help="between two looks, default %(default)g"
    )
    return arguments


async def _main(options: argparse.Namespace) -> None:
    config = ClusterConfig.load(options.kubeconfig)
    async with ApiClient(config, user_agent="kube-controller-manager") as client:
        context = Context(client)
        controllers: list[Controller] = [
            Scheduler(context),
            DeploymentController(context),
            ReplicaSetController(context),
            EndpointsController(context),
            AutoscalerController(context, period=options.autoscaler_seconds),
            JobController(context),
            DisruptionController(context),
            NodeLifecycleController(context),
        ]
        await context.run(controllers)


if __name__ == "__main__":
    arguments = parser().parse_args()
    run_part(lambda: asyncio.ensure_future(_main(arguments)))
