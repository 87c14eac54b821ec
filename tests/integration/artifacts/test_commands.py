"""`mlserve-runtime fetch`, `package` and `profile` as processes, on the example models of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlserve_core.artifact import ArtifactError, load_artifact
from mlserve_runtime.artifacts.package import package

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = Path(sys.executable).with_name("mlserve-runtime")
TUMOR = ROOT / "models" / "tumor"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [RUNTIME, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment, timeout=60
    )


def deployments() -> list[Path]:
    return sorted((ROOT / "models").glob("*/modeldeployment*.yaml"))


@pytest.mark.parametrize("path", deployments(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_the_repository_deploys_can_be_fetched(path: Path, tmp_path: Path) -> None:
    model = yaml.safe_load(path.read_text())["spec"]["model"]
    done = run(
        "fetch",
        MLSERVE_FILE_ROOT=str(ROOT),
        MLSERVE_MODEL_URI=model["uri"],
        MLSERVE_MODEL_DIGEST=model["digest"],
        MLSERVE_MODEL_DIR=str(tmp_path / "model"),
    )
    assert done.returncode == 0, done.stderr
    artifact = load_artifact(tmp_path / "model", model["digest"])
    assert artifact.spec.version == model["version"]
    assert artifact.profile_path is not None


class TestLastWords:
    """The termination message: the operator's condition is made from its first word."""

    def fail(self, tmp_path: Path, *arguments: str) -> str:
        log = tmp_path / "termination-log"
        done = run(
            "fetch",
            "--dest",
            tmp_path / "model",
            *arguments,
            MLSERVE_TERMINATION_LOG=str(log),
            MLSERVE_FILE_ROOT=str(ROOT),
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        message = log.read_text()
        assert message.strip() in done.stderr
        return message

    def test_wrong_digest(self, tmp_path: Path) -> None:
        uri = "file:///models/tumor/artifacts/v1"
        message = self.fail(tmp_path, "--uri", uri, "--digest", "sha256:" + "0" * 64)
        assert message.startswith("ChecksumMismatch: ")
        assert load_artifact(TUMOR / "artifacts" / "v1").digest in message

    def test_absent(self, tmp_path: Path) -> None:
        message = self.fail(tmp_path, "--uri", "file:///models/nothing")
        assert message.startswith("FetchFailed: file:///models/nothing does not exist")

    def test_no_artifact(self, tmp_path: Path) -> None:
        message = self.fail(tmp_path, "--uri", "file:///models/tumor/samples")
        assert message.startswith("ModelLoadFailed: there is no model.yaml")

    def test_unknown_scheme(self, tmp_path: Path) -> None:
        assert "use one of s3://" in self.fail(tmp_path, "--uri", "ftp://example.com/x")

    def test_no_address(self, tmp_path: Path) -> None:
        assert self.fail(tmp_path).startswith("FetchFailed: no address given")

    def test_a_destination_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "model").write_text("a file")
        message = self.fail(tmp_path, "--uri", "file:///models/tumor/artifacts/v1")
        assert message.startswith("FetchFailed: the artifact cannot be written")


@pytest.mark.parametrize("uri", ["pvc://claim/path", "oci://registry.example.com/models/tumor:1"])
def test_a_mounted_artifact_is_verified_where_it_lies(uri: str, tmp_path: Path) -> None:
    directory = tmp_path / "mounted"
    shutil.copytree(TUMOR / "artifacts" / "v1", directory)
    before = sorted(directory.iterdir())
    environment = {"MLSERVE_MODEL_URI": uri, "MLSERVE_MODEL_DIR": str(directory)}
    assert run("fetch", **environment).returncode == 0
    assert sorted(directory.iterdir()) == before
    (directory / "weights.safetensors").write_bytes(b"changed")
    done = run("fetch", **environment)
    assert done.returncode == 1
    assert done.stderr.startswith("ChecksumMismatch: weights.safetensors has 7 bytes")


def test_fetch_imports_neither_torch_nor_the_web_stack(tmp_path: Path) -> None:
    script = (
        "import sys; from mlserve_runtime.main import main;"
        f"main(['fetch', '--uri', 'file://{TUMOR}/artifacts/v1', '--dest', '{tmp_path}/model']);"
        "loaded = {name.partition('.')[0] for name in sys.modules};"
        "print(*sorted(loaded & {'torch', 'fastapi', 'grpc', 'httpcore', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


@pytest.fixture
def unpackaged(tmp_path: Path) -> Path:
    directory = tmp_path / "tumor"
    shutil.copytree(TUMOR / "artifacts" / "v1", directory)
    for name in ("manifest.json", "profile.json"):
        (directory / name).unlink()
    return directory


def edit(directory: Path, **changes: object) -> None:
    path = directory / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


HEADER = ",".join([*load_artifact(TUMOR / "artifacts" / "v1").spec.feature_names, "label"]) + "\n"
RENAMED = [{"kind": "numeric", "name": "radius", "edges": [1.0], "counts": [1, 1]}]


class TestPackage:
    def test_a_refusal_is_one_line_and_exit_1(self, unpackaged: Path) -> None:
        edit(unpackaged, classes=["one"])
        done = run("package", unpackaged)
        assert done.returncode == 1
        assert done.stderr.startswith("package: model.yaml: 1 classes named")
        assert done.stderr.count("\n") == 1

    def test_prints_the_digest_of_a_whole_artifact(self, unpackaged: Path) -> None:
        done = run("package", unpackaged, "--held-out", TUMOR / "samples" / "held_out.csv", "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        artifact = load_artifact(unpackaged, result["digest"])
        assert artifact.profile_path is not None
        assert result["profileRows"] == 143
        assert result["accuracy"] == pytest.approx(0.986, abs=0.001)
        assert any("143 rows are too few to decide by" in note for note in result["notes"])
        shown = run("profile", "show", unpackaged)
        assert "tumor: 143 rows, 30 features" in shown.stdout

    def test_packaging_again_gives_the_same_digest(self, unpackaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another digest would be another revision, and a rollout of what has not changed."""
        held_out = TUMOR / "samples" / "held_out.csv"
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
        first = package(unpackaged, held_out)
        assert first.profile is not None
        assert first.profile.created_at == "2026-01-01T00:00:00Z"
        monkeypatch.delenv("SOURCE_DATE_EPOCH")
        assert package(unpackaged, held_out).manifest.digest == first.manifest.digest
        other = package(unpackaged, held_out, seed=7)
        assert other.profile is not None
        assert other.profile.created_at > first.profile.created_at

    def test_a_profile_of_pictures_takes_projections(self, tmp_path: Path) -> None:
        digits = ROOT / "models" / "digits"
        shutil.copytree(digits / "artifacts" / "v1", tmp_path / "digits")
        made = package(tmp_path / "digits", digits / "samples" / "held_out.jsonl")
        assert made.profile is not None
        assert made.profile.rows == 450
        assert made.profile.projection is not None
        assert made.profile.predictions.accuracy == pytest.approx(0.938, abs=0.001)

    def test_a_profile_that_is_there_is_kept_if_it_is_of_this_model(self, unpackaged: Path) -> None:
        own = (TUMOR / "artifacts" / "v1" / "profile.json").read_text()
        (unpackaged / "profile.json").write_text(own)
        assert package(unpackaged).manifest.digest == load_artifact(TUMOR / "artifacts" / "v1").digest

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            pytest.param({"modelDigest": "sha256:" + "0" * 64}, "made with other weights", id="weights"),
            pytest.param({"schemaVersion": 99}, "schema version 99, this release reads", id="schema version"),
            pytest.param({"features": [], "rows": 0}, "rows", id="no rows"),
            pytest.param({"features": RENAMED}, "has features the model has not: radius", id="renamed feature"),
        ],
    )
    def test_a_profile_of_another_model_is_refused(
        self, changes: dict[str, object], message: str, unpackaged: Path
    ) -> None:
        document = json.loads((TUMOR / "artifacts" / "v1" / "profile.json").read_text())
        (unpackaged / "profile.json").write_text(json.dumps(document | changes))
        with pytest.raises(ArtifactError, match=message):
            package(unpackaged)

    def test_without_held_out_data_says_what_is_lost(self, unpackaged: Path) -> None:
        done = run("package", unpackaged)
        assert done.stdout.strip() == load_artifact(unpackaged).digest
        assert "drift cannot be detected" in done.stderr

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            pytest.param({"classes": ["one"]}, "1 classes named", id="classes"),
            pytest.param({"weights": "other.safetensors"}, "not in", id="weights"),
            pytest.param(
                {"outputs": [{"name": "p", "datatype": "FP32", "shape": [-1, 2, 1]}], "classes": []},
                r"is declared [-1, 2, 1], the model gives [8, 2]",
                id="output shape",
            ),
            pytest.param(
                {"outputs": [{"name": "p", "datatype": "INT64", "shape": [-1, 2]}]},
                "declared INT64, the model gives float32",
                id="output datatype",
            ),
            pytest.param({"postprocessing": {"activation": "none"}}, "are no probabilities", id="no activation"),
            pytest.param(
                {"architecture": {"name": "mlp", "arguments": {"inputs": 30, "outputs": 3}}},
                "do not fit the architecture",
                id="architecture",
            ),
            pytest.param({"architecture": {"name": "transformer9000"}}, "the registry has", id="unknown architecture"),
            pytest.param(
                {"preprocessing": [{"op": "normalize", "mean": [0, 0], "std": [1, 1]}]}, "does not fit", id="steps"
            ),
        ],
    )
    def test_finds_what_is_not_as_declared(self, changes: dict[str, object], message: str, unpackaged: Path) -> None:
        edit(unpackaged, **changes)
        with pytest.raises(ArtifactError, match=re.escape(message)):
            package(unpackaged)
        assert not (unpackaged / "manifest.json").exists()

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            pytest.param("rows.csv", "", "no column named", id="empty"),
            pytest.param("rows.csv", "a,b\n1,2\n", "no column named", id="other columns"),
            pytest.param("rows.csv", HEADER, "empty", id="no rows"),
            pytest.param(
                "rows.csv",
                HEADER + ",".join(["x"] * 31) + "\n",
                "line 2, column mean_radius: 'x' is no number",
                id="text",
            ),
            pytest.param("rows.csv", HEADER + ",".join(["1"] * 30 + ["alien"]) + "\n", "alien", id="unknown class"),
            pytest.param("rows.csv", HEADER + ",".join([""] * 30 + ["benign"]) + "\n", "missing", id="all missing"),
            pytest.param("rows.jsonl", "{", "rows.jsonl", id="no JSON"),
            pytest.param("rows.jsonl", '{"features": [1]}', "row 0", id="short row"),
            pytest.param("rows.npz", "no zip", "rows.npz", id="no npz"),
            pytest.param("rows.xls", "", "must be one of", id="unknown format"),
        ],
    )
    def test_held_out_data_that_does_not_fit(
        self, name: str, text: str, message: str, unpackaged: Path, tmp_path: Path
    ) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(ArtifactError, match=message):
            package(unpackaged, tmp_path / name)
