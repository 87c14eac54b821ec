"""Windows of the drift history in few words: what people read before they look at plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlserve_cli.output import at


def accuracy_words(window: Mapping[str, Any]) -> str:
    """What is known of accuracy in a window, or nothing.

    >>> accuracy_words({"accuracy": 0.7, "labelled": 200, "referenceAccuracy": 0.9})
    '70.0 % of 200 labels; 90.0 % in the reference'
    """
    parts = []
    if window.get("accuracy") is not None:
        parts.append(f"{100 * window['accuracy']:.1f} % of {window['labelled']} labels")
    if window.get("estimatedAccuracy") is not None:
        parts.append(f"{100 * window['estimatedAccuracy']:.1f} % estimated from the scores")
    if parts and window.get("referenceAccuracy") is not None:
        parts.append(f"{100 * window['referenceAccuracy']:.1f} % in the reference")
    return "; ".join(parts)


def summarise(windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per feature over windows (newest first), the strongest first."""
    found: dict[str, dict[str, Any]] = {}
    for window in windows:
        for item in window["features"]:
            entry = found.setdefault(
                item["name"], {"name": item["name"], "windows": 0, "drifted": 0, "maxEffect": 0.0, "lastDrift": ""}
            )
            entry["windows"] += 1
            entry["drifted"] += bool(item["drifted"])
            entry["maxEffect"] = max(entry["maxEffect"], item["effect"])
            if item["drifted"] and not entry["lastDrift"]:
                entry["lastDrift"] = at(window["windowEnd"])
    return sorted(found.values(), key=lambda entry: -entry["maxEffect"])


def strongest(features: list[dict[str, Any]]) -> str:
    """The three largest effects of a window."""
    return ", ".join(f"{item['name']} {100 * item['effect']:.1f} %" for item in by_effect(features)[:3])


def by_effect(features: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The strongest first, by multiples of the effect that counts for each."""
    return sorted(features, key=lambda item: -item["effect"] / item["threshold"])
