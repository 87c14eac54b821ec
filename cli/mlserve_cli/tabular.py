"""Logged rows from CSV or Parquet, as columns."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from mlserve_cli.errors import CommandError

Columns = dict[str, list[Any]]

SEPARATORS: Final = (";", "\t", "|")
"""Separators of other dialects of CSV, in which a header is one long name."""


def read_columns(path: str) -> Columns:
    """Columns of a CSV (with a header, perhaps gzipped) or Parquet file; empty CSV cells become None.

    A CSV column is numeric if every cell that is not empty is a number, and text otherwise.

    Raises:
        CommandError: The file is missing, of another kind, empty, names no or the same column twice, or its rows differ
            in length.
    """
    file = Path(path)
    if not file.is_file():
        raise CommandError(f"{path} is not a file; give a .csv with a header line or a .parquet file")
    try:
        columns = _parquet(file) if file.suffix.lower() in {".parquet", ".pq"} else _csv(file)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}") from None
    if not rows_of(columns):
        raise CommandError(f"{path} has no rows")
    return columns


def rows_of(columns: Columns) -> int:
    """How many rows there are."""
    return len(next(iter(columns.values()), []))


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
        _refuse_names(file, pyarrow.parquet.read_schema(file).names)
        result: Columns = pyarrow.parquet.read_table(file).to_pydict()
    except pyarrow.ArrowException as error:
        raise CommandError(f"{file} is no readable Parquet file: {str(error).splitlines()[0]}") from None
    return result


def _csv(file: Path) -> Columns:
    zipped = file.suffix.lower() == ".gz"
    try:
        with gzip.open(file, "rt", newline="", encoding="utf-8-sig") if zipped else _text(file) as stream:
            reader = csv.reader(stream)
            header, rows = next(reader, []), list[list[str]]()
            _refuse_names(file, header)
            for row in reader:
                if row and len(row) != len(header):
                    raise CommandError(
                        f"{file}, line {reader.line_num}: {len(row)} cells, the header has {len(header)}"
                    )
                rows += [row] if row else []
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is no text in UTF-8 ({error.reason}); save it as UTF-8") from None
    except (csv.Error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CommandError(f"{file} is no readable CSV file: {error}") from None
    return {name: _typed([row[index] for row in rows]) for index, name in enumerate(header)}


def _text(file: Path) -> TextIO:
    return file.open(newline="", encoding="utf-8-sig")


def _refuse_names(file: Path, names: Sequence[str]) -> None:
    """Names by which columns cannot be told apart."""
    twice = sorted({name for name in names if names.count(name) > 1 and name})
    if twice:
        raise CommandError(f"{file} names a column twice in its header: {', '.join(twice)}")
    nameless = [str(place) for place, name in enumerate(names, start=1) if not name.strip()]
    if nameless:
        raise CommandError(
            f"{file} has no name for column {', '.join(nameless)}; write it without an index, or name it"
        )
    other = next((mark for mark in SEPARATORS if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        raise CommandError(f"{file} separates its columns by {other!r}; write it with commas, and points in numbers")


def _typed(cells: list[str]) -> list[Any]:
    """Numbers if all of them are, else text; an empty cell is missing either way."""
    for number in (_whole, float):
        try:
            return [number(cell) if cell.strip() else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def _whole(cell: str) -> int:
    """A whole number that loses no digit on its way; ValueError for any other."""
    value = int(cell)
    if abs(value) >= 2**63:
        raise ValueError(cell)
    return value
