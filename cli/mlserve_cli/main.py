"""The command tree. Groups are imported when called, so that `mlserve --help` answers at once and needs no more than
the extra `cli`; a command that needs another extra says which.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any, ClassVar

import click

from mlserve_cli.errors import CommandError


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on first use."""

    COMMANDS: ClassVar[dict[str, tuple[str, str]]] = {
        "completion": ("mlserve_cli.completion:completion", "Print the completion script of a shell."),
        "drift": ("mlserve_cli.drift:drift", "Drift against the reference profile, live or on logged rows."),
        "local": ("mlserve_cli.local:local", "A cluster of plain processes on this machine."),
        "package": ("mlserve_cli.models:package", "Check a model directory, profile and seal it, print its digest."),
        "predict": ("mlserve_cli.serving:predict", "Send a row or a picture to a model through its front door."),
        "profile": ("mlserve_cli.profile:profile", "Reference profiles: what drift is measured against."),
        "render": ("mlserve_cli.models:render", "Print the objects the operator would apply for a file."),
        "rollout": ("mlserve_cli.rollout:rollout", "Look at a rollout and steer it."),
        "status": ("mlserve_cli.serving:status", "Show every ModelDeployment, or one at length."),
        "validate": ("mlserve_cli.models:validate", "Check files as the API server would, and artifacts beside them."),
    }
    """Where each command is, and its line in `mlserve --help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in alphabetical order."""
        return sorted(self.COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in self.COMMANDS:
            return None
        module, _, attribute = self.COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table: importing them all would take a second and every extra."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Raises CommandError where a package is not installed."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise CommandError(
                f"this command needs the Python package {error.name}, which the extra `local` brings: "
                "pip install 'mlserve[cli,local]'"
            ) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("mlserve"), prog_name="mlserve")
def main() -> None:
    """Serve PyTorch models on Kubernetes and keep every new version safe."""
