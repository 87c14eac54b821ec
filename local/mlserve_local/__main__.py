"""`python -m mlserve_local supervise DIR`: what `mlserve local up` leaves running. People use `mlserve local`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlserve_local.up import ClusterError, supervise


def main() -> int:
    """Supervise one cluster until it is told to end; 1 with a message on standard error if it cannot."""
    arguments = argparse.ArgumentParser(prog="python -m mlserve_local", description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)
    supervisor = commands.add_parser("supervise")
    supervisor.add_argument("data_dir", type=Path)
    supervisor.add_argument("--progress", type=int)
    options = arguments.parse_args()
    try:
        supervise(options.data_dir, options.progress)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
