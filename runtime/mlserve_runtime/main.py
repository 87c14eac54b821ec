"""The command line of the runtime container.

Subcommands import what they need when they run: `fetch` and `drain` start in a fraction of a second because neither
torch nor the web stack is loaded for them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple


class Command(NamedTuple):
    """A subcommand: its module offers `add_arguments(parser)` and `run(arguments) -> exit status`."""

    module: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "serve": Command("mlserve_runtime.commands.serve", "serve a model artifact"),
    "drain": Command("mlserve_runtime.commands.drain", "ask the server of this container to finish and wait for it"),
    "fetch": Command("mlserve_runtime.artifacts.fetch_command", "download, verify and unpack a model artifact"),
    "package": Command("mlserve_runtime.artifacts.package_command", "build and check a model artifact"),
    "profile": Command("mlserve_runtime.artifacts.profile_command", "build a reference profile"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `mlserve-runtime`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="mlserve-runtime", description="The mlserve inference server.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in argv if not word.startswith("-")), "")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.summary, description=command.summary)
        if name == chosen:
            importlib.import_module(command.module).add_arguments(subparser)
    arguments = parser.parse_args(argv)
    status: int = importlib.import_module(COMMANDS[arguments.command].module).run(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
