"""What a snapshot is asked for and what it gives back: the records that surfaces, flows and the modules here exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from recovery.archive.snapshot_scope import SnapshotScope
from recovery.errors import ConfigError

if TYPE_CHECKING:
    from recovery.archive.actions import Snapshot

LOCKS: Final = ("auto", "brief", "none")


@dataclass(frozen=True)
class SnapshotRequest:
    """tables, exclude: patterns `db.table` (`*`, `?`); databases: names. All empty: everything that is captured.

    lock: "brief", "none", or "auto" (brief, and without a lock where that can't be had). lock_wait_seconds: how long
    FLUSH TABLES WITH READ LOCK may wait, and how long the lock may be held. skip_unsafe: without a lock, leave tables out
    that need one, with the reason in the result; otherwise they are refused by name. staging_dir: None is the system's
    folder for temporary files. timeout_s: of mydumper.
    """

    tables: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    threads: int = 4
    lock: str = "auto"
    lock_wait_seconds: float = 5
    skip_unsafe: bool = False
    staging_dir: Path | None = None
    timeout_s: float = 86_400

    @property
    def scope(self) -> SnapshotScope:
        return SnapshotScope(self.tables, self.databases, self.exclude)

    def __post_init__(self) -> None:
        if self.lock not in LOCKS:
            raise ConfigError(f"unknown lock mode `{self.lock}`", hint="Use auto, brief or none.")
        if not 1 <= self.threads <= 64:
            raise ConfigError(f"{self.threads} threads are out of range", hint="Use 1 to 64.")
        if self.lock_wait_seconds <= 0 or self.timeout_s <= 0:
            raise ConfigError(
                "a waiting time is not positive", hint="Give --lock-wait-seconds and the timeout above 0."
            )


@dataclass(frozen=True)
class Progress:
    """phase: plan, lock, dump, read, upload, baseline or commit. The totals are estimates until the phase ends; tables
    and bytes count what this phase has done."""

    phase: str
    tables_done: int = 0
    tables_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


Report: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True)
class SnapshotResult:
    """reason: why no lock was taken although one was wanted; "" otherwise. lock_held_s: 0 without a lock."""

    snapshot: Snapshot
    reason: str
    lock_held_s: float
    duration_s: float
    rows: int
    dumper_version: str
    server_version: str
    log_version: int
    warnings: tuple[str, ...] = ()
