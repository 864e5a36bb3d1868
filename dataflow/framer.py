"""From raw events to whole transactions: checksums, the position chain, GTIDs, seq and the two times.

The framer is where completeness is judged. It raises at the first event that is damaged, doesn't follow on the one before,
or isn't on the list of known types; nothing after that point is emitted, everything before it stays good.
Pure: bytes in, transactions out; it connects to nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from dataflow import events as ev
from recovery.archive.actions import Checkpoint
from recovery.ddl import classify
from recovery.errors import BinlogDamaged, UnsupportedEvent
from recovery.gtid import GtidSet, parse_gtid_set

_UTF8_ONLY: Mapping[int, str] = {45: "utf8mb4"}
# Statements that stand beside row events between BEGIN and COMMIT: CREATE TABLE .. SELECT, and temporary tables.
_IN_BLOCK = frozenset({"CREATE TABLE", "CREATE TEMPORARY TABLE", "ALTER TEMPORARY TABLE", "DROP TEMPORARY TABLE"})
_DML = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "CALL", "DO", "WITH", "SELECT", "VALUES", "ANALYZE"})
_IGNORED = frozenset({ev.ROWS_QUERY, ev.STOP, ev.MARIADB_ANNOTATE_ROWS, ev.MARIADB_BINLOG_CHECKPOINT})


@dataclass(frozen=True, slots=True)
class Rows:
    """A row event or the TABLE_MAP before it, still undecoded."""

    type: int
    start: int
    body: bytes


@dataclass(frozen=True, slots=True)
class DdlStatement:
    """verb, tables: see `recovery.ddl.Classified`."""

    start: int
    default_db: str
    statement: str
    verb: str
    tables: tuple[tuple[str, str], ...] | None


@dataclass(slots=True)
class Transaction:
    """A committed transaction. seq is 0 until it is complete. Positions are offsets in `file`: of its first event's first
    byte and behind its last event. digest: SHA-256 over its events' checksums (or bytes, where the binlog has none)."""

    file: str
    start: int
    gtid: str | None
    committed_at_us: int
    in_block: bool = False  # between BEGIN and its end; a DDL statement stands alone
    end: int = 0
    seq: int = 0
    cut_at_us: int = 0
    connection_id: int | None = None
    digest: str = ""
    rows: list[Rows] = field(default_factory=list)
    ddl: list[DdlStatement] = field(default_factory=list)
    size_bytes: int = 0


class Framer:
    """Feed it the events of one source in order; `take` gives the transactions that are complete.

    file, position: where the stream begins. expect: the digest that the first transaction must have because the archive
    holds it already (it takes no seq), or None. checksummed: whether the stream's first events carry a CRC32.
    charsets: collation id -> character set, for the statements of clients.
    """

    def __init__(
        self,
        flavor: str,
        resume: Checkpoint,
        *,
        file: str,
        position: int,
        expect: str | None,
        checksummed: bool = True,
        charsets: Mapping[int, str] = _UTF8_ONLY,
    ) -> None:
        self.flavor = flavor
        self.file = file
        self.position = position  # where the next event must start
        self.seq = resume.seq
        self.cut_at_us = resume.cut_at_us
        self.covered_to_us = resume.covered_to_us
        self.gtids: GtidSet = parse_gtid_set(resume.gtid_set, flavor)
        self.safe = (resume.file, resume.position)  # end of the last complete transaction, or a file's start after it
        self.last = (resume.transaction_file, resume.transaction_position, resume.transaction_digest)
        self.expect = expect
        self.idle_since_us: int | None = None
        self._checksummed = checksummed
        self._charsets = charsets
        self._open: Transaction | None = None
        self._hash = hashlib.sha256()
        self._done: list[Transaction] = []

    @property
    def in_transaction(self) -> bool:
        return self._open is not None

    def take(self) -> list[Transaction]:
        done, self._done = self._done, []
        return done

    def checkpoint(self, covered_to_us: int | None = None) -> Checkpoint:
        """The archive's checkpoint after everything that `take` has given."""
        # Later transactions are cut above what is promised here.
        self.covered_to_us = max(self.cut_at_us, self.covered_to_us, covered_to_us or 0)
        return Checkpoint(
            seq=self.seq,
            file=self.safe[0],
            position=self.safe[1],
            gtid_set=str(self.gtids),
            cut_at_us=self.cut_at_us,
            covered_to_us=self.covered_to_us,
            transaction_file=self.last[0],
            transaction_position=self.last[1],
            transaction_digest=self.last[2],
        )

    def feed(self, raw: bytes, arrived_at_us: int) -> None:
        """Take in one event. Raises BinlogDamaged or UnsupportedEvent."""
        event = ev.parse(raw, checksummed=self._checksummed)
        if event.type in (ev.HEARTBEAT, ev.HEARTBEAT_V2):
            # The server has nothing more to send: all commits up to now are read, unless one is half-way here.
            if self._open is None:
                self.idle_since_us = arrived_at_us
            return
        if event.type == ev.ROTATE:
            self._rotate(event)
            return
        if event.type == ev.FORMAT_DESCRIPTION:
            self._checksummed = ev.format_checksummed(raw)
            if not event.artificial and self.position == 4:
                self.position = event.end
            return
        if event.artificial:
            raise self._damaged(f"an unexpected artificial event of type {event.type}")
        self._chain(event)
        if self._open is not None:
            self._hash.update(event.checksum or raw)
            self._open.size_bytes += len(raw)
        self._dispatch(event, raw, arrived_at_us)

    def _chain(self, event: ev.Event) -> None:
        # log_pos is 32 bits wide; files over 4 GiB wrap it.
        if (self.position & 0xFFFFFFFF) != event.start & 0xFFFFFFFF:
            raise self._damaged(
                f"the event after position {self.position} starts at {event.start}: {self.file} has a hole here"
            )
        self.position += event.end - event.start if event.end >= event.start else (event.end + (1 << 32)) - event.start

    def _rotate(self, event: ev.Event) -> None:
        file, position = ev.rotate(event)
        if event.artificial:
            if file != self.file or position != self.position:
                if self._open is not None or position != 4:
                    raise self._damaged(f"the stream jumps from {self.file}:{self.position} to {file}:{position}")
                self._enter(file)
            return
        self._chain(event)
        if self._open is not None:
            raise self._damaged(f"{self.file} ends inside a transaction")
        self._enter(file)

    def _enter(self, file: str) -> None:
        self.file, self.position = file, 4

    def _dispatch(self, event: ev.Event, raw: bytes, arrived_at_us: int) -> None:
        kind = event.type
        if kind in (ev.GTID, ev.ANONYMOUS_GTID):
            parsed = ev.mysql_gtid(event)
            self._begin(event, raw, parsed.gtid, parsed.committed_at_us)
        elif kind == ev.MARIADB_GTID:
            parsed, flags = ev.mariadb_gtid(event)
            if flags & (ev.MARIADB_PREPARED_XA | ev.MARIADB_COMPLETED_XA):
                raise self._unsupported(event, "an XA transaction")
            self._begin(event, raw, parsed.gtid, None)
            assert self._open is not None
            self._open.in_block = not parsed.standalone
        elif kind == ev.TABLE_MAP or kind in ev.ROW_EVENTS:
            self._require_open(event).rows.append(Rows(kind, event.start, event.body))
        elif kind == ev.QUERY:
            self._query(event, arrived_at_us)
        elif kind == ev.XID:
            self._require_open(event)
            self._commit(arrived_at_us)
        elif kind == ev.PREVIOUS_GTIDS:
            self._check_previous(ev.previous_gtids(event))
            self._between_files()
        elif kind == ev.MARIADB_GTID_LIST:
            self._check_previous(",".join(ev.mariadb_gtid_list(event)))
            self._between_files()
        elif kind not in _IGNORED:
            raise self._unsupported(event, ev.NAMES.get(kind, f"an event of unknown type {kind}"))

    def _begin(self, event: ev.Event, raw: bytes, gtid: str | None, committed_at_us: int | None) -> None:
        if self._open is not None:
            raise self._damaged(f"a transaction begins inside the one from {self.file}:{self._open.start}")
        if committed_at_us is None:
            committed_at_us = event.timestamp * 1_000_000
        self._open = Transaction(self.file, event.start, gtid, committed_at_us, size_bytes=len(raw))
        self._hash = hashlib.sha256(event.checksum or raw)

    def _query(self, event: ev.Event, arrived_at_us: int) -> None:
        query = ev.query(event, self._charsets)
        transaction = self._require_open(event)
        transaction.connection_id = query.connection_id or transaction.connection_id
        word = query.statement[:12].strip().upper()
        if word == "BEGIN":
            transaction.in_block = True
        elif word == "COMMIT":
            self._commit(arrived_at_us)
        elif word.startswith("SAVEPOINT"):
            return
        elif word.startswith(("ROLLBACK", "XA ")):
            raise self._unsupported(event, f"`{_shorten(query.statement)}`")
        else:
            found = classify(query.statement, query.db)
            unknown = found.tables is None and found.verb in _DML
            if unknown or (transaction.in_block and found.verb not in _IN_BLOCK):
                raise self._unsupported(event, f"a statement-format change: `{_shorten(query.statement)}`")
            tables = found.tables if query.exact else None
            transaction.ddl.append(DdlStatement(event.start, query.db, query.statement, found.verb, tables))
            if not transaction.in_block:
                self._commit(arrived_at_us)

    def _commit(self, arrived_at_us: int) -> None:
        transaction, self._open = self._open, None
        assert transaction is not None
        transaction.end = self.position
        transaction.digest = self._hash.hexdigest()
        if self.expect is not None:
            expected, self.expect = self.expect, None
            if transaction.digest != expected:
                raise Diverged(self.file, transaction.start)
            return
        self.seq += 1
        transaction.seq = self.seq
        logged = min(transaction.committed_at_us, arrived_at_us)
        self.cut_at_us = max(self.cut_at_us, self.covered_to_us + 1, logged)
        transaction.cut_at_us = self.cut_at_us
        if transaction.gtid is not None:
            self.gtids.add(transaction.gtid)
        self.safe = (self.file, self.position)
        self.last = (self.file, transaction.start, transaction.digest)
        self.idle_since_us = None
        self._done.append(transaction)

    def _check_previous(self, text: str) -> None:
        previous = parse_gtid_set(text, self.flavor)
        if not previous.issubset(self.gtids):  # type: ignore[arg-type]
            raise self._damaged(f"{self.file} says that `{text}` stand before it, and the stream didn't bring them all")

    def _between_files(self) -> None:
        if self._open is None and self.expect is None:
            self.safe = (self.file, self.position)

    def _require_open(self, event: ev.Event) -> Transaction:
        if self._open is None:
            raise self._unsupported(
                event, "a change outside any transaction (a server older than this version supports)"
            )
        return self._open

    def _unsupported(self, event: ev.Event, what: str) -> UnsupportedEvent:
        return UnsupportedEvent(
            f"{self.file}:{event.start} holds {what}, which this version can't capture",
            hint="Nothing after it is captured. Mend the setting that causes it (`rowback doctor` knows most), then go on "
            "with `rowback capture --skip-gap` and take a new snapshot.",
        )

    def _damaged(self, what: str) -> BinlogDamaged:
        return BinlogDamaged(
            what,
            hint="Check the file with `mysqlbinlog --verify-binlog-checksum`; if it is sound, start capture again.",
        )


class Diverged(Exception):
    """The transaction that the archive ends with isn't the one that the server now has there."""

    def __init__(self, file: str, position: int) -> None:
        super().__init__(f"{file}:{position}")
        self.file, self.position = file, position


def _shorten(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 120 else text[:117] + "..."
