"""Reports people look at: one self-contained page that needs no network and no script, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from mlserve_cli import plots
from mlserve_cli.findings import accuracy_words, by_effect
from mlserve_cli.output import at
from mlserve_core.statistics.profile import UNIT_BINS, ReferenceProfile

MAX_FEATURES = 30
"""Features drawn on a page, the strongest first; the table names them all."""


@dataclass(frozen=True)
class Line:
    """A sentence under the title; the tone is `good`, `bad` or `soft`."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with a sentence, a table and plots, each optional."""

    title: str
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    plots: Sequence[str] = field(default_factory=list)


def page(title: str, lead: Sequence[Line], sections: Sequence[Section]) -> str:
    """The page; everything but plots is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mlserve_cli"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(title=title, lead=lead, sections=sections)


def profile_page(profile: ReferenceProfile) -> str:
    """A reference profile: every feature's histogram, and the predictions."""
    drawn = [plots.distribution(feature) for feature in profile.features[:MAX_FEATURES]]
    lead = [Line(f"{profile.rows} rows, {len(profile.features)} features, made {profile.created_at or 'at no time'}")]
    more = len(profile.features) - len(drawn)
    text = f"The first {len(drawn)} of {len(profile.features)}." if more else ""
    sections = [Section("Features", text, plots=drawn)]
    if profile.predictions.counts:
        labels = profile.predictions.classes or [f"≤ {edge:.4g}" for edge in profile.predictions.edges] + ["above"]
        answers = [plots.histogram("predictions", labels, profile.predictions.counts)]
        if profile.predictions.confidence:
            answers.append(plots.histogram("confidence", unit_labels(), profile.predictions.confidence))
        sections.append(Section("Predictions", plots=answers))
    return page(f"Reference profile {profile.model_name}".strip(), lead, sections)


def unit_labels() -> list[str]:
    """Upper edges of the bins of [0, 1]."""
    return [f"{(i + 1) / UNIT_BINS:.2f}" for i in range(UNIT_BINS)]


def drift_page(
    name: str,
    windows: Sequence[Mapping[str, Any]],
    decisions: Sequence[Mapping[str, Any]],
    profile: ReferenceProfile | None,
) -> str:
    """Windows (newest first), decisions (newest first), and the reference they are drawn beside."""
    if windows:
        newest = windows[0]
        tone = "bad" if newest["verdict"] == "Drift" else "good" if newest["verdict"] == "NoDrift" else "soft"
        text = f"{newest['verdict']} in the newest window ({newest['rows']} rows until {at(newest['windowEnd'])})"
        lead = [Line(text, tone), Line(str(newest.get("message", "")), "soft")]
        lead += [Line(f"Accuracy: {words}", "soft")] if (words := accuracy_words(newest)) else []
    else:
        lead = [Line("No window has closed in this time.", "soft")]
    sections = [
        Section(
            "Windows",
            columns=("End", "Revision", "Verdict", "Severity", "Rows"),
            rows=[(at(w["windowEnd"]), w["revision"], w["verdict"], w["severity"], w["rows"]) for w in windows[:100]],
        ),
        _features(windows, profile),
        Section(
            "Rollouts",
            text="" if decisions else "No decision in this time.",
            columns=("Time", "Revision", "Decision", "Reason", "Weight", "Evidence"),
            rows=[
                (at(d["time"]), d["revision"], d["decision"], d["reason"], f"{d['weight']} %", d["message"])
                for d in decisions[:100]
            ],
        ),
    ]
    return page(f"Drift of {name}", lead, sections)


def newest_told(windows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest window with findings (windows come newest first); one that had too few rows shows nothing."""
    return next((window for window in windows if window["features"]), None)


def _features(windows: Sequence[Mapping[str, Any]], profile: ReferenceProfile | None) -> Section:
    shown = newest_told(windows)
    if shown is None:
        return Section("Features", text="Nothing to show.")
    ranked = by_effect(shown["features"])
    drawn: list[str] = []
    revision = shown["revision"]
    oldest_first = [window for window in reversed(windows) if window["revision"] == revision]
    for item in ranked[:MAX_FEATURES]:
        name = item["name"]
        drawn += _beside_reference(name, shown.get("counts", {}).get(name), profile)
        series = [(w["windowEnd"], f["effect"]) for w in oldest_first for f in w["features"] if f["name"] == name]
        times = [at(time)[5:16] for time, _ in series]
        drawn.append(plots.effects(name, times, [100 * effect for _, effect in series], 100 * item["threshold"]))
    text = f"Of {revision} in the window until {at(shown['windowEnd'])}, the strongest first."
    return Section("Features", text, *_effects_table(ranked), drawn)


def _effects_table(features: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[tuple[object, ...]]]:
    columns = ("Feature", "Effect %", "Counts from %", "Severity", "p", "PSI", "Unusable %", "Outside %")
    rows: list[tuple[object, ...]] = [
        (
            f["name"],
            f"{100 * f['effect']:.1f}",
            f"{100 * f['threshold']:.0f}",
            f["severity"],
            _p_value(f.get("pValue")),
            f"{f.get('psi', 0):.3f}",
            f"{100 * f.get('missing', 0):.1f}",
            f"{100 * f.get('outOfRange', 0):.1f}",
        )
        for f in features
    ]
    return columns, rows


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2g}" if value else "< 1e-300"


def _beside_reference(name: str, current: Sequence[int] | None, profile: ReferenceProfile | None) -> list[str]:
    """Reference and current histogram, where both are known."""
    if profile is None or not current:
        return []
    if name in profile.feature_names:
        feature = profile.feature(name)
        return [plots.histogram(name, plots.bin_labels(feature, len(feature.counts)), feature.counts, current)]
    answers = profile.predictions
    if name == "prediction" and answers.counts:
        labels = answers.classes or [f"≤ {edge:.4g}" for edge in answers.edges] + ["above"]
        return [plots.histogram(name, labels, answers.counts, current)]
    if name == "confidence" and answers.confidence:
        return [plots.histogram(name, unit_labels(), answers.confidence, current)]
    return []


def replay_page(title: str, result: Mapping[str, Any]) -> str:
    """What `drift replay` and `drift check` found."""
    tone = {"Promote": "good", "Rollback": "bad", "Pause": "bad", "Alert": "bad"}.get(result["decision"], "soft")
    requests = result["requests"]
    lead = [
        Line(f"{result['decision']}: {result['reason']}", tone),
        Line(f"Requests: canary {requests['canary']}, stable {requests['stable']}", "soft"),
    ]
    lead += [Line(f"Accuracy: {words}", "soft")] if (words := accuracy_words(result["drift"])) else []
    ranked = by_effect(result["drift"]["features"])
    drawn = [_effect_bars(ranked[:MAX_FEATURES])] if ranked else []
    sections = [Section(f"Population: {result['drift']['verdict']}", "", *_effects_table(ranked), drawn)]
    if result["looks"]:
        last = result["looks"][-1]
        checks = [(c["name"], c["verdict"], c["evidence"], c["message"]) for c in last["checks"]]
        looks = [
            (i, look["requests"]["canary"], look["requests"]["stable"], look["verdict"], look["phase"])
            for i, look in enumerate(result["looks"], start=1)
        ]
        heads = ("Check", "Verdict", "Evidence", "Counts")
        sections.append(Section("Checks", "At the last look.", heads, checks, _evidence(result["looks"])))
        sections.append(Section("Looks", "", ("Look", "Canary", "Stable", "Verdict", "Phase"), looks))
    return page(title, lead, sections)


def _effect_bars(features: Sequence[Mapping[str, Any]]) -> str:
    return plots.effect_bars(
        [item["name"] for item in features], [item["effect"] / item["threshold"] for item in features]
    )


def _evidence(looks: Sequence[Mapping[str, Any]]) -> list[str]:
    """How the evidence of every check grew, drawn where there is more than a point of it."""
    courses: dict[str, list[float]] = {}
    for look in looks:
        for check in look["checks"]:
            if worse := check.get("worse"):
                courses.setdefault(check["name"], []).append(worse["logE"] / worse["threshold"])
    return [plots.evidence(courses)] if max(map(len, courses.values()), default=0) > 1 else []
