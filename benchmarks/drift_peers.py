"""Other drift detectors on the streams of `drift_streams.py`.

    python benchmarks/drift_peers.py river streams.npz 10

Runs in the environment of one peer (see `drift.py`) and prints a JSON line per detector. Each is used as its own
documentation shows, at its defaults, and with its own correction for many features where it has one.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from drift_streams import Detector, Rows, Streams, judge

Factories = dict[str, Callable[[Rows], Detector]]


class PerRow:
    """River: one detector per feature, fed value by value; an alarm of any is an alarm. Missing values are left out."""

    remembers = True

    def __init__(self, kind: Callable[[], object], features: int) -> None:
        self.watching = [kind() for _ in range(features)]

    def alarm(self, window: Rows) -> int | None:
        for index, row in enumerate(window.tolist()):
            fired = False
            for value, one in zip(row, self.watching, strict=True):
                if value == value:  # noqa: PLR0124 - only NaN differs from itself
                    one.update(value)
                    fired |= one.drift_detected
            if fired:
                return index + 1
        return None


def river(_: Streams) -> Factories:
    from river import drift

    def of(kind: Callable[..., object], **options: int) -> Callable[[Rows], Detector]:
        return lambda reference: PerRow(lambda: kind(**options), reference.shape[1])

    return {
        "ADWIN": of(drift.ADWIN),
        "PageHinkley": of(drift.PageHinkley),
        "KSWIN": of(drift.KSWIN, seed=1),
    }


class EvidentlyPreset:
    """DataDriftPreset at its defaults: the drifted columns are counted, `share` of them make an alarm."""

    remembers = False

    def __init__(self, reference: Rows, categorical: tuple[int, ...], share: float) -> None:
        self.categorical, self.share = categorical, share
        self.reference = self.frame(reference)

    def frame(self, rows: Rows) -> object:
        from evidently import DataDefinition, Dataset

        names = [f"f{i}" for i in range(rows.shape[1])]
        named = [names[column] for column in self.categorical]
        definition = DataDefinition(
            numerical_columns=[name for name in names if name not in named], categorical_columns=named
        )
        return Dataset.from_pandas(table(rows, self.categorical), data_definition=definition)

    def __getstate__(self) -> object:
        return self.reference.as_dataframe()

    def alarm(self, window: Rows) -> int | None:
        from evidently import Report
        from evidently.presets import DataDriftPreset

        result = Report([DataDriftPreset()]).run(self.frame(window), self.reference).dict()
        drifted = result["metrics"][0]["value"]["count"]
        return len(window) if drifted >= max(self.share * window.shape[1], 1) else None


def evidently(streams: Streams) -> Factories:
    return {
        "any column": lambda reference: EvidentlyPreset(reference, streams.categorical, 0.0),
        "dataset (half of the columns)": lambda reference: EvidentlyPreset(reference, streams.categorical, 0.5),
    }


class NannyML:
    """A calculator fitted on the reference; an alert of any column (or of the whole) is an alarm."""

    remembers = False

    def __init__(self, calculator: object, reference: Rows, categorical: tuple[int, ...]) -> None:
        self.calculator, self.categorical = calculator, categorical
        self.calculator.fit(table(reference, categorical))

    def alarm(self, window: Rows) -> int | None:
        result = self.calculator.calculate(table(window, self.categorical)).filter(period="analysis").to_df()
        alerts = result.loc[:, [column for column in result.columns if column[-1] == "alert"]]
        return len(window) if bool(alerts.to_numpy(dtype=bool).any()) else None


def nannyml(streams: Streams) -> Factories:
    import nannyml as nml

    names = [f"f{i}" for i in range(streams.reference.shape[1])]
    size = streams.clean.shape[1]

    def univariate() -> object:
        return nml.UnivariateDriftCalculator(column_names=names, chunk_size=size)

    def reconstruction() -> object:
        return nml.DataReconstructionDriftCalculator(column_names=names, chunk_size=size)

    return {
        "univariate": lambda reference: NannyML(univariate(), reference, streams.categorical),
        "reconstruction": lambda reference: NannyML(reconstruction(), reference, streams.categorical),
    }


class Alibi:
    """A detector with `predict`; missing values are given as the reference's mean, as it takes none."""

    remembers = False

    def __init__(self, make: Callable[[Rows], object], reference: Rows) -> None:
        self.means = np.nanmean(reference, axis=0)
        self.detector = make(self.filled(reference))

    def filled(self, rows: Rows) -> Rows:
        return np.where(np.isnan(rows), self.means, rows).astype(np.float32)

    def alarm(self, window: Rows) -> int | None:
        found = self.detector.predict(self.filled(window))
        return len(window) if found["data"]["is_drift"] else None


def alibi_detect(streams: Streams) -> Factories:
    from alibi_detect.cd import MMDDrift, TabularDrift

    categories = dict.fromkeys(streams.categorical)

    def tabular(correction: str) -> Callable[[Rows], Detector]:
        return lambda reference: Alibi(
            lambda rows: TabularDrift(rows, p_val=0.05, correction=correction, categories_per_feature=categories),
            reference,
        )

    def mmd(reference: Rows) -> Detector:
        # Its cost grows with the square of the rows; torch is this project's.
        return Alibi(lambda rows: MMDDrift(rows[:1000], backend="pytorch"), reference)

    return {"tabular, Bonferroni": tabular("bonferroni"), "tabular, FDR": tabular("fdr"), "MMD": mmd}


def table(rows: Rows, categorical: tuple[int, ...]) -> object:
    """A data frame whose categorical columns hold strings, f0, f1, ..."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=[f"f{i}" for i in range(rows.shape[1])])
    for column in categorical:
        frame[f"f{column}"] = frame[f"f{column}"].astype(str)
    return frame


PEERS = {"river": river, "evidently": evidently, "nannyml": nannyml, "alibi-detect": alibi_detect}


def main(peer: str, path: str, seconds: str) -> None:
    """Judge every detector of a peer."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    streams = Streams.load(Path(path))
    for name, make in PEERS[peer](streams).items():
        try:
            found = judge(f"{peer} {name}", make, streams, float(seconds)).as_dict()
        except Exception as error:  # noqa: BLE001 - what a peer cannot do is a result
            found = {
                "detector": f"{peer} {name}",
                "streams": streams.name,
                "failed": f"{type(error).__name__}: {error}",
            }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
