"""The command goes through kubectl with the user's own selection, and reads its stream of objects."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from mlserve_cli.errors import CommandError
from mlserve_cli.kubectl import Kubectl, _objects, reason


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


def kubeconfig(path, server: str, namespace: str = "", current: str = "mine") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    context = {"cluster": "c", "user": "u"} | ({"namespace": namespace} if namespace else {})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "mine", "context": context}],
    }
    path.write_text(json.dumps(document))
    return str(path)


def test_selection_is_what_kubectl_would_talk_to(tmp_path) -> None:
    first = kubeconfig(tmp_path / "a", "http://127.0.0.1:1", "team")
    second = kubeconfig(tmp_path / "b", "http://127.0.0.1:2")
    assert Kubectl(kubeconfig=first).selection() == ("http://127.0.0.1:1", "team")
    assert Kubectl(kubeconfig=second).selection() == ("http://127.0.0.1:2", "default")


def test_without_a_current_context_the_message_says_how_to_choose(tmp_path) -> None:
    with pytest.raises(CommandError, match="no cluster is chosen; set KUBECONFIG"):
        Kubectl(kubeconfig=kubeconfig(tmp_path / "a", "http://127.0.0.1:1", current="")).selection()


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        pytest.param("Error from server: no\n", "Error from server: no", id="a sentence"),
        pytest.param(
            'E1122 05:42:11.981407   26164 memcache.go:381] "Unhandled Error"\nerror: no\n', "error: no", id="log"
        ),
        pytest.param("E1122 05:42:11.981407 x] y", "E1122 05:42:11.981407 x] y", id="nothing but log"),
    ],
)
def test_reason_is_the_sentence_for_people(stderr: str, expected: str) -> None:
    assert reason(stderr) == expected


def test_nobody_at_the_address_leads_to_the_question_whether_the_cluster_is_up(tmp_path) -> None:
    with pytest.raises(CommandError, match="Is the cluster up") as failed:
        Kubectl(kubeconfig=kubeconfig(tmp_path / "a", "http://127.0.0.1:1")).get("pods")
    assert "memcache.go" not in failed.value.message
