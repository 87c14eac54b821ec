"""Feature lookup from the environment of the container (spec.runtime.env)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mlserve_runtime.features.cache import FeatureCache
from mlserve_runtime.features.lookup import FeatureLookup
from mlserve_runtime.features.stores import ConfigurationError, HttpStore, RedisStore, Selection, SqliteStore

if TYPE_CHECKING:
    from mlserve_core.model_spec import ModelSpec
    from mlserve_runtime.features.lookup import FeatureStore

ENV_URL: Final = "MLSERVE_FEATURES_URL"
ENV_TOKEN: Final = "MLSERVE_FEATURES_TOKEN"  # noqa: S105  a name, no secret
ENV_TTL: Final = "MLSERVE_FEATURES_TTL_SECONDS"
ENV_NEGATIVE_TTL: Final = "MLSERVE_FEATURES_NEGATIVE_TTL_SECONDS"
ENV_STALE: Final = "MLSERVE_FEATURES_STALE_SECONDS"
ENV_TIMEOUT: Final = "MLSERVE_FEATURES_TIMEOUT_MILLIS"
ENV_ENTRIES: Final = "MLSERVE_FEATURES_CACHE_ENTRIES"


def build_lookup(spec: ModelSpec, environment: Mapping[str, str] = os.environ) -> FeatureLookup | None:
    """The lookup a model's features come from; None unless MLSERVE_FEATURES_URL is set.

    Raises:
        ConfigurationError: The URL or a number cannot be used; the text says what would work.
    """
    url = environment.get(ENV_URL, "")
    if not url:
        return None
    cache = FeatureCache(
        time.monotonic,
        capacity=int(_number(environment, ENV_ENTRIES, 10_000)),
        ttl=_number(environment, ENV_TTL, 60),
        negative_ttl=_number(environment, ENV_NEGATIVE_TTL, 5),
        stale=_number(environment, ENV_STALE, 300),
    )
    return FeatureLookup(_store(url, spec, environment), cache, timeout=_number(environment, ENV_TIMEOUT, 500) / 1000)


def _store(url: str, spec: ModelSpec, environment: Mapping[str, str]) -> FeatureStore:
    text = [name for tensor in spec.inputs if tensor.datatype == "BYTES" for name in tensor.feature_names]
    selection = Selection(spec.feature_names, text)
    scheme = url.partition("://")[0]
    if scheme in {"redis", "rediss"}:
        try:
            return RedisStore(url, selection)
        except ImportError as error:
            raise ConfigurationError(f"{ENV_URL}: redis needs the extra mlserve[redis] in the image") from error
    if scheme in {"http", "https"}:
        return HttpStore(url, selection, environment.get(ENV_TOKEN, ""))
    if scheme == "sqlite":
        return SqliteStore(url, selection)
    raise ConfigurationError(f"{ENV_URL}: unknown scheme {scheme[:20]!r}; use redis://, https:// or sqlite://")


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ConfigurationError(f"{name}={text[:40]!r} must be a number of at least 0")
    return value
