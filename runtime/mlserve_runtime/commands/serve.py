"""`mlserve-runtime serve`: the server. Every flag overrides the environment variable of the same name."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from typing import Any, get_type_hints

from mlserve_runtime.settings import Settings, env_name, read_settings

_HIDDEN = {"boot_id"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag per setting."""
    hints = get_type_hints(Settings)
    for entry in dataclasses.fields(Settings):
        if entry.name in _HIDDEN:
            continue
        kind = hints[entry.name]
        options: dict[str, Any] = {"default": None, "help": f"default: {env_name(entry.name)} or {entry.default!s}"}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif entry.name == "payload_redact":
            options["type"] = lambda text: tuple(text.split(","))
        else:
            options["type"] = kind
        parser.add_argument("--" + entry.name.replace("_", "-"), **options)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    overrides: dict[str, Any] = {
        entry.name: getattr(arguments, entry.name, None) for entry in dataclasses.fields(Settings)
    }
    try:
        settings = read_settings(os.environ, **overrides)
    except ValueError as error:
        print(f"mlserve-runtime: {error}", file=sys.stderr)  # noqa: T201 - before logs are configured
        return 2
    from mlserve_runtime.server.place import affordable_processes
    from mlserve_runtime.telemetry.logs import configure_logging

    configure_logging(settings)
    processes = affordable_processes(settings.processes)
    if processes > 1:
        from mlserve_runtime.server.pool import serve_pool

        return serve_pool(settings, processes)
    from mlserve_runtime.server.process import serve

    return serve(settings)
