"""What was decided and what drifted in the last days: the table behind `mlserve rollout history` and `drift history`.

Status is kept small because every watcher reads it; yesterday's evidence lies here, in one SQLite file of the
operator (in memory where no directory is given). It is a record for people: no decision ever reads it, so losing it
loses no safety. Retention is bounded by age and by rows.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.statistics.drift import DriftResult
from mlserve_core.statistics.profile import ReferenceProfile

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE_FILE: Final = "history.sqlite3"
RETENTION_DAYS: Final = 30
MAX_ROWS: Final = 200_000
_DAY: Final = 86_400.0
_PRUNE_EVERY: Final = 1_000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision TEXT NOT NULL,
    decision TEXT NOT NULL, reason TEXT NOT NULL, weight INTEGER NOT NULL,
    canary_requests INTEGER NOT NULL, stable_requests INTEGER NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS decisions_by_name ON decisions (namespace, name, time);
CREATE TABLE IF NOT EXISTS windows (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision TEXT NOT NULL,
    profile_digest TEXT NOT NULL, result TEXT NOT NULL, counts TEXT NOT NULL,
    UNIQUE (namespace, name, revision, time));
CREATE INDEX IF NOT EXISTS windows_by_name ON windows (namespace, name, time);
CREATE TABLE IF NOT EXISTS profiles (digest TEXT PRIMARY KEY, profile TEXT NOT NULL);
"""


@dataclass(frozen=True)
class DecisionRecord:
    """One decision of a rollout; times are seconds since the epoch, the weight is the canary's percent."""

    time: float
    namespace: str
    name: str
    revision: str
    decision: str
    reason: str
    message: str
    weight: int = 0
    canary_requests: int = 0
    stable_requests: int = 0


@dataclass(frozen=True)
class WindowRecord:
    """One closed window of a revision against its reference profile, with the counts behind it."""

    namespace: str
    name: str
    revision: str
    profile_digest: str
    result: DriftResult
    counts: dict[str, list[int]]
    """Rows per bin of each feature, for plots."""


class History:
    """The database. One writer: the operator that holds the lease."""

    def __init__(self, directory: str = "", *, retention_days: int = RETENTION_DAYS, max_rows: int = MAX_ROWS) -> None:
        """Open or create it.

        Args:
            directory: where the file lies; empty keeps the history in memory.
            retention_days: age at which records go.
            max_rows: most records of each kind.

        Raises:
            OSError: The directory cannot be written.
        """
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
        path = str(Path(directory) / DATABASE_FILE) if directory else ":memory:"
        self._database = sqlite3.connect(path, isolation_level=None)  # every statement is its own transaction
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)
        self._retention = retention_days * _DAY
        self._max_rows = max_rows
        self._writes = 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def record_decision(self, record: DecisionRecord) -> None:
        """Add a decision."""
        names = [field.name for field in fields(DecisionRecord)]
        self._database.execute(
            f"INSERT INTO decisions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608 - fixed
            tuple(asdict(record).values()),
        )
        self._wrote(record.time)

    def record_window(self, record: WindowRecord) -> None:
        """Add a closed window; the same window twice (after a restart) is kept once."""
        end = record.result.window_end
        self._database.execute(
            "INSERT OR IGNORE INTO windows (time, namespace, name, revision, profile_digest, result, counts) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                end,
                record.namespace,
                record.name,
                record.revision,
                record.profile_digest,
                record.result.model_dump_json(by_alias=True),
                json.dumps(record.counts),
            ),
        )
        self._wrote(end)

    def record_profile(self, profile: ReferenceProfile) -> None:
        """Keep a reference profile, so that windows can be drawn beside it."""
        self._database.execute("INSERT OR IGNORE INTO profiles VALUES (?, ?)", (profile.digest(), profile.to_json()))

    def decisions(self, namespace: str, name: str, since: float) -> list[dict[str, Any]]:
        """Decisions since a time, newest first, in the words of the API."""
        rows = self._database.execute(
            "SELECT * FROM decisions WHERE namespace = ? AND name = ? AND time >= ? ORDER BY time DESC, id DESC",
            (namespace, name, since),
        )
        return [
            {
                "time": row["time"],
                "revision": row["revision"],
                "decision": row["decision"],
                "reason": row["reason"],
                "weight": row["weight"],
                "canaryRequests": row["canary_requests"],
                "stableRequests": row["stable_requests"],
                "message": row["message"],
            }
            for row in rows
        ]

    def windows(self, namespace: str, name: str, since: float) -> list[dict[str, Any]]:
        """Closed windows since a time, newest first."""
        rows = self._database.execute(
            "SELECT * FROM windows WHERE namespace = ? AND name = ? AND time >= ? ORDER BY time DESC, id DESC",
            (namespace, name, since),
        )
        return [
            {
                "time": row["time"],
                "revision": row["revision"],
                "profileDigest": row["profile_digest"],
                "counts": json.loads(row["counts"]),
                **json.loads(row["result"]),
            }
            for row in rows
        ]

    def profile(self, digest: str) -> dict[str, Any] | None:
        """A reference profile by its digest."""
        row = self._database.execute("SELECT profile FROM profiles WHERE digest = ?", (digest,)).fetchone()
        return dict(json.loads(row["profile"])) if row else None

    def _wrote(self, now: float) -> None:
        self._writes += 1
        if self._writes % _PRUNE_EVERY == 1:
            self.prune(now)

    def prune(self, now: float) -> None:
        """Forget what is older than the retention or beyond the largest number of rows, and unused profiles."""
        for table in ("decisions", "windows"):
            self._database.execute(f"DELETE FROM {table} WHERE time < ?", (now - self._retention,))  # noqa: S608 - fixed
            self._database.execute(
                f"DELETE FROM {table} WHERE id <= (SELECT MAX(id) FROM {table}) - ?",  # noqa: S608 - fixed names
                (self._max_rows,),
            )
        self._database.execute("DELETE FROM profiles WHERE digest NOT IN (SELECT profile_digest FROM windows)")

    def tables(self) -> Iterator[tuple[str, int]]:
        """Rows of each table, for metrics and tests."""
        for table in ("decisions", "windows", "profiles"):
            yield table, int(self._database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608 - fixed
