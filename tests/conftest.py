"""Options of the whole test suite: an option can only be declared where every selection of tests passes by."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--chaos-runs`."""
    parser.addoption(
        "--chaos-runs", type=int, default=5, metavar="N", help="kill the operator N times in tests/chaos (default 5)"
    )
