"""What the operator process loads: neither torch nor a web framework of the runtime, and within a small budget."""

from __future__ import annotations

import subprocess
import sys

UNWANTED = {"torch", "fastapi", "starlette", "uvicorn", "grpc", "mlserve_runtime", "mlserve_local", "mlserve_cli"}


def test_the_operator_loads_nothing_of_the_runtime() -> None:
    code = "import sys, mlserve_operator.main; print('\\n'.join(sorted({name.split('.')[0] for name in sys.modules})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not UNWANTED & set(result.stdout.split())
