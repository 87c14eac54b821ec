"""Listener ports of a shared router: every model has its own, whoever chooses at the same time, up to what fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_operator.index import Index
from mlserve_operator.resources.records import build_checkpoint
from mlserve_operator.resources.router import NAMESPACE_ROUTER, dedicated_router
from mlserve_operator.rollout.state import RolloutState, Route
from mlserve_operator.routing import Listeners
from mlserve_operator.traffic import envoy
from mlserve_operator.traffic.entry import Entry


def owner(name: str, *, dedicated: bool = False) -> dict[str, Any]:
    spec = {"traffic": {"router": {"scope": "Dedicated"}}} if dedicated else {}
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}"}
    return {"kind": "ModelDeployment", "metadata": metadata, "spec": spec}


def store(index: Index, name: str, port: int, *, dedicated: bool = False) -> None:
    index.put(owner(name, dedicated=dedicated))
    index.put(build_checkpoint(owner(name), RolloutState(), port=port))


def choose(listeners: Listeners, name: str, port: int | None = None, router: str = NAMESPACE_ROUTER) -> int:
    return listeners.choose("team", name, router, port)


names = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=2)


@given(names)
def test_models_that_choose_before_anything_is_written_get_different_ports(order: list[str]) -> None:
    listeners = Listeners(Index())
    chosen = {name: choose(listeners, name) for name in order}
    assert len(set(chosen.values())) == len(order)
    again = {name: choose(listeners, name) for name in reversed(order)}
    assert again == chosen


@given(names)
def test_a_restart_keeps_every_port(order: list[str]) -> None:
    index = Index()
    ports = {name: 10_000 + number for number, name in enumerate(order)}
    for name, port in ports.items():
        store(index, name, port)
    listeners = Listeners(index)
    assert {name: choose(listeners, name, port) for name, port in ports.items()} == ports


def test_two_with_one_port_part_again_and_the_first_keeps_it() -> None:
    index = Index()
    store(index, "a", 10_000)
    store(index, "b", 10_000)
    listeners = Listeners(index)
    assert choose(listeners, "b", 10_000) == 10_001
    assert choose(listeners, "a", 10_000) == 10_000


def test_the_port_of_a_model_that_is_gone_is_free_again() -> None:
    listeners = Listeners(Index())
    first = choose(listeners, "a")
    listeners.forget("team", "a")
    assert choose(listeners, "b") == first


@pytest.mark.parametrize("what", ["checkpoint", "spec"])
def test_a_model_that_cannot_be_read_any_more_is_served_as_it_was(what: str) -> None:
    """Somebody edited it, or it was written by a newer release; whoever it serves is not to blame."""
    index = Index()
    body = owner("a") | {"spec": {"model": {"uri": "s3://m"}}}
    checkpoint = build_checkpoint(body, RolloutState(stable="a-1"), port=10_003)
    index.put(body)
    index.put(checkpoint)
    listeners = Listeners(index)
    (before,) = [entry for _, _, entry in listeners.served("team", NAMESPACE_ROUTER)]
    assert before.route.weights == {"a-1": 100}
    if what == "spec":
        index.put(body | {"spec": {"model": {"uri": "s3://m"}, "traffic": {"mode": "Telepathy"}}})
    else:
        index.put(checkpoint | {"data": {"state.json": "{"}})
    assert [entry for _, _, entry in listeners.served("team", NAMESPACE_ROUTER)] == [before]
    listeners.forget("team", "a")
    assert list(listeners.served("team", NAMESPACE_ROUTER)) == []


def test_a_model_too_many_is_told_so_until_another_goes_and_nobody_else_is_disturbed() -> None:
    index = Index()
    listeners = Listeners(index)
    # Half of them are remembered, the other half have chosen a moment ago and are not written yet.
    for number in range(envoy.MODELS_PER_ROUTER):
        name = f"m{number:02}"
        if number % 2:
            store(index, name, 10_000 + number)
        else:
            index.put(owner(name))
            choose(listeners, name)
    index.put(owner("late"))
    with pytest.raises(envoy.RouterFullError, match=r"router mlserve-router serves 80 models.*Dedicated"):
        choose(listeners, "late")
    assert choose(listeners, "m01", 10_001) == 10_001, "who has a place keeps it"
    assert choose(listeners, "late", router=dedicated_router("late")) not in range(10_000, 10_080)
    listeners.forget("team", "late")
    index.drop(owner("m01"))
    listeners.forget("team", "m01")
    assert choose(listeners, "late") == 10_001


def test_models_with_routers_of_their_own_take_no_place() -> None:
    index = Index()
    for number in range(envoy.MODELS_PER_ROUTER + 5):
        store(index, f"m{number:02}", 10_000 + number, dedicated=True)
    index.put(owner("late"))
    assert choose(Listeners(index), "late") == 10_000 + envoy.MODELS_PER_ROUTER + 5


def test_a_full_router_fits_into_its_config_map_whatever_its_models_do() -> None:
    """The longest names, every option, and all of them in a rollout at once."""

    def entry(number: int) -> Entry:
        name = f"m{number:02}".ljust(45, "x")
        stable, canary = f"{name}-{'a' * 8}", f"{name}-{'b' * 8}"
        weights = {stable: 99, canary: 1}
        route = Route(weights=weights, mirror=canary, mirror_percent=100, preview=canary, spare=stable)
        return Entry(name, "n" * 63, 10_000 + number, route, 3600, "h" * 128)

    files = envoy.files(
        [entry(number) for number in range(envoy.MODELS_PER_ROUTER)],
        cluster_domain="a-rather-long-cluster-domain.example.org",
        dns_resolver="10.255.255.255:5353",
    )
    assert sum(len(name) + len(content.encode()) for name, content in files.items()) < 1024 * 1024
