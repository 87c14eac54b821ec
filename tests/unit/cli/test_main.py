"""The command itself: what it lists, and what it says where a part of mlserve is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mlserve_cli.main import LazyGroup, main

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
from mlserve_cli.main import main
main(prog_name="mlserve")
"""
OF_LOCAL = {"aiohttp", "kubernetes_validate", "starlette", "uvicorn", "uvloop", "dnslib", "cel", "psutil"}


def without(packages: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`mlserve` in a Python that has not these packages."""
    program = HIDE.format(packages=sorted(packages))
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def test_every_command_is_there_and_help_lists_it() -> None:
    context = click.Context(main)
    for name, (_, line) in LazyGroup.COMMANDS.items():
        command = main.get_command(context, name)
        assert isinstance(command, click.Command)
        assert command.name == name
        assert line in " ".join(main.get_help(context).split())


def test_help_needs_no_other_extra_and_imports_no_command() -> None:
    done = without({*OF_LOCAL, "rich", "httpx", "matplotlib", "pyarrow"}, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "validate" in done.stdout


def test_the_history_of_another_cluster_needs_no_local_one(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    server = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    document = {
        "current-context": "c",
        "clusters": [server],
        "contexts": [context],
        "users": [{"name": "u", "user": {}}],
    }
    kubeconfig.write_text(json.dumps(document))
    done = without(OF_LOCAL, "rollout", "history", "digits", "--kubeconfig", str(kubeconfig))
    assert "port-forward to deployment/mlserve-operator failed" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("local", "status"), ("validate", "models/digits/modeldeployment.yaml")],
    ids=["while it is imported", "while it runs"],
)
def test_a_command_whose_extra_is_missing_says_which(arguments: tuple[str, ...]) -> None:
    done = without(OF_LOCAL, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("mlserve: this command needs the Python package ")
    assert "pip install 'mlserve[cli,local]'" in done.stderr
