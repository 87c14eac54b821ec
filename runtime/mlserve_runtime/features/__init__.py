"""Feature lookup: a client sends whom the prediction is about, the server gets the features.

    POST /predict {"entity": "u42"}

MLSERVE_FEATURES_URL names the store: redis://, https:// or sqlite://. Nothing is imported unless it is set.
"""

from __future__ import annotations

from mlserve_runtime.features.config import build_lookup
from mlserve_runtime.features.lookup import FeatureLookup
from mlserve_runtime.features.stores import ConfigurationError

__all__ = ["ConfigurationError", "FeatureLookup", "build_lookup"]
