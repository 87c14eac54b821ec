"""`make kind-up` says what is missing before it does anything, and what it applies is valid."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec

ROOT = Path(__file__).resolve().parents[3]
KIND = ROOT / "deploy" / "kind"
CHART = ROOT / "charts" / "mlserve"


def run(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [KIND / "up.sh", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": path}, timeout=60)


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "env").symlink_to("/usr/bin/env")
    return str(tmp_path)


def test_says_what_is_missing_and_what_works_instead(bare_path):
    answer = run(bare_path, "up")
    assert answer.returncode == 1
    assert "missing: docker (Docker Engine or Docker Desktop)" in answer.stderr
    assert "missing: kind" in answer.stderr
    assert "'make up' starts a local cluster that needs none" in answer.stderr


def test_refuses_unknown_commands(bare_path):
    answer = run(bare_path, "explode")
    assert answer.returncode == 1
    assert "unknown command 'explode': up, check or down" in answer.stderr


def test_values_are_what_the_chart_takes():
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.validate(yaml.safe_load((KIND / "values.yaml").read_text()), schema)


def test_the_example_mounts_what_the_cluster_offers():
    cluster = yaml.safe_load((KIND / "cluster.yaml.tpl").read_text().replace("@MODELS@", str(ROOT / "models")))
    offered = {mount["containerPath"] for node in cluster["nodes"] for mount in node.get("extraMounts", [])}
    kubectl = Path(sys.executable).parent / "kubectl"
    example = ROOT / "models" / "digits" / "modeldeployment.yaml"
    command = [kubectl, "patch", "--local", "-f", example, "--type=merge", f"--patch-file={KIND / 'digits-patch.yaml'}"]
    answer = subprocess.run([*command, "--output=json"], check=True, capture_output=True, text=True, timeout=60)
    spec = ModelDeploymentSpec.model_validate(json.loads(answer.stdout)["spec"])
    assert spec.runtime.pod_template is not None
    pod = spec.runtime.pod_template["spec"]
    assert {volume["hostPath"]["path"] for volume in pod["volumes"]} == offered
    folder = Path(spec.model.uri.removeprefix("file://"))
    assert any(folder.is_relative_to(path) for path in offered)
    assert (ROOT / folder.relative_to("/") / "manifest.json").is_file()
