"""Watermarks: where in the binlog a snapshot's data stand.

LOW must not contain a transaction that a later snapshot can't see yet, HIGH must contain every one that an earlier
snapshot could see. The binlog's end position runs ahead of what readers see: as HIGH it is right, as LOW it is wrong (on
MySQL 9.7 under load 716 of 1,013 readers missed up to six transactions before it). Hence LOW without a lock is
@@gtid_executed on MySQL, and on MariaDB the position that belongs to a consistent snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from recovery.archive.actions import Mark
from recovery.errors import SourceMisconfigured
from recovery.source import Connection, ServerInfo, binlog_status, fetch

Clock = Callable[[], datetime]


def microseconds(moment: datetime) -> int:
    """Microseconds since the epoch of an aware time, without passing through a float."""
    delta = moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)
    offset = moment.utcoffset()
    assert offset is not None
    return (delta.days * 86_400 + delta.seconds - round(offset.total_seconds())) * 1_000_000 + delta.microseconds


def current_mark(connection: Connection, info: ServerInfo, now: Clock) -> Mark:
    """The coordinates right now. Exact while nothing can commit (under FLUSH TABLES WITH READ LOCK); without a lock the
    position is good for HIGH only, and the GTID set, read before it, on MySQL for LOW."""
    gtid_set = _mysql_gtids(connection) if info.flavor == "mysql" and info.gtid else ""
    file, position = _position(connection)
    if info.flavor == "mariadb":
        gtid_set = _mariadb_gtids(connection, file, position)
    return Mark(gtid_set, file, position, microseconds(now()))


def high_mark(connection: Connection, info: ServerInfo, now: Clock) -> Mark:
    """HIGH of a snapshot without a lock: read after every reader has ended. The position is read first, so the GTID set
    of MySQL covers at least as much."""
    if info.flavor == "mariadb":
        return current_mark(connection, info, now)
    file, position = _position(connection)
    gtid_set = _mysql_gtids(connection) if info.gtid else ""
    return Mark(gtid_set, file, position, microseconds(now()))


def low_mark(connection: Connection, info: ServerInfo, now: Clock) -> Mark:
    """LOW of a snapshot without a lock: read before any reader opens its transaction. On MySQL with GTIDs the set
    decides and the position is a hint. Raises SourceMisconfigured where there is no sound LOW without a lock."""
    if info.flavor == "mariadb":
        return _mariadb_low(connection, now)
    if not info.gtid:
        raise SourceMisconfigured(
            "without GTIDs a snapshot without a lock has no safe starting point",
            hint="Set gtid_mode=ON on the source, or allow the brief lock: GRANT FLUSH_TABLES (or RELOAD) ON *.*.",
        )
    return current_mark(connection, info, now)


def _mariadb_low(connection: Connection, now: Clock) -> Mark:
    """binlog_snapshot_file and _position inside a consistent snapshot (MariaDB: "Enhancements for START TRANSACTION WITH
    CONSISTENT SNAPSHOT")."""
    fetch(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    fetch(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    try:
        status = {str(k).lower(): str(v) for k, v in fetch(connection, "SHOW STATUS LIKE 'binlog_snapshot_%'")}
    finally:
        fetch(connection, "ROLLBACK")
    file, position = status.get("binlog_snapshot_file", ""), int(status.get("binlog_snapshot_position") or 0)
    if not file:
        raise _no_binlog()
    return Mark(_mariadb_gtids(connection, file, position), file, position, microseconds(now()))


def _position(connection: Connection) -> tuple[str, int]:
    status = binlog_status(connection)
    if status is None:
        raise _no_binlog()
    return status


def _no_binlog() -> SourceMisconfigured:
    return SourceMisconfigured(
        "the server writes no binlog", hint="Set log_bin in the server's configuration and restart it."
    )


def _mysql_gtids(connection: Connection) -> str:
    return str(fetch(connection, "SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")


def _mariadb_gtids(connection: Connection, file: str, position: int) -> str:
    """The last GTID of each domain before a position; None would mean that the server doesn't have the file."""
    found = fetch(connection, "SELECT BINLOG_GTID_POS(%s, %s)", (file, position))[0][0]
    if found is None:
        raise SourceMisconfigured(
            f"the server has no GTID position for `{file}:{position}`",
            hint="The binlog was rotated away during the snapshot: raise its expiry and take the snapshot again.",
        )
    return str(found)
