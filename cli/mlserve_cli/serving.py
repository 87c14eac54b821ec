"""`mlserve status` and `mlserve predict`: what is served, and a prediction through the front door."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mlserve_cli.errors import CommandError
from mlserve_cli.frontdoor import front_door, local_url
from mlserve_cli.kubectl import RESOURCE, Kubectl, cluster_options
from mlserve_cli.output import console, field, output_option, print_json, show, table

COLUMNS = ("NAME", "PHASE", "READY", "STABLE", "CANARY", "WEIGHT", "REPLICAS", "DRIFT", "MESSAGE")


def condition(resource: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of a type, or an empty mapping."""
    for entry in field(resource, "status.conditions", []):
        if entry.get("type") == kind:
            return dict(entry)
    return {}


def row(resource: Mapping[str, Any]) -> tuple[object, ...]:
    """One line of the status table."""
    ready = condition(resource, "Ready")
    version = field(resource, "status.stable.version") or field(resource, "status.stable.revision")
    canary = field(resource, "status.canary.version") or field(resource, "status.canary.revision")
    return (
        field(resource, "metadata.name"),
        field(resource, "status.phase", "Pending"),
        ready.get("status", "Unknown"),
        version,
        canary,
        field(resource, "status.canary.weight") if canary else "",
        field(resource, "status.replicas", 0),
        field(resource, "status.drift.verdict"),
        ready.get("message", "waiting for the operator"),
    )


def details(resource: Mapping[str, Any], here: str = "") -> RenderableType:
    """One resource at length: weights, the look so far and the evidence of every check; `here`: its address here."""
    parts: list[RenderableType] = [table(COLUMNS, [row(resource)])]
    if url := field(resource, "status.url"):
        parts.append(Text(f"URL: {url}" + (f", from this machine {here}" if here else "")))
    for arm in ("stable", "canary"):
        if revision := field(resource, f"status.{arm}.revision"):
            weight = int(field(resource, f"status.{arm}.weight", 0))
            line = Table.grid(padding=(0, 1))
            line.add_row(f"{arm:<7}", ProgressBar(total=100, completed=weight, width=30), f"{weight:>3} %", revision)
            parts.append(line)
    analysis = field(resource, "status.canary.analysis", {})
    if analysis:
        counts = analysis.get("requests", {})
        parts.append(
            Text(
                f"look {analysis.get('looks', 0)}: {analysis.get('verdict') or 'no verdict yet'}, "
                f"requests canary {counts.get('canary', 0)}, stable {counts.get('stable', 0)}"
            )
        )
        checks = [
            (c.get("name"), c.get("verdict"), c.get("evidence"), c.get("message")) for c in analysis.get("checks", [])
        ]
        parts.append(table(("CHECK", "VERDICT", "EVIDENCE", "DETAIL"), checks))
    return Group(*parts)


def settled(resource: Mapping[str, Any]) -> bool:
    """Whether nothing is moving: the spec is observed and Reconciling is absent."""
    observed = field(resource, "status.observedGeneration", 0)
    return bool(observed == field(resource, "metadata.generation") and not condition(resource, "Reconciling"))


def line(resource: Mapping[str, Any]) -> str:
    """Phase and message of one resource, for a log that cannot be redrawn."""
    ready = condition(resource, "Ready")
    return f"{field(resource, 'status.phase', 'Pending')}: {ready.get('message', 'waiting for the operator')}"


def follow(kubectl: Kubectl, name: str, here: str = "", *, until_settled: bool) -> dict[str, Any]:
    """Show one resource as it changes, until interrupted or until nothing moves any more; what was seen last.

    A terminal shows it at length in place; anything else gets a line for every change, as a CI job's log needs it.
    """
    said = ""
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with kubectl.watch(RESOURCE, name) as changes, live or contextlib.nullcontext():
        for resource in changes:
            if live is not None:
                live.update(details(resource, here), refresh=True)
            elif line(resource) != said:
                said = line(resource)
                console.print(said, soft_wrap=True)
            if until_settled and settled(resource):
                return resource
    raise CommandError("the watch ended")


@click.command()
@click.argument("name", required=False)
@click.option("-A", "--all-namespaces", is_flag=True, help="Every namespace.")
@click.option("-w", "--watch", is_flag=True, help="Live view of NAME until interrupted.")
@output_option
@cluster_options
def status(kubectl: Kubectl, name: str | None, output: str, *, all_namespaces: bool, watch: bool) -> None:
    """Show every ModelDeployment, or NAME at length; live while something rolls."""
    if name is None:
        if watch:
            raise click.UsageError("--watch follows one model: give its NAME")
        items = kubectl.get(RESOURCE, *(["-A"] if all_namespaces else []))["items"]
        rows = [row(item) for item in items]
        if all_namespaces:
            rows = [(field(item, "metadata.namespace"), *cells) for item, cells in zip(items, rows, strict=True)]
        show(output, items, ("NAMESPACE", *COLUMNS) if all_namespaces else COLUMNS, rows)
        return
    if all_namespaces:
        raise click.UsageError("NAME lies in one namespace: say which with --namespace, not --all-namespaces")
    resource = kubectl.get(RESOURCE, name)
    if output == "json":
        print_json(resource)
        return
    service = kubectl.run("get", "service", name, "--ignore-not-found", "-o", "json")
    here = local_url(json.loads(service or "{}"))
    if watch or (console.is_terminal and not settled(resource)):
        follow(kubectl, name, here, until_settled=not watch)
    else:
        console.print(details(resource, here))


def payload(text: str) -> dict[str, Any]:
    """The body of `POST /predict` for what was given: JSON, a file of JSON, or an image.

    Raises:
        CommandError: It is none of these; the message lists what would have worked.
    """
    path, problem = Path(text), f"{text[:60]!r} is neither a file nor JSON"
    if len(text) < 4096 and path.is_file():
        content = path.read_bytes()
        if path.suffix.lower() != ".json":
            return {"image": base64.b64encode(content).decode()}
        text, problem = content.decode(errors="replace"), f"{text} does not hold JSON"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(
            f"{problem} ({error}); give an image, a .json file, "
            'a row such as "[1.0, 2.0]" or an object such as \'{"features": [1.0, 2.0]}\''
        ) from None
    if isinstance(value, list):
        return {"features": value}
    if isinstance(value, dict):
        return value
    raise CommandError(f"JSON {text[:60]!r} is neither a row (a list) nor an object")


def header(text: str) -> tuple[str, str]:
    """Name and value of `NAME: VALUE`.

    Raises:
        CommandError: It has another form.
    """
    name, colon, value = text.partition(":")
    if not colon or not name or not text.isascii() or not text.isprintable() or " " in name:
        raise CommandError(f"header {text!r}: expected NAME: VALUE in ASCII, for example 'x-mlserve-preview: canary'")
    return name, value.strip()


def shown(value: Any) -> str:
    """A value of an answer for a table.

    >>> shown([{"label": "7", "probability": 0.81884}, {"label": "8", "probability": 0.121}])
    '7 0.8188, 8 0.1210'
    """
    if isinstance(value, list) and all(isinstance(v, dict) and v.keys() == {"label", "probability"} for v in value):
        return ", ".join(f"{entry['label']} {entry['probability']:.4f}" for entry in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@click.command()
@click.argument("name")
@click.argument("data")
@click.option("--url", help="Address of the front door; found by itself otherwise.")
@click.option("--header", "headers", multiple=True, metavar="NAME: VALUE", help="Further request headers.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the answer.",
)
@output_option
@cluster_options
def predict(
    kubectl: Kubectl, name: str, data: str, url: str | None, headers: Iterable[str], timeout: float, output: str
) -> None:
    """Send DATA (an image, a .json file, or JSON) to the model NAME through its front door."""
    import httpx

    body, extra = payload(data), dict(header(text) for text in headers)
    with front_door(kubectl, name, url) as address:
        try:
            answer = httpx.post(f"{address}/predict", json=body, headers=extra, timeout=timeout)
            result = dict(answer.json()) if answer.is_success else {}
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{address} did not answer: {error}; `mlserve status {name}` tells why") from None
        except (TypeError, ValueError):
            raise CommandError(f"{address}/predict answered {answer.text[:60]!r}: is that a model's address?") from None
    if not answer.is_success:
        raise CommandError(f"{address}/predict answered {answer.status_code}: {answer.text.strip()}")
    result["revision"] = answer.headers.get("x-mlserve-revision", "")
    if output == "json":
        print_json(result)
    else:
        console.print(table(("FIELD", "VALUE"), [(key, shown(value)) for key, value in result.items()]))
