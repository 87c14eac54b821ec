"""`mlserve-runtime package`: check a model, profile it, seal it; prints the digest to put into the ModelDeployment."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mlserve_core.artifact import ArtifactError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("directory", type=Path, help="holds model.yaml and the weights")
    parser.add_argument("--held-out", type=Path, help="rows the model was not trained on: .csv, .jsonl or .npz")
    parser.add_argument("--label", default="label", help="column with the true class (default: label)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """0 when the artifact is complete, 1 with the reason otherwise."""
    from mlserve_runtime.artifacts.package import package

    try:
        made = package(options.directory, options.held_out, label=options.label)
    except ArtifactError as error:
        print(f"package: {error}", file=sys.stderr)  # noqa: T201  the command's answer
        return 1
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)  # noqa: T201
    result = {
        "digest": made.manifest.digest,
        "files": len(made.manifest.files),
        "bytes": made.manifest.total_size,
        "profileRows": made.profile.rows if made.profile else 0,
        "accuracy": made.profile.predictions.accuracy if made.profile else None,
        "notes": list(made.notes),
    }
    print(json.dumps(result) if options.json else made.manifest.digest)  # noqa: T201
    return 0
