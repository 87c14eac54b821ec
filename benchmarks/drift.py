"""How often does the drift detector cry wolf, how late does it see a wolf, and what does watching cost?

    python benchmarks/drift.py           # the whole table (minutes)
    python benchmarks/drift.py --quick   # the same with few windows (seconds)

Streams are seeded. Rows go through the counters of the runtime, are spread over pods, merged, and judged by the
operator's windows; the peers see the same windows. River and Evidently take part when `.tools/drift-peers` has them:
    python -m venv .tools/drift-peers && .tools/drift-peers/bin/pip install river evidently "pandas<3"
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mlserve_core.statistics import ProfileCounter, ReferenceProfile, build_profile, distances, panes
from mlserve_core.statistics.drift import DriftSettings, DriftVerdict, compare, rows_needed
from mlserve_core.statistics.two_sample import ks_p_value
from mlserve_core.statistics.windows import Window, advance

Rows = np.ndarray
REFERENCE_ROWS = 100_000
PEERS = Path(__file__).parent.parent / ".tools/drift-peers/bin/python"
WINDOW_ROWS = 1000


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


def shifted(kind: str, random: np.random.Generator, features: int) -> Callable[[int], dict[str, object]]:
    """A generator of columns whose first feature (or pair) has changed."""

    def rows(n: int) -> dict[str, object]:
        data = random.standard_normal((n, features), dtype=np.float32)
        name, _, size = kind.partition(" ")
        if name == "mean":
            data[:, 0] += float(size)
        elif name == "spread":
            data[:, 0] *= float(size)
        elif name == "missing":
            data[random.random(n) < float(size), 0] = np.nan
        elif name == "correlation":
            data[:, 1] = 0.9 * data[:, 0] + np.sqrt(1 - 0.81) * data[:, 1]
        letters = random.choice(["a", "b", "c", "d"], n, p=[0.5, 0.3, 0.15, 0.05])
        if name == "swap":
            letters = random.choice(["a", "b", "c", "d"], n, p=[0.3, 0.5, 0.15, 0.05])
        elif name == "new":
            letters = np.where(random.random(n) < float(size), "z", letters)
        return {**{f"f{i}": data[:, i] for i in range(features)}, "letter": letters}

    return rows


def table(profile: ReferenceProfile, columns: dict[str, object]) -> Rows:
    out = np.empty((len(columns["letter"]), len(columns)), dtype=object)
    for i, name in enumerate(profile.feature_names):
        out[:, i] = columns[name]
    return out


def delay(kind: str, settings: DriftSettings, features: int, repeats: int, limit: int) -> list[int | None]:
    """Rows until the alarm, per repeat; windows are as small as the settings allow."""
    base = np.random.default_rng(5)
    profile = build_profile(shifted("none", base, features)(REFERENCE_ROWS))
    needed = rows_needed(profile, settings)
    delays: list[int | None] = []
    for repeat in range(repeats):
        draw, window, seen, now = shifted(kind, np.random.default_rng([repeat, 9]), features), Window(), 0, 0.0
        found = None
        while seen < limit and found is None and needed is not None:
            counter = ProfileCounter(profile)
            counter.update(table(profile, draw(needed)))
            seen, window = seen + needed, advance(window, profile, settings, now=now, seconds=300, pane=None)[0]
            now += 300
            window, result = advance(window, profile, settings, now=now, seconds=300, pane=counter.counts())
            if result is not None and result.verdict is DriftVerdict.DRIFT:
                found = seen
        delays.append(found)
    return delays


# --- real data ----------------------------------------------------------------------------------------------------


def real_streams() -> Iterator[tuple[str, Rows, Rows, Rows]]:
    """Name, reference, clean and shifted rows of data sets that ship with scikit-learn."""
    from sklearn.datasets import load_breast_cancer, load_digits

    random = np.random.default_rng(3)
    for name, data, change in (
        (
            "digits, rotated",
            load_digits().data,
            lambda x: np.rot90(x.reshape(-1, 8, 8), axes=(1, 2)).reshape(len(x), -1),
        ),
        ("breast cancer, scaled by 1.2", load_breast_cancer().data, lambda x: 1.2 * x),
    ):
        order = random.permutation(len(data))
        half = len(data) // 2
        draw = data[random.choice(order[half:], 4000)]
        yield name, data[random.choice(order[:half], 20_000)], draw, change(draw)


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


# --- peers --------------------------------------------------------------------------------------------------------


def peers(windows: int) -> None:
    if not PEERS.exists():
        print("\nRiver, Evidently: not installed (see the top of this file)")
        return
    _, ref = reference(10, 2000)
    random = np.random.default_rng(21)
    clean = random.standard_normal((windows, WINDOW_ROWS, 10), dtype=np.float32)
    moved = random.standard_normal((8, WINDOW_ROWS, 10), dtype=np.float32)
    moved[:, :, 0] += 0.5
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "streams.npz", reference=ref, clean=clean, moved=moved)
        script = Path(__file__).with_name("drift_peers.py")
        done = subprocess.run([PEERS, script, f"{folder}/streams.npz"], capture_output=True, text=True, check=False)
    print(f"\nPeers on 10 features, {windows} clean windows of {WINDOW_ROWS} rows, then one feature moved by 0.5 sd")
    if done.returncode:
        print(f"  could not run: {done.stderr.strip().splitlines()[-1:]}")
        return
    for line in done.stdout.splitlines():
        found = json.loads(line)
        print(
            f"  {found['name']:<34}{found['false_alarms']:>8.0f} alarms per 1,000 windows"
            f"{found['delay']!s:>8} rows to the alarm{found['micros']:>10.2f} us per row"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few windows")
    quick = parser.parse_args(arguments).quick
    windows, repeats, began = (30, 3, time.perf_counter()) if quick else (400, 20, time.perf_counter())
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

    print("\nReal data, windows of the rows needed: verdict on clean rows, and on changed ones")
    for name, ref, clean, changed in real_streams():
        profile = build_profile(ref)
        verdicts = []
        for rows in (clean, changed):
            found = compare(profile, counts_of(profile, rows, 3), DriftSettings())
            verdicts.append(f"{sum(item.drifted for item in found)} of {len(found)} features drift")
        print(f"  {name:<34}{verdicts[0]:>28}{verdicts[1]:>30}")

    print("\nCost of counting")
    for features in (10, 30, 100):
        one, many, profile_bytes, counter_bytes = cost(features)
        print(
            f"  {features:>4} features: {one:6.1f} us for one row, {many:5.2f} us a row in 32; a feature takes "
            f"{profile_bytes:.0f} B of profile, {counter_bytes:.0f} B counted: {counter_bytes * features / 1e3:.0f} kB"
        )
    peers(30 if quick else 300)
    print(f"\n{time.perf_counter() - began:.0f} s in all, {missed} goals missed")
    return 1 if missed and not quick else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
