"""Other detectors on the streams of `drift.py`, run in an environment of their own; prints one JSON line each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np


def measure(name: str, alarm: Callable[[np.ndarray], bool], clean: np.ndarray, moved: np.ndarray) -> None:
    started = time.perf_counter()
    false = sum(alarm(window) for window in clean)
    micros = (time.perf_counter() - started) / (len(clean) * clean.shape[1]) * 1e6
    delay = next(((i + 1) * moved.shape[1] for i, window in enumerate(moved) if alarm(window)), None)
    result = {"name": name, "false_alarms": 1000 * false / len(clean), "delay": delay, "micros": micros}
    print(json.dumps(result), flush=True)


def river(reference: np.ndarray, clean: np.ndarray, moved: np.ndarray) -> None:
    from river import drift

    for detector in (drift.ADWIN, drift.KSWIN, drift.PageHinkley):
        options = {"seed": 1} if detector is drift.KSWIN else {}
        watching = [detector(**options) for _ in range(reference.shape[1])]

        def alarm(window: np.ndarray, watching: list = watching) -> bool:
            fired = False
            for row in window:
                for value, one in zip(row, watching, strict=True):
                    one.update(float(value))
                    fired |= one.drift_detected
            return fired

        alarm(reference[:1000])
        measure(f"river {detector.__name__}", alarm, clean[:10], moved)


def evidently(reference: np.ndarray, clean: np.ndarray, moved: np.ndarray) -> None:
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    columns = [f"f{i}" for i in range(reference.shape[1])]
    known = pd.DataFrame(reference, columns=columns)

    for method in ("ks", "psi", "wasserstein"):
        report = Report([DataDriftPreset(method=method, drift_share=1 / len(columns))])

        def alarm(window: np.ndarray, report: Report = report) -> bool:
            result = report.run(pd.DataFrame(window, columns=columns), known).dict()
            return result["metrics"][0]["value"]["count"] > 0

        measure(f"evidently {method}", alarm, clean[:40], moved)


def main() -> None:
    streams = np.load(sys.argv[1])
    for peer in (river, evidently):
        try:
            peer(streams["reference"], streams["clean"], streams["moved"])
        except ImportError as error:
            print(f"{peer.__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
