"""The store: revisions only rise, snapshots undo, histories are bounded, and files are read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve_local.apiserver import storage
from mlserve_local.apiserver.storage import Store


def obj(name: str, value: int = 0) -> storage.Obj:
    return {"metadata": {"name": name, "namespace": "n"}, "data": {"v": value}}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=25))
def test_every_snapshot_is_the_past(changes: list[tuple[str, bool]]) -> None:
    store = Store()
    collection = store.collection("/things")
    past: dict[int, set[tuple[str, int]]] = {}
    for number, (name, remove) in enumerate(changes):
        current = collection.get("n", name)
        if remove and current is not None:
            store.delete(collection, current)
        else:
            store.write(collection, obj(name, number))
        past[store.revision] = {(s.name, s.data["data"]["v"]) for s in collection.list()}
    for revision, expected in past.items():
        found = collection.snapshot(revision, None)
        assert found is not None
        assert {(s.name, s.data["data"]["v"]) for s in found} == expected
    assert list(past) == sorted(past)
    store.close()


def test_history_is_bounded_by_events_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "HISTORY_EVENTS", 10)
    store = Store()
    collection = store.collection("/things")
    revisions = [store.write(collection, obj("a", i)).revision for i in range(25)]
    assert len(collection.history) == 10
    assert collection.sequence_after(revisions[0]) is None
    assert collection.since(0) is None
    sequence = collection.sequence_after(revisions[-3])
    assert sequence is not None
    assert [e.revision for e in collection.since(sequence) or ()] == revisions[-2:]
    monkeypatch.setattr(storage, "HISTORY_BYTES", 2000)
    store.write(collection, {**obj("big"), "blob": "x" * 1500})
    store.write(collection, {**obj("big"), "blob": "x" * 1500})
    assert len(collection.history) == 1
    store.close()


def test_a_file_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.collection("/things")
    store.write(collection, obj("a", 1))
    gone = store.write(collection, obj("b", 2))
    store.delete(collection, gone)
    last = store.revision
    store.close()
    again = Store(tmp_path)
    assert again.revision == last
    found = again.collection("/things")
    assert [(s.name, s.data["data"]) for s in found.list()] == [("a", {"v": 1})]
    assert found.sequence_after(last) == 0
    assert found.sequence_after(last - 1) is None  # what happened before is not known any more
    again.close()


def test_stored_data_is_not_shared_with_the_caller() -> None:
    store = Store()
    collection = store.collection("/things")
    first = store.write(collection, obj("a", 1))
    second = store.write(collection, {**first.data, "data": {"v": 2}})
    assert (first.data["data"]["v"], second.data["data"]["v"]) == (1, 2)
    assert first.data["metadata"]["resourceVersion"] != second.data["metadata"]["resourceVersion"]
    store.close()
