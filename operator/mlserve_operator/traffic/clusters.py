"""Upstream clusters of the router: for each revision one for HTTP, one for gRPC and one for feedback.

DNS answers are cached for tens of seconds on a real cluster, so membership alone is too slow to notice a pod that
goes: readiness is asked for every second, and a pod keeps serving while it drains. There is no outlier ejection: it
would take the canary's bad pods out and hide the evidence.

A revision on trial also has clusters that fall back on stable where it has no healthy pod at all. A canary that dies
costs no request then, and its own clusters go on counting what could not be answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlserve_core import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlserve_operator.rollout.state import Route

Object = dict[str, Any]

_TYPE: Final = "type.googleapis.com/envoy."
_PROTOCOL_OPTIONS: Final = _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"
METADATA: Final = "mlserve"
"""Under which a cluster holds the name of its revision."""
_AGGREGATE: Final = _TYPE + "extensions.clusters.aggregate.v3.ClusterConfig"
UPSTREAM_IDLE_SECONDS: Final = 4
"""Shorter than the runtime keeps an idle connection, so that the router never writes on one that just closed."""


def http_cluster(revision: str) -> str:
    """Cluster of a revision's HTTP port; its name is the revision's, as in Envoy's statistics."""
    return revision


def grpc_cluster(revision: str) -> str:
    """Cluster of a revision's gRPC port."""
    return f"{revision}|grpc"


def feedback_cluster(revision: str) -> str:
    """Cluster on which one prediction id always meets the same pod."""
    return f"{revision}|feedback"


def with_spare(cluster: str) -> str:
    """The cluster that falls back on another revision."""
    return f"{cluster}|spare"


def of_route(route: Route, namespace: str, cluster_domain: str) -> list[Object]:
    """Every cluster a split may need, whatever its weights; what all clusters have in common is in `common`.

    Files are not read at one instant, so a cluster is there before a route leads to it and goes after.
    """
    revisions = sorted({*route.weights, *filter(None, (route.mirror, route.preview))})
    own = [cluster for revision in revisions for cluster in _of_revision(revision, namespace, cluster_domain)]
    if not route.spare:
        return own
    return own + [
        cluster
        for revision in sorted(route.weights.keys() - {route.spare})
        for cluster in _falling_back(revision, route.spare)
    ]


def _falling_back(revision: str, spare: str) -> Iterator[Object]:
    for name, options in ((http_cluster, "*http1"), (grpc_cluster, "*http2")):
        members = {"@type": _AGGREGATE, "clusters": [name(revision), name(spare)]}
        yield {
            "name": with_spare(name(revision)),
            "connect_timeout": "1s",
            "lb_policy": "CLUSTER_PROVIDED",
            "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": members},
            "common_lb_config": "*health",
            "circuit_breakers": "*limits",
            "typed_extension_protocol_options": options,
            **_named(revision),
        }


def _named(revision: str) -> Object:
    return {"metadata": {"filter_metadata": {METADATA: {"revision": revision}}}}


def _of_revision(revision: str, namespace: str, cluster_domain: str) -> list[Object]:
    host, named = f"{revision}.{namespace}.svc.{cluster_domain}", _named(revision)

    def cluster(name: str, port: int, policy: str, options: str, checks: str) -> Object:
        return {
            "name": name,
            "connect_timeout": "1s",
            "cluster_type": "*dns",
            "lb_policy": policy,
            "ignore_health_on_host_removal": True,
            "common_lb_config": "*health",
            "health_checks": checks,
            "circuit_breakers": "*limits",
            "typed_extension_protocol_options": options,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [_endpoint(host, port, revision)]}],
                "policy": "*whole",
            },
        }

    return [
        {**cluster(http_cluster(revision), wire.HTTP_PORT, "LEAST_REQUEST", "*http1", "*often"), **named},
        {**cluster(grpc_cluster(revision), wire.GRPC_PORT, "LEAST_REQUEST", "*http2", "*often"), **named},
        cluster(feedback_cluster(revision), wire.HTTP_PORT, "RING_HASH", "*http1", "*seldom"),
    ]


def common(dns_resolver: str) -> Object:
    """What the clusters refer to by name; see compact.py."""
    return {
        "dns": _strict_dns(dns_resolver),
        "health": {
            "healthy_panic_threshold": {"value": 0},
            "ignore_new_hosts_until_first_hc": True,
            # By default a pod that turned healthy is known to the statistics up to a second before it is known
            # to the threads that route: a weight given in between was answered 503.
            "update_merge_window": "0s",
        },
        "limits": _LIMITS,
        # As long as one pod is healthy a revision keeps its share; by default it would begin to lose it at 71 %.
        "whole": {"overprovisioning_factor": 1_000_000},
        "http1": _options({"http_protocol_options": {}}),
        "http2": _options({"http2_protocol_options": {}}),
        "often": [_readiness(1)],
        "seldom": [_readiness(5)],
    }


_LIMITS: Final[Object] = {
    # The runtime refuses load it cannot bear, with 429 and Retry-After; a limit here would answer 503 before it.
    "thresholds": [
        {
            "max_connections": 65_536,
            "max_pending_requests": 65_536,
            "max_requests": 65_536,
            "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 16},
        }
    ]
}


def _endpoint(host: str, port: int, revision: str) -> Object:
    return {
        "endpoint": {
            "address": {"socket_address": {"address": host, "port_value": port}},
            "hostname": revision,  # of whichever pod is asked in the end, see routes.py
            "health_check_config": {"port_value": wire.MANAGEMENT_PORT},
        }
    }


def _options(protocol: Object) -> Object:
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": _PROTOCOL_OPTIONS,
            "common_http_protocol_options": {"idle_timeout": f"{UPSTREAM_IDLE_SECONDS}s"},
            "explicit_http_config": protocol,
        }
    }


def _readiness(interval: int) -> Object:
    return {
        "timeout": "1s",
        "interval": f"{interval}s",
        "no_traffic_interval": f"{interval}s",
        "no_traffic_healthy_interval": f"{interval}s",
        "unhealthy_interval": "0.5s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": wire.PATH_READYZ, "host": "router"},
    }


def _strict_dns(dns_resolver: str) -> Object:
    options: Object = {
        "@type": _TYPE + "extensions.clusters.dns.v3.DnsCluster",
        "dns_lookup_family": "V4_PREFERRED",
        "dns_refresh_rate": "1s",
        "dns_failure_refresh_rate": {"base_interval": "0.5s", "max_interval": "2s"},
    }
    if dns_resolver:
        host, _, port = dns_resolver.rpartition(":")
        options["typed_dns_resolver_config"] = {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": _TYPE + "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [{"socket_address": {"address": host, "port_value": int(port)}}],
                "dns_resolver_options": {"no_default_search_domain": True},
            },
        }
    return {"name": "envoy.clusters.dns", "typed_config": options}
