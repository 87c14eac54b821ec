"""What the chart repeats of other files, so that no two places can disagree.

The CustomResourceDefinition comes from crds/, the version from pyproject.toml and the table of values in README.md from
the `# --` comments of values.yaml. (The rules come from the operator's own table, mlserve_operator.rbac.)
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "mlserve"
KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")


def version() -> str:
    """The project's one version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def chart_yaml() -> str:
    """Chart.yaml with the version of the project in both places."""
    text = (CHART / "Chart.yaml").read_text()
    return re.sub(r"^(version|appVersion): .*$", rf"\g<1>: {version()}", text, flags=re.MULTILINE)


def documented_values(text: str) -> Iterator[tuple[str, str]]:
    """Dotted path and description of every key of values.yaml that has a `# --` comment above it."""
    path: list[str] = []
    description = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            description = stripped.removeprefix("# -- ")
        elif stripped.startswith("# ") and description:
            description += " " + stripped.removeprefix("# ")
        elif match := KEY.match(line):
            path = [*path[: len(match["indent"]) // 2], match["key"]]
            if description:
                yield ".".join(path), description
            description = ""


def lookup(values: dict[str, Any], path: str) -> Any:
    """The value at a dotted path."""
    found: Any = values
    for key in path.split("."):
        found = found[key]
    return found


def readme() -> str:
    """The template with the table of values in it."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, description in documented_values(text):
        default = json.dumps(lookup(values, path), ensure_ascii=False)
        rows.append(f"| `{path}` | `{default}` | {description.replace('|', chr(92) + '|')} |")
    template = (CHART / "README.md.tpl").read_text()
    return template.replace("{{ version }}", version()).replace("{{ values }}", "\n".join(rows))


def generated_files() -> dict[str, str]:
    """Every generated file of the chart by its path below the root, with the content it should have."""
    files = {"charts/mlserve/Chart.yaml": chart_yaml(), "charts/mlserve/README.md": readme()}
    for crd in sorted((ROOT / "crds").glob("*.yaml")):
        files[f"charts/mlserve/files/crds/{crd.name}"] = crd.read_text()
    return files
