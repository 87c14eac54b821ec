"""Workflows call make targets only, and a release is refused for the right reasons."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SYSTEM = re.compile(r"sudo apt-get update && sudo apt-get install --yes [a-z -]+")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_only_call_make_targets(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        if not SYSTEM.fullmatch(command):
            make, target = command.split(" ")
            assert make == "make"
            assert target in TARGETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_least_rights_and_a_limit(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def release_check():
    spec = importlib.util.spec_from_file_location("release_check", ROOT / "tools" / "release_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANGELOGS = {
    "ready": ("## Unreleased\n\n## 0.2.0 - 2026-01-31\n\n### Added\n\n* New.\n\n## 0.1.0 - 2026-01-01\n", ""),
    "not there": ("## Unreleased\n\n* New.\n", "has no section '## 0.2.0 - YYYY-MM-DD'"),
    "no date": ("## 0.2.0\n\n* New.\n", "has no section '## 0.2.0 - YYYY-MM-DD'"),
    "another version": ("## 0.2.01 - 2026-01-31\n\n* New.\n", "has no section"),
    "empty": (
        "## 0.2.0 - 2026-01-31\n\n## 0.1.0 - 2026-01-01\n\n* Old.\n",
        "the section of 0.2.0 in CHANGELOG.md is empty",
    ),
}


@pytest.mark.parametrize("name", CHANGELOGS)
def test_changelog_names_the_version(name):
    text, problem = CHANGELOGS[name]
    found = release_check().changelog_problem(text, "0.2.0")
    assert problem in found
    assert bool(problem) == bool(found)
