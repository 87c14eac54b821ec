"""`mlserve-runtime fetch`: the init container of a model pod.

Its last words matter more than its exit code: the termination message is what the operator turns into a condition,
and what a person reads in `kubectl describe`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mlserve_core import wire
from mlserve_core.artifact import ArtifactError
from mlserve_runtime.artifacts.errors import FetchError
from mlserve_runtime.artifacts.fetch import fetch

ENV_TERMINATION_LOG: Final = "MLSERVE_TERMINATION_LOG"
_TERMINATION_LOG: Final = "/dev/termination-log"
_MAX_MESSAGE: Final = 2000
"""Kubernetes keeps 4096 bytes of all containers' messages together at least."""


def add_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str] = os.environ) -> None:
    """Options of the command; their defaults are what the operator sets in the environment."""
    parser.add_argument(
        "--uri",
        default=environment.get(wire.ENV_MODEL_URI, ""),
        help=f"where it lies: s3:// gs:// https:// hf:// file:// pvc:// oci:// (default: {wire.ENV_MODEL_URI})",
    )
    parser.add_argument(
        "--dest",
        type=Path,
        default=Path(environment.get(wire.ENV_MODEL_DIR) or wire.MODEL_DIR),
        help=f"directory to fill (default: {wire.ENV_MODEL_DIR}, {wire.MODEL_DIR})",
    )
    parser.add_argument(
        "--digest",
        default=environment.get(wire.ENV_MODEL_DIGEST, ""),
        help=f"expected digest, sha256:... (default: {wire.ENV_MODEL_DIGEST})",
    )


def run(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> int:
    """0 when the artifact is in place, 1 otherwise; the reason goes to stderr and the termination log."""
    if not options.uri:
        return _fail(f"FetchFailed: no address given; use --uri or {wire.ENV_MODEL_URI}", environment)
    try:
        fetch(options.uri, options.dest, options.digest, environment=environment)
    except (FetchError, ArtifactError) as error:
        return _fail(f"{error.reason}: {error}", environment)
    except OSError as error:
        problem = error.strerror or type(error).__name__
        message = f"FetchFailed: the artifact cannot be written: {problem}; is the volume full or read-only?"
        return _fail(message, environment)
    return 0


def _fail(message: str, environment: Mapping[str, str]) -> int:
    print(message, file=sys.stderr, flush=True)  # noqa: T201  what `kubectl logs` shows
    path = Path(environment.get(ENV_TERMINATION_LOG) or _TERMINATION_LOG)
    with contextlib.suppress(OSError):  # Outside of Kubernetes there is none.
        path.write_text(message[:_MAX_MESSAGE], encoding="utf-8")
    return 1
