"""Every panel of the dashboards against a real Prometheus that scrapes a real operator and a real model."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "charts" / "mlserve" / "files"
SAMPLE = next((ROOT / "models" / "digits" / "samples").glob("*.png")).read_bytes()
PROMETHEUS = shutil.which("prometheus")

# Panels without data on a small healthy cluster: no GPU, no rollback, nothing that drifts or looks features up.
MAY_BE_EMPTY = {
    "GPU",
    "Rollbacks of the last day",
    "Rollbacks of the last week",
    "Effect by feature",
    "Requests without a prediction",
    "Refused requests",
    "Cache hits",
    "Errors",
}
TRIAL = {
    "steps": [{"weight": 50, "holdSeconds": 60}],
    "analysis": {"intervalSeconds": 2},
    "autoPromote": False,
}

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)")


def panels(namespace: str) -> dict[str, list[str]]:
    """Every panel's queries as Grafana would send them."""
    values = {"$__rate_interval": "10s", "$namespace": namespace, "$model": "digits", "${datasource}": ""}
    found: dict[str, list[str]] = {}
    for path in sorted((FILES / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            queries = [target["expr"] for target in panel.get("targets", [])]
            for variable, value in values.items():
                queries = [query.replace(variable, value) for query in queries]
            if queries:
                found[f"{path.stem} / {panel['title']}"] = queries
    return found


@pytest.fixture
def model(operator_cluster: Any, operator_namespace: str) -> dict[str, Any]:
    """models/digits, Ready; its resource."""
    resource = yaml.safe_load((ROOT / "models" / "digits" / "modeldeployment.yaml").read_text())
    command = ("apply", "--namespace", operator_namespace, "--filename=-")
    operator_cluster.kubectl(*command, stdin=yaml.safe_dump(resource))
    wait = ("wait", "--for=condition=Ready", "modeldeployment/digits", "--timeout=120s")
    operator_cluster.kubectl("--namespace", operator_namespace, *wait, timeout=130)
    found: dict[str, Any] = operator_cluster.get("modeldeployment", "digits", "--namespace", operator_namespace)
    return found


@pytest.fixture
def prometheus(operator_cluster: Any, model: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """A Prometheus with the chart's rules that scrapes the operator and the model's pods every second."""
    namespace = model["metadata"]["namespace"]
    pods = operator_cluster.get("pods", "--namespace", namespace, "--selector=mlserve.io/modeldeployment=digits")
    runtime = [
        {
            "targets": [f"{pod['status']['podIP']}:9090"],
            "labels": {
                "namespace": namespace,
                "pod": pod["metadata"]["name"],
                "modeldeployment": "digits",
                "revision": pod["metadata"]["labels"]["mlserve.io/revision"],
            },
        }
        for pod in pods["items"]
    ]
    operator = {"targets": [operator_cluster.operator_url.removeprefix("http://")]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FILES / "alerts.yaml")],
        "scrape_configs": [
            {"job_name": "runtime", "static_configs": runtime},
            {"job_name": "operator", "static_configs": [operator], "honor_labels": True},
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    flags = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        command = [str(PROMETHEUS), *flags, f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def query(address: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{address}/api/v1/query", params={"query": expression}, timeout=30)
    body = answer.json()
    assert body["status"] == "success", f"{expression}: {body.get('error')}"
    result: list[dict[str, Any]] = body["data"]["result"]
    return result


def test_every_panel_is_answered(operator_cluster, operator_namespace, model, prometheus):
    """While a second version is on trial, so that there is evidence to show."""
    second = yaml.safe_load((ROOT / "models" / "digits" / "modeldeployment-v2.yaml").read_text())
    second["spec"]["rollout"] = TRIAL
    operator_cluster.kubectl("apply", "--namespace", operator_namespace, "--filename=-", stdin=yaml.safe_dump(second))
    service = operator_cluster.get("service", "digits", "--namespace", operator_namespace)
    door = service["metadata"]["annotations"]["mlserve.io/local-url"]

    def served_and_seen() -> bool:
        answer = httpx.post(f"{door}/predict", content=SAMPLE, headers={"Content-Type": "image/png"}, timeout=10)
        assert answer.status_code == 200
        busy = query(prometheus, "sum(rate(mlserve_requests_total[10s])) > 0")
        known = query(prometheus, f'mlserve_modeldeployment_phase{{namespace="{operator_namespace}"}}')
        judged = query(prometheus, 'mlserve_rollout_check_events{check="errors", role="canary", outcome="all"} > 0')
        return bool(busy and known and judged)

    operator_cluster.wait(served_and_seen, seconds=60, what="samples of runtime and operator")
    answered = {name: [query(prometheus, q) for q in queries] for name, queries in panels(operator_namespace).items()}
    empty = {name for name, results in answered.items() if not all(results)}
    assert {name for name in empty if name.partition(" / ")[2] not in MAY_BE_EMPTY} == set()

    alerts = httpx.get(f"{prometheus}/api/v1/rules", timeout=30).json()["data"]["groups"]
    broken = [rule["name"] for group in alerts for rule in group["rules"] if rule["health"] == "err"]
    firing = [rule["name"] for group in alerts for rule in group["rules"] if rule.get("state") == "firing"]
    assert (broken, firing) == ([], [])
