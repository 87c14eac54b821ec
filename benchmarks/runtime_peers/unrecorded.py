"""The runtime with its recorder taken out: what remains is what serving costs without evidence. Only for measuring."""

from __future__ import annotations

import sys
from typing import Any

from mlserve_runtime.main import main
from mlserve_runtime.telemetry.recorder import Recorder


def nothing(*_: Any) -> None:
    """In place of counting."""


for name in ("answered", "batch_done", "cached", "failed"):
    setattr(Recorder, name, nothing)

if __name__ == "__main__":
    sys.exit(main())
