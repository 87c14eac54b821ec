"""`mlserve local`: the embedded development cluster."""

from __future__ import annotations

import click


@click.group()
def local() -> None:
    """A cluster of plain processes on this machine, for development and tests."""
