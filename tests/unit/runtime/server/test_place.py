"""How many processes are started, and what they are told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mlserve_runtime.server import place
from mlserve_runtime.server.place import Place, affordable_processes, decode, encode
from mlserve_runtime.settings import Settings


@pytest.mark.parametrize(
    ("wanted", "cpus", "started", "said"),
    [(1, 4, 1, False), (4, 4, 4, False), (8, 2, 2, True), (2, 1, 1, True), (0, 4, 1, False)],
    ids=["one", "as-many-as-cpus", "too-many", "one-cpu", "none"],
)
def test_no_more_processes_than_cpus(
    wanted: int, cpus: int, started: int, said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(place, "available_cpus", lambda: cpus)
    with caplog.at_level(logging.WARNING):
        assert affordable_processes(wanted) == started
    assert bool(caplog.records) is said


def test_settings_and_place_survive_the_way_to_a_process() -> None:
    settings = Settings(
        model_dir=Path("/m"), payload_redact=("age", "name"), drain_delay=3.5, watch=True, revision="r1"
    )
    seat = Place(index=1, management_socket=Path("/tmp/x/1"), memory=7, replacement=True)
    assert decode(encode(settings, seat)) == (settings, seat)
