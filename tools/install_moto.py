"""Put moto (an S3 server for tests) into an environment of its own below .tools/.

boto3, which moto needs, and the Kubernetes client ask for versions of python-dateutil that exclude each other, so
both cannot live in one environment. Nothing of mlserve imports moto: the tests start its server as a process.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parent.parent / ".tools" / "moto"
SERVER = ENVIRONMENT / "bin" / "moto_server"
REQUIREMENTS = ("moto[s3]>=5.1", "flask>=3", "flask-cors>=5")
"""The extra `server` would bring every service of AWS, 300 MB; the server of S3 alone needs these."""


def install() -> Path:
    """The server's executable, installed if it is not there yet. Two callers at a time are fine."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (ENVIRONMENT.parent / "moto.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not SERVER.exists():
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
            pip = [ENVIRONMENT / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *REQUIREMENTS], check=True)
    return SERVER


if __name__ == "__main__":
    install()
    sys.exit(0)
