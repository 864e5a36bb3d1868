"""Going on at another server of the same history: after a failover the address answers with another server.

Promises: capture goes on only where it is proved that the new server holds exactly what the archive holds, and then what
follows: its binlog must begin with all of the archive's GTIDs and no others (purged ones included), all that follows must
still be there, and the transaction that the archive ends with must be the same one, by its commit time on the server where
it began, which replicas keep, or by its rows. Else it is refused, with a gap recorded: a replica that was behind, had
changes of its own in between, or was reset can't be joined to this archive.

MySQL with GTIDs only. On MariaDB a GTID position says nothing about holes in a domain, so a lost transaction in the middle
wouldn't show.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace

from dataflow.proof import logged_transaction, same_rows
from dataflow.resume import binary_logs, collations, gtid_purged
from dataflow.scan import Scan
from recovery.archive.actions import Checkpoint, Failover
from recovery.archive.segments import read_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.config import ServerSettings
from recovery.doctor_binlog import is_replica
from recovery.errors import BinlogPurged, SourceDiverged
from recovery.gtid import MySQLGtidSet, is_subset
from recovery.source import Connection, ServerInfo, fetch

WAIT_S = 60  # for a replica that hasn't applied all yet, within one attempt


@dataclass(frozen=True)
class _Place:
    """Where a transaction starts on the new server. original_us: its commit time where it began."""

    gtid: str
    file: str
    position: int
    original_us: int | None


@dataclass(frozen=True)
class _Captured:
    """The archive's last transaction."""

    seq: int
    gtid: str
    committed_at_us: int


def follow(
    server: ServerSettings, connection: Connection, info: ServerInfo, store: Store, state: ArchiveState
) -> tuple[Failover, Checkpoint]:
    """What to commit so that capture goes on at this server. Raises SourceDiverged, BinlogPurged."""
    at, source = state.checkpoint, state.source
    assert at is not None
    assert source is not None
    captured = _last_captured(store, state)
    if info.flavor != "mysql" or source.flavor != "mysql" or not info.gtid or not at.gtid_set or captured is None:
        raise _refused("only MySQL servers with GTIDs can be told to be of one history, by a captured transaction")
    known = MySQLGtidSet.parse(at.gtid_set)
    _wait_applied(connection, info, at.gtid_set)
    purged = MySQLGtidSet.parse(gtid_purged(connection, info))
    if not purged.issubset(known):
        raise BinlogPurged(
            "the server that answers now has purged transactions that aren't captured",
            hint="What is missing is recorded as a gap. Point `host` at a server of the group that still has them, or start "
            "a new archive (another server name) and take a snapshot.",
        )
    begin, ours, last = _find(server, connection, info, known, purged, captured.gtid)
    logged = logged_transaction(server, info, collations(connection, info), last.file, last.position)
    proof = "commit time"
    if ours.original_us != captured.committed_at_us:
        if ours.gtid != last.gtid or not same_rows(store, state, captured.seq, logged):
            raise _refused(f"`{captured.gtid}` is another transaction there than the one that was captured")
        proof = "rows"
    checkpoint = replace(
        at,
        file=begin[0],
        position=begin[1],
        transaction_file=last.file,
        transaction_position=last.position,
        transaction_digest=logged.digest,
        file_begun_at_us=None,  # of the old server's file; the stream will say when this one was begun
    )
    failover = Failover(
        at.seq,
        source.server_uuid or "",
        info.server_uuid or "",
        info.server_id,
        info.version,
        captured.gtid,
        proof,
        *begin,
        at.covered_to_us,
    )
    return failover, checkpoint


def _refused(why: str) -> SourceDiverged:
    return SourceDiverged(
        f"the server that answers now can't be joined to this archive: {why}",
        hint="If the old server still lives, point `host` at it. Else start a new archive (another server name) and take a "
        "snapshot; this one stays restorable up to its last checkpoint.",
    )


def _last_captured(store: Store, state: ArchiveState) -> _Captured | None:
    if not state.transactions:
        return None
    (rows,) = read_transactions(store, [state.transactions[-1]])
    row = rows.slice(rows.num_rows - 1).to_pylist()[0]
    return _Captured(row["seq"], row["gtid"], row["committed_at_us"]) if row["gtid"] else None


def _wait_applied(connection: Connection, info: ServerInfo, gtid_set: str) -> None:
    """A replica that was promoted may still apply what it had received. Raises SourceDiverged."""
    deadline = time.monotonic() + WAIT_S
    while True:
        executed = str(fetch(connection, "SELECT @@global.gtid_executed")[0][0])
        if is_subset(gtid_set, executed, "mysql"):
            return
        if time.monotonic() > deadline or not is_replica(connection, info):
            raise _refused("it hasn't executed all the GTIDs that the archive holds")
        time.sleep(0.5)


def _find(
    server: ServerSettings,
    connection: Connection,
    info: ServerInfo,
    known: MySQLGtidSet,
    purged: MySQLGtidSet,
    gtid: str,
) -> tuple[tuple[str, int], _Place, _Place]:
    """(where the first transaction stands that the archive hasn't, the place of `gtid`, the place of the last one before).
    Raises SourceDiverged unless everything before that, with what was purged, is exactly `known`."""
    begin: tuple[str, int] | None = None
    ours: _Place | None = None
    last: _Place | None = None
    for file in reversed([name for name, _ in binary_logs(connection)]):
        with closing(Scan(server, info, file)) as scan:
            scan.until(lambda s: s.began)
            held = _as_mysql(scan.gtids).union(purged)
            if not held.issubset(known):
                continue
            wanted, newest = _walk(scan, known, gtid, until_file_end=begin is not None)
            if begin is None:
                begin = (scan.file, scan.position)
                _check_complete(_as_mysql(scan.gtids).union(purged), known, scan)
            ours, last = ours or wanted, last or newest
            if ours and last:
                return begin, ours, last
    if begin is None:
        raise _refused("its binlogs hold no place where all that is captured stands before and nothing else")
    raise _refused(
        f"its binlogs no longer hold `{gtid}`, by which it could be told to have one history with this archive"
    )


def _walk(scan: Scan, known: MySQLGtidSet, gtid: str, *, until_file_end: bool) -> tuple[_Place | None, _Place | None]:
    """Up to the first transaction that isn't known (or to the end of the scan's first file): (the place of `gtid`, the last
    transaction's place)."""
    wanted: _Place | None = None
    newest: _Place | None = None
    first = scan.file

    def reached(s: Scan) -> bool:
        nonlocal wanted, newest
        if until_file_end and s.file != first:
            return True
        if not s.at_transaction:
            return False
        if s.next_gtid is None or not known.contains(s.next_gtid):
            return True
        newest = _Place(s.next_gtid, s.file, s.position, s.next_original_us)
        wanted = newest if s.next_gtid == gtid else wanted
        return False

    scan.until(reached)
    return wanted, newest


def _check_complete(held: MySQLGtidSet, known: MySQLGtidSet, scan: Scan) -> None:
    if not known.issubset(held):
        foreign = f"`{scan.next_gtid}`" if scan.next_gtid else "its end"
        raise _refused(
            f"{foreign} stands in its binlog at {scan.file}:{scan.position}, before transactions that were captured: it has "
            "changes of its own, or committed in another order"
        )


def _as_mysql(gtids: object) -> MySQLGtidSet:
    assert isinstance(gtids, MySQLGtidSet)
    return gtids
