"""Counting, comparing and deciding under uncertainty: pure functions on counts."""

from mlserve_core.statistics.build import build_profile
from mlserve_core.statistics.counter import ProfileCounter
from mlserve_core.statistics.profile import ProfileError, ReferenceProfile

__all__ = ["ProfileCounter", "ProfileError", "ReferenceProfile", "build_profile"]
