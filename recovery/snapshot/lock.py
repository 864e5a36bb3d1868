"""The brief lock: FLUSH TABLES WITH READ LOCK just long enough that all readers open their snapshots at one position.

Steps: wait until no statement runs longer than the lock may wait (a read lock behind one stops all writers meanwhile);
FLUSH TABLES WITH READ LOCK under that lock_wait_timeout; read the coordinates; open our own reader; start mydumper, with
no locks of its own; wait until the transaction of each of its threads is open; unlock. About 40 ms on a quiet server.

How it is known that a thread's snapshot is open: mydumper logs each thread's connection id; that connection has an
active explicit transaction (performance_schema on MySQL; SHOW ENGINE INNODB STATUS on MariaDB, where performance_schema is
off by default and information_schema.innodb_trx is cached), and, looked at after that, no longer runs the START
TRANSACTION that opened it. Whatever goes wrong, the connection that holds the lock is closed, which releases it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from recovery.config import ServerSettings
from recovery.errors import LockNotAcquired, SourceError
from recovery.snapshot.dumper import Dump
from recovery.source import Connection, ServerInfo, connect, fetch

_POLL_S: Final = 0.005
_QUIET_POLL_S: Final = 0.25
_INNODB_TRX: Final = re.compile(r"^---TRANSACTION [^,]+, ACTIVE.*?(?=^---TRANSACTION|\Z)", re.MULTILINE | re.DOTALL)
_THREAD_ID: Final = re.compile(r"thread id (\d+),")


@dataclass
class HeldLock:
    """A held lock; `seconds` is how long it was held, once it is released."""

    connection: Connection
    seconds: float = 0.0


@contextmanager
def read_lock(server: ServerSettings, info: ServerInfo, wait_s: float) -> Iterator[HeldLock]:
    """Hold FLUSH TABLES WITH READ LOCK. Raises LockNotAcquired after `wait_s`, PrivilegeMissing without RELOAD or
    FLUSH_TABLES, and SourceUnreachable at the end if the connection, and with it the lock, was lost meanwhile."""
    connection = connect(server, read_timeout=math.ceil(wait_s) + 30)
    try:
        wait_until_quiet(connection, info, wait_s)
        fetch(connection, f"SET SESSION lock_wait_timeout = {max(1, math.floor(wait_s))}")
        try:
            fetch(connection, "FLUSH TABLES WITH READ LOCK")
        except SourceError as error:
            if "1205" in error.message or "Lock wait timeout" in error.message:
                raise LockNotAcquired(
                    f"FLUSH TABLES WITH READ LOCK didn't get its lock within {wait_s:g} s",
                    hint="Something holds table locks. Try at a quieter time, or use --lock none.",
                ) from error
            raise
        held = HeldLock(connection)
        start = time.monotonic()
        yield held
        fetch(connection, "UNLOCK TABLES")
        held.seconds = time.monotonic() - start
    finally:
        connection.close()


def wait_until_quiet(connection: Connection, info: ServerInfo, wait_s: float) -> None:
    """Wait, up to `wait_s` more, until no client's statement has been running for `wait_s` or longer. Without PROCESS
    only the account's own statements are seen. Raises LockNotAcquired naming one that is in the way."""
    deadline = time.monotonic() + wait_s
    source = "performance_schema.processlist" if info.flavor == "mysql" else "information_schema.PROCESSLIST"
    if info.flavor == "mysql" and info.version_tuple < (8, 0, 22):
        source = "information_schema.PROCESSLIST"
    while True:
        rows = fetch(
            connection,
            f"SELECT ID, USER, TIME FROM {source} WHERE COMMAND IN ('Query', 'Execute') AND TIME >= %s"
            " AND ID <> CONNECTION_ID() ORDER BY TIME DESC",
            (max(1, math.floor(wait_s)),),
        )
        if not rows:
            return
        if time.monotonic() > deadline:
            number, user, seconds = rows[0]
            raise LockNotAcquired(
                f"connection {number} of `{user}` runs a statement since {seconds} s; the lock would stall behind it",
                hint="Wait for it or end it, raise --lock-wait-seconds, or use --lock none.",
            )
        time.sleep(_QUIET_POLL_S)


def wait_until_open(connection: Connection, info: ServerInfo, dump: Dump, limit_s: float) -> None:
    """Wait until each of mydumper's threads has had its consistent snapshot. A mydumper that has ended well by then has
    read everything under the lock. Raises LockNotAcquired after `limit_s`, and DumperFailed if mydumper fails before."""
    see = _open_on_mysql if info.flavor == "mysql" else _open_on_mariadb
    deadline = time.monotonic() + limit_s
    proven: frozenset[int] = frozenset()  # a thread may have ended since: its snapshot was opened under the lock
    while not dump.check():
        ids = dump.connections()
        if ids - proven:
            proven |= _open(connection, info, ids - proven, see)
        if dump.connected() and dump.connections() <= proven:
            return
        if time.monotonic() > deadline:
            raise LockNotAcquired(
                f"mydumper's {dump.threads} threads ({len(proven)} seen) didn't open their snapshots within {limit_s:g} s",
                hint="Raise --lock-wait-seconds, or use --lock none.",
            )
        time.sleep(_POLL_S)


def _open(
    connection: Connection,
    info: ServerInfo,
    ids: frozenset[int],
    active: Callable[[Connection, frozenset[int]], frozenset[int]],
) -> frozenset[int]:
    """Those of the connections whose snapshot is surely open."""
    found = active(connection, ids)
    # Active since START TRANSACTION began; its read view exists when that statement is over.
    listed = ", ".join(map(str, sorted(ids)))
    if info.flavor == "mysql":
        sql = f"SELECT PROCESSLIST_ID, PROCESSLIST_INFO FROM performance_schema.threads WHERE PROCESSLIST_ID IN ({listed})"
    else:
        sql = f"SELECT ID, INFO FROM information_schema.PROCESSLIST WHERE ID IN ({listed})"
    past = {int(n) for n, text in fetch(connection, sql) if "START TRANSACTION" not in str(text or "").upper()}
    return found & past


def _open_on_mysql(connection: Connection, ids: frozenset[int]) -> frozenset[int]:
    rows = fetch(
        connection,
        "SELECT t.PROCESSLIST_ID FROM performance_schema.threads t"
        " JOIN performance_schema.events_transactions_current e ON e.THREAD_ID = t.THREAD_ID"
        f" WHERE t.PROCESSLIST_ID IN ({', '.join(map(str, sorted(ids)))}) AND e.STATE = 'ACTIVE' AND e.AUTOCOMMIT = 'NO'",
    )
    return frozenset(int(number) for (number,) in rows)


def _open_on_mariadb(connection: Connection, ids: frozenset[int]) -> frozenset[int]:
    """Blocks `---TRANSACTION ..., ACTIVE n sec` with `MariaDB thread id n,` (trx_print_low and innobase_mysql_print_thd)."""
    status = str(fetch(connection, "SHOW ENGINE INNODB STATUS")[0][2])
    found: set[int] = set()
    for block in _INNODB_TRX.findall(status):
        named = _THREAD_ID.search(block)
        if named:
            found.add(int(named[1]))
    return frozenset(found)
