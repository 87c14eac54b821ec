"""The command tree. Groups are imported when called, so that `mlserve --help` answers at once."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import ClassVar

import click


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on first use."""

    COMMANDS: ClassVar[dict[str, str]] = {
        "completion": "mlserve_cli.completion:completion",
        "drift": "mlserve_cli.drift:drift",
        "local": "mlserve_cli.local:local",
        "package": "mlserve_cli.models:package",
        "predict": "mlserve_cli.serving:predict",
        "profile": "mlserve_cli.profile:profile",
        "render": "mlserve_cli.models:render",
        "rollout": "mlserve_cli.rollout:rollout",
        "status": "mlserve_cli.serving:status",
        "validate": "mlserve_cli.models:validate",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in alphabetical order."""
        return sorted(self.COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        location = self.COMMANDS.get(cmd_name)
        if location is None:
            return None
        module, _, attribute = location.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("mlserve"), prog_name="mlserve")
def main() -> None:
    """Serve PyTorch models on Kubernetes and keep every new version safe."""
