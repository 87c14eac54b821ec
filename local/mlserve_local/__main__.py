"""`python -m mlserve_local up|down|status`: the same as `mlserve local`, without the rest of the command line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mlserve_local.up import ClusterError, UpOptions, down, status, supervise, up


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(prog="python -m mlserve_local", description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start the cluster in the background")
    start.add_argument("--kubeconfig", type=Path, help="use this cluster's API server, scheduler and controllers")
    start.add_argument("--no-operator", action="store_true")
    start.add_argument("--crds", type=Path, help="directory with the custom resource definitions")
    start.add_argument("--node-cpu", type=int, default=0, help="cores the node claims")
    start.add_argument("--fake-gpus", type=int, default=0, metavar="N")
    start.add_argument("--image", action="append", default=[], metavar="NAME=COMMAND")
    stop = commands.add_parser("down", help="end what `up` started; the data stays")
    show = commands.add_parser("status", help="what is running, as JSON")
    for command in (start, stop, show):
        command.add_argument("--data-dir", type=Path, help="default: mlserve in the user's state directory")
    supervisor = commands.add_parser("supervise")
    supervisor.add_argument("data_dir", type=Path)
    supervisor.add_argument("--progress", type=int)
    return arguments


def main() -> int:
    """Run one command; 1 with a message on standard error if it fails."""
    options = parser().parse_args()

    def report(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    try:
        if options.command == "supervise":
            supervise(options.data_dir, options.progress)
        elif options.command == "down":
            down(options.data_dir, report)
        elif options.command == "status":
            print(json.dumps(status(options.data_dir).to_dict(), indent=1))  # noqa: T201
        else:
            wanted = UpOptions(
                data_dir=options.data_dir,
                kubeconfig=options.kubeconfig,
                operator=not options.no_operator,
                crds=options.crds,
                node_cpu=options.node_cpu,
                fake_gpus=options.fake_gpus,
                images=tuple(options.image),
            )
            print(up(wanted, report).export_line)  # noqa: T201
    except ClusterError as error:
        report(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
