"""The router's configuration: which Envoy does what, as plain data.

The bootstrap is passed in the container's arguments and never changes. Listeners, routes and clusters are files of a
ConfigMap volume that Envoy watches *as a directory*: a kubelet updates such a volume by swapping a symbolic link, and
a watch on a path alone never sees that. Files name each other by relative paths; the container's working directory
is the volume.

All routes are *one* route configuration, so one file and one atomic update, and the management port's answer in it
tells what the router really runs. Which virtual host a request belongs to follows from the listener it came in by,
not from its Host header (users reach a front door by any name): each listener says so in a header of its own.

Only routes change when weights change, so a new weight closes no connection. A revision joins the clusters (weight
0) before it gets a request, and leaves them after its last.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from mlserve_core import wire
from mlserve_operator.traffic import clusters, compact, routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlserve_operator.traffic.entry import Entry

Object = dict[str, Any]

ADMIN_PORT: Final = 9901
CONFIG_DIR: Final = "/etc/mlserve/router"
FIRST_LISTENER_PORT: Final = 10_000
LAST_LISTENER_PORT: Final = 19_999
MODELS_PER_ROUTER: Final = 80
"""So many fit into a ConfigMap even if all have the longest names and a rollout under way (13 KiB each)."""

LISTENERS_FILE: Final = "listeners.yaml"
ROUTES_FILE: Final = "routes.yaml"
CLUSTERS_FILE: Final = "clusters.yaml"

MANAGEMENT: Final = "management!"
"""Virtual host of the management listener; no ModelDeployment can have that name."""

_TYPE: Final = "type.googleapis.com/envoy."
_HTTP_CONNECTION_MANAGER: Final = _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER_FILTER: Final = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": _TYPE + "extensions.filters.http.router.v3.Router"},
}
_REQUEST_ID: Final[Object] = {
    "typed_config": {
        "@type": _TYPE + "extensions.request_id.uuid.v3.UuidRequestIdConfig",
        "pack_trace_reason": False,
    }
}
_FEEDBACK_FILTER: Final[Object] = {
    # Reads the prediction's id from the body, for the routes that ask for it; bodies of all others are not touched.
    "name": routes.FEEDBACK_FILTER,
    "disabled": True,
    "typed_config": {
        "@type": _TYPE + "extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
        "request_rules": {
            "rules": [
                {
                    "selectors": [{"key": "id"}],
                    "on_present": {"metadata_namespace": routes.FEEDBACK_METADATA, "key": "id"},
                }
            ],
            "allow_content_types_regex": {"regex": ".*"},  # clients name it in many ways; the runtime asks for none
            "allow_empty_content_type": True,
        },
    },
}
_ADMIN_CLUSTER: Final = "admin"


def _file(name: str) -> Object:
    source = {"path": name, "watched_directory": {"path": "."}}
    return {"resource_api_version": "V3", "path_config_source": source}


_IS_GRPC: Final[Object] = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
_AS_TEXT: Final[Object] = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}
_TIMED_OUT_CALL: Final[Object] = {
    "and_filter": {"filters": [{"response_flag_filter": {"flags": ["UT"]}}, {"header_filter": {"header": _IS_GRPC}}]}
}
_DEADLINE_EXCEEDED: Final[Object] = {
    "header": {"key": "grpc-status", "value": "4"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}
_ERRORS: Final[Object] = {
    # Answers of the router itself look like those of the runtime: `{"error": …}`, or a status of gRPC and its text. A
    # timeout would be UNAVAILABLE, which clients take for "not carried out, try again".
    "mappers": [
        {"filter": _TIMED_OUT_CALL, "headers_to_add": [_DEADLINE_EXCEEDED], "body_format_override": _AS_TEXT},
        {"filter": {"header_filter": {"header": _IS_GRPC}}, "body_format_override": _AS_TEXT},
    ],
    "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
}
_RDS: Final[Object] = {"route_config_name": routes.TABLE, "config_source": _file(ROUTES_FILE)}
_COMMON: Final[Object] = {
    "rds": _RDS,
    "filters": [_FEEDBACK_FILTER, _ROUTER_FILTER],
    # An image of the user's own may speak it; a connection ends with its pod, not with a new weight.
    "upgrades": [{"upgrade_type": "websocket"}],
    "request_id": _REQUEST_ID,
    "errors": _ERRORS,
}
"""What the listeners refer to by name; see compact.py."""


def bootstrap() -> Object:
    """Envoy's start-up configuration: the management listener, and where everything else is read."""
    return {
        "admin": {"address": _address("127.0.0.1", ADMIN_PORT)},
        "dynamic_resources": {"lds_config": _file(LISTENERS_FILE), "cds_config": _file(CLUSTERS_FILE)},
        "static_resources": {
            "listeners": [_listener(MANAGEMENT, wire.MANAGEMENT_PORT, _connections(MANAGEMENT))],
            "clusters": [_admin_cluster()],
        },
        # No histogram of anybody's is read from Envoy; per-endpoint statistics would cost memory for nothing.
        "stats_config": {"stats_tags": [], "use_all_default_tags": True},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPE
                        + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 50_000,
                    },
                }
            ]
        },
    }


def files(entries: Sequence[Entry], *, cluster_domain: str, dns_resolver: str = "") -> dict[str, str]:
    """The files of a router by name.

    Args:
        entries: every ModelDeployment of the router.
        cluster_domain: DNS domain of the cluster.
        dns_resolver: `host:port` of a DNS server, or empty for the pod's own.
    """
    entries = sorted(entries, key=lambda entry: entry.name)
    listeners = [
        {"@type": _TYPE + "config.listener.v3.Listener", **_listener(entry.name, entry.port, _front_door(entry.name))}
        for entry in entries
    ]
    upstreams = [
        {"@type": _TYPE + "config.cluster.v3.Cluster", **cluster}
        for entry in entries
        for cluster in clusters.of_route(entry.route, entry.namespace, cluster_domain)
    ]
    hosts = [routes.of_model(entry) for entry in entries]
    common = {**_COMMON, **routes.COMMON, **clusters.common(dns_resolver)}
    version = digest([listeners, hosts, upstreams, common])
    table = routes.table([*hosts, routes.of_management(MANAGEMENT, version, entries, _ADMIN_CLUSTER)])

    def discovery(*resources: Object) -> str:
        return compact.dump({"version_info": version, "resources": resources}, common)

    return {
        LISTENERS_FILE: discovery(*listeners),
        ROUTES_FILE: discovery({"@type": _TYPE + "config.route.v3.RouteConfiguration", **table}),
        CLUSTERS_FILE: discovery(*upstreams),
    }


def version_of(content: dict[str, str]) -> str:
    """The version that a router answers once it runs these files."""
    return content[ROUTES_FILE].partition('"version_info":"')[2].partition('"')[0]


def digest(value: Any) -> str:
    """Short hash of JSON data, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RouterFullError(Exception):
    """A router serves as many ModelDeployments as its configuration has room for."""

    def __init__(self, router: str) -> None:
        super().__init__(
            f"router {router} serves {MODELS_PER_ROUTER} models, which is all that its ConfigMap has room for: set "
            f"spec.traffic.router.scope to Dedicated, or use another namespace"
        )


def free_port(taken: set[int]) -> int:
    """The lowest listener port that no other ModelDeployment of the namespace has.

    Raises:
        ValueError: there are none left.
    """
    for port in range(FIRST_LISTENER_PORT, LAST_LISTENER_PORT + 1):
        if port not in taken:
            return port
    raise ValueError(f"all {LAST_LISTENER_PORT - FIRST_LISTENER_PORT + 1} listener ports of the namespace are taken")


def _address(host: str, port: int) -> Object:
    return {"socket_address": {"address": host, "port_value": port}}


def _listener(name: str, port: int, connections: Object) -> Object:
    return {
        "name": name,
        "address": _address("0.0.0.0", port),
        "per_connection_buffer_limit_bytes": 1_048_576,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {"@type": _HTTP_CONNECTION_MANAGER, **connections},
                    }
                ]
            }
        ],
    }


def _connections(name: str) -> Object:
    """What every listener does with connections: it says its own name, and splits by the one table of routes."""
    own_name = {"header": {"key": routes.LISTENER_HEADER, "value": name}}
    mutation = {"append": {**own_name, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
    return {
        "stat_prefix": name.rstrip("!"),
        "codec_type": "AUTO",
        "rds": _RDS,
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": _TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [mutation],
                },
            }
        ],
        "http_filters": [_ROUTER_FILTER],
        "use_remote_address": True,
        # A client finds its request in the logs of the pod by the id it chose, or by the one it is told.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": _REQUEST_ID,
        "stream_idle_timeout": "3600s",  # for streams of calls; routes of single requests have a shorter one
        "request_headers_timeout": "30s",
        "common_http_protocol_options": {"idle_timeout": "3600s"},
    }


def _front_door(name: str) -> Object:
    """A model's listener; what all of them have in common is in `_COMMON`."""
    shared = {
        "rds": "*rds",
        "http_filters": "*filters",
        "upgrade_configs": "*upgrades",
        "local_reply_config": "*errors",
    }
    return {**_connections(name), **shared}


def _admin_cluster() -> Object:
    endpoint = {"endpoint": {"address": _address("127.0.0.1", ADMIN_PORT)}}
    return {
        "name": _ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": _ADMIN_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
