"""The install steps of the Dockerfiles, run as they are written, give what the images promise.

There is no container engine here, so the build stage is carried out on a folder: COPY copies, RUN runs in a shell, and
every absolute path the stage uses lies under that folder. What the base image adds, and the final stage, stay unseen;
the final stage is checked as text.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
ABSOLUTE = re.compile(r"(?<![\w./:-])/(build|opt/mlserve)(?=[/\s\"]|$)")
IMAGES = ("operator", "runtime")

runtime_asked_for = pytest.mark.skipif(
    os.environ.get("MLSERVE_TEST_RUNTIME_IMAGE") != "1",
    reason="installs torch once more, which takes minutes: set MLSERVE_TEST_RUNTIME_IMAGE=1 (make test-images)",
)


def instructions(name: str) -> list[dict[str, Any]]:
    parser = DockerfileParser(fileobj=io.BytesIO((ROOT / f"Dockerfile.{name}").read_bytes()))
    return [item for item in parser.structure if item["instruction"] != "COMMENT"]


def stages(name: str) -> list[list[dict[str, Any]]]:
    """Instructions of each stage, its FROM first; the ARGs before the first FROM are left out."""
    found: list[list[dict[str, Any]]] = []
    for item in instructions(name):
        if item["instruction"] == "FROM":
            found.append([])
        if found:
            found[-1].append(item)
    return found


def run_build_stage(name: str, folder: Path) -> Path:
    """Carry out the build stage under `folder`; the environment it made."""
    environment = os.environ | {"PATH": f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    workdir = folder
    for item in stages(name)[0]:
        value = item["value"]
        match item["instruction"]:
            case "ARG":
                key, _, default = value.partition("=")
                environment.setdefault(
                    key, os.environ.get("PIP_FIND_LINKS", default) if key == "TORCH_CPU" else default
                )
            case "WORKDIR":
                workdir = folder / value.lstrip("/")
                workdir.mkdir(parents=True)
            case "COPY":
                *sources, target = value.split()
                for source in sources:
                    copy(ROOT / source, workdir / target)
            case "RUN":
                script = ABSOLUTE.sub(lambda match: f"{folder}{match[0]}", value)
                subprocess.run(["sh", "-ec", script], check=True, cwd=workdir, env=environment)
            case other:
                assert other == "FROM", f"the build stage has a {other}, which this test does not carry out"
    return folder / "opt" / "mlserve"


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        destination = target / source.name if target.is_dir() or target.name in {"", ".", "requirements"} else target
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, destination)


def python(environment: Path, code: str) -> Any:
    """What `code` prints as JSON, run by the image's own Python with nothing else on its path."""
    command = [environment / "bin" / "python", "-I", "-c", code]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, cwd=environment, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


PRESENT = """
import importlib.util, json
print(json.dumps({name: importlib.util.find_spec(name) is not None for name in %r}))
"""


@pytest.fixture(scope="module", params=["operator", pytest.param("runtime", marks=runtime_asked_for)])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, run_build_stage(request.param, tmp_path_factory.mktemp(request.param))


def test_image_has_its_own_packages_and_none_of_the_other(image):
    name, environment = image
    own = {
        "operator": {"mlserve_operator", "kopf", "kubernetes"},
        "runtime": {"mlserve_runtime", "torch", "safetensors"},
    }
    foreign = own["runtime" if name == "operator" else "operator"] | {
        "mlserve_local",
        "mlserve_cli",
        "pip",
        "hatchling",
    }
    present = python(environment, PRESENT % (sorted(own[name] | foreign | {"mlserve_core"}),))
    assert {module for module, there in present.items() if there} == own[name] | {"mlserve_core"}


def test_command_starts_and_is_the_only_one(image):
    name, environment = image
    commands = {path.name for path in (environment / "bin").iterdir() if "mlserve" in path.name}
    assert commands == {f"mlserve-{name}"}
    answer = subprocess.run(
        [environment / "bin" / f"mlserve-{name}", "--help"], check=False, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert f"mlserve-{name}" in answer.stdout


def test_nothing_is_missing_in_the_environment(image):
    _, environment = image
    command = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "check"]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("name", IMAGES)
def test_final_stage_is_small_and_unprivileged(name):
    final = stages(name)[-1]
    kinds = [item["instruction"] for item in final]
    text = "\n".join(item["content"] for item in final)
    assert [item["value"] for item in final if item["instruction"] == "USER"] == ["65532:65532"]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    assert "HEALTHCHECK" in kinds
    assert not re.search(r"\b(apt-get|pip|gcc|curl)\b", text)
    assert [item["value"] for item in final if item["instruction"] == "COPY"] == [
        "--from=build /opt/mlserve /opt/mlserve"
    ]
    for label in ("title", "description", "source", "licenses", "version", "revision", "created"):
        assert f"org.opencontainers.image.{label}=" in text


@pytest.mark.parametrize("name", IMAGES)
def test_base_is_pinned_by_an_argument(name):
    assert instructions(name)[0]["instruction"] == "ARG"
    assert {stage[0]["value"].split()[0] for stage in stages(name)} == {"${PYTHON_IMAGE}"}


@pytest.mark.parametrize("name", IMAGES)
def test_context_holds_what_is_copied(name):
    admitted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [s for item in stages(name)[0] if item["instruction"] == "COPY" for s in item["value"].split()[:-1]]
    for source in sources:
        assert any(Path(source).match(pattern) for pattern in admitted), source


LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_pin_every_file_by_hash(lock):
    entries = re.split(r"\n(?=\S)", re.sub(r"^ *#.*\n?", "", lock.read_text(), flags=re.MULTILINE).strip())
    assert entries
    for entry in entries:
        requirement = Requirement(entry.split(" \\")[0])
        assert re.match(r"^==[^*]+$", str(requirement.specifier)), entry
        assert "--hash=sha256:" in entry, entry


def test_locks_hold_what_the_project_asks_for():
    """A requirement added to pyproject.toml without `make locks` would fail only inside an image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    serving = ["runtime", "onnx", "redis", "otel"]
    wanted = {"operator": ["operator"], "runtime-cpu": serving, "runtime-cuda": [*serving, "gpu"]}
    for lock, names in wanted.items():
        text = (ROOT / "requirements" / f"{lock}.lock").read_text()
        pinned = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, flags=re.MULTILINE))
        for line in [*project["dependencies"], *(line for name in names for line in extras[name])]:
            requirement = Requirement(line)
            version = pinned[requirement.name.lower().replace("_", "-")]
            assert requirement.specifier.contains(version, prereleases=True), f"{lock}: {line} but {version} is pinned"
