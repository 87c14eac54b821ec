"""Metrics, dashboards, alerts and their pages name the same things."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlserve_operator.metrics import REGISTRY
from mlserve_runtime.telemetry.gpu import GPU_METRICS
from mlserve_runtime.telemetry.metrics import METRICS as RUNTIME_METRICS

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "charts" / "mlserve" / "files"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FILES / "dashboards").glob("*.json"))}
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
METRICS = {**{family.name: family.documentation for family in REGISTRY.collect()}, **RUNTIME_METRICS}
NAME = re.compile(r"\bmlserve_[a-z0-9_]+")
SUFFIX = re.compile(r"_(bucket|sum|count|total)$")
VARIABLES = {"$__rate_interval": "5m", "$namespace": "default", "$model": "digits"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt-get install prometheus)"
)


def queries() -> dict[str, str]:
    """Every query of every panel, by a name for people."""
    found = {}
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                found[f"{name} / {panel['title']} / {target['refId']}"] = target["expr"]
    return found


def named(text: str) -> set[str]:
    return {SUFFIX.sub("", name) for name in NAME.findall(text)}


USED = set().union(*(named(text) for text in [*queries().values(), *(rule["expr"] for rule in RULES)]))


def test_every_metric_is_in_a_dashboard_or_an_alert():
    assert set(METRICS) - USED == set()


def test_every_metric_that_is_used_exists():
    assert USED - set(METRICS) - set(GPU_METRICS) - RECORDED == set()


def test_every_metric_is_in_the_reference():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert {name for name in [*METRICS, *GPU_METRICS] if f"`{name}" not in page} == set()


def test_every_dashboard_is_complete():
    for name, dashboard in DASHBOARDS.items():
        panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        assert all(panel["description"] and panel["targets"] for panel in panels), name
        places = [tuple(sorted(panel["gridPos"].items())) for panel in dashboard["panels"]]
        assert len(places) == len(set(places)), name
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]), name


def test_every_alert_has_a_runbook_page_and_every_page_an_alert():
    alerts = {rule["alert"]: rule for rule in RULES if "alert" in rule}
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("Mlserve*.md")}
    assert set(alerts) == pages
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
        for heading in ("## Meaning", "## Impact", "## Diagnosis", "## What to do"):
            assert heading in text, name


def promtool(*arguments: str | Path) -> None:
    answer = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@needs_promtool
def test_alert_rules_are_accepted_by_promtool():
    promtool("check", "rules", FILES / "alerts.yaml")


@needs_promtool
def test_alerts_fire_and_stay_silent_when_they_should():
    promtool("test", "rules", Path(__file__).parent / "alerts_test.yaml")


@needs_promtool
def test_every_query_of_every_panel_is_promql(tmp_path):
    rules: list[dict[str, Any]] = []
    for number, query in enumerate(queries().values()):
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)  # noqa: PLW2901
        rules.append({"record": f"query:{number}", "expr": query})
    assert rules
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", file)


@needs_promtool
def test_compose_scrapes_a_valid_configuration(tmp_path):
    folder = ROOT / "deploy" / "compose" / "prometheus"
    text = (folder / "prometheus.yml").read_text()
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("/etc/prometheus/rules/mlserve.yaml", str(FILES / "alerts.yaml")))
    promtool("check", "config", file)
