"""Plots as inline SVG that follows the reader's light or dark theme.

Text and axes are drawn in one marker colour that is replaced by `currentColor`, so the page's own theme decides;
no script runs and nothing is fetched.
"""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from mlserve_core.statistics.drift import SEVERITY_RATIOS, Severity

if TYPE_CHECKING:
    from mlserve_core.statistics.profile import CategoricalFeature, NumericFeature

_INK = "#010203"
REFERENCE, CURRENT, ALARM = "#5b8def", "#f28e2b", "#d64550"
MANY_EDGES = 20
"""Edges from which a density has a shape."""
NARROW = 1e-4
"""Of an average bin: a bin of less width holds one value."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "mlserve",
    "text.parse_math": False,  # `$` in a name is a dollar
}


def _svg(figure: Any, label: str, *, cut: bool = True) -> str:
    """The figure as markup. Cutting it to its content draws it twice, which one of known margins does not need."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # Text stays text, in the reader's fonts; that ours lack a glyph only makes its width a guess.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight" if cut else None, metadata=metadata)
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)


def bin_labels(feature: NumericFeature | CategoricalFeature, bins: int) -> list[str]:
    """A label for every bin: upper edges of a number, names of categories."""
    if feature.kind == "categorical":
        names = [*feature.categories, "other"]
    else:
        names = [f"≤ {edge:.4g}" for edge in feature.edges] + [f"> {feature.edges[-1]:.4g}" if feature.edges else "all"]
    return (names + [""] * bins)[:bins]


def histogram(title: str, labels: Sequence[str], reference: Sequence[int], current: Sequence[int] | None = None) -> str:
    """Shares per bin of the reference and, beside them, of current rows."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 1.9))
        positions = range(len(reference))
        width = 0.8 if current is None else 0.4
        axes.bar(positions, _shares(reference), width=width, color=REFERENCE, label="reference")
        if current is not None:
            axes.bar([p + width for p in positions], _shares(current), width=width, color=CURRENT, label="current")
            axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, fontsize=8)
        every = max(1, len(labels) // 12)
        middle = 0.0 if current is None else width / 2
        ticks = [p + middle for p in positions][::every]
        axes.set_xticks(ticks, list(labels)[::every], rotation=30, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_ylabel("share")
        axes.set_title(title, loc="left", fontsize=9)
        return _svg(figure, f"histogram of {title}")


def distribution(feature: NumericFeature | CategoricalFeature) -> str:
    """The reference by itself: its density where that has a shape, else shares per bin.

    Bins end at quantiles, so their shares are all alike and say nothing. Density needs bins of some width; values that
    are frequent by themselves have none.
    """
    edges = np.asarray(feature.edges if feature.kind == "numeric" else [])
    widths = np.diff(edges)
    if len(edges) < MANY_EDGES or widths.min() < NARROW * (edges[-1] - edges[0]) / len(edges):
        return histogram(feature.name, bin_labels(feature, len(feature.counts)), feature.counts)
    density = np.asarray(_shares(feature.counts))[1:-1] / widths
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 1.9))
        axes.stairs(density, edges, fill=True, color=REFERENCE)
        axes.set_xlim(edges[1], edges[-2])
        axes.set_ylabel("density")
        axes.set_title(f"{feature.name} (the middle of {edges[0]:.4g} to {edges[-1]:.4g})", loc="left", fontsize=9)
        return _svg(figure, f"distribution of {feature.name}")


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


def effects(title: str, times: Sequence[Any], values: Sequence[float], threshold: float) -> str:
    """Effect per window over time, in percent, with the effects from which its severity is low, medium and high."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 2.1))
        figure.subplots_adjust(left=0.11, right=0.93, top=0.88, bottom=0.25)
        axes.plot(range(len(values)), values, color=CURRENT, marker="o", markersize=3)
        for severity in (Severity.LOW, Severity.MEDIUM, Severity.HIGH):
            level = threshold * SEVERITY_RATIOS[severity]
            if severity is Severity.LOW or level <= max(values, default=0.0):
                axes.axhline(level, color=ALARM, linestyle="--", linewidth=1)
                place = axes.get_yaxis_transform()
                axes.text(1.005, level, severity.value, transform=place, color=ALARM, va="center", fontsize=7)
        every = max(1, len(times) // 8)
        axes.set_xticks(
            range(len(times))[::every],
            [str(t) for t in times[::every]],
            rotation=20,
            ha="right",
            rotation_mode="anchor",
            fontsize=7,
        )
        axes.set_ylim(bottom=0)
        axes.set_ylabel("effect, %")
        axes.set_title(title, loc="left", fontsize=9)
        return _svg(figure, f"effect over time of {title}", cut=False)


def effect_bars(names: Sequence[str], ratios: Sequence[float]) -> str:
    """Effects of features in one window as multiples of what counts for each, strongest on top."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 0.7 + 0.2 * len(names)))
        colours = [CURRENT if ratio >= 1 else REFERENCE for ratio in ratios]
        axes.barh(range(len(names)), ratios, color=colours)
        axes.axvline(1.0, color=ALARM, linestyle="--", linewidth=1)
        axes.set_yticks(range(len(names)), list(names), fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel("effect, as a multiple of the effect that counts")
        return _svg(figure, "effects of the features")


def evidence(courses: Mapping[str, Sequence[float]]) -> str:
    """Evidence against the canary per check and look, as a share of what fails it."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 2.4))
        for name, course in courses.items():
            axes.plot(range(1, len(course) + 1), course, marker="o", markersize=2, linewidth=1.2, label=name)
        axes.axhline(1.0, color=ALARM, linestyle="--", linewidth=1)
        axes.set_ylim(bottom=-0.5)
        axes.set_xlabel("look")
        axes.set_ylabel("of what fails")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.97), ncols=4, fontsize=8)
        return _svg(figure, "evidence against the canary")
