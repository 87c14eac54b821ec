"""`mlserve profile`: make a reference profile from rows, and look at one."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from typing import Any

import click

from mlserve_cli.errors import CommandError
from mlserve_cli.files import write_text
from mlserve_cli.output import console, output_option, print_json, table
from mlserve_cli.tabular import Columns, read_columns, rows_of
from mlserve_core.statistics.build import MIN_CATEGORY_SHARE, build_profile
from mlserve_core.statistics.counter import category_name
from mlserve_core.statistics.drift import DriftSettings, shortage
from mlserve_core.statistics.profile import (
    CategoricalFeature,
    NumericFeature,
    PredictionProfile,
    ProfileError,
    ReferenceProfile,
)
from mlserve_operator.rollout.logged import MAX_CLASSES, RESERVED, judged, probabilities, statuses


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

    Every column is a feature but prediction, score, label, latency_ms, status, timestamp and request_lane. Rows whose
    status is 400 or more were not answered and are left out.
    """
    logged = read_columns(data)
    columns = judged(logged)
    try:
        answered, failed = _answered(columns, data)
        made, notes = profile_of(answered, categorical, data, model_name=model_name, model_digest=model_digest)
    except ProfileError as error:
        raise CommandError(str(error)) from None
    write_text(target, made.to_json())
    click.echo(f"wrote {target}: {made.rows} rows, {len(made.features)} features, digest {made.digest()}")
    if failed:
        click.echo(f"{failed} rows with a status of 400 or more are left out")
    if unjudged := rows_of(logged) - rows_of(columns):
        click.echo(f"{unjudged} rows without a request_lane (previews, repeated users) are left out")
    warnings = [
        *notes,
        *(f"{feature.name}: {words}" for feature in made.features if (words := _says_nothing(feature, made.rows))),
        shortage(made, DriftSettings()),
    ]
    for words in filter(None, warnings):
        click.echo(f"warning: {words}", err=True)


def _answered(columns: Columns, path: str) -> tuple[Columns, int]:
    """Rows that were answered, and how many were not."""
    status = statuses(columns, path, rows_of(columns))
    good = (status < 400).tolist()
    if not any(good):
        raise CommandError(f"no row of {path} is an answer to a user; give rows with a status below 400, not previews")
    kept = columns if all(good) else {name: list(itertools.compress(cells, good)) for name, cells in columns.items()}
    return kept, good.count(False)


def _says_nothing(feature: NumericFeature | CategoricalFeature, rows: int) -> str:
    """Why drift of a feature could hardly be seen, or nothing."""
    if feature.missing == rows:
        return "every value is missing; only that values appear can be told"
    if isinstance(feature, NumericFeature):
        same = "every value is the same in single precision; only that it changes can be told"
        return same if feature.min == feature.max else ""
    if not feature.categories:
        return (
            f"no value has {MIN_CATEGORY_SHARE:.1%} of the rows, so nothing can be told of it; "
            "leave out columns that name single things"
        )
    return "every value is the same; only that it changes can be told" if len(feature.categories) == 1 else ""


def profile_of(
    columns: Columns, categorical: tuple[str, ...], path: str, *, model_name: str = "", model_digest: str = ""
) -> tuple[ReferenceProfile, list[str]]:
    """Profile of logged rows (features, and the predictions where the log has them), and what should be known of it.

    Raises:
        CommandError: The rows cannot be profiled; says where and what would work.
        ProfileError: The same, of a cell or a column.
    """
    features = {name: values for name, values in columns.items() if name not in RESERVED}
    if not features:
        raise CommandError(f"no feature columns: all of {', '.join(columns)} are about the answer")
    notes = [words for name, values in features.items() if name not in categorical and (words := _stray(name, values))]
    answers: dict[str, Any] = {}
    if "prediction" in columns:
        answers, more = _answers(columns, path)
        notes += more
    made = build_profile(
        features,
        categorical=categorical,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        model_name=model_name,
        model_digest=model_digest,
        **answers,
    )
    return made, notes


def _stray(name: str, values: list[Any]) -> str:
    """That a column would be one of numbers but for a few words, or nothing. One word makes it one of categories."""
    present = [(row, value) for row, value in enumerate(values, start=1) if category_name(value) is not None]
    words = [(row, value) for row, value in present if not _is_number(value)]
    if not words or 2 * len(words) >= len(present):
        return ""
    row, value = words[0]
    return (
        f"{name}: {len(words)} of {len(present)} values are no numbers (the first is {value!r} in row {row}), "
        "so all are taken for categories; leave such cells empty"
    )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    except OverflowError:
        return True
    return True


def _answers(columns: Columns, path: str) -> tuple[dict[str, Any], list[str]]:
    """Predictions, and confidence and labels where they are of classes, as `build_profile` takes them."""
    values = columns["prediction"]
    empty = [row for row, value in enumerate(values, start=1) if category_name(value) is None]
    if empty:
        raise CommandError(
            f"{path} has no prediction in {len(empty)} rows (the first is row {empty[0]}); "
            "leave out these rows, or the column"
        )
    if _is_regression(values):
        return {"predictions": values}, []
    names = [str(category_name(value)) for value in values]
    classes = sorted(set(names))
    if 2 * len(classes) > len(names) > 2 * MAX_CLASSES:
        raise CommandError(
            f"column 'prediction' of {path} has {len(classes)} different values in {len(names)} rows "
            f"(as {classes[0]!r}): neither numbers nor classes; leave the column out"
        )
    answers: dict[str, Any] = {"predictions": names, "classes": classes}
    if "score" not in columns:
        return answers, []
    answers["confidence"] = probabilities(columns, path)
    labels = [category_name(value) for value in columns.get("label", [])]
    if None in labels:
        unlabelled = f"{labels.count(None)} rows have no label, so accuracy is not profiled, nor can a drop be told"
        return answers, [f"{unlabelled}; give rows that all have one"]
    if labels:
        answers |= {"labels": labels, "classes": sorted({*classes, *(str(label) for label in labels)})}
    return answers, []


def _is_regression(values: list[Any]) -> bool:
    """Numbers with fractions, or too many different ones to be classes."""
    if not all(isinstance(value, (int, float)) for value in values):
        return False
    return len(set(values)) > 100 or any(not float(value).is_integer() for value in values)


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

        write_text(html, profile_page(found))
        click.echo(f"wrote {html}")
    elif output == "json":
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        console.print(f"{found.model_name or 'unnamed'}: {found.rows} rows, digest {found.digest()}")
        console.print(
            table(("FEATURE", "KIND", "BINS", "MISSING", "RANGE", "NOISE %"), [_line(f) for f in found.features])
        )
        if words := _predicted(found.predictions):
            console.print(words)


def _predicted(answers: PredictionProfile) -> str:
    """What the model answered on the reference rows, most frequent first; nothing where that was not logged."""
    if answers.edges:
        span = f"from {answers.edges[0]:.4g} to {answers.edges[-1]:.4g}"
        return f"predictions: numbers in {len(answers.counts)} bins, {span}"
    ranked = sorted(zip(answers.classes, answers.counts, strict=True), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {count}" for name, count in ranked[:10]) + (", ..." if len(ranked) > 10 else "")
    accuracy = f"; {100 * answers.accuracy:.1f} % right" if answers.accuracy is not None else ""
    return f"predictions: {shown}{accuracy}" if shown else ""


def _line(feature: NumericFeature | CategoricalFeature) -> tuple[object, ...]:
    if isinstance(feature, NumericFeature):
        span = f"{feature.min:.4g} .. {feature.max:.4g} (mean {feature.mean:.4g}, std {feature.std:.4g})"
    else:
        span = ", ".join(feature.categories[:5]) + (", ..." if len(feature.categories) > 5 else "")
    return (feature.name, feature.kind, len(feature.counts), feature.missing, span, f"{100 * feature.noise:.1f}")
