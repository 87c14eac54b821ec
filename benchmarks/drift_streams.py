"""The streams every drift detector is judged by, and how it is judged; NumPy only, as each runs in its own environment.

A stream set is a reference, clean windows of the same population, and moved streams by the kind of change. Columns are
floats: missing values are NaN, categories are codes. Small data sets are populations to draw from with replacement, so
that "clean" means clean: two halves of 569 tumours differ by more than chance would let a detector overlook.
"""

from __future__ import annotations

import gzip
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

Rows = np.ndarray
WINDOW_ROWS = 1000
WARM_WINDOWS = 2
"""Clean windows before the change: detectors without a reference learn from them."""
MOVED_WINDOWS = 5
"""Of a moved stream; a change not found in them is missed."""
LETTERS = (0.5, 0.3, 0.15, 0.05)
KINDS = ("mean 0.5", "mean 0.25", "spread 1.5", "swap", "new 0.15", "missing 0.2", "correlation")


@dataclass
class Streams:
    """Rows are rows x features, windows are windows x rows x features, moved streams are repeats x windows x ..."""

    name: str
    reference: Rows
    clean: Rows
    moved: dict[str, Rows]
    categorical: tuple[int, ...] = ()

    def save(self, path: Path) -> None:
        """Write for another process."""
        moved = {f"moved {kind}": rows for kind, rows in self.moved.items()}
        np.savez(path, name=self.name, reference=self.reference, clean=self.clean, cat=self.categorical, **moved)

    @classmethod
    def load(cls, path: Path) -> Streams:
        """What `save` wrote."""
        file = np.load(path)
        moved = {key.removeprefix("moved "): file[key] for key in file.files if key.startswith("moved ")}
        categorical = tuple(int(column) for column in file["cat"])
        return cls(str(file["name"]), file["reference"], file["clean"], moved, categorical)


class Detector(Protocol):
    """Learns from the reference when it is made, then sees window after window."""

    remembers: bool
    """Whether earlier windows matter; False saves warming it up again."""

    def alarm(self, window: Rows) -> int | None:
        """Rows of this window until the alarm; None without one."""


@dataclass
class Judgement:
    """A detector on one stream set."""

    detector: str
    streams: str
    windows: int = 0
    alarms: int = 0
    micros: float = 0.0
    """Per row."""
    bytes_per_feature: float = 0.0
    """Of the state it has to keep, pickled."""
    delays: dict[str, list[int | None]] = field(default_factory=dict)
    """Rows until the alarm by kind, one per repeat."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def judge(name: str, make: Callable[[Rows], Detector], streams: Streams, seconds: float) -> Judgement:
    """Clean windows for `seconds` at most, then moved streams for as long (each kind at least once)."""
    found = Judgement(name, streams.name)
    detector = _warm(make, streams)
    found.bytes_per_feature = len(pickle.dumps(detector)) / streams.reference.shape[1]
    began = time.perf_counter()
    for window in streams.clean[WARM_WINDOWS:]:
        found.alarms += detector.alarm(window) is not None
        found.windows += 1
        if time.perf_counter() - began > seconds:
            break
    found.micros = (time.perf_counter() - began) / (found.windows * streams.clean.shape[1]) * 1e6
    began = time.perf_counter()
    for repeat in range(len(next(iter(streams.moved.values())))):
        for kind, rows in streams.moved.items():
            if detector.remembers:
                detector = _warm(make, streams)
            found.delays.setdefault(kind, []).append(_delay(detector, rows[repeat]))
        if time.perf_counter() - began > seconds:
            break
    return found


def _warm(make: Callable[[Rows], Detector], streams: Streams) -> Detector:
    detector = make(streams.reference)
    for window in streams.clean[:WARM_WINDOWS] if detector.remembers else ():
        detector.alarm(window)
    return detector


def _delay(detector: Detector, moved: Rows) -> int | None:
    for index, window in enumerate(moved):
        rows = detector.alarm(window)
        if rows is not None:
            return index * len(window) + rows
    return None


class Never:
    """The floor of false alarms."""

    remembers = False

    def __init__(self, _: Rows) -> None: ...

    def alarm(self, _: Rows) -> int | None:
        """Misses everything."""
        return None


class Always:
    """The floor of delays."""

    remembers = False

    def __init__(self, _: Rows) -> None: ...

    def alarm(self, _: Rows) -> int | None:
        """Finds everything, also what is not there."""
        return 1


# --- synthetic ----------------------------------------------------------------------------------------------------


def draw(kind: str, random: np.random.Generator, n: int, features: int) -> Rows:
    """Independent normal columns, then one of categories; `kind` says what changed."""
    rows = random.standard_normal((n, features + 1))
    name, _, size = kind.partition(" ")
    shares = np.array(LETTERS)
    if name == "mean":
        rows[:, 0] += float(size)
    elif name == "spread":
        rows[:, 0] *= float(size)
    elif name == "missing":
        rows[random.random(n) < float(size), 0] = np.nan
    elif name == "correlation":
        rows[:, 1] = 0.9 * rows[:, 0] + np.sqrt(1 - 0.81) * rows[:, 1]
    elif name == "swap":
        shares[[0, 1]] = shares[[1, 0]]
    rows[:, -1] = random.choice(len(shares), n, p=shares)
    if name == "new":
        rows[random.random(n) < float(size), -1] = len(shares)
    return rows


def synthetic(windows: int, repeats: int, features: int = 10) -> Streams:
    """A change in one of ten features, or in the category."""
    random = np.random.default_rng(21)
    clean = np.stack([draw("none", random, WINDOW_ROWS, features) for _ in range(windows)])
    moved = {
        kind: np.stack(
            [[draw(kind, random, WINDOW_ROWS, features) for _ in range(MOVED_WINDOWS)] for _ in range(repeats)]
        )
        for kind in KINDS
    }
    return Streams("synthetic", draw("none", random, 20_000, features), clean, moved, (features,))


# --- real ---------------------------------------------------------------------------------------------------------


def real(windows: int, repeats: int, packages: dict[str, Path]) -> Iterator[Streams]:
    """Data sets that ship in scikit-learn, and in River and NannyML where their environments are there.

    Args:
        windows: clean windows of each.
        repeats: moved streams of each.
        packages: site-packages by peer.
    """
    from sklearn.datasets import load_breast_cancer, load_digits

    digits, cancer = load_digits(), load_breast_cancer()
    turned = np.rot90(digits.images, axes=(1, 2)).reshape(len(digits.data), -1)
    yield _drawn("digits", digits.data, {"turned by 90°": (turned, None)}, windows, repeats)
    malignant = np.where(cancer.target == 0, 2.5, 1.0)
    yield _drawn("breast cancer", cancer.data, {"more malignant": (cancer.data, malignant)}, windows, repeats)
    if "river" in packages:
        path = packages["river"] / "river/datasets/shuttle.csv.gz"
        with gzip.open(path, "rt") as stream:
            table = np.loadtxt(stream, delimiter=",", skiprows=1)
        sound, faults = table[table[:, -1] == 0, :-1], table[table[:, -1] == 1, :-1]
        some = np.concatenate([sound, faults])
        odds = np.where(np.arange(len(some)) < len(sound), 0.9 / len(sound), 0.1 / len(faults))
        yield _drawn("shuttle", sound, {"a tenth faulty": (some, odds)}, windows, repeats)
    if "nannyml" in packages:
        yield _census(packages["nannyml"] / "nannyml/datasets/data", windows, repeats)


def _drawn(
    name: str, population: Rows, moved: dict[str, tuple[Rows, Rows | None]], windows: int, repeats: int
) -> Streams:
    """Rows drawn with replacement; `moved` has other rows, or the same with other odds."""
    random = np.random.default_rng(3)

    def some(rows: Rows, odds: Rows | None, *shape: int) -> Rows:
        chances = None if odds is None else odds / odds.sum()
        return rows[random.choice(len(rows), shape, p=chances)].astype(float)

    return Streams(
        name,
        some(population, None, 20_000),
        some(population, None, windows, WINDOW_ROWS),
        {kind: some(rows, odds, repeats, MOVED_WINDOWS, WINDOW_ROWS) for kind, (rows, odds) in moved.items()},
    )


def _census(folder: Path, windows: int, repeats: int) -> Streams:
    """The US census in Massachusetts: 2015 against 2018. Rows are shuffled within a year: households lie together."""
    import pyarrow.parquet as pq

    before = pq.read_table(folder / "employment_MA_reference.pq")
    after = pq.read_table(folder / "employment_MA_analysis.pq")
    names = before.schema.names[1 : before.schema.names.index("employed")]
    old, new = (np.column_stack([_codes(table[name]) for name in names]) for table in (before, after))
    random = np.random.default_rng(3)
    order = random.permutation(len(old))
    last = random.permutation(new[np.asarray(after["year"]) == 2018])
    windows, repeats = (
        min(windows, (len(old) - 20_000) // WINDOW_ROWS),
        min(repeats, len(last) // (MOVED_WINDOWS * WINDOW_ROWS)),
    )
    return Streams(
        "census",
        old[order[:20_000]],
        old[order[20_000 : 20_000 + windows * WINDOW_ROWS]].reshape(windows, WINDOW_ROWS, -1),
        {
            "2015 to 2018": last[: repeats * MOVED_WINDOWS * WINDOW_ROWS].reshape(
                repeats, MOVED_WINDOWS, WINDOW_ROWS, -1
            )
        },
        tuple(range(1, len(names))),
    )


def _codes(column: object) -> Rows:
    """A column of the census as floats; its categories are written as numbers already."""
    return np.array([np.nan if value is None else float(value) for value in column.to_pylist()])  # type: ignore[attr-defined]
