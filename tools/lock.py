"""Pins what the images install, down to the hash of every file, so that the same commit gives the same image.

Writes requirements/{operator,runtime-cpu,runtime-cuda,build}.lock from pyproject.toml with pip-tools, which lives in a
throw-away environment under .tools/. The locks are for CPython 3.11 on Linux x86-64, which is what the images are.
PyTorch without CUDA is not in the Python index, so its wheel is looked for on one page more (`--torch-cpu`);
everything else comes from the index.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools" / "pip-tools"
TORCH_CPU = "https://download.pytorch.org/whl/cpu/torch/"
EXTRAS = {
    "operator": ["operator"],
    "runtime-cpu": ["runtime", "onnx", "redis", "otel"],
    "runtime-cuda": ["runtime", "onnx", "redis", "otel", "gpu"],
}


def pip_compile() -> Path:
    """The pip-compile command, installed when it is not there yet."""
    command = TOOLS / "bin" / "pip-compile"
    if not command.exists():
        venv.create(TOOLS, with_pip=True)
        subprocess.run([str(TOOLS / "bin" / "pip"), "install", "--quiet", "pip-tools>=7.5"], check=True)
    return command


def compile_lock(name: str, source: list[str], options: list[str], *, upgrade: bool) -> None:
    """Write requirements/<name>.lock. What it pins already stays as it is unless `upgrade` is set."""
    target = ROOT / "requirements" / f"{name}.lock"
    fixed = ["--generate-hashes", "--strip-extras", "--no-emit-index-url", "--no-emit-find-links", "--allow-unsafe"]
    # Settings of this machine's pip (mirrors, other wheels) must not find their way into a lock.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_") or key == "PIP_CERT"}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "CUSTOM_COMPILE_COMMAND": "make locks"}
    command = [str(pip_compile()), "--quiet", *fixed, *options, "--output-file", str(target.relative_to(ROOT)), *source]
    subprocess.run([*command, *(["--upgrade"] if upgrade else [])], check=True, cwd=ROOT, env=environment)
    print(f"wrote {target.relative_to(ROOT)}")


def main() -> None:
    """Write all locks, or the ones that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*EXTRAS, "build"], help="locks to write (default: all)")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions pyproject.toml admits")
    parser.add_argument("--torch-cpu", default=TORCH_CPU, help="page or folder with the wheel of torch without CUDA")
    arguments = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        sys.exit("the images run Python 3.11: write their locks with it")
    for name in arguments.names:
        if name == "build":
            compile_lock(name, ["requirements/build.in"], [], upgrade=arguments.upgrade)
            continue
        options = [f"--extra={extra}" for extra in EXTRAS[name]]
        options += [f"--find-links={arguments.torch_cpu}"] if name == "runtime-cpu" else []
        compile_lock(name, ["pyproject.toml"], options, upgrade=arguments.upgrade)


if __name__ == "__main__":
    main()
