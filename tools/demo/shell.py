"""The commands a user would type, shown as they are run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
_STARTED = time.monotonic()


class DemoError(Exception):
    """Something did not happen as promised; the text says what and where to look."""


def say(text: str) -> None:
    """A line of progress with the time since the start."""
    print(f"\033[1m[{time.monotonic() - _STARTED:6.1f} s] {text}\033[0m", flush=True)


def environment(kubeconfig: Path) -> dict[str, str]:
    """The environment of a shell after `export KUBECONFIG=...` with .venv/bin on its PATH."""
    return {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


class Shell:
    """Runs commands in the repository with the demo's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.environment = environment(kubeconfig)

    def run(self, command: str, *, stdin: str | None = None, quiet: bool = False) -> str:
        """Run a command line, show it with its output, and return the output.

        Raises:
            DemoError: It failed.
        """
        if not quiet:
            print(f"$ {command}", flush=True)
        done = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if not quiet:
            sys.stdout.write(done.stdout)
            sys.stdout.flush()
        if done.returncode != 0:
            raise DemoError(f"`{command}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def json(self, command: str) -> Any:
        """Output of a command as JSON, not shown."""
        return json.loads(self.run(command, quiet=True))


def wait_until(what: str, condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = str) -> float:
    """Wait for a condition; returns the seconds it took.

    Raises:
        DemoError: It did not hold in time; `explain` adds what was seen instead.
    """
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        if condition():
            return time.monotonic() - begin
        time.sleep(0.25)
    raise DemoError(f"{what} did not happen within {seconds:.0f} s. {explain()}")
