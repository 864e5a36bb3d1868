"""What a binlog's events mean, in order: where transactions begin and end, which row events are theirs, DDL, XA.

The kernel does what is common; this module does the rest, one event at a time: statements, rotations, tagged and MariaDB's
special GTIDs, XA. An event that isn't on the list of known types is refused. Pure: it connects to nothing.

Sources: MySQL's libs/mysql/binlog/event/{control_events,statement_events}.h and sql/binlog.cc (XA); MariaDB's
sql/log_event.h (Gtid_log_event) and sql/log_event_server.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dataflow import events as ev
from dataflow import payload
from dataflow.kernels import frame as fk
from dataflow.kernels import transactions as tk
from dataflow.rollbacks import Rollbacks, Span
from dataflow.tablemaps import TableMaps
from dataflow.torn import Torn
from recovery.archive.actions import Session
from recovery.ddl import Classified, classify, makes_rows
from recovery.errors import BinlogDamaged, UnsupportedEvent
from recovery.stored_names import in_lower_case
from recovery.usual_mode import in_usual_mode

_UTF8_ONLY: Mapping[int, str] = {45: "utf8mb4"}
_DML = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "CALL", "DO", "WITH", "SELECT", "VALUES", "ANALYZE"})
# Statements that stand beside row events between BEGIN and COMMIT: CREATE TABLE .. SELECT, and temporary tables.
_TEMPORARY = frozenset({"CREATE TEMPORARY TABLE", "ALTER TEMPORARY TABLE", "DROP TEMPORARY TABLE"})
_IN_BLOCK = frozenset({"CREATE TABLE", *_TEMPORARY})
_MAPS: Final = 4096  # tables that one transaction may touch

PREPARE, COMMIT, ROLLBACK = "prepare", "commit", "rollback"


@dataclass(frozen=True)
class Statement:
    """A DDL statement. tx: number of its transaction; rows: how many row events come before it; verb, tables: see
    `recovery.ddl.Classified`; session: None if it isn't known. logged: the text as it was, where names in it were put
    in lower case, or it was written for the usual sql_mode."""

    tx: int
    rows: int
    position: int
    default_db: str
    text: str
    verb: str
    tables: tuple[tuple[str, str], ...] | None
    session: Session | None = None
    logged: str | None = None


@dataclass(frozen=True)
class Xa:
    """What transaction number `tx` is for the XA transaction `xid`. "prepare": it holds the rows, which stay pending (also
    while it is open, when a one-phase commit may still come); "commit" and "rollback" end the pending ones."""

    tx: int
    kind: str
    xid: str


@dataclass(frozen=True)
class KnownGtid:
    """A GTID that isn't in the buffer as the kernel's TX_GTID expects it. source: what stands before the number; None
    without a GTID. committed_at_us: None if only the header's seconds are known. sequence: MySQL's sequence_number, or 0."""

    source: str | None
    number: int
    committed_at_us: int | None
    sequence: int = 0


class Grammar:
    """Reads the events of one source in order into `transactions` and `rows` (TX_* and ROW_* fields).

    txs, n_rows: how many are complete; the open transaction, if any, is row `txs`. `clear` starts over behind them.
    rollbacks: which of the row events count for nothing; of the open transaction more may yet turn out to.
    lower_case: the source stores names of tables and databases in lower case; statements get them so.
    """

    def __init__(
        self,
        flavor: str,
        *,
        file: str,
        position: int,
        charsets: Mapping[int, str] | None,
        capacity: int,
        lower_case: bool = False,
    ) -> None:
        self.flavor = flavor
        self.file = file
        self.checksummed = True  # before the first FORMAT_DESCRIPTION: see dataflow/stream.py
        self.file_begun_at_us: int | None = None  # as the file's FORMAT_DESCRIPTION says; None before it
        self.heartbeat = False  # the server had nothing more to send, and no transaction was open
        self.maps = TableMaps()
        self.rollbacks = Rollbacks()
        self.rolls_back = False  # the last event did, and what lies before the last `clear`
        self.transactions = np.zeros((capacity, tk.TX_FIELDS), np.int64)
        self.rows = np.zeros((capacity, tk.ROW_FIELDS), np.int64)
        self.txs = self.n_rows = 0
        self.statements: list[Statement] = []
        self.xa: list[Xa] = []
        self.known: dict[int, KnownGtid] = {}
        self._charsets = charsets or _UTF8_ONLY
        self._explicit_timestamps = False  # whether this file's statements have that setting as a flag
        self._lower_case = lower_case
        self._mapped = np.zeros((_MAPS, 2), np.int64)
        self._state = np.zeros(tk.STATE_FIELDS, np.int64)
        self._state[tk.STATE_POSITION] = position
        self._cleared_at = position

    @property
    def open(self) -> bool:
        return bool(self._state[tk.STATE_OPEN])

    @property
    def position(self) -> int:
        """Where the next event must start in `file`."""
        return int(self._state[tk.STATE_POSITION])

    def clear(self, carried: np.ndarray | None, first_event: int) -> None:
        """Forget what was read. carried: the open transaction, which becomes number 0, with `first_event` as its first."""
        xid = self.open_xid if carried is not None else None
        self._cleared_at = self.position
        self.rollbacks.forget(self.file, self.position if carried is None else int(carried[tk.TX_START]))
        self.txs = self.n_rows = 0
        self.statements, self.xa, self.known = [], [], {}
        if carried is not None:
            self.transactions[0] = carried
            self.transactions[0, tk.TX_FIRST] = first_event
            self.transactions[
                0, tk.TX_GTID
            ] = -1  # it lies in a buffer that is gone; whoever carries it on knows its GTID
            if xid is not None:
                self.xa.append(Xa(0, PREPARE, xid))

    def back_to_start(self) -> None:
        """Take back the open transaction: its events will be read again."""
        self._state[tk.STATE_POSITION] = self.transactions[self.txs, tk.TX_START]
        self._state[tk.STATE_OPEN] = 0
        self.statements = [s for s in self.statements if s.tx < self.txs]
        self.xa = [x for x in self.xa if x.tx < self.txs]
        self.known.pop(self.txs, None)
        self.rollbacks.savepoints = []
        n = self.n_rows
        while n and self.rows[n - 1, tk.ROW_TX] == self.txs:
            n -= 1
        self.n_rows = n

    @property
    def open_xid(self) -> str | None:
        """The open transaction's xid, if it is an XA transaction."""
        return next((x.xid for x in self.xa if x.tx == self.txs and x.kind == PREPARE), None) if self.open else None

    # --- events --------------------------------------------------------------------------------------------------------

    def read(self, buffer: np.ndarray, index: np.ndarray, at: int, count: int, *, chained: bool) -> int:
        """Read on as far as the kernel alone can. Gives the number of the event that needs `special`, or `count`."""
        while at < count:
            status, at, self.txs, self.n_rows = tk.read(
                buffer, index, at, count, chained, self._state, self.maps.slots, self.maps.arena, self.maps.spans,
                self._mapped, self.transactions, self.txs, self.rows, self.n_rows,
            )  # fmt: skip
            if status == tk.NEW_DEFINITION:
                self.maps.add(buffer[index[at, fk.EVENT_BODY] + 6 : index[at, fk.EVENT_END]])
            elif status == tk.SPECIAL:
                return at
            elif status != tk.DONE:
                raise self._refusal(status, index[at])
        return at

    def special(self, event: ev.Event, number: int, *, chained: bool = True) -> None:
        """One event that the kernel stopped at. number: in the index. Raises BinlogDamaged or UnsupportedEvent."""
        kind = event.type
        self.rolls_back = False
        if kind in (ev.HEARTBEAT, ev.HEARTBEAT_V2):
            self.heartbeat = not self.open
            return
        if kind == ev.ROTATE:
            self._rotate(event)
            return
        if kind == ev.FORMAT_DESCRIPTION:
            # Its place in the chain: it is sent again, without one, when a dump begins in the middle of a file.
            if not event.artificial and self.position == 4:
                self._state[tk.STATE_POSITION] = event.end
            self.checksummed = ev.format_checksummed(event)
            # Sent for a dump from the middle of a file too, with the time at which the file was begun.
            self.file_begun_at_us = event.timestamp * 1_000_000
            self._explicit_timestamps = ev.logs_explicit_timestamps(event)
            return
        if event.artificial:
            raise damaged(f"an unexpected artificial event of type {event.type}")
        start = self.position
        if chained:
            self.follow(event)
        if kind == ev.GTID_TAGGED:
            tagged = ev.tagged_gtid(event)
            self._begin(
                event, number, start, KnownGtid(tagged.source, tagged.number, tagged.committed_at_us, tagged.sequence)
            )
        elif kind == ev.MARIADB_GTID:
            self._begin_mariadb(event, number, start)
        elif kind == ev.QUERY:
            self._query(event, event.body, number, start)
        elif kind == ev.MARIADB_QUERY_COMPRESSED:
            self._query(event, self._uncompressed_query(event.body), number, start)
        elif kind == ev.XA_PREPARE:
            self._xa_prepare(event, number)
        elif kind not in ev.IGNORED:
            raise self._unsupported(start, ev.NAMES.get(kind, f"an event of unknown type {kind}"))

    def complete(self, first_tx: int, number: int, end: int) -> None:
        """Correct where transactions end that were read from inside a compressed payload, which is event `number`."""
        for tx in range(first_tx, self.txs):
            self.transactions[tx, tk.TX_LAST] = number
            self.transactions[tx, tk.TX_END] = end

    def place_at(self, position: int) -> None:
        self._state[tk.STATE_POSITION] = position

    def follow(self, event: ev.Event) -> None:
        """Check that the event stands where the one before it ended. Raises BinlogDamaged."""
        # log_pos is 32 bits wide; files over 4 GiB wrap it.
        if (self.position + event.size) & 0xFFFFFFFF != event.end:
            raise self._hole(event.start)
        self._state[tk.STATE_POSITION] += event.size

    def _rotate(self, event: ev.Event) -> None:
        file, position = ev.rotate(event)
        if event.artificial:
            if file != self.file or position != self.position:
                if self.open or position != 4:
                    error = damaged(f"the stream jumps from {self.file}:{self.position} to {file}:{position}")
                    raise Torn(self.file, error) if self.flavor == "mariadb" and position == 4 else error
                self._enter(file)
            return
        self.follow(event)
        if self.open:
            raise damaged(f"{self.file} ends inside a transaction")
        self._enter(file)

    def _enter(self, file: str) -> None:
        self.file, self._state[tk.STATE_POSITION] = file, 4
        self.file_begun_at_us = None
        self.rollbacks.savepoints = []

    def _begin(self, event: ev.Event, number: int, start: int, gtid: KnownGtid, *, block: bool = False) -> None:
        if self.open:
            raise self._nested()
        row = self.transactions[self.txs]
        row[tk.TX_FIRST], row[tk.TX_START], row[tk.TX_GTID], row[tk.TX_TYPE] = number, start, -1, event.type
        row[tk.TX_TIMESTAMP], row[tk.TX_SERVER_ID], row[tk.TX_CONNECTION] = event.timestamp, event.server_id, -1
        self._state[tk.STATE_OPEN], self._state[tk.STATE_BLOCK], self._state[tk.STATE_MAPPED] = 1, block, 0
        self.known[self.txs] = gtid

    def _begin_mariadb(self, event: ev.Event, number: int, start: int) -> None:
        found = ev.mariadb_gtid(event)
        source = f"{found.domain}-{event.server_id}-"
        self._begin(event, number, start, KnownGtid(source, found.number, None), block=not found.standalone)
        self._alter_pending = found.alter_begins or found.alter_fails
        if found.prepares is not None:
            self.xa.append(Xa(self.txs, PREPARE, found.prepares))

    def _end(self, number: int) -> None:
        row = self.transactions[self.txs]
        row[tk.TX_LAST], row[tk.TX_END] = number, self.position
        self.txs += 1
        self._state[tk.STATE_OPEN] = 0
        self._alter_pending = False

    _alter_pending = False

    # --- statements ----------------------------------------------------------------------------------------------------

    def _query(self, event: ev.Event, body: bytes, number: int, start: int) -> None:
        query = ev.query(body, self._charsets, event.timestamp, explicit_timestamps=self._explicit_timestamps)
        if not self.open:
            raise self._outside(start)
        if query.connection_id:
            self.transactions[self.txs, tk.TX_CONNECTION] = query.connection_id
        word = query.statement[:12].strip().upper()
        if word == "BEGIN":
            self._state[tk.STATE_BLOCK] = 1
        elif word == "COMMIT":
            self._end(number)
        elif word.startswith("SAVEPOINT"):
            begun = int(self.transactions[self.txs, tk.TX_START])
            self.rollbacks.savepoint(begun, query.statement.strip()[9:], start)
        elif word.startswith("XA "):
            self._xa_statement(query.statement, number, start)
        elif word.startswith("ROLLBACK"):
            self._rollback(query.statement, number, start)
        else:
            self._ddl(query, number, start)

    def _rollback(self, statement: str, number: int, start: int) -> None:
        """The end of the transaction, with nothing in it; or only what is behind a savepoint counts for nothing."""
        begun = int(self.transactions[self.txs, tk.TX_START])
        words = statement.split(maxsplit=2)
        first: int | None = None
        if len(words) == 1:
            first = None if self.open_xid else begun
        elif len(words) == 3 and words[1].upper() == "TO":
            first = self.rollbacks.back_to(begun, words[2])
        made = any(s.tx == self.txs and s.position > (first or 0) and s.verb not in _TEMPORARY for s in self.statements)
        # Positions don't tell the events of a compressed transaction apart.
        if first is None or made or start == self.position:
            raise self._unsupported(start, f"`{_shorten(statement)}`")
        news = self.rollbacks.add(Span(self.file, first, start))
        self.rolls_back = news and first < self._cleared_at
        if len(words) == 1:
            self._end(number)

    def _ddl(self, query: ev.QueryEvent, number: int, start: int) -> None:
        found = Classified("ALTER TABLE", ()) if self._alter_pending else _classified(query)
        block = bool(self._state[tk.STATE_BLOCK])
        changes = found.tables is None and found.verb in _DML
        # In row format both servers log such a table's definition without its query, and the rows as events.
        changes |= found.verb == "CREATE TABLE" and makes_rows(query.statement, _sql_mode(query))
        if changes or (block and found.verb not in _IN_BLOCK):
            raise self._unsupported(start, f"a statement-format change: `{_shorten(query.statement)}`")
        # MariaDB's START ALTER changes nothing yet, and ROLLBACK ALTER nothing at all; COMMIT ALTER has the statement again.
        if not self._alter_pending:
            self.statements.append(self._statement(query, found, start))
        if not block:
            self._end(number)

    def _statement(self, query: ev.QueryEvent, found: Classified, start: int) -> Statement:
        found = found if query.exact else replace(found, tables=None)
        text, default_db, session = query.statement, query.db, query.session
        if self._lower_case:
            text, default_db, found = in_lower_case(text, default_db, found, session.sql_mode if session else 0)
        if session is not None and query.exact:
            text, session = in_usual_mode(text, found.verb, session)
        logged = query.statement if text != query.statement else None
        place = (self.txs, self.n_rows, start)
        return Statement(*place, default_db, text, found.verb, found.tables, session, logged)

    def _xa_statement(self, statement: str, number: int, start: int) -> None:
        """XA START and XA END stand around the rows; XA COMMIT and XA ROLLBACK are transactions of their own."""
        verb, _, rest = statement.strip()[3:].strip().partition(" ")
        verb, xid = verb.upper(), rest.strip()
        one_phase = xid.upper().endswith("ONE PHASE")
        if verb in ("START", "BEGIN"):
            self._state[tk.STATE_BLOCK] = 1
            self.xa.append(Xa(self.txs, PREPARE, xid))
        elif verb == "END":
            return
        elif verb in ("COMMIT", "ROLLBACK") and not one_phase:
            self.xa.append(Xa(self.txs, COMMIT if verb == "COMMIT" else ROLLBACK, xid))
            self._end(number)
        else:
            raise self._unsupported(start, f"`{_shorten(statement)}`")

    def _xa_prepare(self, event: ev.Event, number: int) -> None:
        xid = self.open_xid
        if xid is None:
            raise damaged(f"{self.file}:{event.start} prepares an XA transaction that didn't begin")
        if event.body[:1] == b"\x01":  # XA COMMIT .. ONE PHASE: it was never pending
            self.xa.append(Xa(self.txs, COMMIT, xid))
        self._end(number)

    def _uncompressed_query(self, body: bytes) -> bytes:
        """MariaDB compresses the statement alone (Query_compressed_log_event)."""
        at = 13 + int.from_bytes(body[11:13], "little") + body[8] + 1
        try:
            return body[:at] + payload.uncompressed(body[at:])
        except ValueError as error:
            raise damaged(f"the compressed statement at {self.file}:{self.position} doesn't unpack: {error}") from error

    # --- refusals ------------------------------------------------------------------------------------------------------

    def _refusal(self, status: int, row: np.ndarray) -> BinlogDamaged | UnsupportedEvent:
        """Why the kernel can't go on, as an error."""
        start = self.position
        if status == tk.HOLE:
            return self._hole(int(row[fk.EVENT_LOG_POS] - row[fk.EVENT_SIZE]) & 0xFFFFFFFF)
        if status == tk.NESTED:
            return self._nested()
        if status == tk.OUTSIDE:
            return self._outside(start)
        if status == tk.UNMAPPED:
            return damaged(f"the row event at {self.file}:{start} has no TABLE_MAP before it")
        if status == tk.MANY_MAPS:
            return self._unsupported(start, f"a transaction that changes more than {_MAPS} tables")
        return damaged(f"the event at {self.file}:{start} is too short")

    def _hole(self, start: int) -> BinlogDamaged:
        return damaged(f"the event after position {self.position} starts at {start}: {self.file} has a hole here")

    def _nested(self) -> BinlogDamaged:
        begun = int(self.transactions[self.txs, tk.TX_START])
        return damaged(f"a transaction begins inside the one from {self.file}:{begun}")

    def _outside(self, start: int) -> UnsupportedEvent:
        return self._unsupported(start, "a change outside any transaction (a server older than this version supports)")

    def _unsupported(self, start: int, what: str) -> UnsupportedEvent:
        return UnsupportedEvent(
            f"{self.file}:{start} holds {what}, which this version can't capture",
            hint="Nothing after it is captured. Mend the setting that causes it (`rowback doctor` knows most), then go on "
            "with `rowback capture --skip-gap` and take a new snapshot.",
        )


def _classified(query: ev.QueryEvent) -> Classified:
    return classify(query.statement, query.db, _sql_mode(query))


def _sql_mode(query: ev.QueryEvent) -> int:
    return query.session.sql_mode if query.session else 0


def event_of(buffer: np.ndarray, row: np.ndarray, *, with_body: bool = True) -> ev.Event:
    """An event of the index, with its body."""
    end, size = int(row[fk.EVENT_LOG_POS]), int(row[fk.EVENT_SIZE])
    return ev.Event(
        type=int(row[fk.EVENT_TYPE]),
        timestamp=int(row[fk.EVENT_TIMESTAMP]),
        server_id=int(row[fk.EVENT_SERVER_ID]),
        start=(end - size) & 0xFFFFFFFF if end else 0,
        end=end,
        flags=int(row[fk.EVENT_FLAGS]),
        body=buffer[row[fk.EVENT_BODY] : row[fk.EVENT_END]].tobytes() if with_body else b"",
        size=size,
    )


def damaged(what: str) -> BinlogDamaged:
    return BinlogDamaged(
        what, hint="Check the file with `mysqlbinlog --verify-binlog-checksum`; if it is sound, start capture again."
    )


def _shorten(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 120 else text[:117] + "..."
