"""The first commands of the README, in their order, as somebody pastes them into a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlserve_local.up import UpOptions, down, up

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    re.findall(r"^\$ (.*)$", block, re.MULTILINE) for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
]
LOOK_AROUND = next(block for block in BLOCKS if any("kubectl wait" in line for line in block))


def test_the_first_commands_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, path, *commands = LOOK_AROUND
    assert start == 'eval "$(make -s up)"'  # tests/contract/test_makefile.py runs that
    assert path == "export PATH=$PWD/.venv/bin:$PATH"
    monkeypatch.chdir(ROOT)
    cluster = up(UpOptions(data_dir=tmp_path / "cluster"))
    try:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        script = "\n".join(["set -e", cluster.export_line, *commands, "kubectl delete mdep digits"])
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "modeldeployment.mlserve.io/digits condition met" in done.stdout
        assert re.search(r"^prediction +7 *$", done.stdout, re.MULTILINE)
        assert re.search(
            r"^URL: http://digits\.default\.svc, from this machine http://127\.", done.stdout, re.MULTILINE
        )
        assert "modeldeployment.mlserve.io/digits scaled" in done.stdout
    finally:
        down(cluster.data_dir)
