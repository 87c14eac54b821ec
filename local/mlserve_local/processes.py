"""Starting processes so that none is ever left behind.

Three nets: a child dies with the process that started it (PR_SET_PDEATHSIG); a grandchild that outlives its parent
falls to the nearest subreaper among its ancestors, which ends it; and every process carries a marker in its
environment, by which `mlserve local down` finds the rest. Nothing is found by its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

MARKER: Final = "MLSERVE_LOCAL_CLUSTER"
"""Environment variable with the data directory of the cluster that a process belongs to."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_libc: Final = ctypes.CDLL(None, use_errno=True)
_live: Final[set[int]] = set()
"""Pids of the children that a Process object waits for."""


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process instead of init's."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(number: int, parent: int) -> Callable[[], None]:
    """A preexec function: get signal `number` when the parent ends, also if that has happened meanwhile."""

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


class Process:
    """A child that leads its own session and process group. Call within a running event loop's thread."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        _live.add(child.pid)
        self._descriptor = os.pidfd_open(child.pid)
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        death_signal: int = signal.SIGKILL,
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """Start `argv`. Raises OSError if the program cannot be executed."""
        child = subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=die_with_parent(death_signal, os.getpid()),  # noqa: PLW1509 - calls prctl and getppid only
        )
        return cls(child)

    @property
    def pid(self) -> int:
        """Of the leader; also the id of its session and group."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Has the leader not ended yet?"""
        return not self._ended.done()

    def _reap(self) -> None:
        code = self._child.poll()
        if code is None:
            return
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        _live.discard(self._child.pid)
        # What the leader left in its group ends with it, like the rest of a container.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        if not self._ended.done():
            self._ended.set_result(code if code >= 0 else 128 - code)

    async def wait(self) -> int:
        """The exit code; 128 plus the number of the signal that ended it."""
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> None:
        """Signal the leader alone, as a container runtime does."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, number)

    def kill(self) -> None:
        """End the whole group now."""
        if self.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    async def stop(self, grace_seconds: float) -> int:
        """SIGTERM, then SIGKILL when the grace period is over."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(grace_seconds, 0.01)):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()


def children() -> list[int]:
    """Direct children of this process, those inherited as subreaper included."""
    pid = os.getpid()
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def end_orphans() -> None:
    """Kill and reap inherited children: all that were not started as a Process here."""
    for pid in children():
        if pid in _live:
            continue
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the process began: with the pid it names a process for good; None if gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def marked(data_dir: Path) -> Iterator[int]:
    """Processes of this user that were started for the cluster in `data_dir`, except this one."""
    wanted = f"{MARKER}={data_dir}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
