"""Pages that list things by name list all of them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mlserve_core.api.v1alpha1 import Reason

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_every_reason_has_its_paragraph():
    headings = set(re.findall(r"^## (\w+)$", (DOCS / "troubleshooting.md").read_text(), flags=re.MULTILINE))
    assert headings == {reason.value for reason in Reason}


def test_every_alert_is_in_the_table_with_its_severity():
    rules = yaml.safe_load((DOCS.parent / "charts" / "mlserve" / "files" / "alerts.yaml").read_text())
    alerts = {r["alert"]: r["labels"]["severity"] for g in rules["groups"] for r in g["rules"] if "alert" in r}
    table = re.findall(
        r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", (DOCS / "observability.md").read_text(), re.MULTILINE
    )
    assert dict(table) == alerts
