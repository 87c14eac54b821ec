"""The runtime, without its recorder if UNRECORDED is set: what serving costs without evidence. Only for measuring."""

from __future__ import annotations

import os
import sys
from typing import Any

from mlserve_runtime.main import main
from mlserve_runtime.telemetry.recorder import Recorder


def nothing(*_: Any) -> None:
    """In place of counting."""


if os.environ.get("UNRECORDED"):
    for name in ("answered", "batch_done", "cached", "failed"):
        setattr(Recorder, name, nothing)

if __name__ == "__main__":
    sys.exit(main())
