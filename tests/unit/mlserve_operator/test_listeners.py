"""Listener ports of a shared router: every model has its own, whoever chooses at the same time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlserve_operator.index import Index
from mlserve_operator.reconcile import Reconciler
from mlserve_operator.resources.records import build_checkpoint
from mlserve_operator.rollout.state import RolloutState


def owner(name: str) -> dict[str, Any]:
    return {"kind": "ModelDeployment", "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}"}}


def reconciler(index: Index) -> Reconciler:
    unused: Any = None
    return Reconciler(unused, index, unused, unused, unused, unused, unused, unused)


def observed(name: str, port: int | None) -> Any:
    return SimpleNamespace(namespace="team", name=name, port=port)


def store(index: Index, name: str, port: int) -> None:
    index.put(owner(name))
    index.put(build_checkpoint(owner(name), RolloutState(), port=port))


names = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=2)


@given(names)
def test_models_that_choose_before_anything_is_written_get_different_ports(order: list[str]) -> None:
    index = Index()
    chooser = reconciler(index)
    chosen = {name: chooser._listener(observed(name, None)) for name in order}
    assert len(set(chosen.values())) == len(order)
    again = {name: chooser._listener(observed(name, None)) for name in reversed(order)}
    assert again == chosen


@given(names)
def test_a_restart_keeps_every_port(order: list[str]) -> None:
    index = Index()
    ports = {name: 10_000 + number for number, name in enumerate(order)}
    for name, port in ports.items():
        store(index, name, port)
    chooser = reconciler(index)
    assert {name: chooser._listener(observed(name, port)) for name, port in ports.items()} == ports


def test_two_with_one_port_part_again_and_the_first_keeps_it() -> None:
    index = Index()
    store(index, "a", 10_000)
    store(index, "b", 10_000)
    chooser = reconciler(index)
    assert chooser._listener(observed("b", 10_000)) == 10_001
    assert chooser._listener(observed("a", 10_000)) == 10_000


def test_the_port_of_a_model_that_is_gone_is_free_again() -> None:
    index = Index()
    chooser = reconciler(index)
    first = chooser._listener(observed("a", None))
    chooser._ports["team"].pop("a")
    assert chooser._listener(observed("b", None)) == first
