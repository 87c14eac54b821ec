from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlserve_operator.index import ENDED, Index


def body(name: str, version: int, *, uid: str = "u", model: str = "digits", kind: str = "Service") -> dict[str, Any]:
    labels = {"mlserve.io/modeldeployment": model}
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "team", "uid": uid, "resourceVersion": str(version), "labels": labels},
    }


def test_an_older_event_does_not_undo_an_answer_to_a_write() -> None:
    index = Index()
    index.put(body("a", 7))
    assert not index.put(body("a", 6))
    assert index.get("Service", "team", "a") == body("a", 7)


def test_a_namesake_replaces_whatever_its_version() -> None:
    index = Index()
    index.put(body("a", 7, uid="old"))
    assert index.put(body("a", 3, uid="new"))
    index.drop(body("a", 7, uid="old"))  # the late deletion of the first one
    assert index.get("Service", "team", "a") == body("a", 3, uid="new")


def test_the_answer_to_a_write_that_comes_after_the_end_revives_nothing() -> None:
    index = Index()
    index.put(body("a", 5))
    index.end(body("a", 7))
    assert not index.put(body("a", 6))
    assert index.get("Service", "team", "a") is None


def test_an_object_that_gets_its_label_back_is_known_again() -> None:
    """A watch by label tells that it is gone when only the label is."""
    index = Index()
    index.put(body("a", 5))
    index.end(body("a", 7))
    assert index.put(body("a", 8))
    assert index.get("Service", "team", "a") == body("a", 8)


def test_of_what_ended_not_everything_is_remembered() -> None:
    index = Index()
    for number in range(ENDED + 10):
        index.end(body("a", 1, uid=f"u{number}"))
    assert len(index._ended) == ENDED


def test_a_changed_label_moves_an_object() -> None:
    index = Index()
    index.put(body("a", 1, model="digits"))
    index.put(body("a", 2, model="fraud"))
    assert index.of_model("Service", "team", "digits") == []
    assert index.of_model("Service", "team", "fraud") == [body("a", 2, model="fraud")]


def test_a_model_with_the_name_of_a_router_is_not_taken_for_one() -> None:
    index = Index()
    pod = body("a", 1, model="mlserve-router")
    pod["metadata"]["labels"] |= {
        "app.kubernetes.io/instance": "mlserve-router",
        "app.kubernetes.io/component": "runtime",
    }
    router = body("b", 1, model="")
    router["metadata"]["labels"] = {
        "app.kubernetes.io/instance": "mlserve-router", "app.kubernetes.io/component": "router",
    }  # fmt: skip
    index.put(pod)
    index.put(router)
    assert index.of_router("Service", "team", "mlserve-router") == [router]


events = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop"]), st.sampled_from("ab"), st.integers(1, 9), st.sampled_from(["u", "v"]),
        st.sampled_from(["digits", "fraud"]),
    ),
    max_size=40,
)  # fmt: skip


@given(events)
def test_groups_and_objects_never_disagree(history: list[tuple[str, str, int, str, str]]) -> None:
    index = Index()
    for action, name, version, uid, model in history:
        getattr(index, action)(body(name, version, uid=uid, model=model))
    by_kind = list(index.of_kind("Service"))
    by_model = [item for model in ("digits", "fraud") for item in index.of_model("Service", "team", model)]
    by_name = [item for name in "ab" if (item := index.get("Service", "team", name))]
    names = [sorted(item["metadata"]["name"] for item in group) for group in (by_kind, by_model, by_name)]
    assert names[0] == names[1] == names[2]
