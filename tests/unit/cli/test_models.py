"""What `mlserve validate` and `mlserve render` say about the files people write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from mlserve_cli.main import main

ROOT = Path(__file__).resolve().parents[3]
DIGITS = ROOT / "models" / "digits" / "modeldeployment.yaml"
HEAD = "apiVersion: mlserve.io/v1alpha1\nkind: ModelDeployment\n"
MODEL = 'spec: {model: {uri: "s3://models/digits"}}\n'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(HEAD + "metadata: hello\n" + MODEL, "cannot unmarshal string", id="metadata is a word"),
        pytest.param(HEAD + MODEL, "metadata.name: Required value", id="no name"),
        pytest.param(HEAD + "metadata: {name: Scheme_X}\n" + MODEL, "RFC 1123", id="name in capitals"),
        pytest.param(HEAD + "metadata: {name: a}\nspec: hello\n", "spec in body must be of type object", id="spec"),
        pytest.param(HEAD + "metadata: {name: a}\nspec: {}\n", "spec.model: Required value", id="no model"),
        pytest.param(HEAD + "metadata: {name: a}\nmetadata: {name: b}\n" + MODEL, "is set twice", id="a key twice"),
        pytest.param(HEAD + "metadata: {name: a}\nspec:\n\tmodel: {}\n", "line 5", id="a tab"),
        pytest.param(
            HEAD + 'metadata: {name: a}\nspec: {model: {uri: "s3://m/d", version: 1}}\n',
            "spec.model.version in body must be of type string",
            id="version is a number",
        ),
        pytest.param("kind: ModelDeploy\n", "it holds ModelDeploy", id="another kind"),
        pytest.param("", "it holds nothing", id="empty"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "render"])
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, command: str, text: str, said: str) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(text)
    done = run(command, file)
    assert (done.exit_code, said in done.output) == (1, True), done.output


def test_a_version_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(HEAD + 'metadata: {name: a}\nspec: {model: {uri: "s3://m/d", version: 2026-01-31}}\n')
    assert run("validate", file).output == "a: valid\n"


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    done = run("validate", tmp_path / "nope.yaml")
    assert done.output == f"mlserve: {tmp_path}/nope.yaml: No such file or directory\n"


def test_several_files_are_checked_and_the_wrong_one_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(HEAD + "metadata: {name: wrong}\nspec: {}\n")
    done = run("validate", DIGITS, wrong, "--file-root", ROOT, "--output", "json")
    assert done.exit_code == 1
    assert {item["name"] for item in json.loads(done.output)["problems"]} == {"wrong"}


def test_the_artifact_is_looked_for_where_the_local_cluster_would(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    document = yaml.safe_load(DIGITS.read_text())
    document["spec"]["model"]["digest"] = f"sha256:{'0' * 64}"
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(document))

    monkeypatch.chdir(ROOT)
    assert run("validate", DIGITS).exit_code == 0
    assert "set spec.model.digest" in run("validate", other).output
    monkeypatch.chdir(tmp_path)
    assert run("validate", other).exit_code == 0, "what is not here may be on the nodes"
    assert "there is no model.yaml" in run("validate", other, "--file-root", tmp_path).output


def test_render_takes_a_generated_name(tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(HEAD + "metadata: {generateName: a-}\n" + MODEL)
    assert "name: a-generated" in run("render", file).output
