"""What the front page tells people to type exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mlserve_cli.main import main
from mlserve_cli.models import problems

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|[`$] ?)make ([a-z]+(?:-[a-z0-9]+)*)", page.read_text(), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def find(words: list[str]) -> click.Command:
    """The command that words lead to; what follows a command that has none below it are its arguments."""
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"there is no {word!r} in {words}"
        command = found
    return command


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text()
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:\$ )?(mlserve [^\n#]+)", blocks, re.MULTILINE) + re.findall(r"`(mlserve [^`]+)`", text)
    for line in set(lines):
        words, rest = re.fullmatch(r"mlserve((?: [a-z]+)*)(.*)", line.replace("\n", " ")).groups()
        command = find(words.split())
        if command.name == "package":
            continue  # its options are mlserve-runtime's
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<= )--[a-z-]+", rest)) <= options, line


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid upon `base`, mapping by mapping."""
    both = {key: merged(base[key], over[key]) for key in base.keys() & over.keys() if isinstance(base[key], dict)}
    return base | over | both


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_resources_and_parts_of_them_are_valid(page: Path) -> None:
    whole = {
        "apiVersion": "mlserve.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "digits"},
        "spec": {"model": {"uri": "s3://models/digits/1"}},
    }
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        part = yaml.safe_load(block)
        if "spec" in part and part.get("kind", "ModelDeployment") == "ModelDeployment":
            assert list(problems(merged(whole, part))) == [], block


def test_every_target_says_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"\.PHONY:((?:.*\\\n)*.*)", text).group(1).replace("\\\n", " ").split()
    described = set(re.findall(r"^([a-z0-9-]+):.*## ", text, re.MULTILINE))
    assert set(phony) == described
