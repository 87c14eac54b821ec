"""Programs that tests talk to, each in an environment of its own below .tools/.

They ask for versions of libraries that exclude ours, so they cannot live in .venv: boto3, which moto needs, and the
Kubernetes client disagree about python-dateutil; kserve holds psutil and pandas back. Nothing of mlserve imports
them: the tests start them as processes.
"""

from __future__ import annotations

import argparse
import fcntl
import subprocess
import venv
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).resolve().parent.parent / ".tools"
REQUIREMENTS: Final[dict[str, tuple[str, ...]]] = {
    # An S3 server. Its extra `server` would bring every service of AWS, 300 MB; S3 alone needs these.
    "moto": ("moto[s3]>=5.1", "flask>=3", "flask-cors>=5"),
    # KServe's inference clients; the rest of the package comes along.
    "kserve": ("kserve==0.21.0",),
}


def install(name: str) -> Path:
    """The folder of an environment's programs (`python` among them), made if it is not there yet.

    Two callers at a time are fine; an installation that was interrupted is begun anew.

    Raises:
        subprocess.CalledProcessError: pip could not install it; it said why.
    """
    environment = TOOLS / name
    complete = environment / "complete"
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = "\n".join(REQUIREMENTS[name])
        if not complete.exists() or complete.read_text() != wanted:
            venv.create(environment, with_pip=True, clear=True)
            pip = [environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *REQUIREMENTS[name]], check=True)
            complete.write_text(wanted)
    return environment / "bin"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=REQUIREMENTS, default=[*REQUIREMENTS])
    for chosen in parser.parse_args().names:
        print(install(chosen))
