"""Settings come from the environment the operator sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlserve_runtime.settings import read_settings


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, "/tmp/mlserve-drain.sock", id="by hand"),
        pytest.param(
            {"TMPDIR": "/var/lib/mlserve/tmp", "MLSERVE_POD_UID": "u1"},
            "/var/lib/mlserve/tmp/mlserve-drain.sock",
            id="in a pod with a read-only root: the one writable directory",
        ),
        pytest.param(
            {"TMPDIR": "/x" * 60, "MLSERVE_POD_UID": "u1"}, "/tmp/mlserve-drain-u1.sock", id="too deep for an address"
        ),
        pytest.param({"MLSERVE_POD_UID": "u1"}, "/tmp/mlserve-drain-u1.sock", id="pods that share /tmp"),
        pytest.param({"MLSERVE_DRAIN_SOCKET": "/run/d.sock", "TMPDIR": "/t"}, "/run/d.sock", id="asked for"),
    ],
)
def test_drain_socket(environment: dict[str, str], expected: str) -> None:
    assert read_settings(environment).drain_socket == Path(expected)
