"""Envoy itself says that the configuration is valid; what it does with it is seen in tests/integration."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlserve_core import wire
from mlserve_operator.rollout.state import Route
from mlserve_operator.traffic import clusters, envoy, routes
from mlserve_operator.traffic.entry import Entry

Object = dict[str, Any]
ENVOY = Path(sys.executable).parent / "envoy"

ENTRIES = {
    "nothing-serves": Entry("new", "team", 10_000, Route()),
    "one-revision": Entry("digits", "team", 10_001, Route(weights={"digits-a": 100})),
    "canary": Entry(
        "digits", "team", 10_001,
        Route(weights={"digits-a": 95, "digits-b": 5}, preview="digits-b", spare="digits-a"), 5, "X-User-Id",
    ),
    "baking": Entry("digits", "team", 10_001, Route(weights={"digits-a": 0, "digits-b": 100}, spare="digits-a")),
    "shadow": Entry(
        "digits", "team", 10_001,
        Route(weights={"digits-a": 100, "digits-b": 0}, mirror="digits-b", mirror_percent=30),
    ),
}  # fmt: skip


def render(*entries: Entry, resolver: str = "127.0.0.53:5353") -> dict[str, Object]:
    files = envoy.files(entries, cluster_domain="cluster.local", dns_resolver=resolver)
    # Through JSON once more: what is written once is not one object, which tests may change in one place.
    return {name: json.loads(json.dumps(yaml.safe_load(content))) for name, content in files.items()}


def static(files: dict[str, Object]) -> Object:
    """The same configuration without files, so that `--mode validate` looks at all of it."""
    config = envoy.bootstrap()
    del config["dynamic_resources"]
    (table,) = files[envoy.ROUTES_FILE]["resources"]
    listeners = config["static_resources"]["listeners"] + files[envoy.LISTENERS_FILE]["resources"]
    for body in (table, *listeners, *files[envoy.CLUSTERS_FILE]["resources"]):
        body.pop("@type", None)
    for listener in listeners:
        connections = listener["filter_chains"][0]["filters"][0]["typed_config"]
        assert connections.pop("rds")["route_config_name"] == table["name"]
        connections["route_config"] = table
    config["static_resources"]["listeners"] = listeners
    config["static_resources"]["clusters"] += files[envoy.CLUSTERS_FILE]["resources"]
    return config


def test_envoy_accepts_it_without_a_warning(tmp_path: Path) -> None:
    shadow = Route(weights={"s-a": 100, "s-b": 0}, mirror="s-b", mirror_percent=9)
    entries = [ENTRIES["nothing-serves"], ENTRIES["canary"], Entry("s", "team", 10_002, shadow)]
    for name, content in envoy.files(entries, cluster_domain="cluster.local").items():
        (tmp_path / name).write_text(content)
    for config in (envoy.bootstrap(), static(render(*entries))):
        result = subprocess.run(
            [ENVOY, "--mode", "validate", "--service-node", "n", "--service-cluster", "c",
             "--log-level", "warning", "--config-yaml", json.dumps(config)],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert "deprecated" not in result.stderr.lower(), result.stderr


def host(files: dict[str, Object], name: str) -> Object:
    (table,) = files[envoy.ROUTES_FILE]["resources"]
    found: Object = next(item for item in table["virtual_hosts"] if item["name"] == name)
    return found


def weights_of(route: Object) -> dict[str, int]:
    return {item["name"]: item["weight"] for item in route["route"]["weighted_clusters"]["clusters"]}


def test_the_split_is_the_route_for_http_and_grpc() -> None:
    table = host(render(ENTRIES["canary"]), "digits")["routes"]
    assert weights_of(table[-1]) == {"digits-a": 95, "digits-b|spare": 5}
    assert weights_of(table[-2]) == {"digits-a|grpc": 95, "digits-b|grpc|spare": 5}
    assert "grpc" in table[-2]["match"]
    for route in table[-2:]:
        assert route["route"]["timeout"] == "5s"
        assert route["route"]["retry_policy"]["num_retries"] == 2, "on another pod, then on stable"
    for route in host(render(ENTRIES["one-revision"]), "digits")["routes"][-2:]:
        assert route["route"]["retry_policy"]["num_retries"] == 1


def test_previews_come_first_and_only_while_there_is_one() -> None:
    first = host(render(ENTRIES["canary"]), "digits")["routes"][:2]
    for route in first:
        (header,) = route["match"]["headers"]
        assert (header["name"], header["string_match"]) == ("x-mlserve-preview", {"exact": "canary"})
        assert route["route"]["cluster"] in {"digits-b", "digits-b|grpc"}, "nobody answers in place of a preview"
    alone = host(render(ENTRIES["one-revision"]), "digits")["routes"]
    assert not [route for route in alone if "x-mlserve-preview" in json.dumps(route["match"])]


def test_stickiness_is_a_hash_of_the_header_and_the_unit_is_the_routers_word() -> None:
    virtual_host = host(render(ENTRIES["canary"]), "digits")
    action = virtual_host["routes"][-1]["route"]
    assert action["hash_policy"] == [{"header": {"header_name": "x-user-id"}}]
    assert action["weighted_clusters"]["use_hash_policy"] is True
    assert virtual_host["request_headers_to_remove"] == ["x-mlserve-unit"]
    assert virtual_host["request_headers_to_add"][0]["header"]["value"] == "%REQ(x-user-id)%"
    plain = host(render(ENTRIES["one-revision"]), "digits")
    assert "hash_policy" not in plain["routes"][-1]["route"]
    assert plain["request_headers_to_remove"] == ["x-mlserve-unit"], "nor may a client say what a unit is"


def test_mirroring_copies_a_share() -> None:
    action = host(render(ENTRIES["shadow"]), "digits")["routes"][-1]["route"]
    (policy,) = action["request_mirror_policies"]
    assert policy["cluster"] == "digits-b"
    assert policy["request_headers_mutations"][0]["append"]["header"] == {"key": wire.HEADER_MIRROR, "value": "true"}
    assert policy["runtime_fraction"]["default_value"] == {"numerator": 30}, "percent, if not said otherwise"


def test_the_management_port_answers_the_routes_of_the_same_table() -> None:
    files = render(*list(ENTRIES.values())[:2])
    answers = {route["match"]["path"]: route for route in host(files, envoy.MANAGEMENT)["routes"]}
    said = json.loads(answers["/config-hash"]["direct_response"]["body"]["inline_string"])
    assert said["hash"] == files[envoy.ROUTES_FILE]["version_info"]
    assert Route.model_validate(said["routes"]["digits"]) == ENTRIES["one-revision"].route
    for path, route in answers.items():
        if "route" in route:
            (method,) = route["match"]["headers"]
            assert method["string_match"] == {"exact": "GET"}, f"{path} must not change anything"


def test_the_table_is_found_by_listener_whatever_the_host_header() -> None:
    files = render(ENTRIES["canary"], ENTRIES["nothing-serves"])
    (table,) = files[envoy.ROUTES_FILE]["resources"]
    assert table["vhost_header"] == routes.LISTENER_HEADER
    assert table["request_headers_to_remove"] == [routes.LISTENER_HEADER]
    for listener in files[envoy.LISTENERS_FILE]["resources"]:
        connections = listener["filter_chains"][0]["filters"][0]["typed_config"]
        (mutation,) = connections["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
        assert mutation["append"]["header"] == {"key": routes.LISTENER_HEADER, "value": listener["name"]}
        assert mutation["append"]["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD", "a client cannot choose"


def test_a_new_weight_changes_routes_only() -> None:
    before, after = (
        render(
            Entry(
                "digits", "team", 10_001,
                Route(weights={"digits-a": 100 - weight, "digits-b": weight}, preview=preview, spare="digits-a"),
            )
        )
        for weight, preview in ((0, "digits-b"), (100, ""))
    )  # fmt: skip
    for name in (envoy.LISTENERS_FILE, envoy.CLUSTERS_FILE):
        assert before[name]["resources"] == after[name]["resources"], "no connection is closed, no host checked anew"
    assert before[envoy.ROUTES_FILE]["version_info"] != after[envoy.ROUTES_FILE]["version_info"]


@pytest.mark.parametrize("name", list(ENTRIES))
def test_every_cluster_that_is_named_exists(name: str) -> None:
    files, entry = render(ENTRIES[name]), ENTRIES[name]
    resources = files[envoy.CLUSTERS_FILE]["resources"]
    known = {cluster["name"] for cluster in resources}
    kinds = (clusters.http_cluster, clusters.grpc_cluster, clusters.feedback_cluster)
    assert {kind(revision) for revision in entry.route.weights for kind in kinds} <= known
    text = json.dumps(host(files, entry.name))
    assert set(re.findall(r'"(?:name|cluster)": "(digits-[^"]*)"', text)) <= known
    members = [cluster["cluster_type"]["typed_config"].get("clusters", ()) for cluster in resources]
    assert {member for found in members for member in found} <= known


def test_only_the_revision_on_trial_has_a_spare() -> None:
    def led_to(name: str) -> set[str]:
        found = [route["route"] for route in host(render(ENTRIES[name]), "digits")["routes"]]
        return {share["name"] for route in found for share in route.get("weighted_clusters", {}).get("clusters", ())}

    assert led_to("canary") == {"digits-a", "digits-a|grpc", "digits-b|spare", "digits-b|grpc|spare"}
    assert led_to("baking") == {"digits-a", "digits-a|grpc", "digits-b", "digits-b|grpc"}


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_entries_changes_nothing(order: int) -> None:
    entries = [ENTRIES["canary"], ENTRIES["nothing-serves"]]
    assert render(*entries[::order]) == render(*entries)


@given(st.sets(st.integers(envoy.FIRST_LISTENER_PORT, envoy.FIRST_LISTENER_PORT + 20)))
def test_ports_are_free_and_lowest(taken: set[int]) -> None:
    port = envoy.free_port(taken)
    assert port not in taken
    assert all(lower in taken for lower in range(envoy.FIRST_LISTENER_PORT, port))


def test_no_port_left_says_so() -> None:
    with pytest.raises(ValueError, match="listener ports of the namespace"):
        envoy.free_port(set(range(envoy.FIRST_LISTENER_PORT, envoy.LAST_LISTENER_PORT + 1)))
