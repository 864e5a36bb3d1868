"""The definitions of a source's tables at the place that decoding has come to: dataflow/definitions.py with a live server.

`Definitions` is what decoding asks. Where the binlog doesn't tell, it has the live schema read, looks ahead in the binlog up
to where it ended after the reading, and decides. Nothing is held back meanwhile: the look-ahead is a second replica
connection that reads on from the end of what has arrived, and only what isn't known yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Protocol, TypeVar

from dataflow import drain
from dataflow.definitions import Decision, Known, Ledger, Name, Place, Reading, Unproved, archived, misfit, unsure_label
from dataflow.framed import ended
from dataflow.framer import Diverged, Framer
from dataflow.lineage import Lineage, Scratch, charsets_proved
from dataflow.pieces import Piece
from dataflow.resume import behind_torn, diverged, same_server
from dataflow.scan import replica_id
from dataflow.stream import EventStream
from dataflow.tablemap import TableMap
from dataflow.torn import Behind, Torn
from recovery.archive.actions import Checkpoint, Ddl, Identity
from recovery.archive.state import ArchiveState
from recovery.config import ServerSettings
from recovery.errors import RowbackError, SourceError, SourceMisconfigured, SourceUnreachable
from recovery.gtid import binlog_order
from recovery.schema import Table
from recovery.source import Connection, ServerInfo, binlog_status, connect, server_info
from recovery.source_tables import read_tables, show_create_table

LOOK_AHEAD_BYTES = 8 * 1024 * 1024
POLL_S = 0.002
PATIENCE_S = 600  # as long as a lost stream is tried for
T = TypeVar("T")
log = logging.getLogger("rowback.capture")


class Source(Protocol):
    """What is asked of a live server."""

    def read(self, names: Sequence[Name]) -> Reading:
        """The tables' definitions now, and the end of the binlog afterwards."""

    def ddls(self, after: Checkpoint, until: Place) -> tuple[list[Ddl], Checkpoint]:
        """The DDL that the binlog holds from `after` to at least `until`, and where the reading of it ended."""


class Definitions:
    """Asked in the stream's order: `arrived` with each piece, then `table` for the tables of its row events, and `cross`
    where decoding passes a DDL. at, known: where the stream begins, and the definitions proved there. lineage, scratch: for
    tables that the live schema can't settle; without a scratch server they stop the stream."""

    def __init__(
        self,
        source: Source,
        at: Checkpoint,
        known: Mapping[Name, Table],
        *,
        lineage: Lineage | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self._source = source
        self._lineage, self._scratch = lineage or Lineage(), scratch
        self._ledger = Ledger(binlog_order(at.file, at.position), known)
        self._archived = frozenset(known.values())
        self._after = self._seen_to = at

    def arrived(self, ddls: Iterable[Ddl], after: Checkpoint) -> None:
        """A piece of the stream has come, with these DDL statements; `after`: the checkpoint behind it."""
        here = binlog_order(after.file, after.position)
        if here < binlog_order(self._after.file, self._after.position):
            self._ledger.forget_ahead(here)
            self._seen_to = after
        self._ledger.see(ddls, here)
        self._after = after
        if here > binlog_order(self._seen_to.file, self._seen_to.position):
            self._seen_to = after

    def cross(self, ddl: Ddl) -> None:
        self._ledger.cross(ddl)
        if self._scratch is not None:
            self._lineage.cross(ddl)

    def table(self, logged: TableMap, where: str, also: Iterable[Name] = ()) -> Table:
        """The definition that a TABLE_MAP's rows were written with. where: of its first row event, for the error; also:
        other tables that have row events before the next DDL, so that one reading serves all. A TABLE_MAP with names is
        good enough by itself if nothing better can be proved: what may be a UUID is kept as its bytes then.

        Raises SourceMisconfigured if it can't be proved, SourceUnreachable if a server stays away or, being the scratch
        server, in use.
        """
        name = (logged.table.db, logged.table.name)
        decision = self._ledger.decide(name)
        if not isinstance(decision, Known):
            decision = self._read([name, *(n for n in also if n != name and not self._knows(n))], logged, where)
        if isinstance(decision, Unproved) and self._scratch is not None:
            try:
                decision = self._rebuild(self._scratch, logged, where, decision)
            except SourceError as error:
                if not logged.named:
                    raise
                log.info("schema not rebuilt table=%s reason=%s", logged.table.label, error.message)
        if isinstance(decision, Unproved):
            if logged.named:
                return logged.table
            raise unproved(logged.table.label, where, _why(decision))
        assert isinstance(decision, Known)
        reason = misfit(logged, decision.table)
        if reason is not None:
            raise unproved(logged.table.label, where, f"what is known doesn't fit its rows: {reason}")
        column = unsure_label(decision.table)
        if column is not None and decision.table not in self._archived and not logged.named:
            raise unproved(
                logged.table.label,
                where,
                f"a label of column `{column}` has a `?`, which servers also print for characters beyond U+FFFF",
            )
        return decision.table

    def _read(self, names: Sequence[Name], logged: TableMap, where: str) -> Decision:
        """Read the live schema of these tables; gives the decision for the first."""
        reading = _patiently(lambda: self._source.read(names))
        if reading.elsewhere:
            raise SourceUnreachable(
                "another server than the captured one answers at the source's address",
                hint="Start capture again: it follows a failover where that is allowed and proved.",
            )
        self._look_ahead(reading.high, logged, where)
        for name in names:
            if isinstance(self._ledger.decide(name, reading), Known) and name in reading.creates:
                self._lineage.read(name, reading.creates[name], self._ledger.here)
        return self._ledger.decide(names[0], reading)

    def _rebuild(self, scratch: Scratch, logged: TableMap, where: str, why: Unproved) -> Decision:
        """The definition at this place from the DDL that led to it."""
        name = (logged.table.db, logged.table.name)
        steps = self._lineage.steps(name)
        if not steps:
            return why
        try:
            table = scratch.build(name, steps)
        except SourceUnreachable:
            raise  # it may pass
        except RowbackError as error:
            raise unproved(logged.table.label, where, f"{_why(why)}, and {error.message}") from error
        if not self._lineage.spelt_out(name) and not charsets_proved(logged.table, table):
            raise unproved(
                logged.table.label,
                where,
                f"{_why(why)}, and its CREATE TABLE leaves character sets to the server's defaults",
            )
        reason = misfit(logged, table)
        if reason is not None:
            raise unproved(
                logged.table.label, where, f"{_why(why)}, and its DDL doesn't make what its rows are: {reason}"
            )
        log.info("schema rebuilt table=%s statements=%d", logged.table.label, len(steps))
        self._ledger.learn(name, table)
        return Known(table)

    def _knows(self, name: Name) -> bool:
        return isinstance(self._ledger.decide(name), Known)

    def _look_ahead(self, until: Place, logged: TableMap, where: str) -> None:
        if self._ledger.horizon >= until:
            return
        try:
            ddls, self._seen_to = _patiently(lambda: self._source.ddls(self._seen_to, until))
        except SourceUnreachable:
            raise
        except RowbackError as error:
            raise unproved(logged.table.label, where, f"the binlog behind it can't be read: {error.message}") from error
        self._ledger.see(ddls, max(until, binlog_order(self._seen_to.file, self._seen_to.position)))


def unproved(label: str, where: str, why: str) -> SourceMisconfigured:
    return SourceMisconfigured(
        f"the columns of table `{label}` at {where} can't be proved, for the binlog doesn't name them: {why}",
        hint="Run `SET GLOBAL binlog_row_metadata = FULL` on the source (and set it in its configuration file), go on with "
        "`rowback capture --skip-gap` and take a new snapshot; or exclude the table.",
    )


def _why(decision: Unproved) -> str:
    if decision.ddl is None:
        return "the account doesn't see the table, though no DDL has dropped it"
    ddl = decision.ddl
    return f"the DDL at {ddl.file}:{ddl.position} came before the schema could be read"


class LiveSource:
    """A live server. charsets: collation id -> character set; expected: the server that the stream comes from; creates:
    whether SHOW CREATE TABLE's texts are wanted too."""

    def __init__(
        self, server: ServerSettings, charsets: Mapping[int, str], expected: Identity | None, *, creates: bool = False
    ) -> None:
        self._server, self._charsets, self._expected, self._creates = server, charsets, expected, creates

    def read(self, names: Sequence[Name]) -> Reading:
        with closing(connect(self._server)) as connection:
            tables = {(t.db, t.name): t for t in read_tables(connection, list(names))}
            creates = _creates(connection, tables) if self._creates else {}
            status = binlog_status(connection)
            elsewhere = self._expected is not None and not same_server(self._expected, server_info(connection))
        if status is None:
            raise SourceMisconfigured(
                "the source has no binlog", hint="Add `log_bin` to its configuration and restart it."
            )
        log.info("schema read server=%s tables=%d", self._server.name, len(tables))
        return Reading(tables, binlog_order(*status), creates, elsewhere)

    def ddls(self, after: Checkpoint, until: Place) -> tuple[list[Ddl], Checkpoint]:
        found: list[Ddl] = []
        torn: Torn | None = None
        behind: Behind | None = None
        while True:
            with closing(connect(self._server)) as connection:
                info = server_info(connection)
                if torn is not None:
                    after, behind = behind_torn(self._server, connection, info, torn, after, scanning=True)
            try:
                for piece in self._pieces(info, after, until, behind):
                    found += [ddl for _, ddl in piece.ddl]
                    after = piece.after
            except Torn as error:
                torn = error
            else:
                return found, after

    def _pieces(self, info: ServerInfo, after: Checkpoint, until: Place, behind: Behind | None) -> Iterator[Piece]:
        """The stream from `after` to at least `until`. Raises what ends it before."""
        number = replica_id(self._server, info, scanning=True)
        framer = Framer(
            info.flavor,
            after,
            file=after.file,
            position=after.position,
            expect=None,
            charsets=self._charsets,
            lower_case=info.lower_case_table_names == 1,
            behind=behind,
        )
        with closing(EventStream(self._server, info.flavor, number, after.file, after.position)) as stream:
            while binlog_order(framer.file, framer.position) < until or framer.in_transaction:
                taken = stream.take(LOOK_AHEAD_BYTES)
                if not taken:
                    time.sleep(POLL_S)
                for data, arrived_at_us in taken:
                    yield from framer.feed(data, arrived_at_us)
                if isinstance(framer.failure, Diverged):
                    raise diverged(str(framer.failure)) from framer.failure
                if framer.failure is not None:
                    raise framer.failure
                if framer.ending is not None:
                    raise ended(stream, framer, began=True)


def definitions_of(
    state: Callable[[], ArchiveState], server: ServerSettings, at: Checkpoint, charsets: Mapping[int, str]
) -> Definitions:
    """The definitions of a stream that goes on from an archive's newest checkpoint `at`."""
    found, settings = state(), server.scratch()
    here = found.checkpoint is not None and found.checkpoint.seq == at.seq
    return Definitions(
        LiveSource(server, charsets, found.source, creates=settings is not None),
        at,
        archived(found) if here else {},
        lineage=Lineage.archived(found) if here and settings else None,
        scratch=Scratch(settings) if settings else None,
    )


def _creates(connection: Connection, names: Iterable[Name]) -> dict[Name, str]:
    found = {}
    for name in names:
        with suppress(SourceError):  # dropped meanwhile
            found[name] = show_create_table(connection, *name)
    return found


def _patiently(action: Callable[[], T]) -> T:
    """Repeat while the server can't be reached, for as long as a lost stream is tried for."""
    pause_s, give_up_at = 0.5, time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except SourceUnreachable:
            if drain.requested() or time.monotonic() + pause_s > give_up_at:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 15.0)
