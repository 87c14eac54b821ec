"""The operator's read-only history over HTTP: decisions and drift windows of the last days.

Status is kept small on purpose; what happened days ago lies in the operator's own database and is asked for here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlserve_cli.errors import CommandError
from mlserve_cli.frontdoor import port_forward
from mlserve_cli.kubectl import Kubectl
from mlserve_core.wire import MANAGEMENT_PORT

if TYPE_CHECKING:
    import httpx

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_TARGET = "deployment/mlserve-operator"
DEFAULT_NAMESPACE = "mlserve-system"


def operator_options(function: F) -> F:
    """Add `--operator-url` to a command."""

    @click.option(
        "--operator-url",
        envvar="MLSERVE_OPERATOR_URL",
        help="Management address of the operator; default the local cluster's, else a port-forward to "
        f"{DEFAULT_TARGET} in {DEFAULT_NAMESPACE}.",
    )
    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return wrapped  # type: ignore[return-value]


@contextmanager
def operator_address(kubectl: Kubectl, url: str | None) -> Iterator[str]:
    """Address of the operator's management port while the block runs."""
    if url is None:
        from mlserve_local.settings import operator_url

        server, _ = kubectl.selection()
        url = operator_url(server, kubectl.kubeconfigs())
    if url is not None:
        yield url.rstrip("/")
        return
    there = Kubectl(kubectl.kubeconfig, kubectl.context, DEFAULT_NAMESPACE)
    with port_forward(there, DEFAULT_TARGET, MANAGEMENT_PORT) as address:
        yield address


def operator_get(kubectl: Kubectl, url: str | None, path: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A list from the operator, newest first.

    Raises:
        CommandError: The operator cannot be reached or refused.
    """
    namespace = kubectl.namespace or _namespace(kubectl, url)
    answer = _request(kubectl, url, path, {"namespace": namespace, **parameters})
    if answer.status_code != 200:
        raise CommandError(f"the operator answered {answer.status_code}: {answer.text.strip()}")
    items: list[dict[str, Any]] = _object(answer).get("items", [])
    return items


def _namespace(kubectl: Kubectl, url: str | None) -> str:
    """The namespace kubectl would use. An operator that is asked by its URL can be asked without any cluster chosen."""
    try:
        return kubectl.selection()[1]
    except CommandError:
        if url is None:
            raise
        return "default"


def operator_get_one(kubectl: Kubectl, url: str | None, path: str) -> dict[str, Any] | None:
    """One object from the operator; None where it has none of that name. Raises as `operator_get`."""
    answer = _request(kubectl, url, path, {})
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise CommandError(f"the operator answered {answer.status_code}: {answer.text.strip()}")
    return _object(answer)


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found: dict[str, Any] = answer.json()
    except ValueError:
        raise CommandError(f"{answer.url} is not the operator: its answer is no JSON") from None
    return found


def _request(kubectl: Kubectl, url: str | None, path: str, parameters: Mapping[str, Any]) -> httpx.Response:
    import httpx

    with operator_address(kubectl, url) as address:
        try:
            return httpx.get(f"{address}{path}", params=dict(parameters), timeout=30)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"the operator at {address} did not answer: {error}") from None
