"""The model artifact: a directory that says completely what is in it and proves that it is unchanged.

A weights file alone does not tell what to feed it, and "the file at that address" may be another one tomorrow. So
an artifact is a directory with

    model.yaml      what it is: format, signature, pre- and postprocessing (ModelSpec)
    <weights>       the file model.yaml names
    profile.json    optional: the reference profile drift is measured against
    warmup.json     optional: sample inputs for the warm-up
    manifest.json   every other file with its size and sha256 (Manifest)

and its identity is one digest: sha256 of the canonical manifest. Only files the manifest lists are ever opened.
This module reads local files and nothing else; it knows neither torch nor the network.

    ArtifactError                 what is wrong with the directory, and what would have worked
    └── ChecksumMismatchError     the files are not the ones that were promised
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from mlserve_core.model_spec import ModelSpec, RelativePath
from mlserve_core.processing import SpecModel

MODEL_FILE: Final = "model.yaml"
MANIFEST_FILE: Final = "manifest.json"
PROFILE_FILE: Final = "profile.json"
WARMUP_FILE: Final = "warmup.json"

_MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024


class ArtifactError(Exception):
    """An artifact that cannot be served; the text says which file, what is wrong and what to do."""

    reason: ClassVar[str] = "ModelLoadFailed"
    """First word of the termination message (wire.TERMINATION_REASONS)."""


class ChecksumMismatchError(ArtifactError):
    """Files differ from the manifest, or the manifest from the digest that was asked for."""

    reason: ClassVar[str] = "ChecksumMismatch"


class ManifestFile(SpecModel):
    """One file of the artifact."""

    path: RelativePath
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(SpecModel):
    """`manifest.json`: every file of the artifact but itself."""

    schema_version: Literal[1] = 1
    files: tuple[ManifestFile, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a path occurs twice")
        if MODEL_FILE not in paths:
            raise ValueError(f"{MODEL_FILE} is not listed")
        if MANIFEST_FILE in paths:
            raise ValueError(f"{MANIFEST_FILE} cannot list itself")
        return self

    @property
    def digest(self) -> str:
        """`sha256:` + sha256 of the canonical JSON: keys and paths sorted, no white space, UTF-8."""
        return "sha256:" + hashlib.sha256(self.canonical()).hexdigest()

    @property
    def total_size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def canonical(self) -> bytes:
        """The bytes the digest is taken of; the order of files in manifest.json does not matter."""
        document = self.model_dump(by_alias=True)
        document["files"] = sorted(document["files"], key=lambda file: file["path"])
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def find(self, path: str) -> ManifestFile | None:
        """The entry of a path, if listed."""
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A directory whose description was read (and, unless asked otherwise, whose files were verified)."""

    directory: Path
    spec: ModelSpec
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The identity of the artifact."""
        return self.manifest.digest

    @property
    def weights_path(self) -> Path:
        """The weights file."""
        return self.directory / self.spec.weights

    @property
    def profile_path(self) -> Path | None:
        """The reference profile, if the artifact has one."""
        return self._optional(PROFILE_FILE)

    @property
    def warmup_path(self) -> Path | None:
        """The warm-up samples, if the artifact has some."""
        return self._optional(WARMUP_FILE)

    def _optional(self, name: str) -> Path | None:
        return self.directory / name if self.manifest.find(name) else None


def parse_model_spec(text: str | bytes) -> ModelSpec:
    """Read `model.yaml`. Raises ArtifactError naming the field and what was expected."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{MODEL_FILE} is not valid YAML: {_one_line(error)}") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{MODEL_FILE} must be a mapping with name, format, weights, inputs and outputs")
    try:
        return ModelSpec.model_validate(document)
    except ValidationError as error:
        raise ArtifactError(f"{MODEL_FILE}: {_first_problem(error)}") from error


def parse_manifest(text: str | bytes) -> Manifest:
    """Read `manifest.json`. Raises ArtifactError naming the field and what was expected."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(f"{MANIFEST_FILE}: {_first_problem(error)}; build it with `mlserve package`") from error


def build_manifest(directory: Path) -> Manifest:
    """Hash every regular file below `directory` but manifest.json and hidden ones. Links are refused."""
    files = []
    for root, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted([*names, *(name for name in folders if Path(root, name).is_symlink())]):
            path = Path(root, name)
            relative = path.relative_to(directory).as_posix()
            if name.startswith(".") or relative == MANIFEST_FILE:
                continue
            if path.is_symlink():
                raise ArtifactError(f"{relative} is a symbolic link; an artifact holds the files themselves")
            if not path.is_file():
                raise ArtifactError(f"{relative} is no regular file (a pipe, a socket or a device); take it away")
            files.append(ManifestFile(path=relative, size=path.stat().st_size, sha256=sha256_of(path)))
    try:
        return Manifest(files=tuple(files))
    except ValidationError as error:
        raise ArtifactError(f"{directory.name} is no artifact: {_first_problem(error)}") from error


def write_manifest(directory: Path) -> Manifest:
    """Build the manifest of `directory` and write it beside the files; returns it."""
    manifest = build_manifest(directory)
    text = json.dumps(manifest.model_dump(by_alias=True), indent=2, ensure_ascii=False)
    (directory / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    return manifest


def load_artifact(directory: Path, digest: str = "", *, verify: bool = True) -> Artifact:
    """Read and check an artifact.

    Args:
        directory: Where it lies.
        digest: The digest that was asked for; empty accepts any.
        verify: Hash every file against the manifest. False checks existence and sizes only, for a directory that
            was verified when it was fetched.

    Raises:
        ChecksumMismatchError: Files or digest differ from what was promised.
        ArtifactError: Something is missing or malformed.
    """
    if not (directory / MODEL_FILE).is_file():
        raise ArtifactError(f"there is no {MODEL_FILE} in {directory}; build the artifact with `mlserve package`")
    has_manifest = (directory / MANIFEST_FILE).is_file()
    manifest = parse_manifest(_read(directory, MANIFEST_FILE)) if has_manifest else build_manifest(directory)
    if digest and digest != manifest.digest:
        raise ChecksumMismatchError(
            f"the artifact has digest {manifest.digest}, expected {digest}; "
            "set spec.model.digest to the first if that is the model you mean"
        )
    verify_files(directory, manifest, hashes=verify and has_manifest)
    spec = parse_model_spec(_read(directory, MODEL_FILE))
    if manifest.find(spec.weights) is None:
        listed = ", ".join(file.path for file in manifest.files[:8])
        raise ArtifactError(f"weights {spec.weights!r} of {MODEL_FILE} are not in the artifact, which has {listed}")
    return Artifact(directory=directory, spec=spec, manifest=manifest)


def verify_files(directory: Path, manifest: Manifest, *, hashes: bool = True) -> None:
    """Compare the files with the manifest; raises ChecksumMismatchError naming the first that differs."""
    root = directory.resolve()
    for file in manifest.files:
        path = directory / PurePosixPath(file.path)
        if not path.is_file():
            raise ChecksumMismatchError(
                f"{file.path} is listed in {MANIFEST_FILE} but missing; upload it or package again"
            )
        if not path.resolve().is_relative_to(root):
            raise ArtifactError(f"{file.path} is a link that leads out of the artifact; put the file itself there")
        size = path.stat().st_size
        if size != file.size:
            raise ChecksumMismatchError(f"{file.path} has {size} bytes, the manifest says {file.size}; package again")
        if hashes and sha256_of(path) != file.sha256:
            raise ChecksumMismatchError(f"{file.path} has another sha256 than the manifest says; package again")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(directory: Path, name: str) -> bytes:
    path = directory / name
    size = path.stat().st_size
    if size > _MAX_DOCUMENT_BYTES:
        raise ArtifactError(f"{name} has {size} bytes; more than {_MAX_DOCUMENT_BYTES} are not read")
    return path.read_bytes()


def _first_problem(error: ValidationError) -> str:
    """The first problem in words, with the path of the field and how many more there are."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(str(part) for part in problems[0]["loc"])
    message = problems[0]["msg"].removeprefix("Value error, ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
