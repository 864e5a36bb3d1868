"""Every error a user can meet: one tree, each class with a stable code and an exit status.

    RowbackError                  1
    ├── PeerLost                  1   one of several processes that share servers (retryable)
    ├── ConfigError               2   configuration file, environment or arguments
    ├── SourceError               3   the MySQL or MariaDB server
    │   ├── SourceUnreachable         (retryable)
    │   ├── SourceUntrusted
    │   ├── AccessDenied
    │   ├── PrivilegeMissing
    │   ├── SourceMisconfigured
    │   ├── SourceMoved               (retryable)
    │   ├── BinlogPurged
    │   └── SourceDiverged
    ├── StoreError                4   the bucket or folder
    │   ├── StoreUnavailable          (retryable)
    │   ├── StoreFull
    │   ├── ObjectNotFound
    │   ├── ObjectExists
    │   ├── StoreNotConditional
    │   ├── ObjectArchived
    │   └── SpoolDamaged
    ├── ArchiveError              5   what lies in the bucket
    │   ├── ArchiveMissing
    │   ├── ArchiveDamaged
    │   ├── UnknownFormat
    │   ├── Fenced
    │   └── CommitConflict            (retryable)
    ├── CaptureError              6   the binlog stream
    │   ├── BinlogDamaged
    │   ├── UnsupportedEvent
    │   └── UnsupportedColumn
    ├── TargetError               7   a restore, undo or query that can't be answered exactly
    │   ├── TargetOutsideCoverage
    │   ├── UnknownTable
    │   ├── DdlInRange
    │   └── NotComputable
    └── SnapshotError             8   mydumper and its coordinates
        ├── DumperMissing
        ├── DumperFailed
        ├── LockNotAcquired
        └── NoSpace

Wording: lower case, no full stop, values in backticks; the hint is a sentence with the next step. Only the command line
prints and exits.
"""

from __future__ import annotations

from typing import ClassVar


class RowbackError(Exception):
    """Base of the tree. `code` is stable across versions; `exit_status` is what the command line returns."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHINT: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Bytewax and Prefect carry exceptions between processes; keyword-only arguments don't pickle by default.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[RowbackError], message: str, hint: str) -> RowbackError:
    return kind(message, hint=hint)


class ConfigError(RowbackError):
    code = "config"
    exit_status = 2


class PeerLost(RowbackError):
    """Another process of a capture that several share has ended, and so must this one."""

    code = "capture_peer_lost"
    retryable = True


class SourceError(RowbackError):
    code = "source"
    exit_status = 3


class SourceUnreachable(SourceError):
    code = "source_unreachable"
    retryable = True


class SourceUntrusted(SourceError):
    """The server's TLS certificate isn't the one that the settings ask for."""

    code = "source_untrusted"


class AccessDenied(SourceError):
    code = "source_access_denied"


class PrivilegeMissing(SourceError):
    code = "source_privilege_missing"


class SourceMisconfigured(SourceError):
    code = "source_misconfigured"


class BinlogPurged(SourceError):
    code = "source_binlog_purged"


class SourceMoved(SourceError):
    """The address answers with another server, and that may be followed: capture begins again there."""

    code = "source_moved"
    retryable = True


class SourceDiverged(SourceError):
    """The server's binlog is not the one that this archive was captured from."""

    code = "source_diverged"


class StoreError(RowbackError):
    code = "store"
    exit_status = 4


class StoreUnavailable(StoreError):
    code = "store_unavailable"
    retryable = True


class StoreFull(StoreError):
    code = "store_full"


class ObjectNotFound(StoreError):
    code = "store_object_not_found"


class ObjectExists(StoreError):
    code = "store_object_exists"


class StoreNotConditional(StoreError):
    """The store accepted a second put-if-absent of the same name."""

    code = "store_not_conditional"


class ObjectArchived(StoreError):
    """The object is there, but in a tier that must be asked for it first."""

    code = "store_object_archived"


class SpoolDamaged(StoreError):
    """What lies in the local spool isn't what was written there."""

    code = "store_spool_damaged"


class ArchiveError(RowbackError):
    code = "archive"
    exit_status = 5


class ArchiveMissing(ArchiveError):
    code = "archive_missing"


class ArchiveDamaged(ArchiveError):
    code = "archive_damaged"


class UnknownFormat(ArchiveError):
    code = "archive_unknown_format"


class Fenced(ArchiveError):
    """A newer capture has taken this archive over; this one must stop."""

    code = "archive_fenced"


class CommitConflict(ArchiveError):
    code = "archive_commit_conflict"
    retryable = True


class CaptureError(RowbackError):
    code = "capture"
    exit_status = 6


class BinlogDamaged(CaptureError):
    """A bad checksum, a broken position chain or an event that doesn't parse."""

    code = "capture_binlog_damaged"


class UnsupportedEvent(CaptureError):
    code = "capture_unsupported_event"


class UnsupportedColumn(CaptureError):
    code = "capture_unsupported_column"


class TargetError(RowbackError):
    code = "target"
    exit_status = 7


class TargetOutsideCoverage(TargetError):
    code = "target_outside_coverage"


class UnknownTable(TargetError):
    code = "target_unknown_table"


class DdlInRange(TargetError):
    code = "target_ddl_in_range"


class NotComputable(TargetError):
    code = "target_not_computable"


class SnapshotError(RowbackError):
    code = "snapshot"
    exit_status = 8


class DumperMissing(SnapshotError):
    code = "snapshot_dumper_missing"


class DumperFailed(SnapshotError):
    code = "snapshot_dumper_failed"


class LockNotAcquired(SnapshotError):
    code = "snapshot_lock_not_acquired"


class NoSpace(SnapshotError):
    code = "snapshot_no_space"
