"""`mlserve rollout`: look at a rollout and steer it.

A command is an annotation with a nonce, so that the same verb can be given twice and a GitOps tool that restores
the annotation repeats nothing; the operator echoes it in `status.lastCommand` once it is done.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import click

from mlserve_cli.errors import CommandError
from mlserve_cli.kubectl import RESOURCE, Kubectl, cluster_options
from mlserve_cli.operator_api import operator_get, operator_options
from mlserve_cli.output import at, console, field, output_option, print_json, show
from mlserve_cli.serving import condition, details, follow
from mlserve_core.wire import ANNOTATION_COMMAND

VERBS = {
    "promote": "Give the new revision all traffic now, whatever the evidence so far.",
    "abort": "Take the new revision out of traffic and remember it as rejected.",
    "retry": "Try a rejected revision again.",
    "pause": "Keep the weights and go no further.",
    "resume": "Go on after a pause.",
}


@click.group()
def rollout() -> None:
    """Look at a rollout and steer it."""


@rollout.command()
@click.argument("name")
@click.option("-w", "--watch", is_flag=True, help="Follow the rollout until it ends.")
@output_option
@cluster_options
def status(kubectl: Kubectl, name: str, output: str, *, watch: bool) -> None:
    """Show weights, the look so far and the evidence of every check.

    With --watch the exit status is 0 only if the spec's revision serves in the end.
    """
    if watch:
        ready = condition(follow(kubectl, name, until_settled=True), "Ready")
        if ready.get("status") != "True":
            raise CommandError(f"{name}: {ready.get('reason', '')}: {ready.get('message', 'not ready')}")
        return
    resource = kubectl.get(RESOURCE, name)
    if output == "json":
        print_json(field(resource, "status", {}))
    else:
        console.print(details(resource))


@rollout.command()
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 365), default=7, show_default=True, help="How far back.")
@output_option
@operator_options
@cluster_options
def history(kubectl: Kubectl, name: str, days: int, output: str, operator_url: str | None) -> None:
    """List the decisions of the last days with their evidence."""
    found = operator_get(kubectl, operator_url, "/api/rollouts", {"name": name, "days": days})
    columns = ("TIME", "REVISION", "DECISION", "REASON", "WEIGHT", "CANARY", "STABLE", "MESSAGE")
    rows = [
        (
            at(item["time"]),
            item.get("revision"),
            item.get("decision"),
            item.get("reason"),
            item.get("weight"),
            item.get("canaryRequests"),
            item.get("stableRequests"),
            item.get("message"),
        )
        for item in found
    ]
    show(output, found, columns, rows)


def send(kubectl: Kubectl, name: str, verb: str, wait_seconds: float) -> dict[str, Any]:
    """Write the annotation and wait until the operator has echoed it.

    Raises:
        CommandError: No echo within the time; the command stays on the object and will still be carried out.
    """
    command = f"{verb}:{secrets.token_hex(4)}"
    kubectl.run("annotate", RESOURCE, name, f"{ANNOTATION_COMMAND}={command}", "--overwrite")
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        last: dict[str, Any] = field(kubectl.get(RESOURCE, name), "status.lastCommand", {})
        if last.get("command") == command:
            return last
        time.sleep(0.3)
    raise CommandError(
        f"{verb} was written to {name} but the operator has not answered within {wait_seconds:g} s; "
        "it is carried out as soon as the operator runs (see `kubectl get pods -n mlserve-system`)"
    )


def _command(verb: str, text: str) -> Callable[..., None]:
    @rollout.command(name=verb, help=text, short_help=text)
    @click.argument("name")
    @click.option("--wait-seconds", type=float, default=30.0, show_default=True, help="Longest wait for the operator.")
    @output_option
    @cluster_options
    def run(kubectl: Kubectl, name: str, wait_seconds: float, output: str) -> None:
        last = send(kubectl, name, verb, wait_seconds)
        show(output, last, ("COMMAND", "RESULT"), [(last.get("command"), last.get("message"))])

    return run


for _verb, _text in VERBS.items():
    _command(_verb, _text)


@rollout.command()
@click.argument("name")
@click.option("--to", "revision", help="Revision to go back to; default the one before.")
@click.option("--wait-seconds", type=float, default=30.0, show_default=True, help="Longest wait for the operator.")
@output_option
@cluster_options
def undo(kubectl: Kubectl, name: str, revision: str | None, wait_seconds: float, output: str) -> None:
    """Go back to an earlier revision that is still kept."""
    last = send(kubectl, name, f"undo={revision}" if revision else "undo", wait_seconds)
    show(output, last, ("COMMAND", "RESULT"), [(last.get("command"), last.get("message"))])
