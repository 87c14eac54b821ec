"""How every part of the local cluster runs as a process: logging, orderly end on a signal, no traceback for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

READY_DESCRIPTOR: Final = "MLSERVE_LOCAL_READY_FD"
"""Environment variable with a file descriptor: a part writes a JSON line to it when it is ready, then closes it."""


def announce_ready(**facts: Any) -> None:
    """Tell whoever started this part that it is ready, with facts such as the port it chose."""
    descriptor = os.environ.pop(READY_DESCRIPTOR, None)
    if descriptor is not None:
        with os.fdopen(int(descriptor), "w") as file:
            file.write(json.dumps(facts) + "\n")


def run_part(start: Callable[[], asyncio.Future[Any]]) -> None:
    """Run until SIGTERM or SIGINT, then cancel and wait for the end. Exits 1 if the part fails by itself."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    sys.exit(asyncio.run(_run(start)))


async def _run(start: Callable[[], asyncio.Future[Any]]) -> int:
    task = start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    # Modules and classes live as long as the process: the collector need not look at them again and again.
    gc.freeze()
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await task
        except Exception:
            logging.getLogger(__name__).exception("ended")
            return 1
    return 0
