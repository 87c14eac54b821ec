"""`mlserve drift`: what drifted, and trying a policy on logged rows before it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlserve_cli.errors import CommandError
from mlserve_cli.kubectl import RESOURCE, Kubectl, cluster_options
from mlserve_cli.operator_api import operator_get, operator_get_one, operator_options
from mlserve_cli.output import at, console, field, output_option, print_json, show, table
from mlserve_cli.tabular import read_columns, split_arms
from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
from mlserve_core.statistics.profile import ProfileError, ReferenceProfile

days_option = click.option(
    "--days", type=click.IntRange(1, 365), default=7, show_default=True, help="How far back to look."
)


@click.group()
def drift() -> None:
    """Drift against the reference profile, live or on logged rows."""


@drift.command()
@click.argument("name")
@output_option
@cluster_options
def status(kubectl: Kubectl, name: str, output: str) -> None:
    """Show the newest closed window of the serving revision."""
    found = field(kubectl.get(RESOURCE, name), "status.drift", {})
    if output == "json":
        print_json(found)
        return
    click.echo(
        f"{name}: {found.get('verdict', 'no window closed yet')}"
        + (f", severity {found.get('severity') or 'none'}, {found.get('rows', 0)} rows" if found else "")
    )
    rows = [(f.get("name"), f.get("effectPercent"), f.get("severity")) for f in found.get("features", [])]
    if rows:
        console.print(table(("FEATURE", "EFFECT %", "SEVERITY"), rows))


@drift.command()
@click.argument("name")
@days_option
@output_option
@operator_options
@cluster_options
def history(kubectl: Kubectl, name: str, days: int, output: str, operator_url: str | None) -> None:
    """List every closed window of the last days."""
    windows = operator_get(kubectl, operator_url, "/api/drift", {"name": name, "days": days})
    rows = [
        (at(w["windowEnd"]), w["revision"], w["verdict"], w["severity"], w["rows"], _strongest(w["features"]))
        for w in windows
    ]
    show(output, windows, ("WINDOW END", "REVISION", "VERDICT", "SEVERITY", "ROWS", "STRONGEST"), rows)


@drift.command()
@click.argument("name")
@days_option
@output_option
@operator_options
@cluster_options
def summary(kubectl: Kubectl, name: str, days: int, output: str, operator_url: str | None) -> None:
    """Sum up the last days per feature: windows, how many drifted, and the strongest effect."""
    windows = operator_get(kubectl, operator_url, "/api/drift", {"name": name, "days": days})
    features = summarise(windows)
    rows = [(f["name"], f["windows"], f["drifted"], f"{100 * f['maxEffect']:.1f}", f["lastDrift"]) for f in features]
    show(output, features, ("FEATURE", "WINDOWS", "DRIFTED", "MAX EFFECT %", "LAST DRIFT"), rows)


def summarise(windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per feature over windows (newest first), the strongest first."""
    found: dict[str, dict[str, Any]] = {}
    for window in windows:
        for item in window["features"]:
            entry = found.setdefault(
                item["name"], {"name": item["name"], "windows": 0, "drifted": 0, "maxEffect": 0.0, "lastDrift": ""}
            )
            entry["windows"] += 1
            entry["drifted"] += bool(item["drifted"])
            entry["maxEffect"] = max(entry["maxEffect"], item["effect"])
            if item["drifted"] and not entry["lastDrift"]:
                entry["lastDrift"] = at(window["windowEnd"])
    return sorted(found.values(), key=lambda entry: -entry["maxEffect"])


def _strongest(features: list[dict[str, Any]]) -> str:
    strongest = sorted(features, key=lambda item: -item["effect"])[:3]
    return ", ".join(f"{item['name']} {100 * item['effect']:.1f} %" for item in strongest)


@drift.command()
@click.argument("name")
@click.option("--html", required=True, type=click.Path(), help="Where the page is written.")
@days_option
@operator_options
@cluster_options
def report(kubectl: Kubectl, name: str, html: str, days: int, operator_url: str | None) -> None:
    """Write one self-contained page: histograms, effects over time, verdicts and the rollout timeline."""
    from mlserve_cli.report import drift_page

    asked = {"name": name, "days": days}
    windows = operator_get(kubectl, operator_url, "/api/drift", asked)
    decisions = operator_get(kubectl, operator_url, "/api/rollouts", asked)
    profile = None
    if windows:
        found = operator_get_one(kubectl, operator_url, f"/api/profiles/{windows[0]['profileDigest']}")
        profile = ReferenceProfile.model_validate(found) if found else None
    Path(html).write_text(drift_page(name, windows, decisions, profile), encoding="utf-8")
    click.echo(f"wrote {html}: {len(windows)} windows, {len(decisions)} decisions")


def read_profile(path: str) -> ReferenceProfile:
    """The profile of a file. Raises CommandError that says what is wrong with it."""
    try:
        return ReferenceProfile.from_json(Path(path).read_bytes())
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except ProfileError as error:
        raise CommandError(f"{path}: {error}") from None


def read_policy(path: str | None) -> ModelDeploymentSpec | None:
    """The spec of a ModelDeployment's YAML. Raises CommandError that says what is wrong with it."""
    if path is None:
        return None
    from mlserve_cli.models import problems, read_documents

    document = read_documents(path)[0]
    if texts := list(problems(document)):
        raise CommandError(f"{path}: " + "; ".join(texts))
    return ModelDeploymentSpec.model_validate(document["spec"])


@drift.command()
@click.option("--profile", "profile_path", required=True, type=click.Path(), help="profile.json of the reference.")
@click.option("--stable", required=True, type=click.Path(), help="Rows of the old version (CSV or Parquet).")
@click.option("--canary", type=click.Path(), help="Rows of the new version; or use --arm-column.")
@click.option("--arm-column", help="Column of --stable that says `stable` or `canary`, for one file with both.")
@click.option("--policy", type=click.Path(), help="YAML of a ModelDeployment whose rollout and drift settings apply.")
@click.option("--html", type=click.Path(), help="Write the report as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(
    profile_path: str,
    stable: str,
    canary: str | None,
    arm_column: str | None,
    policy: str | None,
    html: str | None,
    *,
    as_json: bool,
) -> None:
    """Run logged rows of two versions through the very code that decides about rollouts."""
    from mlserve_operator.rollout.replay import replay as run

    profile, spec = read_profile(profile_path), read_policy(policy)
    rows = read_columns(stable)
    if arm_column:
        if canary:
            raise CommandError("give --canary or --arm-column, not both")
        arms = split_arms(rows, arm_column, stable)
        old, new = ({k: v for k, v in arm.items() if k != arm_column} for arm in arms)
    elif canary:
        old, new = rows, read_columns(canary)
    else:
        raise CommandError("give the rows of the new version with --canary FILE, or name --arm-column COLUMN")
    try:
        result = run(profile, old, new, spec)
    except ProfileError as error:
        raise CommandError(str(error)) from None
    _tell(result, html, "Replay of logged rows", as_json=as_json)


@drift.command()
@click.option("--profile", "profile_path", required=True, type=click.Path(), help="profile.json of the reference.")
@click.option("--data", required=True, type=click.Path(), help="Rows to compare (CSV or Parquet).")
@click.option("--policy", type=click.Path(), help="YAML of a ModelDeployment whose drift settings apply.")
@click.option("--html", type=click.Path(), help="Write the report as a page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(profile_path: str, data: str, policy: str | None, html: str | None, *, as_json: bool) -> None:
    """Compare logged rows with a reference profile."""
    from mlserve_operator.rollout.replay import check as run

    profile, spec = read_profile(profile_path), read_policy(policy)
    try:
        result = run(profile, read_columns(data), spec)
    except ProfileError as error:
        raise CommandError(str(error)) from None
    _tell(result, html, f"{data} against {profile_path}", as_json=as_json)


def _tell(result: dict[str, Any], html: str | None, title: str, *, as_json: bool) -> None:
    if html:
        from mlserve_cli.report import replay_page

        Path(html).write_text(replay_page(title, result), encoding="utf-8")
    if as_json:
        print_json(result)
        return
    requests = result["requests"]
    click.echo(f"decision: {result['decision']}\nreason:   {result['reason']}")
    click.echo(f"requests: canary {requests['canary']}, stable {requests['stable']}; looks: {len(result['looks'])}")
    found = result["drift"]
    click.echo(f"drift of the population: {found['verdict']} ({found['rows']} rows)")
    ranked = sorted(found["features"], key=lambda item: -item["effect"])[:10]
    rows = [
        (f["name"], f"{100 * f['effect']:.1f}", f["severity"], _p(f["pValue"]), f"{100 * f['missing']:.1f}")
        for f in ranked
    ]
    console.print(table(("FEATURE", "EFFECT %", "SEVERITY", "P", "UNUSABLE %"), rows))


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
