"""The artifact directory: what is accepted, what is refused, and what the refusal says."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlserve_core.artifact import (
    MANIFEST_FILE,
    ArtifactError,
    ChecksumMismatchError,
    Manifest,
    ManifestFile,
    build_manifest,
    load_artifact,
    parse_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

MODEL: dict[str, Any] = {
    "name": "tiny",
    "format": "safetensors",
    "weights": "weights.safetensors",
    "architecture": {"name": "mlp", "arguments": {"sizes": [2, 2]}},
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    "classes": ["no", "yes"],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(MODEL))
    (tmp_path / "weights.safetensors").write_bytes(b"\x00" * 64)
    return tmp_path


def test_round_trip_gives_the_digest_that_packaging_printed(directory: Path) -> None:
    digest = write_manifest(directory).digest
    artifact = load_artifact(directory, digest)
    assert artifact.digest == digest
    assert artifact.spec.name == "tiny"
    assert artifact.weights_path == directory / "weights.safetensors"
    assert artifact.profile_path is None


def test_a_directory_without_manifest_has_the_same_identity(directory: Path) -> None:
    without = load_artifact(directory)
    assert without.digest == write_manifest(directory).digest


def test_hidden_files_and_caches_are_no_part_of_it(directory: Path) -> None:
    digest = write_manifest(directory).digest
    (directory / ".DS_Store").write_bytes(b"junk")
    (directory / "__pycache__").mkdir()
    (directory / "__pycache__" / "x.pyc").write_bytes(b"junk")
    (directory / MANIFEST_FILE).unlink()
    assert load_artifact(directory).digest == digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda d: (d / "weights.safetensors").write_bytes(b"\x01" * 64), "another sha256", id="content"),
        pytest.param(lambda d: (d / "weights.safetensors").write_bytes(b"\x00"), "has 1 bytes", id="size"),
        pytest.param(lambda d: (d / "weights.safetensors").unlink(), "missing", id="missing"),
        pytest.param(lambda d: (d / "model.yaml").write_text("name: other"), "model.yaml has", id="model.yaml"),
    ],
)
def test_a_changed_file_is_named(directory: Path, change: Any, message: str) -> None:
    write_manifest(directory)
    change(directory)
    with pytest.raises(ChecksumMismatchError, match=message):
        load_artifact(directory)


def test_a_wrong_digest_says_both(directory: Path) -> None:
    digest = write_manifest(directory).digest
    wanted = "sha256:" + "0" * 64
    with pytest.raises(ChecksumMismatchError, match=digest) as caught:
        load_artifact(directory, wanted)
    assert wanted in str(caught.value)
    assert caught.value.reason == "ChecksumMismatch"


def test_links_are_refused(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_bytes(b"\x00" * 64)
    write_manifest(directory)
    (directory / "weights.safetensors").unlink()
    (directory / "weights.safetensors").symlink_to(outside)
    with pytest.raises(ArtifactError, match="leads out of the artifact"):
        load_artifact(directory)
    (directory / MANIFEST_FILE).unlink()
    with pytest.raises(ArtifactError, match="symbolic link"):
        load_artifact(directory)


def test_a_linked_folder_is_refused_and_not_left_out(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "vocabulary.txt").write_text("x")
    (directory / "data").symlink_to(outside)
    with pytest.raises(ArtifactError, match="data is a symbolic link"):
        build_manifest(directory)


def test_a_pipe_is_refused_and_not_waited_for(directory: Path) -> None:
    os.mkfifo(directory / "pipe")
    with pytest.raises(ArtifactError, match="pipe is no regular file"):
        build_manifest(directory)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "", "a/", "a\0b", "a\nb", "a\x1b[2Jb"], ids=repr
)
def test_manifest_paths_stay_inside(path: str) -> None:
    files = [{"path": name, "size": 0, "sha256": "0" * 64} for name in ("model.yaml", path)]
    with pytest.raises(ArtifactError, match="plain relative path"):
        parse_manifest(json.dumps({"files": files}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "manifest.json", id="no json"),
        pytest.param("[]", "manifest.json", id="no object"),
        pytest.param('{"files": []}', "at least 1", id="empty"),
        pytest.param(
            '{"files": [{"path": "a", "size": 1, "sha256": "' + "0" * 64 + '"}]}', "not listed", id="no model.yaml"
        ),
        pytest.param('{"schemaVersion": 2, "files": []}', "schemaVersion", id="later version"),
    ],
)
def test_a_malformed_manifest_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        parse_manifest(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "not valid YAML", id="syntax"),
        pytest.param("- 1", "must be a mapping", id="list"),
        pytest.param("!!python/object/apply:os.system [id]", "not valid YAML", id="python tag"),
        pytest.param("name: x", "Field required", id="fields missing"),
    ],
)
def test_a_malformed_model_file_says_what_is_wrong(directory: Path, text: str, message: str) -> None:
    (directory / "model.yaml").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(directory)


def test_no_model_file_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="mlserve package"):
        load_artifact(tmp_path)


def test_weights_must_be_listed(directory: Path) -> None:
    (directory / "weights.safetensors").rename(directory / "other.safetensors")
    with pytest.raises(ArtifactError, match=r"other\.safetensors"):
        load_artifact(directory)


_names = st.text(st.characters(categories=("Ll", "Nd")), min_size=1, max_size=8)
_files = st.dictionaries(_names, st.binary(max_size=4).map(lambda b: b.hex().ljust(64, "0")), min_size=1, max_size=6)


@given(_files, st.randoms())
def test_the_digest_depends_on_content_and_not_on_order(files: dict[str, str], random: Any) -> None:
    entries = [ManifestFile(path=name, size=3, sha256=sha) for name, sha in files.items()]
    entries.append(ManifestFile(path="model.yaml", size=1, sha256="1" * 64))
    shuffled = list(entries)
    random.shuffle(shuffled)
    digest = Manifest(files=tuple(entries)).digest
    assert Manifest(files=tuple(shuffled)).digest == digest
    changed = [*entries[:-1], entries[-1].model_copy(update={"size": 2})]
    assert Manifest(files=tuple(changed)).digest != digest
