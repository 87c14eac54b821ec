"""What was decided and what drifted in the last days: the table behind `mlserve rollout history` and `drift history`.

Status is kept small because every watcher reads it; yesterday's evidence lies here, in one SQLite file of the
operator (in memory where no directory is given). It is a record for people: no decision ever reads it, so losing it
loses no safety, and neither a full disk nor a broken file may keep the operator from deciding. Retention is bounded by
age, by rows and by size.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.statistics.drift import DriftResult
from mlserve_core.statistics.profile import ReferenceProfile

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

DATABASE_FILE: Final = "history.sqlite3"
RETENTION_DAYS: Final = 30
MAX_ROWS: Final = 200_000
MAX_BYTES: Final = 512 * 2**20
"""Half of the volume that the chart gives: a full one ends the pod. A window of 100 features takes about 40 kB."""
MAX_BYTES_IN_MEMORY: Final = 64 * 2**20
_DAY: Final = 86_400.0
_PRUNE_EVERY: Final = 1_000
_PRUNED_SHARE: Final = 10
"""The oldest tenth of the windows goes at a time while the size is too large."""

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

    def __init__(
        self,
        directory: str = "",
        *,
        retention_days: int = RETENTION_DAYS,
        max_rows: int = MAX_ROWS,
        max_bytes: int | None = None,
    ) -> None:
        """Open or create it; a file that is no database is put aside.

        Args:
            directory: where the file lies; empty keeps the history in memory.
            retention_days: age at which records go.
            max_rows: most records of each kind.
            max_bytes: largest size, the oldest windows go first; default MAX_BYTES, or MAX_BYTES_IN_MEMORY.

        Raises:
            OSError: The directory cannot be written.
        """
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
        self._database = _open(Path(directory) / DATABASE_FILE if directory else None)
        self._retention = retention_days * _DAY
        self._max_rows = max_rows
        self._max_bytes = max_bytes or (MAX_BYTES if directory else MAX_BYTES_IN_MEMORY)
        self._writes = 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def record_decision(self, record: DecisionRecord) -> None:
        """Add a decision."""
        names = [field.name for field in fields(DecisionRecord)]
        self._write(
            f"INSERT INTO decisions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608 - fixed
            tuple(asdict(record).values()),
            record.time,
        )

    def record_window(self, record: WindowRecord) -> None:
        """Add a closed window; the same window twice (after a restart) is kept once."""
        end = record.result.window_end
        self._write(
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
            end,
        )

    def record_profile(self, profile: ReferenceProfile) -> None:
        """Keep a reference profile, so that windows can be drawn beside it."""
        self._write("INSERT OR IGNORE INTO profiles VALUES (?, ?)", (profile.digest(), profile.to_json()))

    def decisions(self, namespace: str, name: str, since: float, *, most: int = -1) -> list[dict[str, Any]]:
        """Decisions since a time, newest first, in the words of the API; `most` of them, unless it is negative."""
        rows = self._database.execute(
            "SELECT * FROM decisions WHERE namespace = ? AND name = ? AND time >= ? "
            "ORDER BY time DESC, id DESC LIMIT ?",
            (namespace, name, since, most),
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

    def windows(self, namespace: str, name: str, since: float, *, most: int = -1) -> Iterator[dict[str, Any]]:
        """Closed windows since a time, newest first; read one by one, since a month of them may be 300 MB."""
        found = self._database.execute(
            "SELECT id FROM windows WHERE namespace = ? AND name = ? AND time >= ? ORDER BY time DESC, id DESC LIMIT ?",
            (namespace, name, since, most),
        )
        for (key,) in found.fetchall():
            row = self._database.execute("SELECT * FROM windows WHERE id = ?", (key,)).fetchone()
            if row is None:
                continue  # pruned meanwhile
            yield {
                "time": row["time"],
                "revision": row["revision"],
                "profileDigest": row["profile_digest"],
                "counts": json.loads(row["counts"]),
                **json.loads(row["result"]),
            }

    def profile(self, digest: str) -> dict[str, Any] | None:
        """A reference profile by its digest."""
        row = self._database.execute("SELECT profile FROM profiles WHERE digest = ?", (digest,)).fetchone()
        return dict(json.loads(row["profile"])) if row else None

    def _write(self, statement: str, values: tuple[object, ...], now: float | None = None) -> None:
        """Carry out a statement, and prune now and then. What cannot be written is told of, and not kept."""
        try:
            self._database.execute(statement, values)
            self._writes += now is not None
            if now is not None and self._writes % _PRUNE_EVERY == 1:
                self.prune(now)
        except sqlite3.Error as error:
            logger.warning("the history cannot be written (decisions go on without it): %s", error)

    def prune(self, now: float) -> None:
        """Forget what is older than the retention, beyond the largest number or size, and unused profiles."""
        for table in ("decisions", "windows"):
            self._database.execute(f"DELETE FROM {table} WHERE time < ?", (now - self._retention,))  # noqa: S608 - fixed
            self._database.execute(
                f"DELETE FROM {table} WHERE id <= (SELECT MAX(id) FROM {table}) - ?",  # noqa: S608 - fixed names
                (self._max_rows,),
            )
        while self._bytes() > self._max_bytes and (windows := dict(self.tables())["windows"]):
            share = (windows + _PRUNED_SHARE - 1) // _PRUNED_SHARE
            self._database.execute(
                "DELETE FROM windows WHERE id IN (SELECT id FROM windows ORDER BY time, id LIMIT ?)", (share,)
            )
        self._database.execute("DELETE FROM profiles WHERE digest NOT IN (SELECT profile_digest FROM windows)")

    def _bytes(self) -> int:
        """Size of what is kept; pages given back are used again before the file grows."""
        used, free, size = (
            int(self._database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (used - free) * size

    def tables(self) -> Iterator[tuple[str, int]]:
        """Rows of each table, for metrics and tests."""
        for table in ("decisions", "windows", "profiles"):
            yield table, int(self._database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608 - fixed


def _open(path: Path | None) -> sqlite3.Connection:
    """The database at a path, or in memory."""
    try:
        return _connect(path)
    except sqlite3.OperationalError as error:  # locked, or no permission: nothing that another file would mend
        raise OSError(f"the history at {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        assert path is not None  # noqa: S101 - what is made in memory is sound
        aside = path.with_suffix(".broken")
        logger.warning("%s is no sound database (%s); it is kept as %s and a new one begins", path, error, aside)
        path.replace(aside)
        return _connect(path)


def _connect(path: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", isolation_level=None)  # every statement is its own transaction
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database
