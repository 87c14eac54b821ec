"""A container's environment, command line and paths, as a kubelet would build them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_local.node.environment import ConfigError, environment, expand, resource_value
from mlserve_local.node.images import ImageNotFoundError, command_line, parse_mappings, repository_name
from mlserve_local.node.paths import address_rewriter, rewriter

POD = {
    "metadata": {
        "name": "p",
        "namespace": "team",
        "uid": "u-1",
        "labels": {"app": "web", "tier": "a"},
        "annotations": {"note": 'say "hi"'},
    },
    "spec": {
        "nodeName": "n1",
        "serviceAccountName": "sa",
        "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}],
    },
    "status": {"podIP": "127.97.0.5", "hostIP": "127.0.0.1"},
}
CONFIG = {"kind": "ConfigMap", "data": {"color": "red", "not-a-name!": "x"}}
SECRET = {"kind": "Secret", "data": {"key": base64.b64encode(b"s3cret").decode()}}
ALLOCATABLE = {"cpu": "8", "memory": "16Gi"}


def lookup(kind: str, name: str):
    return {("ConfigMap", "settings"): CONFIG, ("Secret", "keys"): SECRET}.get((kind, name))


def build(*entries, env_from=(), base=None):
    container = {**POD["spec"]["containers"][0], "env": list(entries), "envFrom": list(env_from)}
    return environment(container, POD, lookup, base or {}, ALLOCATABLE)


def from_(**source):
    return {"name": "X", "valueFrom": source}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("$(A)", "1", id="known"),
        pytest.param("$(B)", "$(B)", id="unknown stays"),
        pytest.param("$$(A)", "$(A)", id="escaped"),
        pytest.param("$A $", "$A $", id="plain dollars"),
        pytest.param("$(A)$(A)", "11", id="twice"),
        pytest.param("$$$(A)", "$1", id="escaped dollar before a reference"),
    ],
)
def test_expansion(text, expected):
    assert expand(text, {"A": "1"}) == expected


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_text_without_dollars_is_left_alone(text):
    assert expand(text, {"A": "1"}) == text


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param({"name": "X", "value": "v"}, "v", id="value"),
        pytest.param({"name": "X"}, "", id="no value"),
        pytest.param(from_(fieldRef={"fieldPath": "status.podIP"}), "127.97.0.5", id="podIP"),
        pytest.param(from_(fieldRef={"fieldPath": "metadata.labels['app']"}), "web", id="one label"),
        pytest.param(from_(fieldRef={"fieldPath": "metadata.labels"}), 'app="web"\ntier="a"', id="all labels"),
        pytest.param(
            from_(fieldRef={"fieldPath": "metadata.annotations"}), 'note="say \\"hi\\""', id="quotes are escaped"
        ),
        pytest.param(from_(resourceFieldRef={"resource": "limits.cpu"}), "2", id="cpu rounds up"),
        pytest.param(from_(resourceFieldRef={"resource": "limits.cpu", "divisor": "1m"}), "1500", id="divisor"),
        pytest.param(from_(resourceFieldRef={"resource": "limits.memory", "divisor": "1Mi"}), "1024", id="memory"),
        pytest.param(from_(configMapKeyRef={"name": "settings", "key": "color"}), "red", id="config map"),
        pytest.param(from_(secretKeyRef={"name": "keys", "key": "key"}), "s3cret", id="secret is decoded"),
    ],
)
def test_sources_of_a_variable(entry, expected):
    assert build(entry)["X"] == expected


def test_absent_limit_is_what_the_node_has():
    container = {"name": "other"}
    assert resource_value(container, POD, {"resource": "limits.cpu"}, ALLOCATABLE) == "8"


def test_optional_sources_may_be_missing():
    entry = from_(configMapKeyRef={"name": "gone", "key": "k", "optional": True})
    assert "X" not in build(entry, env_from=[{"secretRef": {"name": "gone", "optional": True}}])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(from_(configMapKeyRef={"name": "gone", "key": "k"}), 'configmap "gone" not found', id="object"),
        pytest.param(
            from_(secretKeyRef={"name": "keys", "key": "k"}), "couldn't find key k in Secret team/keys", id="key"
        ),
        pytest.param(from_(fieldRef={"fieldPath": "spec.bogus"}), "unsupported fieldPath: spec.bogus", id="field"),
    ],
)
def test_missing_sources_say_what_is_missing(entry, message):
    with pytest.raises(ConfigError, match=message):
        build(entry)


def test_later_variables_see_earlier_ones_and_env_wins_over_env_from():
    found = build(
        {"name": "HOST", "value": "h"},
        {"name": "URL", "value": "http://$(HOST):$(PORT)"},
        {"name": "PORT", "value": "1"},
        {"name": "color", "value": "blue"},
        env_from=[{"configMapRef": {"name": "settings"}}, {"prefix": "P_", "secretRef": {"name": "keys"}}],
    )
    assert found == {"HOST": "h", "URL": "http://h:$(PORT)", "PORT": "1", "color": "blue", "P_key": "s3cret"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/var/lib/model", "/real/model"),
        ("/var/lib/model/x.pt", "/real/model/x.pt"),
        ("--dir=/var/lib/model,/etc/keys", "--dir=/real/model,/real/keys"),
        ("file:///var/lib/model/x", "file:///real/model/x"),
        ("/var/lib/models", "/var/lib/models"),
        ("/srv/var/lib/model", "/srv/var/lib/model"),
        ("/var/lib/model/nested/y", "/real/nested/y"),
        ('{"path": "/etc/keys"}', '{"path": "/real/keys"}'),
    ],
)
def test_mount_paths_are_rewritten_by_whole_segments(text, expected):
    mounts = {"/var/lib/model": "/real/model", "/var/lib/model/nested": "/real/nested", "/etc/keys/": "/real/keys"}
    rewrite = rewriter(mounts)
    assert rewrite(text) == expected


@given(st.text())
def test_without_mounts_nothing_is_rewritten(text):
    assert rewriter({})(text) == text


@pytest.mark.parametrize(
    "image",
    ["envoy", "envoyproxy/envoy:v1.40-latest", "reg:5000/a/envoy@sha256:00", "docker.io/envoyproxy/envoy:v1@sha256:00"],
)
def test_images_are_known_by_their_repository(image):
    assert repository_name(image) == "envoy"


def test_command_replaces_the_entry_point_and_args_follow():
    images = parse_mappings(["web=python -m http.server", "bare="])
    assert command_line(images, "x/web:1", [], ["8080"]) == ["python", "-m", "http.server", "8080"]
    assert command_line(images, "x/web:1", ["sh"], ["-c", "true"]) == ["sh", "-c", "true"]
    assert command_line(images, "bare", ["true"], []) == ["true"]


def test_an_unknown_image_says_which_are_known():
    with pytest.raises(ImageNotFoundError, match="'nope' is not one of: envoy, mlserve-operator, mlserve-runtime"):
        command_line(parse_mappings([]), "x/nope:1", [], [])


def test_a_mapping_without_a_command_is_refused():
    with pytest.raises(ValueError, match="expected NAME=COMMAND"):
        parse_mappings(["web"])


def test_of_a_mounted_tmp_only_the_bare_path_is_rewritten():
    rewrite = rewriter({"/tmp": "/pods/1/tmp", "/data": "/pods/1/data"})
    assert rewrite("/tmp") == "/pods/1/tmp"
    assert rewrite("file:///tmp/models/digits") == "file:///tmp/models/digits"
    assert rewrite("/data/x") == "/pods/1/data/x"


@pytest.mark.parametrize(
    ("text", "loopback", "expected"),
    [
        pytest.param("0.0.0.0", False, "127.97.0.2", id="all interfaces"),
        pytest.param("--bind=0.0.0.0:80", False, "--bind=127.97.0.2:80", id="with a port"),
        pytest.param("http://127.0.0.1:9000", False, "http://127.0.0.1:9000", id="the laptop's own loopback stays"),
        pytest.param('{"address": "127.0.0.1"}', True, '{"address": "127.97.0.2"}', id="the pod's loopback"),
        pytest.param("/dev/tcp/127.0.0.1/9901", True, "/dev/tcp/127.97.0.2/9901", id="a port after a slash"),
        pytest.param("0.0.0.0/0,127.0.0.1/32", True, "0.0.0.0/0,127.0.0.1/32", id="networks stay"),
        pytest.param("127.211.0.10 10.0.0.0 1.127.0.0.1", True, "127.211.0.10 10.0.0.0 1.127.0.0.1", id="others stay"),
    ],
)
def test_addresses_that_mean_the_pod(text, loopback, expected):
    assert address_rewriter("127.97.0.2", loopback=loopback)(text) == expected
