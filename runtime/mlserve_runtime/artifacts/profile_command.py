"""`mlserve-runtime profile`: make a reference profile with a model's own answers, or look at one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlserve_core.artifact import PROFILE_FILE, ArtifactError
from mlserve_core.statistics.profile import NumericFeature, ProfileError, ReferenceProfile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="profile held-out rows and the model's answers on them")
    build.add_argument("directory", type=Path, help="the model's directory")
    build.add_argument("--data", type=Path, required=True, help="held-out rows: .csv, .jsonl or .npz")
    build.add_argument("--label", default="label", help="column with the true class (default: label)")
    build.add_argument("--output", type=Path, required=True, help="where to write the profile")
    show = actions.add_parser("show", help="print a profile as a table")
    show.add_argument("path", type=Path, help="a profile.json, or the directory of an artifact")


def run(options: argparse.Namespace) -> int:
    """0, or 1 with the reason."""
    try:
        if options.action == "build":
            _build(options)
        else:
            print(describe(_read(options.path)))  # noqa: T201  the command's answer
    except (ArtifactError, ProfileError) as error:
        print(f"profile: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def describe(profile: ReferenceProfile) -> str:
    """A profile for people, one line per feature."""
    lines = [f"{profile.model_name or 'data'}: {profile.rows} rows, {len(profile.features)} features"]
    if profile.predictions.accuracy is not None:
        lines.append(f"accuracy {profile.predictions.accuracy:.4f}")
    for feature in profile.features:
        if isinstance(feature, NumericFeature):
            lines.append(
                f"  {feature.name}: mean {feature.mean:.4g}, std {feature.std:.4g}, {len(feature.counts)} bins"
            )
        else:
            lines.append(f"  {feature.name}: {len(feature.categories)} categories")
    counts = ", ".join(
        f"{name} {count}" for name, count in zip(profile.predictions.classes, profile.predictions.counts, strict=False)
    )
    return "\n".join([*lines, f"predictions: {counts}"] if counts else lines)


def _build(options: argparse.Namespace) -> None:
    from mlserve_runtime.artifacts.held_out import read_held_out
    from mlserve_runtime.artifacts.package import load_model, make_profile

    model = load_model(options.directory)
    rows = read_held_out(options.data, model.pipeline, options.label)
    profile = make_profile(options.directory, model, rows)
    options.output.write_text(profile.to_json() + "\n", encoding="utf-8")
    print(f"{profile.rows} rows, {len(profile.features)} features: {options.output}")  # noqa: T201


def _read(path: Path) -> ReferenceProfile:
    path = path / PROFILE_FILE if path.is_dir() else path
    try:
        return ReferenceProfile.from_json(path.read_bytes())
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}") from error
