"""The time in which the source is read: from LOW to HIGH, with the brief lock or without.

Brief: LOW equals HIGH, all readers stand at that position. Without a lock: LOW is read before any reader opens its
snapshot and HIGH after all have ended, and only folding the changes from LOW to at least HIGH gives an exact state.
Promises: mydumper and our own reader have ended when this returns or raises; the lock is gone long before.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from recovery.archive.actions import Mark
from recovery.config import ServerSettings
from recovery.errors import LockNotAcquired, PrivilegeMissing, SnapshotError
from recovery.objects.sequences import Row
from recovery.snapshot import sequences
from recovery.snapshot.baseline import BaselineWriter
from recovery.snapshot.coordinates import Clock, current_mark, high_mark, low_mark
from recovery.snapshot.dumper import Dump, Dumper, runs
from recovery.snapshot.lock import read_lock, wait_until_open
from recovery.snapshot.plan import Pair, Plan, PlannedTable, unsafe_without_lock
from recovery.snapshot.reader import close, open_snapshot, read_rows
from recovery.snapshot.request import Progress, Report, SnapshotRequest
from recovery.source import Connection, ServerInfo, connect

LOCK_ATTEMPTS: Final = 3
_RETRY_PAUSE_S: Final = 0.5
_POLL_S: Final = 0.05
# A commit becomes visible some moments before @@gtid_executed and the binlog status of another session show it (group
# commit); HIGH is read no earlier than this after the last reader opened its snapshot.
_SETTLE_S: Final = 0.5

MakeWriter = Callable[[PlannedTable], BaselineWriter]


@dataclass(frozen=True)
class Source:
    """What every step needs to read the source. sequences: whose rows are read, too."""

    server: ServerSettings
    info: ServerInfo
    dumper: Dumper
    request: SnapshotRequest
    now: Clock
    progress: Report
    sequences: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A finished reading. plan: less the tables that were left out. own: baselines of tables read by our connection.
    sequences: their rows between the marks."""

    mode: str
    low: Mark
    high: Mark
    plan: Plan
    dump: Path
    own: dict[Pair, BaselineWriter]
    reason: str = ""
    lock_held_s: float = 0.0
    sequences: Mapping[Pair, Row] = field(default_factory=dict)


def read_source(source: Source, plan: Plan, staging: Path, make_writer: MakeWriter) -> Reading:
    """Read everything in the plan by the request's lock mode. Raises LockNotAcquired or PrivilegeMissing where the lock
    is wanted and can't be had, and LockNotAcquired naming tables that need it in a mode without."""
    if source.request.lock == "none":
        return _read_unlocked(source, _lockless(source, plan, ""), staging, make_writer, "")
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            return _read_locked(source, plan, staging / f"try{attempt}", make_writer)
        except LockNotAcquired as error:
            problem: SnapshotError | PrivilegeMissing = error
            time.sleep(_RETRY_PAUSE_S * attempt)
        except PrivilegeMissing as error:
            problem = error
            break
    if source.request.lock == "brief":
        raise problem
    return _read_unlocked(source, _lockless(source, plan, problem.message), staging, make_writer, problem.message)


def _lockless(source: Source, plan: Plan, reason: str) -> Plan:
    unsafe = unsafe_without_lock(plan)
    if not unsafe:
        return plan
    if source.request.skip_unsafe:
        return plan.without(unsafe)
    named = "; ".join(f"`{t.table.label}`: {t.lock_reason}" for t in unsafe[:5]) + ("; ..." if len(unsafe) > 5 else "")
    raise LockNotAcquired(
        f"{len(unsafe)} of {len(plan.tables)} tables need the brief lock ({named})" + (f"; {reason}" if reason else ""),
        hint="Use --lock brief (GRANT FLUSH_TABLES or RELOAD), or leave these tables out with --exclude.",
    )


def _read_locked(source: Source, plan: Plan, folder: Path, make_writer: MakeWriter) -> Reading:
    wait_s = source.request.lock_wait_seconds
    source.progress(Progress("lock", tables_total=len(plan.tables)))
    try:
        with ExitStack() as stack:
            dump: Dump | None = None
            reader: Connection | None = None
            with read_lock(source.server, source.info, wait_s) as held:
                mark = current_mark(held.connection, source.info, source.now)
                rows = sequences.read_rows(held.connection, source.sequences)
                reader = _open_reader(source, plan, stack)
                dump = _start(source, plan, folder, stack)
                if dump is not None:
                    wait_until_open(held.connection, source.info, dump, wait_s)
            own = _read_all(source, plan, dump, reader, make_writer)
            return Reading("brief", mark, mark, plan, folder / "dump", own, "", held.seconds, rows)
    except LockNotAcquired:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _read_unlocked(source: Source, plan: Plan, staging: Path, make_writer: MakeWriter, reason: str) -> Reading:
    folder = staging / "unlocked"
    with closing(connect(source.server)) as connection:
        low = _low(source, connection)
        rows = sequences.read_rows(connection, source.sequences)
    with ExitStack() as stack:
        opened = time.monotonic()
        reader = _open_reader(source, plan, stack)
        dump = _start(source, plan, folder, stack)
        own = _read_all(source, plan, dump, reader, make_writer)
    time.sleep(max(0.0, _SETTLE_S - (time.monotonic() - opened)))
    with closing(connect(source.server)) as connection:
        high = high_mark(connection, source.info, source.now)
    return Reading("none", low, high, plan, folder / "dump", own, reason=reason, sequences=rows)


def _low(source: Source, connection: Connection) -> Mark:
    """Without GTIDs on MySQL only a position read under a lock is safe; it needs no reader and is over in a moment."""
    if source.info.flavor == "mariadb" or source.info.gtid:
        return low_mark(connection, source.info, source.now)
    with read_lock(source.server, source.info, source.request.lock_wait_seconds) as held:
        return current_mark(held.connection, source.info, source.now)


def _open_reader(source: Source, plan: Plan, stack: ExitStack) -> Connection | None:
    if not any(t.own_reason for t in plan.tables):
        return None
    reader = open_snapshot(source.server)
    stack.callback(close, reader)
    return reader


def _start(source: Source, plan: Plan, folder: Path, stack: ExitStack) -> Dump | None:
    """Start mydumper, unless no table's name lets it dump anything."""
    folder.mkdir()
    dump = folder / "dump"
    if not plan.dumped_databases:
        dump.mkdir()
        return None
    started = runs(source.dumper, source.server, source.info, plan, folder, source.request.threads)
    return stack.enter_context(Dump(started, dump, source.request.timeout_s))


def _read_all(
    source: Source, plan: Plan, dump: Dump | None, reader: Connection | None, make_writer: MakeWriter
) -> dict[Pair, BaselineWriter]:
    """Read our own tables while mydumper runs, then wait for it."""
    own: dict[Pair, BaselineWriter] = {}
    total = len(plan.tables)
    for planned in plan.tables:
        if not planned.own_reason or reader is None:
            continue
        writer = own[planned.pair] = make_writer(planned)
        names = [c.name for c in planned.table.columns]
        for values in read_rows(reader, planned.table, history=planned.versioned):
            writer.write(names, values)
            if dump is not None:
                dump.check()
            source.progress(Progress("read", len(own) - 1, total, bytes_total=plan.size_bytes))
    shown = 0.0
    while dump is not None and not dump.check():
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            written = dump.written_bytes()
            source.progress(Progress("dump", dump.tables_started(), total, written, max(written, plan.size_bytes)))
        time.sleep(_POLL_S)
    return own
