"""`mlserve profile`: make a reference profile from rows, and look at one."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from mlserve_cli.errors import CommandError
from mlserve_cli.output import console, output_option, print_json, table
from mlserve_cli.tabular import Columns, read_columns
from mlserve_core.statistics.build import MIN_CATEGORY_SHARE, build_profile
from mlserve_core.statistics.drift import DriftSettings, reference_rows_needed
from mlserve_core.statistics.profile import CategoricalFeature, NumericFeature, ProfileError, ReferenceProfile

NOT_FEATURES = ("prediction", "score", "label", "latency_ms", "status", "timestamp", "request_lane")
"""Columns of a log that tell about the answer, not about the input."""


@click.group()
def profile() -> None:
    """Reference profiles: what drift is measured against."""


@profile.command()
@click.option("--data", required=True, type=click.Path(), help="CSV or Parquet with one row per prediction.")
@click.option("--output", "target", required=True, type=click.Path(), help="Where profile.json is written.")
@click.option("--categorical", multiple=True, metavar="COLUMN", help="Numeric column that holds categories.")
@click.option("--model-name", default="", help="Name of the model the predictions come from.")
@click.option("--model-digest", default="", help="Digest of that model.")
def build(data: str, target: str, categorical: tuple[str, ...], model_name: str, model_digest: str) -> None:
    """Make a profile from held-out rows.

    Every column is a feature but prediction, score, label, latency_ms, status, timestamp and request_lane.
    """
    columns = read_columns(data)
    made = profile_of(columns, categorical, model_name=model_name, model_digest=model_digest)
    Path(target).write_text(made.to_json(), encoding="utf-8")
    click.echo(f"wrote {target}: {made.rows} rows, {len(made.features)} features, digest {made.digest()}")
    for feature in made.features:
        if words := _says_nothing(feature, made.rows):
            click.echo(f"warning: {feature.name}: {words}", err=True)
    wanted = reference_rows_needed(made, DriftSettings())
    if made.rows < wanted:
        click.echo(
            f"warning: {made.rows} rows are too few to decide by at the defaults; "
            f"drift of {len(made.features)} features needs about {wanted}. "
            "Give more rows, or ask for a larger effect (spec.drift.effectPercent).",
            err=True,
        )


def _says_nothing(feature: NumericFeature | CategoricalFeature, rows: int) -> str:
    """Why drift of a feature could hardly be seen, or nothing."""
    if feature.missing == rows:
        return "every value is missing; only that values appear can be told"
    if isinstance(feature, NumericFeature):
        return "every value is the same; only that it changes can be told" if feature.min == feature.max else ""
    if not feature.categories:
        return (
            f"no value has {MIN_CATEGORY_SHARE:.1%} of the rows, so nothing can be told of it; "
            "leave out columns that name single things"
        )
    return "every value is the same; only that it changes can be told" if len(feature.categories) == 1 else ""


def profile_of(
    columns: Columns, categorical: tuple[str, ...], *, model_name: str = "", model_digest: str = ""
) -> ReferenceProfile:
    """Profile of logged rows: features, and the predictions where the log has them.

    Raises:
        CommandError: The rows cannot be profiled; says where and what would work.
    """
    features = {name: values for name, values in columns.items() if name not in NOT_FEATURES}
    if not features:
        raise CommandError(f"no feature columns: all of {', '.join(columns)} are about the answer")
    answers: dict[str, Any] = {}
    if "prediction" in columns:
        values, labels = columns["prediction"], columns.get("label")
        if _is_regression(values):
            answers["predictions"] = values
        else:
            names = sorted({_name(value) for column in (values, labels or []) for value in column if value is not None})
            answers = {"predictions": [_name(value) for value in values], "classes": names}
            if "score" in columns:
                answers["confidence"] = columns["score"]
                answers["labels"] = None if labels is None else [_name(value) for value in labels]
    try:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return build_profile(
            features,
            categorical=categorical,
            created_at=now,
            model_name=model_name,
            model_digest=model_digest,
            **answers,
        )
    except ProfileError as error:
        raise CommandError(str(error)) from None


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_regression(values: list[Any]) -> bool:
    """Numbers with fractions, or too many different ones to be classes."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(numbers) < len(values):
        return False
    return len(set(numbers)) > 100 or any(float(value) != int(value) for value in numbers)


@profile.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--html", type=click.Path(), help="Write a page with a plot per feature.")
@output_option
def show(path: str, html: str | None, output: str) -> None:
    """Show a profile as a table, as JSON, or as a page with plots."""
    try:
        found = ReferenceProfile.from_json(Path(path).read_bytes())
    except ProfileError as error:
        raise CommandError(f"{path}: {error}") from None
    if html:
        from mlserve_cli.report import profile_page

        Path(html).write_text(profile_page(found), encoding="utf-8")
        click.echo(f"wrote {html}")
    elif output == "json":
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        console.print(f"{found.model_name or 'unnamed'}: {found.rows} rows, digest {found.digest()}")
        console.print(
            table(("FEATURE", "KIND", "BINS", "MISSING", "RANGE", "NOISE %"), [_line(f) for f in found.features])
        )


def _line(feature: NumericFeature | CategoricalFeature) -> tuple[object, ...]:
    if isinstance(feature, NumericFeature):
        span = f"{feature.min:.4g} .. {feature.max:.4g} (mean {feature.mean:.4g}, std {feature.std:.4g})"
    else:
        span = ", ".join(feature.categories[:5]) + (", ..." if len(feature.categories) > 5 else "")
    return (feature.name, feature.kind, len(feature.counts), feature.missing, span, f"{100 * feature.noise:.1f}")
