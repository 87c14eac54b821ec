"""Which URL asks for a prediction in which protocol: one dictionary, looked up by the raw path."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from urllib.parse import quote

from mlserve_runtime.calls import Route
from mlserve_runtime.model import ServedModel
from mlserve_runtime.protocols.oip import InferRoute
from mlserve_runtime.protocols.simple import BatchRoute, Lookup, PredictRoute, V1Route
from mlserve_runtime.settings import Settings


@dataclass(slots=True)
class RouteTable:
    """The prediction routes by path; without a model only those that do not name one."""

    by_path: dict[bytes, Route]

    def find(self, path: bytes) -> Route | None:
        """The route of a path, a trailing slash aside."""
        return self.by_path.get(path) or (self.by_path.get(path[:-1]) if path.endswith(b"/") else None)


def build_routes(
    settings: Settings, decoders: Executor, model: ServedModel | None = None, lookup: Lookup | None = None
) -> RouteTable:
    """All prediction routes of a model."""
    table: dict[bytes, Route] = {
        b"/predict": PredictRoute(decoders, lookup),
        b"/predict/batch": BatchRoute(decoders, settings.max_simple_batch),
    }
    if model is not None:
        infer, v1 = InferRoute(model.artifact.spec), V1Route(decoders, settings.queue_rows)
        name, version = quote(model.name).encode(), quote(model.version).encode()
        table[b"/v2/models/" + name + b"/infer"] = infer
        table[b"/v2/models/" + name + b"/versions/" + version + b"/infer"] = infer
        table[b"/v1/models/" + name + b":predict"] = v1
    return RouteTable(table)
