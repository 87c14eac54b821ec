"""Route tables of the router: the split between revisions, and what the management port answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mlserve_core import wire
from mlserve_operator.traffic.clusters import METADATA, feedback_cluster, grpc_cluster, http_cluster, with_spare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlserve_operator.rollout.state import Route
    from mlserve_operator.traffic.entry import Entry

Object = dict[str, Any]

TABLE: Final = "routes"
LISTENER_HEADER: Final = "x-mlserve-listener"
"""Set by each listener to its own name, whatever the client sent; selects the virtual host."""
FEEDBACK_FILTER: Final = "envoy.filters.http.json_to_metadata"
FEEDBACK_METADATA: Final = "mlserve.feedback"
"""Where the filter puts what it finds in the body of a feedback request."""
_STREAM: Final = "/inference.GRPCInferenceService/ModelStreamInfer"
_RETRIES: Final[Object] = {
    # Only what cannot have been answered: no connection, a stream refused or cut off, a pod that drains. Attempts
    # are counted per revision, so a retry on another pod never hides the failure from the analysis.
    "retry_on": "connect-failure,refused-stream,reset,retriable-headers",
    "retriable_headers": [{"name": wire.HEADER_DRAINING, "string_match": {"exact": "true"}}],
    "num_retries": 1,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    # A pod that died refuses at once, so it always has the fewest requests and LEAST_REQUEST draws it three times in
    # four; after so many draws Envoy gives up and takes it all the same. With 3 draws a third of the retries met it.
    "host_selection_retry_max_attempts": 64,
    "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
}


_TWICE_THEN_SPARE: Final[Object] = {
    # Another pod of the same revision first, so that a user stays with it; then the revision that can be relied on.
    **_RETRIES,
    "num_retries": 2,
    "retry_priority": {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            "update_frequency": 2,
        },
    },
}


_ID_OF_BODY: Final = {
    "key": wire.HEADER_PREDICTION_ID,
    "value": f"%DYNAMIC_METADATA({FEEDBACK_METADATA}:id)%",
}


def _is_copy(answer: str) -> Object:
    header = {"key": wire.HEADER_MIRROR, "value": answer}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _told_as(revision: str) -> Object:
    return {"header": {"key": wire.HEADER_REVISION, "value": revision}, "append_action": "ADD_IF_ABSENT"}


_IS_PREVIEW: Final = [{"name": wire.HEADER_PREVIEW, "string_match": {"exact": "canary"}}]
COMMON: Final[Object] = {
    "retries": _RETRIES,
    "spare": _TWICE_THEN_SPARE,
    # Not what was cut off: it may have been counted, and another pod would count it once more.
    "unheard": {**_RETRIES, "retry_on": "connect-failure,refused-stream,retriable-headers"},
    "mark_copy": [{"append": _is_copy("true")}],
    "by_id": [{"header": {"header_name": wire.HEADER_PREDICTION_ID}}],
    "read_id": {FEEDBACK_FILTER: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}},
    "preview": _IS_PREVIEW,
    # The runtime says it itself. This is for images of the user's own (the pod that was asked in the end may be of the
    # spare revision), and for answers of the router that nobody was asked for.
    "revision": [_told_as("%UPSTREAM_HOST_NAME%"), _told_as(f"%CLUSTER_METADATA({METADATA}:revision)%")],
    "add_id": [{"header": _ID_OF_BODY, "append_action": "ADD_IF_ABSENT"}],
}
"""What the routes refer to by name; see compact.py."""


def table(hosts: Sequence[Object]) -> Object:
    """The route configuration that all listeners share."""
    answer = max((len(json.dumps(host).encode()) for host in hosts), default=0)
    return {
        "name": TABLE,
        "vhost_header": LISTENER_HEADER,
        "max_direct_response_body_size_bytes": max(answer, 4096),
        # Neither is for clients to say. What is no copy is called so, or the pod would go by the name it is called.
        "request_headers_to_remove": [LISTENER_HEADER],
        "request_headers_to_add": [_is_copy("false")],
        "validate_clusters": False,
        "virtual_hosts": list(hosts),
    }


def of_model(entry: Entry) -> Object:
    """The virtual host of a ModelDeployment.

    First match wins: preview by header, feedback, gRPC, everything else. Without a route (nothing serves yet) every
    request is answered 503.
    """
    routes = _model_routes(entry) if entry.route.weights else [_nothing_serves(entry.name)]
    headers = {"response_headers_to_add": "*revision", **_unit_header(entry)}
    return {"name": entry.name, "domains": [entry.name], "routes": routes, **headers}


def of_management(name: str, version: str, entries: Sequence[Entry], admin_cluster: str) -> Object:
    """The virtual host of the management listener; read-only.

    `/config-hash` answers the routes that this very table holds, so a router that answers them runs them.
    """
    answer = {
        "hash": version,
        "routes": {entry.name: entry.route.model_dump(mode="json", by_alias=True) for entry in entries},
    }
    body = json.dumps(answer, sort_keys=True, separators=(",", ":"))

    def admin(path: str, target: str) -> Object:
        is_get = {"name": ":method", "string_match": {"exact": "GET"}}
        action = {"cluster": admin_cluster, "prefix_rewrite": target}
        return {"match": {"path": path, "headers": [is_get]}, "route": action}

    routes = [
        {"match": {"path": wire.PATH_CONFIG_HASH}, "direct_response": _answer(200, body)},
        {"match": {"path": wire.PATH_LIVEZ}, "direct_response": _answer(200, "ok")},
        admin(wire.PATH_READYZ, "/ready"),
        admin(wire.PATH_METRICS, "/stats/prometheus"),
        admin("/stats", "/stats"),
    ]
    return {"name": name, "domains": [name], "routes": routes}


def _model_routes(entry: Entry) -> list[Object]:
    route = entry.route
    previews = _protocols(entry, "*preview", lambda cluster: _one(route.preview, cluster)) if route.preview else []
    split = _protocols(entry, "", lambda cluster: {**_split(entry, cluster), **_mirror(route, cluster)})
    return [*previews, *_feedback(entry), *split]


def _protocols(entry: Entry, headers: str, action: Callable[[Callable[[str], str]], Object]) -> Iterator[Object]:
    """Routes of requests with these headers by protocol. A stream of calls may last; each call has its own timeout.

    The timeout counts from the end of a request, so a client that never gets there is stopped by its silence.
    """
    unary = {"timeout": f"{entry.timeout_seconds}s", "idle_timeout": f"{2 * entry.timeout_seconds}s"}
    for match, cluster, limits in (
        ({"path": _STREAM}, grpc_cluster, {"timeout": "0s"}),
        ({"prefix": "/", "grpc": {}}, grpc_cluster, unary),
        ({"prefix": "/"}, http_cluster, unary),
    ):
        found: Object = {**match, "headers": headers} if headers else match
        yield {"match": found, "route": {"retry_policy": "*retries", **action(cluster), **limits}}


def _one(revision: str, cluster: Callable[[str], str]) -> Object:
    return {"cluster": cluster(revision)}


def _split(entry: Entry, cluster: Callable[[str], str]) -> Object:
    route = entry.route

    def of(revision: str) -> str:
        is_on_trial = bool(route.spare) and revision == route.preview
        return with_spare(cluster(revision)) if is_on_trial else cluster(revision)

    shares = [{"name": of(revision), "weight": weight} for revision, weight in sorted(route.weights.items())]
    weighted: Object = {"clusters": shares}
    retries = {"retry_policy": "*spare"} if route.spare and route.preview else {}
    if not entry.sticky_header:
        return {"weighted_clusters": weighted, **retries}
    policy = {"header": {"header_name": entry.sticky_header.lower()}}
    return {"weighted_clusters": {**weighted, "use_hash_policy": True}, "hash_policy": [policy], **retries}


def _mirror(route: Route, cluster: Callable[[str], str]) -> Object:
    if not route.mirror:
        return {}
    fraction = {"default_value": {"numerator": route.mirror_percent}}
    policy = {
        "cluster": cluster(route.mirror),
        "runtime_fraction": fraction,
        "request_headers_mutations": "*mark_copy",
    }
    return {"request_mirror_policies": [policy]}


def _feedback(entry: Entry) -> list[Object]:
    """Feedback goes to the revision it is about where the client says which, and there always to the same pod.

    The prediction's id is in the body; whoever sends it in the header saves the router from reading that.
    """

    def route(revision: str, headers: list[Object]) -> Object:
        match: Object = {"path": "/feedback", **({"headers": headers} if headers else {})}
        action = {
            "cluster": feedback_cluster(revision),
            "hash_policy": "*by_id",
            "timeout": f"{entry.timeout_seconds}s",
            "retry_policy": "*unheard",
        }
        return {
            "match": match,
            "route": action,
            "typed_per_filter_config": "*read_id",
            "request_headers_to_add": "*add_id",
        }

    weights = entry.route.weights
    largest = max(sorted(weights), key=lambda revision: weights[revision])
    named = [
        route(revision, [{"name": wire.HEADER_REVISION, "string_match": {"exact": revision}}])
        for revision in sorted(weights)
    ]
    return [*named, route(largest, [])]


def _unit_header(entry: Entry) -> Object:
    """Only the router says what an independent unit is; a client's own header is removed."""
    remove = {"request_headers_to_remove": [wire.HEADER_UNIT]}
    if not entry.sticky_header:
        return remove
    unit = {"header": {"key": wire.HEADER_UNIT, "value": f"%REQ({entry.sticky_header.lower()})%"}}
    return {**remove, "request_headers_to_add": [{**unit, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def _nothing_serves(name: str) -> Object:
    text = f"no version of {name} is ready yet; see `kubectl describe mdep {name}`"
    return {"match": {"prefix": "/"}, "direct_response": _answer(503, text)}


def _answer(status: int, body: str) -> Object:
    return {"status": status, "body": {"inline_string": body}}
