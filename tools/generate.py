"""Write every generated file, or say which is out of date: `python tools/generate.py [--check]`.

Each part of the house describes its own files as `generated_files() -> {path: content}`; this only writes them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = (
    "mlserve_core.api.generate",
    "mlserve_operator.rbac",
    "chart",
    "grafana",
    "metrics_page",
)


def main(arguments: list[str]) -> int:
    """Write the files; with `--check` compare them and return 1 if one differs."""
    check = "--check" in arguments
    stale = 0
    for part in PARTS:
        for name, content in importlib.import_module(part).generated_files().items():
            path = ROOT / name
            if path.is_file() and path.read_text(encoding="utf-8") == content:
                continue
            stale += 1
            if check:
                print(f"{name} is out of date: run `make generate`", file=sys.stderr)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
                print(f"wrote {name}")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
