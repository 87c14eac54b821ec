"""An operator that cannot begin says why in a line, not in a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("text", [pytest.param(None, id="no file"), pytest.param("{}", id="without a context")])
def test_a_kubeconfig_that_names_no_api_server_ends_it_with_the_place(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    program = "import sys; from mlserve_operator.main import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", program, "--kubeconfig", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"no API server to work for: kubeconfig {path}" in ended.stderr
    assert "Traceback" not in ended.stderr
