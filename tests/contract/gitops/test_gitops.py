"""Argo CD's verdict on a ModelDeployment, by the very Lua it runs, and the manifests of both GitOps tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
import yaml

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, ModelDeploymentStatus, Phase
from mlserve_operator.rollout.state import Observation, RevisionHealth, RolloutState
from mlserve_operator.status import Situation, build_status

GITOPS = Path(__file__).resolve().parents[3] / "deploy" / "gitops"
ARGOCD = GITOPS / "argocd"
CASES = yaml.safe_load((ARGOCD / "health_test.yaml").read_text())["tests"]


def health(resource: dict[str, Any]) -> dict[str, str]:
    """Run the script as Argo CD does: Lua 5.1, the resource as the global `obj`, no libraries that reach outside."""
    lua = lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False)
    for name in ("os", "io", "require", "dofile", "loadfile", "package", "debug"):
        lua.globals()[name] = None
    lua.globals()["obj"] = lua.table_from(resource, recursive=True)
    return dict(lua.execute((ARGOCD / "health.lua").read_text()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_health_is_what_the_case_says(case):
    resource = yaml.safe_load((ARGOCD / case["inputPath"]).read_text())
    assert health(resource) == case["healthStatus"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_cases_are_resources_of_this_version(case):
    resource = yaml.safe_load((ARGOCD / case["inputPath"]).read_text())
    ModelDeploymentSpec.model_validate(resource["spec"])
    status = resource.get("status", {})
    read = ModelDeploymentStatus.model_validate(status).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert read == status


def test_every_case_file_is_used():
    assert {Path(case["inputPath"]).name for case in CASES} == {path.name for path in (ARGOCD / "testdata").iterdir()}


def test_the_patch_holds_the_tested_script():
    patch = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())
    script = patch["data"]["resource.customizations.health.mlserve.io_ModelDeployment"]
    assert script == (ARGOCD / "health.lua").read_text()


@pytest.mark.parametrize("path", sorted(GITOPS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(GITOPS)))
def test_manifests_are_yaml_with_unique_names(path):
    documents = [item for item in yaml.safe_load_all(path.read_text()) if item and "kind" in item]
    names = [(item["kind"], item["metadata"]["name"]) for item in documents]
    assert len(names) == len(set(names))


def written_by_the_operator(phase: Phase, **state: Any) -> dict[str, Any]:
    """A resource with the status that the operator writes in a phase."""
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://models/digits/2", "version": "2"}})
    health = {name: RevisionHealth(desired=1, ready=1) for name in (state.get("stable"), state.get("canary")) if name}
    remembered = RolloutState(phase=phase, **state)
    seen = Observation(now=0.0, generation=3, spec=spec, target="digits-b", revisions=health, route=remembered.route)
    situation = Situation("digits", "vision", remembered, seen, {}, {})
    status = build_status(situation, ModelDeploymentStatus()).model_dump(by_alias=True, mode="json", exclude_none=True)
    return {"metadata": {"generation": 3}, "spec": {}, "status": status}


WRITTEN: dict[str, tuple[dict[str, Any], str]] = {
    "starting": (written_by_the_operator(Phase.PENDING), "Progressing"),
    "healthy": (written_by_the_operator(Phase.HEALTHY, stable="digits-b"), "Healthy"),
    "undone": (written_by_the_operator(Phase.BAKING, stable="digits-a", previous="digits-b"), "Progressing"),
    "canary": (written_by_the_operator(Phase.PROGRESSING, stable="digits-a", canary="digits-b"), "Progressing"),
    "paused": (written_by_the_operator(Phase.PAUSED, stable="digits-a", canary="digits-b"), "Suspended"),
    "rolling back": (written_by_the_operator(Phase.ROLLING_BACK, stable="digits-a", canary="digits-b"), "Progressing"),
    "rolled back": (written_by_the_operator(Phase.ROLLED_BACK, stable="digits-a", stalled=True), "Degraded"),
    "baking": (written_by_the_operator(Phase.BAKING, stable="digits-b", previous="digits-a"), "Healthy"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_health_of_what_the_operator_writes(name):
    resource, status = WRITTEN[name]
    assert health(resource)["status"] == status
