"""Logged rows come from files people made: what cannot be read is said with its place."""

from __future__ import annotations

import gzip

import pytest

from mlserve_cli.errors import CommandError
from mlserve_cli.tabular import read_columns, split_arms


def write(tmp_path, text: str) -> str:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return str(path)


def test_cells_are_numbers_where_all_of_a_column_are(tmp_path) -> None:
    columns = read_columns(write(tmp_path, "amount,country,empty\n1,de,\n2.5,,\n"))
    assert columns == {"amount": [1.0, 2.5], "country": ["de", None], "empty": [None, None]}


def test_parquet_reads_the_same_as_csv(tmp_path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"amount": [1.0, None], "country": ["de", "fr"]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert read_columns(str(tmp_path / "rows.parquet")) == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "has no rows", id="empty file"),
        pytest.param("a,b\n", "has no rows", id="header alone"),
        pytest.param("a,a\n1,2\n", "names a column twice", id="column twice"),
        pytest.param("a,b\n1,2\n3\n", "line 3: 1 cells, the header has 2", id="short row"),
        pytest.param("a,b\n1,2\n\n3\n", "line 4: 1 cells, the header has 2", id="short row after an empty one"),
        pytest.param(",b\n0,2\n", "no name for column 1; write it without an index", id="index of a data frame"),
        pytest.param("a;b\n1;2\n", "separates its columns by ';'; write it with commas", id="semicolons"),
        pytest.param("a\tb\n1\t2\n", "separates its columns by .*; write it with commas", id="tabs"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        read_columns(write(tmp_path, text))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_said(tmp_path, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("city\nzürich\n", encoding=encoding)
    with pytest.raises(CommandError, match=r"is no text in UTF-8 .*; save it as UTF-8"):
        read_columns(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("city\nzürich\n", encoding=encoding)
    assert read_columns(str(path)) == {"city": ["zürich"]}


def test_gzip_reads_the_same_as_csv(tmp_path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,x\n"))
    assert read_columns(str(path)) == {"a": [1], "b": ["x"]}
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CommandError, match="is no readable CSV file"):
        read_columns(str(path))
    path.write_bytes(b"a,b\n1,x\n")
    with pytest.raises(CommandError, match="is no readable CSV file: Not a gzipped file"):
        read_columns(str(path))


def test_long_whole_numbers_keep_every_digit(tmp_path) -> None:
    columns = read_columns(write(tmp_path, f"id,longer\n{2**60 + 1},{10**30}\n{2**60},1\n"))
    assert columns == {"id": [2**60 + 1, 2**60], "longer": [1e30, 1.0]}


def test_columns_of_one_name_in_parquet(tmp_path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "rows.parquet")
    with pytest.raises(CommandError, match=r"names a column twice in its header: a$"):
        read_columns(str(tmp_path / "rows.parquet"))


def test_missing_file_and_broken_parquet(tmp_path) -> None:
    with pytest.raises(CommandError, match=r"is not a file; give a \.csv"):
        read_columns(str(tmp_path / "nowhere.csv"))
    broken = tmp_path / "rows.parquet"
    broken.write_bytes(b"not parquet")
    with pytest.raises(CommandError, match="no readable Parquet"):
        read_columns(str(broken))


def test_arms_of_one_file() -> None:
    stable, canary = split_arms({"x": [1, 2, 3], "arm": ["stable", "canary", "stable"]}, "arm", "rows.csv")
    assert (stable["x"], canary["x"]) == ([1, 3], [2])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"x": [1]}, "no column 'arm'; it has x", id="no such column"),
        pytest.param({"arm": ["blue"]}, "must hold stable or canary, not blue", id="another word"),
    ],
)
def test_arms_that_cannot_be_told(columns, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        split_arms(columns, "arm", "rows.csv")
