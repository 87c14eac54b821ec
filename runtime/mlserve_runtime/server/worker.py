"""One of several serving processes of a pod: `python -m mlserve_runtime.server.worker SETTINGS`, started by the parent.

A fresh interpreter, not a fork: a process that forks after torch or gRPC started their threads inherits locks that
nobody will ever release.
"""

from __future__ import annotations

import sys

from mlserve_runtime.server.place import decode


def main() -> int:
    """Serve in this place; the exit status."""
    settings, place = decode(sys.argv[1])
    from mlserve_runtime.server.process import serve
    from mlserve_runtime.telemetry.logs import configure_logging

    configure_logging(settings, process=place.index)
    return serve(settings, place)


if __name__ == "__main__":
    sys.exit(main())
