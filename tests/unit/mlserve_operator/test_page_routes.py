"""The management port serves the page from the index, with its headers."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest
import yaml

from mlserve_operator import page
from mlserve_operator.history import DecisionRecord, History
from mlserve_operator.index import Index
from mlserve_operator.management import build_application, serve
from mlserve_operator.page.routes import routes

CASE = Path(__file__).resolve().parents[3] / "deploy" / "gitops" / "argocd" / "testdata" / "rolledback.yaml"
DECISION = {"revision": "digits-58fd4b", "decision": "RolledBack", "reason": "AnalysisFailed", "message": "31 failed"}


@pytest.fixture
async def address(unused_tcp_port):
    index = Index()
    resource = yaml.safe_load(CASE.read_text())
    resource["metadata"]["uid"] = "1"
    index.put(resource)
    history = History()
    history.record_decision(DecisionRecord(time=time.time(), namespace="vision", name="digits", **DECISION))
    application = build_application(lambda: "", lambda: True, routes(index, history, "1.2.3"))
    runner = await serve(application, "127.0.0.1", unused_tcp_port)
    yield f"http://127.0.0.1:{unused_tcp_port}"
    await runner.cleanup()
    history.close()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/", 200, "/namespaces/vision/modeldeployments/digits"),
        ("/namespaces/vision/modeldeployments/digits", 200, "31 failed"),
        ("/namespaces/vision/modeldeployments/other", 404, "There is no ModelDeployment"),
        ("/page.css", 200, "prefers-color-scheme"),
    ],
)
async def test_paths_answer_with_the_headers_that_forbid_scripts(address, path, status, text):
    async with aiohttp.ClientSession() as session, session.get(address + path) as answer:
        assert answer.status == status
        assert text in await answer.text()
        assert page.HEADERS.items() <= answer.headers.items()


async def test_pages_are_read_only(address):
    async with aiohttp.ClientSession() as session, session.post(address + "/", data=b"") as answer:
        assert answer.status == 405
