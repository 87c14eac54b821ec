"""What holds for the whole suite; options can only be declared where every selection of tests passes by."""

from __future__ import annotations

import signal

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--chaos-runs`."""
    parser.addoption(
        "--chaos-runs", type=int, default=5, metavar="N", help="kill the operator N times in tests/chaos (default 5)"
    )


def pytest_configure() -> None:
    """End on SIGTERM as on Ctrl-C: fixtures are torn down, so that no cluster is left running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
