"""What holds for every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """End on SIGTERM as on Ctrl-C: fixtures are torn down, so that no cluster is left running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
