"""docs/reference/metrics.md, from the very objects that `/metrics` is made of."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from mlserve_operator.metrics import REGISTRY
from mlserve_runtime.telemetry import metrics as runtime
from mlserve_runtime.telemetry.gpu import GPU_METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = """# Metrics

Written by `make generate` from the code. Port 9090, path `/metrics`, of every pod; routers answer Envoy's own metrics
there. Counters end in `_total`; a summary has `_sum` and `_count`, a histogram
`_bucket` too. The PodMonitor of the
chart adds the labels `namespace`, `pod`, `modeldeployment` and `revision` to the runtime's.
"""


def runtime_kind(name: str) -> str:
    """What the runtime's collector makes of a name.

    Raises:
        SystemExit: It makes nothing of it.
    """
    source = inspect.getsource(runtime)
    found = re.search(rf'(?i)(counter|gauge|histogram|summary)(?:MetricFamily)?\(\s*"{name}"', source)
    if found is None:
        raise SystemExit(f"{name} is in METRICS of the runtime, but its collector never makes it")
    return found[1].lower()


def table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Rows of name, kind and meaning."""
    lines = ["| metric | kind | meaning |", "| --- | --- | --- |"]
    for name, kind, meaning in sorted(rows):
        shown = f"{name}_total" if kind == "counter" else name
        lines.append(f"| `{shown}` | {kind} | {meaning.rstrip('.')} |")
    return "\n".join(lines) + "\n"


def generated_files() -> dict[str, str]:
    """The page by its path below the root."""
    operator = table((family.name, family.type, family.documentation) for family in REGISTRY.collect())
    counted = [(name, runtime_kind(name), meaning) for name, meaning in runtime.METRICS.items()]
    serving = table([*counted, *((name, "gauge", meaning) for name, meaning in GPU_METRICS.items())])
    return {"docs/reference/metrics.md": f"{HEAD}\n## Runtime\n\n{serving}\n## Operator\n\n{operator}"}
