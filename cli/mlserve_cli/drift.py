"""`mlserve drift`: what drifted, and trying a policy on logged rows before it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlserve_cli.errors import CommandError
from mlserve_cli.files import write_text
from mlserve_cli.findings import accuracy_words, by_effect, strongest, summarise
from mlserve_cli.kubectl import RESOURCE, Kubectl, cluster_options
from mlserve_cli.operator_api import operator_get, operator_get_one, operator_options
from mlserve_cli.output import at, console, field, output_option, print_json, show, table
from mlserve_cli.tabular import Columns, read_columns, rows_of, split_arms
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
        f"{name}: {found.get('verdict') or 'no window closed yet (without profile.json none ever is)'}"
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
        (at(w["windowEnd"]), w["revision"], w["verdict"], w["severity"], w["rows"], strongest(w["features"]))
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
    if windows and not features:
        click.echo(f"{len(windows)} windows, and none had rows enough to tell.", err=True)
    rows = [(f["name"], f["windows"], f["drifted"], f"{100 * f['maxEffect']:.1f}", f["lastDrift"]) for f in features]
    show(output, features, ("FEATURE", "WINDOWS", "DRIFTED", "MAX EFFECT %", "LAST DRIFT"), rows)


@drift.command()
@click.argument("name")
@click.option("--html", required=True, type=click.Path(), help="Where the page is written.")
@days_option
@operator_options
@cluster_options
def report(kubectl: Kubectl, name: str, html: str, days: int, operator_url: str | None) -> None:
    """Write one self-contained page: histograms, effects over time, verdicts and the rollout timeline."""
    from mlserve_cli.report import drift_page, newest_told

    asked = {"name": name, "days": days}
    windows = operator_get(kubectl, operator_url, "/api/drift", asked)
    decisions = operator_get(kubectl, operator_url, "/api/rollouts", asked)
    profile = None
    if (shown := newest_told(windows)) is not None:
        found = operator_get_one(kubectl, operator_url, f"/api/profiles/{shown['profileDigest']}")
        profile = ReferenceProfile.model_validate(found) if found else None
    write_text(html, drift_page(name, windows, decisions, profile))
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
    _note_unread(profile, old, new)
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

    profile, spec, rows = read_profile(profile_path), read_policy(policy), read_columns(data)
    _note_unread(profile, rows)
    try:
        result = run(profile, rows, spec)
    except ProfileError as error:
        raise CommandError(str(error)) from None
    _tell(result, html, f"{data} against {profile_path}", as_json=as_json)


def _note_unread(profile: ReferenceProfile, *logs: Columns) -> None:
    """Say of which columns and rows nothing is read."""
    from mlserve_operator.rollout.logged import RESERVED, judged

    named = dict.fromkeys(name for log in logs for name in log)
    unread = [name for name in named if name not in {*profile.feature_names, *RESERVED}]
    if unread and profile.projection is None:
        click.echo(f"note: not in the profile, and not compared: {', '.join(unread)}", err=True)
    if unjudged := sum(rows_of(log) - rows_of(judged(log)) for log in logs):
        click.echo(f"note: {unjudged} rows without a request_lane (previews, repeated users) do not count", err=True)


def _tell(result: dict[str, Any], html: str | None, title: str, *, as_json: bool) -> None:
    if html:
        from mlserve_cli.report import replay_page

        write_text(html, replay_page(title, result))
    if as_json:
        print_json(result)
        return
    requests = result["requests"]
    click.echo(f"decision: {result['decision']}\nreason:   {result['reason']}")
    click.echo(f"requests: canary {requests['canary']}, stable {requests['stable']}; looks: {len(result['looks'])}")
    found = result["drift"]
    click.echo(f"drift of the population: {found['verdict']} ({found['rows']} rows)")
    if accuracy := accuracy_words(found):
        click.echo(f"accuracy: {accuracy}")
    ranked = by_effect(found["features"])[:10]
    rows = [
        (
            f["name"],
            f"{100 * f['effect']:.1f}",
            f["severity"],
            _p(f["pValue"]),
            _percent(f["missing"]),
            _percent(f["outOfRange"]),
        )
        for f in ranked
    ]
    console.print(table(("FEATURE", "EFFECT %", "SEVERITY", "P", "UNUSABLE %", "OUTSIDE %"), rows))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
