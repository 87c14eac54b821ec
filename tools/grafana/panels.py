"""What Grafana stores, from as little as a person has to say: a panel, a row of panels, a dashboard of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows, the queries with their legends, the unit, and what a reader should conclude."""

    title: str
    queries: dict[str, str]
    description: str
    kind: str = "timeseries"
    unit: str = "short"
    stacked: bool = False
    thresholds: tuple[tuple[str, float | None], ...] = (("green", None),)
    maximum: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def render(self, number: int, grid: dict[str, int]) -> dict[str, Any]:
        """The panel as Grafana stores it."""
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in self.thresholds]},
        }
        if self.kind == "timeseries":
            stacking = {"mode": "normal", "group": "A"} if self.stacked else {"mode": "none", "group": "A"}
            shape = {"fillOpacity": 30 if self.stacked else 8, "showPoints": "never", "spanNulls": False}
            shown = {"mode": "line"} if len(self.thresholds) > 1 else {"mode": "off"}
            defaults |= {"custom": {"stacking": stacking, "thresholdsStyle": shown, **shape}, "min": 0}
        if self.maximum is not None:
            defaults["max"] = self.maximum
        instant = self.kind in {"stat", "table"}
        return {
            "id": number,
            "title": self.title,
            "description": self.description,
            "type": self.kind,
            "datasource": SOURCE,
            "gridPos": grid,
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": self.options or _options(self.kind),
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "expr": query,
                    "legendFormat": legend,
                    "datasource": SOURCE,
                    "instant": instant,
                    "range": not instant,
                    **({"format": "table"} if self.kind == "table" else {}),
                    **({"format": "heatmap"} if self.kind == "heatmap" else {}),
                }
                for index, (legend, query) in enumerate(self.queries.items())
            ],
            **({"transformations": [{"id": "merge", "options": {}}]} if self.kind == "table" else {}),
        }


def _options(kind: str) -> dict[str, Any]:
    return {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}},
        "status-history": {"showValue": "never", "rowHeight": 0.9, "legend": {"showLegend": False}},
        "heatmap": {
            "calculate": False,
            "yAxis": {"unit": "percentunit"},
            "color": {"scheme": "Oranges", "mode": "scheme"},
        },
        "table": {"showHeader": True, "cellHeight": "sm"},
    }[kind]


def quantile(q: float, metric: str, where: str, by: str = "") -> str:
    """PromQL of a quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def total(metric: str, where: str, by: str) -> str:
    """PromQL of a summed gauge."""
    return f"sum by ({by}) ({metric}{{{where}}})"


def rate(metric: str, where: str, by: str = "") -> str:
    """PromQL of a summed rate."""
    total = f"rate({metric}{{{where}}}[$__rate_interval])"
    return f"sum by ({by}) ({total})" if by else f"sum({total})"


def ratio(part: str, whole: str) -> str:
    """PromQL of a share that is 0, not absent, while nothing happens."""
    return f"(({part}) or 0 * ({whole})) / clamp_min({whole}, 1e-9)"


def variable(name: str, query: str, *, multi: bool = False) -> dict[str, Any]:
    """A variable filled by a query."""
    chosen = {"text": "All", "value": "$__all"} if multi else {}
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        "current": chosen,
    }


def panels(rows: dict[str, list[list[Panel]]], height: int = 8) -> list[dict[str, Any]]:
    """Rows of panels laid out on Grafana's grid of 24 columns."""
    found: list[dict[str, Any]] = []
    top = 0
    for title, lines in rows.items():
        header = {"h": 1, "w": 24, "x": 0, "y": top}
        found.append(
            {"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": header, "panels": []}
        )
        top += 1
        for line in lines:
            tall = 4 if all(panel.kind == "stat" for panel in line) else height
            width = 24 // len(line)
            for column, panel in enumerate(line):
                grid = {"h": tall, "w": width, "x": column * width, "y": top}
                found.append(panel.render(len(found) + 1, grid))
            top += tall
    return found


def dashboard(uid: str, title: str, description: str, variables: list[dict[str, Any]], rows: Any) -> dict[str, Any]:
    """A dashboard as Grafana stores it."""
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}, "label": "Prometheus"}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["mlserve"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source, *variables]},
        "links": [
            {"type": "dashboards", "tags": ["mlserve"], "title": "mlserve", "asDropdown": False, "keepTime": True}
        ],
        "annotations": {"list": []},
        "panels": panels(rows),
    }
