"""How often does the drift detector cry wolf, how late does it see a wolf, and what does watching cost?

    python benchmarks/drift.py                                  # ours alone
    python benchmarks/drift.py --peers alibi-detect evidently nannyml river
    python benchmarks/drift.py --quick                          # few windows

Streams are seeded. Rows go through the counters of the runtime, are spread over pods, merged, and judged by the
operator's windows; the peers see the same windows (`drift_streams.py`), each in an environment of its own, made in
`.tools/drift-peers` when asked for. One that cannot be installed or run is reported, not hidden.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drift_streams import (
    MOVED_WINDOWS,
    WINDOW_ROWS,
    Always,
    Detector,
    Never,
    Rows,
    Streams,
    draw,
    judge,
    real,
    synthetic,
)

from mlserve_core.statistics import ProfileCounter, ReferenceProfile, build_profile, distances, panes
from mlserve_core.statistics.drift import DriftSettings, DriftVerdict, compare, rows_needed
from mlserve_core.statistics.two_sample import ks_p_value
from mlserve_core.statistics.windows import Window, advance

REFERENCE_ROWS = 100_000
TOOLS = Path(__file__).resolve().parent.parent / ".tools/drift-peers"


def reference(features: int, rows: int = REFERENCE_ROWS, seed: int = 0) -> tuple[ReferenceProfile, Rows]:
    data = np.random.default_rng(seed).standard_normal((rows, features), dtype=np.float32)
    return build_profile(data), data


def counts_of(profile: ReferenceProfile, rows: Rows, pods: int) -> object:
    total = None
    for part in np.array_split(rows, pods):
        counter = ProfileCounter(profile)
        counter.update(part)
        total = panes.add(total, counter.counts())
    return total


# --- false alarms -------------------------------------------------------------------------------------------------


def false_alarms(features: int, windows: int) -> dict[str, float]:
    """Alarms per 1,000 clean windows: ours with 1, 3 and 10 pods, and the usual recipes."""
    profile, _ = reference(features, 20_000)
    random, settings = np.random.default_rng(1), DriftSettings()
    states = {pods: Window() for pods in (1, 3, 10)}
    names = [
        "mlserve, 1 pod",
        "mlserve, 3 pods",
        "mlserve, 10 pods",
        "KS p < 0.05",
        "KS p < 0.05, 3 in a row",
        "KS p < 0.05, any of 10 pods",
        "PSI > 0.2",
        "never",
        "always",
    ]
    alarms = dict.fromkeys(names, 0)
    in_a_row = np.zeros(features, dtype=int)
    for index in range(windows):
        rows = random.standard_normal((WINDOW_ROWS, features), dtype=np.float32)
        merged = {pods: counts_of(profile, rows, pods) for pods in states}
        assert merged[1] == merged[3] == merged[10], "the split of rows over pods must not matter"
        for pods, pane in merged.items():
            start, end = 300.0 * index, 300.0 * (index + 1)
            opened, _ = advance(states[pods], profile, settings, now=start, seconds=300, pane=None)
            states[pods], result = advance(opened, profile, settings, now=end, seconds=300, pane=pane)
            name = f"mlserve, {pods} pod{'s' if pods > 1 else ''}"
            alarms[name] += result is not None and result.verdict is DriftVerdict.DRIFT
        by_name = {item.name: item for item in compare(profile, merged[1], DriftSettings(classic=True))}
        low = np.array([by_name[name].p_value < 0.05 for name in profile.feature_names])
        in_a_row = np.where(low, in_a_row + 1, 0)
        alarms["KS p < 0.05"] += low.any()
        alarms["KS p < 0.05, 3 in a row"] += (in_a_row >= 3).any()
        alarms["KS p < 0.05, any of 10 pods"] += _any_pod(profile, rows)
        alarms["PSI > 0.2"] += any(item.psi > 0.2 for item in by_name.values())
        alarms["always"] += 1
    return {name: 1000 * count / windows for name, count in alarms.items()}


def _any_pod(profile: ReferenceProfile, rows: Rows) -> bool:
    """The usual recipe with a detector per pod: an alarm of any is an alarm."""
    wanted = np.array([np.cumsum(distances.shares(feature.counts)) for feature in profile.features])
    for part in np.array_split(rows, 10):
        counts = counts_of(profile, part, 1)
        found = np.array([counts.features[name].counts for name in profile.feature_names]) / len(part)
        furthest = np.abs(np.cumsum(found, axis=1) - wanted).max()
        if ks_p_value(float(furthest), len(part), profile.rows) < 0.05:
            return True
    return False


# --- delay --------------------------------------------------------------------------------------------------------


def delay(kind: str, settings: DriftSettings, features: int, repeats: int, limit: int) -> list[int | None]:
    """Rows until the alarm, per repeat; windows are as small as the settings allow."""
    rows = draw("none", np.random.default_rng(5), REFERENCE_ROWS, features)
    columns = {f"f{i}": column for i, column in enumerate(rows.T)}
    profile = build_profile(columns, categorical=[f"f{features}"])
    needed = rows_needed(profile, settings)
    delays: list[int | None] = []
    for repeat in range(repeats):
        random, window, seen, now = np.random.default_rng([repeat, 9]), Window(), 0, 0.0
        found = None
        while seen < limit and found is None and needed is not None:
            counter = ProfileCounter(profile)
            counter.update(draw(kind, random, needed, features))
            seen, window = seen + needed, advance(window, profile, settings, now=now, seconds=300, pane=None)[0]
            now += 300
            window, result = advance(window, profile, settings, now=now, seconds=300, pane=counter.counts())
            if result is not None and result.verdict is DriftVerdict.DRIFT:
                found = seen
        delays.append(found)
    return delays


# --- cost ---------------------------------------------------------------------------------------------------------


def cost(features: int) -> tuple[float, float, float, float]:
    """Microseconds for one row, per row of 32, profile bytes and counter bytes per feature."""
    profile, data = reference(features, 50_000)
    counter = ProfileCounter(profile)
    times = [min(_timed(counter, data, n) for _ in range(7)) / n for n in (1, 32)]
    counters = 8 * sum(len(feature.edges) + 4 for feature in profile.features)
    return times[0], times[1], len(profile.to_json()) / features, counters / features


def _timed(counter: ProfileCounter, data: Rows, n: int) -> float:
    """Microseconds for n rows; always fresh ones, as repeated rows are learnt by the processor's branch predictor."""
    batches = [data[start : start + n] for start in range(0, 300 * n, n)]
    started = time.perf_counter()
    for batch in batches:
        counter.update(batch)
    return (time.perf_counter() - started) / len(batches) * 1e6


# --- beside the peers ---------------------------------------------------------------------------------------------


class Ours:
    """The operator's windows at its defaults, or the textbook detector of `policy: classic`."""

    remembers = True

    def __init__(self, reference: Rows, categorical: tuple[int, ...], *, classic: bool) -> None:
        columns = {f"f{i}": column for i, column in enumerate(reference.T)}
        self.profile = build_profile(columns, categorical=[f"f{i}" for i in categorical])
        self.settings, self.window, self.now = DriftSettings(classic=classic), Window(), 0.0
        self.counter = ProfileCounter(self.profile)

    def __getstate__(self) -> object:
        return self.profile.to_json(), self.window.model_dump_json()

    def alarm(self, rows: Rows) -> int | None:
        self.counter = ProfileCounter(self.profile)
        for batch in np.array_split(rows, 8):  # about what the runtime gathers before it counts
            self.counter.update(batch)
        opened, _ = advance(self.window, self.profile, self.settings, now=self.now, seconds=300, pane=None)
        self.now += 300
        self.window, result = advance(
            opened, self.profile, self.settings, now=self.now, seconds=300, pane=self.counter.counts()
        )
        return len(rows) if result is not None and result.verdict is DriftVerdict.DRIFT else None


@dataclass(frozen=True)
class Peer:
    """Another detector library, in an environment of its own."""

    name: str
    packages: tuple[str, ...]
    sees_ours: bool = False
    """Its environment also sees this project's packages (torch)."""

    @property
    def folder(self) -> Path:
        return TOOLS / self.name

    @property
    def site_packages(self) -> Path:
        return next((self.folder / "lib").glob("python*")) / "site-packages"

    def install(self) -> str | None:
        """Make the environment when it is new; the reason where that fails."""
        if (self.folder / "installed").exists():
            return None
        print(f"installing {self.name} into {self.folder}", file=sys.stderr)
        python = self.folder / "bin/python"
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", self.folder], check=True)
            pip = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *self.packages]
            subprocess.run(pip, check=True, capture_output=True, text=True, timeout=900)
        except subprocess.CalledProcessError as error:
            return f"cannot be installed: {(error.stderr or '').strip().splitlines()[-1:]}"
        except subprocess.TimeoutExpired:
            return "cannot be installed: it takes more than 15 minutes"
        if self.sees_ours:
            (self.site_packages / "zz_shared.pth").write_text(f"{site_packages()}\n")
        (self.folder / "installed").touch()
        return None

    def judge(self, stream: Path, seconds: float) -> Iterator[dict[str, Any]]:
        """What each of its detectors did; {"failed": reason} where one could not."""
        script = Path(__file__).with_name("drift_peers.py")
        command = [self.folder / "bin/python", script, self.name, str(stream), str(seconds)]
        quiet = {**os.environ, "NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryFile("w+") as output:
            try:
                done = subprocess.run(
                    command, stdout=output, stderr=subprocess.PIPE, text=True, timeout=180, env=quiet, check=False
                )
                failed = done.stderr.strip().splitlines()[-1] if done.returncode else None
            except subprocess.TimeoutExpired:
                failed = "not done within three minutes"
            output.seek(0)
            yield from (json.loads(line) for line in output if line.startswith("{"))
        if failed:
            yield {"detector": f"{self.name} (rest)", "streams": stream.stem, "failed": failed}


PEERS = {
    peer.name: peer
    for peer in (
        Peer("alibi-detect", ("alibi-detect==0.13.0",), sees_ours=True),
        Peer("evidently", ("evidently==0.7.23", "pandas<3")),
        # It imports statsmodels without asking for it.
        Peer("nannyml", ("nannyml==0.13.1", "statsmodels")),
        Peer("river", ("river==0.26.1",)),
    )
}


def site_packages() -> Path:
    return Path(np.__file__).parent.parent


def beside_peers(wanted: list[str], quick: bool) -> None:
    """Every detector on every stream set, as two tables."""
    peers, absent = [], {}
    for name in wanted:
        reason = PEERS[name].install()
        if reason:
            absent[name] = reason
        else:
            peers.append(PEERS[name])
    windows, repeats, seconds = (22, 1, 1.0) if quick else (102, 5, 4.0)
    sets = [
        synthetic(windows, repeats),
        *real(windows // 2, repeats, {peer.name: peer.site_packages for peer in peers}),
    ]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for streams in sets:
            made: dict[str, Callable[[Rows], Detector]] = {
                "mlserve": lambda rows, c=streams.categorical: Ours(rows, c, classic=False),  # type: ignore[misc]
                "mlserve, policy classic": lambda rows, c=streams.categorical: Ours(rows, c, classic=True),  # type: ignore[misc]
                "never": Never,
                "always": Always,
            }
            found += [judge(name, make, streams, seconds).as_dict() for name, make in made.items()]
            path = Path(folder) / f"{streams.name}.npz"
            streams.save(path)
            for peer in peers:
                found += peer.judge(path, seconds if streams.name == "synthetic" else seconds / 3)
    for title, some in (("Synthetic", sets[:1]), ("Real data", sets[1:])):
        print(f"\n{title}: false alarms per 1,000 clean windows of {WINDOW_ROWS} rows (windows seen); rows until the")
        print(f"alarm after the change, median (missed/streams of {MOVED_WINDOWS} windows); cost")
        _print_table([item for item in found if item["streams"] in {streams.name for streams in some}], some)
    for item in found:
        if "failed" in item:
            print(f"  not measured: {item['detector']} on {item['streams']}: {item['failed'][:200]}")
    for name, reason in absent.items():
        print(f"  not measured: {name}: {reason}")


def _print_table(found: list[dict[str, Any]], sets: list[Streams]) -> None:
    """A row per detector; per stream set its false alarms, then the delay for each kind of change."""
    columns = [(streams.name, kind) for streams in sets for kind in (None, *streams.moved)]
    heads = [kind or ("false alarms" if len(sets) == 1 else f"{name}: false") for name, kind in columns]
    lines = [["detector", *heads, "µs/row", "B/feature"]]
    for name in dict.fromkeys(item["detector"] for item in found if "failed" not in item):
        mine = {item["streams"]: item for item in found if item["detector"] == name and "failed" not in item}
        cells = [_cell(mine.get(streams), kind) for streams, kind in columns]
        cost = np.median([item["micros"] for item in mine.values()])
        size = np.median([item["bytes_per_feature"] for item in mine.values()])
        lines.append([name, *cells, f"{cost:.2f}", f"{size:.0f}"])
    print("| " + " | ".join(lines[0]) + " |\n|" + " --- |" + " ---: |" * (len(lines[0]) - 1))
    for line in lines[1:]:
        print("| " + " | ".join(line) + " |")


def _cell(item: dict[str, Any] | None, kind: str | None) -> str:
    if item is None:
        return "-"
    if kind is None:
        return f"{1000 * item['alarms'] / item['windows']:.0f} ({item['windows']})"
    delays = item["delays"][kind]
    seen = [delay for delay in delays if delay is not None]
    missed = f"({len(delays) - len(seen)}/{len(delays)})"
    return f"{np.median(seen):.0f} {missed}" if seen else f"missed {missed}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few windows")
    parser.add_argument("--peers", nargs="*", default=[], choices=sorted(PEERS), help="also judge these")
    options = parser.parse_args(arguments)
    quick = options.quick
    windows, repeats, began = (30, 3, time.perf_counter()) if quick else (200, 10, time.perf_counter())
    missed = 0

    print(f"False alarms per 1,000 clean windows of {WINDOW_ROWS} rows ({windows} windows)")
    rates = {features: false_alarms(features, windows) for features in (10, 30, 100)}
    print(f"  {'features':<34}" + "".join(f"{features:>8}" for features in rates))
    for name in rates[10]:
        print(f"  {name:<34}" + "".join(f"{rates[features][name]:>8.0f}" for features in rates))
    missed += any(rate[f"mlserve, {pods}"] > 1 for rate in rates.values() for pods in ("1 pod", "3 pods", "10 pods"))

    print(f"\nRows until the alarm, one of 30 features and one of categories, {repeats} streams each (5 %, 50 %, 95 %)")
    usual, small, most = DriftSettings(), DriftSettings(effect=0.05), 20_000
    streams = [("mean 1.0", usual, 1500), ("mean 0.5", usual, 2000), ("mean 0.25", usual, most)]
    streams += [("mean 0.25", small, 8000), ("spread 1.5", usual, most), ("missing 0.2", usual, most)]
    streams += [("swap", usual, most), ("new 0.15", usual, most), ("correlation", usual, most)]
    for kind, settings, limit in streams:
        found = delay(kind, settings, 30, repeats, most)
        seen = [value for value in found if value is not None]
        words = " ".join(f"{value:>7.0f}" for value in np.percentile(seen, [5, 50, 95])) if seen else "      never"
        effect = f"effect {100 * settings.effect:.0f} %"
        print(f"  {kind:<14}{effect:<12}{words}   missed {found.count(None)} of {repeats}")
        if kind in {"mean 1.0", "mean 0.5"} or settings is small:
            missed += any(value is None or value > limit for value in found)

    print("\nCost of counting")
    for features in (10, 30, 100):
        one, many, profile_bytes, counter_bytes = cost(features)
        print(
            f"  {features:>4} features: {one:6.1f} us for one row, {many:5.2f} us a row in 32; a feature takes "
            f"{profile_bytes:.0f} B of profile, {counter_bytes:.0f} B counted: {counter_bytes * features / 1e3:.0f} kB"
        )
    beside_peers(options.peers, quick)
    print(f"\n{time.perf_counter() - began:.0f} s in all, {missed} goals missed")
    return 1 if missed and not quick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
