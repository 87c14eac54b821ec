"""`eval "$(make -s up)"` is the first thing people type: standard output must be what a shell can evaluate."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_preparing_the_environment_says_nothing_on_standard_output(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "install_helm.py", tmp_path / "tools")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip"):
        (programs / name).write_text('#!/bin/sh\necho "chatter of $0 $*"\n')
    (programs / "mlserve").write_text("#!/bin/sh\necho 'export KUBECONFIG=/k'\n")
    for program in programs.iterdir():
        program.chmod(0o755)

    done = subprocess.run(["make", "-s", "up"], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == "export KUBECONFIG=/k\n"
    assert "Installing mlserve" in done.stderr
    assert "chatter of .venv/bin/pip install" in done.stderr
