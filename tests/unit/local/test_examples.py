"""The examples in the docstrings of the local cluster's pure modules are true."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "mlserve_local.objects",
    "mlserve_local.controllers.autoscaling",
    "mlserve_local.controllers.pod_metrics",
    "mlserve_local.controllers.rolling",
    "mlserve_local.controllers.scheduling",
    "mlserve_local.network.names",
    "mlserve_local.node.backoff",
    "mlserve_local.node.environment",
    "mlserve_local.node.images",
    "mlserve_local.node.paths",
    "mlserve_local.node.probes",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
