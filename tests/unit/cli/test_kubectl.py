"""The command goes through kubectl with the user's own selection, and reads its stream of objects."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from mlserve_cli.errors import CommandError
from mlserve_cli.kubectl import Kubectl, _objects


@pytest.mark.parametrize(
    ("kubectl", "options"),
    [
        pytest.param(Kubectl(), [], id="all defaults are kubectl's own"),
        pytest.param(
            Kubectl("K", "C", "N"), ["--kubeconfig", "K", "--context", "C", "--namespace", "N"], id="all chosen"
        ),
    ],
)
def test_selection_is_passed_on(kubectl: Kubectl, options: list[str]) -> None:
    assert kubectl.command("get", "pods")[1:] == [*options, "get", "pods"]


def test_stream_of_indented_documents_is_split_and_its_end_is_said() -> None:
    text = '{\n    "a": {\n        "b": 1\n    }\n}\n{\n    "a": 2\n}\n'
    found = []
    with pytest.raises(CommandError, match="closed by the server"):
        found.extend(_objects(SimpleNamespace(stdout=io.StringIO(text), stderr=io.StringIO("closed by the server"))))
    assert found == [{"a": {"b": 1}}, {"a": 2}]


def test_failure_carries_the_words_of_kubectl(tmp_path) -> None:
    missing = str(tmp_path / "no-such-kubeconfig")
    with pytest.raises(CommandError, match="no-such-kubeconfig"):
        Kubectl(kubeconfig=missing).get("pods")
