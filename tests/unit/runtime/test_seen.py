"""What one process has seen, another knows."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mlserve_runtime import seen
from mlserve_runtime.seen import REPORTS, UNITS, SharedSeen, create_memory


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_memory()
    yield descriptor
    os.close(descriptor)


def test_the_first_of_all_processes_wins(memory: int) -> None:
    one, other = SharedSeen(memory, UNITS), SharedSeen(memory, UNITS)
    assert one.first(b"user-1")
    assert not other.first(b"user-1")
    assert other.first(b"user-2")
    assert not one.first(b"user-2")
    assert SharedSeen(memory, REPORTS).first(b"user-1"), "parts do not overlap"


def test_many_keys_are_told_apart(memory: int) -> None:
    table = SharedSeen(memory, UNITS)
    keys = [b"%d" % number for number in range(20_000)]
    assert all(table.first(key) for key in keys)
    assert not any(table.first(key) for key in keys)


def test_a_full_table_forgets_and_goes_on(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_SLOTS", 64)
    table = SharedSeen(memory, UNITS)
    for number in range(1000):
        assert table.first(b"%d" % number)
        assert not table.first(b"%d" % number), "the newest is always known"
