"""How results are printed: a table for people, JSON for programs; one switch for every command."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])

# A pipe has no width; cutting cells there would lose data that `grep` and `awk` look for. No markup: what is printed
# are messages of others, and `map[string]` is no style.
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)


def output_option(function: F) -> F:
    """Add `--output table|json` to a command; it arrives as the argument `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="A table for people or JSON for programs.",
    )(function)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def at(seconds: float) -> str:
    """A time since the epoch for people, in UTC.

    >>> at(0)
    '1970-01-01 00:00:00'
    """
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> Table:
    """A borderless table in the manner of kubectl."""
    result = Table(*columns, box=None, pad_edge=False, title=title, title_justify="left", header_style="bold")
    for row in rows:
        result.add_row(*("" if cell is None else str(cell) for cell in row))
    return result


def show(output: str, value: Any, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print `value` as JSON or `rows` as a table, whichever was asked for."""
    if output == "json":
        print_json(value)
    elif rows:
        console.print(table(columns, rows))
    else:
        click.echo("Nothing found.", err=True)


def field(value: Mapping[str, Any], path: str, default: Any = "") -> Any:
    """Value at a dotted path, or the default where any part of it is absent.

    >>> field({"status": {"stable": {"weight": 75}}}, "status.stable.weight")
    75
    """
    current: Any = value
    for part in path.split("."):
        if not isinstance(current, Mapping) or current.get(part) is None:
            return default
        current = current[part]
    return current
