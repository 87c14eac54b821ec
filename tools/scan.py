"""Static analysis of the chart and the Dockerfiles by checkov, which lives in an environment of its own.

Its dependencies are many and pinned hard, so it is installed under .tools/ and never beside the project. What is argued
rather than fixed is in .checkov.yaml.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools" / "checkov"
VALUES = {
    "defaults": [],
    "namespaces": ["--set", "watchNamespaces={team-a}"],
    "replicas": ["--set", "replicaCount=2", "--set", "leaderElection.enabled=true"],
}


def checkov() -> Path:
    """The checkov command, installed when it is not there yet."""
    command = TOOLS / "bin" / "checkov"
    if not command.exists():
        venv.create(TOOLS, with_pip=True)
        subprocess.run([str(TOOLS / "bin" / "pip"), "install", "--quiet", "checkov>=3.2"], check=True)
    return command


def main() -> None:
    """Exit with checkov's verdict: 1 when there is a finding that is not argued."""
    helm = Path(sys.executable).parent / "helm"
    with tempfile.TemporaryDirectory() as folder:
        for name, values in VALUES.items():
            command = [
                str(helm),
                "template",
                "mlserve",
                str(ROOT / "charts" / "mlserve"),
                "--namespace",
                "mlserve-system",
            ]
            text = subprocess.run([*command, *values], check=True, capture_output=True, text=True).stdout
            (Path(folder) / f"{name}.yaml").write_text(text)
        for image in ("operator", "runtime"):
            (Path(folder) / image).mkdir()
            shutil.copy(ROOT / f"Dockerfile.{image}", Path(folder) / image / "Dockerfile")
        command = [str(checkov()), "--config-file", str(ROOT / ".checkov.yaml"), "--directory", folder]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
