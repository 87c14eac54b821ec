"""`mlserve local`: the embedded development cluster."""

from __future__ import annotations

from pathlib import Path

import click

from mlserve_cli.output import output_option, print_json, show


@click.group()
def local() -> None:
    """A cluster of plain processes on this machine, for development and tests."""
