"""Logged rows from CSV or Parquet, as columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlserve_cli.errors import CommandError

Columns = dict[str, list[Any]]


def read_columns(path: str) -> Columns:
    """Columns of a CSV (with a header) or Parquet file; empty CSV cells become None.

    A CSV column is numeric if every cell that is not empty is a number, and text otherwise.

    Raises:
        CommandError: The file is missing, of another kind, empty, or its rows differ in length.
    """
    file = Path(path)
    if not file.is_file():
        raise CommandError(f"{path} is not a file; give a .csv with a header line or a .parquet file")
    columns = _parquet(file) if file.suffix.lower() in {".parquet", ".pq"} else _csv(file)
    if not columns or not len(next(iter(columns.values()))):
        raise CommandError(f"{path} has no rows")
    return columns


def split_arms(columns: Columns, arm_column: str, path: str) -> tuple[Columns, Columns]:
    """Rows of stable and of the canary from one file.

    Raises:
        CommandError: The column is missing, or it holds something else than `stable` and `canary`.
    """
    if arm_column not in columns:
        raise CommandError(f"{path} has no column {arm_column!r}; it has {', '.join(columns)}")
    arms = [str(value) for value in columns[arm_column]]
    unknown = sorted(set(arms) - {"stable", "canary"})
    if unknown:
        raise CommandError(f"column {arm_column!r} of {path} must hold stable or canary, not {', '.join(unknown[:5])}")
    return _where(columns, arms, "stable"), _where(columns, arms, "canary")


def _where(columns: Mapping[str, list[Any]], arms: list[str], arm: str) -> Columns:
    return {
        name: [value for value, of in zip(values, arms, strict=True) if of == arm] for name, values in columns.items()
    }


def _parquet(file: Path) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        result: Columns = pyarrow.parquet.read_table(file).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise CommandError(f"{file} is no readable Parquet file: {error}") from None
    return result


def _csv(file: Path) -> Columns:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        try:
            reader = csv.reader(stream)
            header = next(reader, [])
            rows = [row for row in reader if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise CommandError(f"{file} is no readable CSV file: {error}") from None
    if len(set(header)) != len(header):
        raise CommandError(f"{file} names a column twice in its header")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise CommandError(f"{file}, row {number}: {len(row)} cells, the header has {len(header)}")
    return {name: _typed([row[index] for row in rows]) for index, name in enumerate(header)}


def _typed(cells: list[str]) -> list[Any]:
    """Numbers if all of them are, else text; an empty cell is missing either way."""
    try:
        return [float(cell) if cell.strip() else None for cell in cells]
    except ValueError:
        return [cell or None for cell in cells]
