"""The Grafana dashboards of the chart: a panel is a few lines of code here, instead of a thousand lines of JSON."""

from __future__ import annotations

import json
from typing import Any

from grafana import fleet, model
from grafana.panels import dashboard, variable


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by its file name."""
    # mlserve_ready comes from the pods themselves, so the variables work without an operator too.
    namespaces = "label_values(mlserve_ready, namespace)"
    models = 'label_values(mlserve_ready{namespace="$namespace"}, modeldeployment)'
    return {
        "fleet.json": dashboard(
            "mlserve-fleet",
            "mlserve / Fleet",
            "All ModelDeployments: what serves, what rolls out, what drifts, and how the operator feels.",
            [variable("namespace", namespaces, multi=True)],
            fleet.ROWS,
        ),
        "model.json": dashboard(
            "mlserve-model",
            "mlserve / Model",
            "One ModelDeployment: traffic, rollout and its evidence, drift, batches and pods.",
            [variable("namespace", namespaces), variable("model", models)],
            model.ROWS,
        ),
    }


def generated_files() -> dict[str, str]:
    """Every dashboard by its path below the root."""
    folder = "charts/mlserve/files/dashboards"
    return {
        f"{folder}/{name}": json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        for name, content in dashboards().items()
    }
