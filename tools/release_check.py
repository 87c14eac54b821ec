"""Says whether this commit can be released, and puts what a release publishes into dist/: wheel, chart, SBOMs.

One version source, pyproject.toml. Everything else that has a version is generated from it. What can still go wrong: a
changelog without the version, generated files out of date, locks that no longer satisfy pyproject.toml, a dirty tree.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
BIN = Path(sys.executable).parent
TOOLS = ROOT / ".tools" / "release"


def run(*command: str | Path) -> str:
    """Standard output of a command run at the root; its failure ends the check."""
    answer = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, cwd=ROOT)
    if answer.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{answer.stdout}{answer.stderr}")
    return answer.stdout


def changelog_problem(text: str, version: str) -> str:
    """What is wrong with the changelog for a version; empty if nothing."""
    section = re.search(
        rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if section is None:
        return f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD'"
    return "" if section[1].strip() else f"the section of {version} in CHANGELOG.md is empty"


def problems(version: str) -> list[str]:
    """Everything that speaks against releasing this commit."""
    found = [changelog_problem((ROOT / "CHANGELOG.md").read_text(), version)]
    found.append("there are changes that are not committed" if run("git", "status", "--porcelain") else "")
    found.append(f"the tag v{version} exists already" if run("git", "tag", "--list", f"v{version}").strip() else "")
    run(sys.executable, "tools/generate.py", "--check")
    run(sys.executable, "-m", "pytest", "-q", "tests/contract/images", "-k", "locks")
    return [problem for problem in found if problem]


def build() -> None:
    """Wheel, chart and an SBOM of each image's packages."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", DIST, ".")
    run(BIN / "helm", "package", "charts/mlserve", "--destination", DIST)
    if not (TOOLS / "bin" / "cyclonedx-py").exists():
        venv.create(TOOLS, with_pip=True)
        run(TOOLS / "bin" / "pip", "install", "--quiet", "cyclonedx-bom>=7")
    for lock in ("operator", "runtime-cpu", "runtime-cuda"):
        source, target = f"requirements/{lock}.lock", DIST / f"sbom-{lock}.cdx.json"
        run(
            TOOLS / "bin" / "cyclonedx-py",
            "requirements",
            source,
            "--output-file",
            target,
            "--pyproject",
            "pyproject.toml",
        )


def main() -> None:
    """Build, then tell what stands in the way (with `--build` only build)."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    build()
    print("\n".join(f"built {path.relative_to(ROOT)}" for path in sorted(DIST.iterdir())))
    if "--build" in sys.argv[1:]:
        return
    if found := problems(version):
        sys.exit("\n".join(f"not ready to release {version}: {problem}" for problem in found))
    print(f"ready to release {version}")


if __name__ == "__main__":
    main()
