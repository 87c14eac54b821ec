"""Failures a user can do something about: one clear line instead of a traceback."""

from __future__ import annotations

import click


class CommandError(click.ClickException):
    """A command that could not do its work; the message says what would have worked. Exit status 1."""

    def show(self, file: object = None) -> None:
        """Print the message to standard error, prefixed so that it can be told from output."""
        click.echo(f"mlserve: {self.format_message()}", err=True)
