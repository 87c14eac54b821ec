"""Progress lines by a clock the test turns."""

from __future__ import annotations

from mlserve_runtime.artifacts.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_at_most_every_two_seconds_with_share_and_speed() -> None:
    clock, lines = Clock(), list[str]()
    progress = Progress(40_000_000, write=lines.append, clock=clock)
    for _ in range(40):
        clock.now += 0.1
        progress.advance(1_000_000)
    assert len(lines) == 2
    assert lines[0] == "fetched 20.0 MB of 40.0 MB (50 %), 10.0 MB/s"


def test_without_a_total_there_is_no_share() -> None:
    clock, lines = Clock(), list[str]()
    progress = Progress(write=lines.append, clock=clock)
    clock.now = 2
    progress.advance(2_000)
    assert lines == ["fetched 2.0 kB, 1.0 kB/s"]
