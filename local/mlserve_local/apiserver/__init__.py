"""A compact Kubernetes-compatible API server for development and tests."""

from mlserve_local.apiserver.server import ApiServer, ApiServerSettings, kubeconfig

__all__ = ["ApiServer", "ApiServerSettings", "kubeconfig"]
