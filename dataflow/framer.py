"""From the bytes of a replication stream to pieces of whole transactions: packets, checksums, the position chain.

The framer is where completeness is judged. It stops at the first event that is damaged, doesn't follow on the one before,
or isn't on the list of known types; nothing after that point is emitted, everything before it stays good.
Pure: bytes in, pieces out; it connects to nothing.

A transaction of which the input has only the beginning is kept back and read again with what follows, unless that is longer
than REWIND_BYTES: then the part comes out as an open piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from dataflow import events as ev
from dataflow import packets, payload
from dataflow.blocks import joined
from dataflow.grammar import COMMIT, PREPARE, Grammar, damaged, event_of
from dataflow.kernels import frame as fk
from dataflow.kernels import transactions as tk
from dataflow.pieces import Numbering, Piece, ddl_action, used_definitions
from dataflow.rollbacks import ReadAgain, Span
from dataflow.torn import Behind, Torn
from dataflow.transactions import Transactions
from recovery.archive.actions import Checkpoint
from recovery.errors import RowbackError
from recovery.gtid import parse_gtid_set

REWIND_BYTES: Final = 1 << 20
_INDEX_ROWS: Final = 1 << 18
_INNER_ROWS: Final = 1 << 14
_NO_BYTES: Final = np.empty(0, np.uint8)
_NO_CRCS: Final = np.empty(0, np.uint32)


class Framer:
    """Feed it what arrives from one source, in order.

    file, position: where the stream begins. expect: the digest that the first transaction must have because the archive
    holds it already (it takes no seq), or None.
    charsets: collation id -> character set, for the statements of clients. utc_since_us: see recovery/source.py.
    rolled_back: what a ReadAgain said of the first transaction. None: the rows are no matter, there is no reading again.
    lower_case: see `dataflow.grammar.Grammar`. behind: for a file that is to follow on a torn one.

    failure: why it stopped (a RowbackError, Diverged, ReadAgain or Torn). ending: the packet with which the server ended the
    stream. idle_since_us: when the server last said that it has nothing more.
    """

    def __init__(
        self,
        flavor: str,
        resume: Checkpoint,
        *,
        file: str,
        position: int,
        expect: str | None,
        charsets: Mapping[int, str] | None = None,
        utc_since_us: int | None = None,
        rolled_back: Sequence[Span] | None = None,
        lower_case: bool = False,
        behind: Behind | None = None,
    ) -> None:
        self.flavor = flavor
        self._behind = behind
        self._reads_again = rolled_back is not None
        self.expect = expect
        self._utc_since_us = utc_since_us
        self.failure: Exception | None = None
        self.ending: bytes | None = None
        self.idle_since_us: int | None = None
        self._grammar = Grammar(
            flavor,
            file=file,
            position=position,
            charsets=charsets,
            capacity=_INDEX_ROWS,
            lower_case=lower_case,
        )
        self._grammar.rollbacks.spans.extend(rolled_back or ())
        self._numbering = Numbering(resume, flavor)
        self._checkpoint = resume
        # Where the last whole transaction ends, or a file's start after it; and when that file was begun.
        self._safe = (resume.file, resume.position, resume.file_begun_at_us)
        self._resumed = resume.file
        self._begun_at_us = resume.file_begun_at_us  # what that file has to say; None once it has
        self._arrived_at_us = 0
        self._index = np.empty((_INDEX_ROWS, fk.EVENT_FIELDS), np.int64)
        self._count = self._next = self._first = 0  # events in the index; the next to read; the piece's first
        self._side: list[np.ndarray] = []  # what compressed events unpacked to; lies behind the buffer
        self._rest = _NO_BYTES  # what was read and isn't whole
        self._waiting: list[np.ndarray] = []  # what came behind it
        self._held = 0
        self._wanted = 1  # bytes without which there is no point in trying again
        self._out: list[Piece] = []
        self._parts = False  # a part of the transaction that is now open has been emitted
        self._void = False  # and rows of that part have been rolled back: it is read to its end, then again
        self._rescuable = False  # what the grammar holds is whole and lies in the buffer that is being read
        self._flushed = 0  # whole transactions that have left the grammar
        self._idle_after = -1  # how many there were at the last heartbeat

    @property
    def file(self) -> str:
        return self._grammar.file

    @property
    def position(self) -> int:
        """Where the next event must start in `file`."""
        return self._grammar.position

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has begun and not ended, or an event has arrived in part."""
        return self._grammar.open or self._held > 0

    @property
    def emitted_open(self) -> bool:
        """Whether a part of a transaction was emitted whose end was not."""
        return self._parts

    @property
    def proved(self) -> bool:
        """Whether the stream has shown all by which it can be told to be the one that the checkpoint is of."""
        return self.expect is None and self._begun_at_us is None and self._behind is None

    def feed(self, data: np.ndarray | Sequence[np.ndarray], arrived_at_us: int) -> list[Piece]:
        """Take in bytes (uint8) as they come from the socket, in one array or several; gives what is whole. Doesn't raise:
        see `failure`."""
        if self.failure is not None:
            return []
        self._arrived_at_us = arrived_at_us
        chunks = [data] if isinstance(data, np.ndarray) else data
        self._waiting.extend(chunks)
        self._held += sum(len(chunk) for chunk in chunks)
        if self._held >= self._wanted:
            buffer = joined(self._rest, self._waiting)
            self._rest, self._waiting, self._held, self._wanted = _NO_BYTES, [], 0, 1
            try:
                self._packets(buffer)
            except (RowbackError, Diverged, ReadAgain, Torn) as error:
                self.failure = error
                if self._rescuable:
                    self._rescue(buffer)
                if isinstance(self.failure, Torn) and not self.proved:
                    self.failure = self.failure.error
            if self._idle_after != self._flushed + self._grammar.txs:
                self.idle_since_us = None
        out, self._out = self._out, []
        return out

    def idle(self, covered_to_us: int) -> Piece:
        """A piece without transactions that says how far the source is known to be idle. Not inside a transaction."""
        # Later transactions are cut above what is promised here.
        covered_to_us = max(self._numbering.cut_at_us, self._numbering.covered_to_us, covered_to_us)
        self._numbering.covered_to_us = covered_to_us
        before = self._checkpoint
        file, position, begun_at_us = self._safe
        self._checkpoint = replace(
            before, file=file, position=position, covered_to_us=covered_to_us, file_begun_at_us=begun_at_us
        )
        nothing = self._numbering.number(
            self._grammar, _NO_BYTES, (0, 0), _NO_CRCS, first_event=0, arrived_at_us=self._arrived_at_us
        )
        rows = self._grammar.rows[:0].copy()
        return Piece(_NO_BYTES, rows, nothing, False, False, before, self._checkpoint, {}, (), (), 0)

    # --- packets -------------------------------------------------------------------------------------------------------

    def _packets(self, buffer: np.ndarray) -> None:
        at = 0
        self._start_piece()
        self._rescuable = True
        while True:
            status, at, self._count = fk.frame(
                buffer, at, len(buffer), True, self._grammar.checksummed, self._index, self._count
            )
            self._read(buffer)
            if status == fk.NEED_MORE:
                break
            if status == fk.INDEX_FULL:
                self._flush(buffer)
                self._start_piece()
            elif status == fk.LARGE_PACKET:
                size = packets.span_of_event(buffer, at)
                if size is None or len(buffer) - at < size:
                    self._wanted = size or self._wanted
                    break
                self._flush(buffer)
                self._rescuable = False
                self._large_event(buffer[at : at + size])
                self._rescuable = True
                at += size
                self._start_piece()
            elif status in (fk.END_PACKET, fk.ERROR_PACKET):
                length = int.from_bytes(buffer[at : at + 3].tobytes(), "little")
                self.ending = buffer[at + 4 : at + 4 + length].tobytes()
                break
            elif status != fk.FORMAT_SEEN:
                raise self._broken(status)
        self._finish(buffer, at)

    def _finish(self, buffer: np.ndarray, at: int) -> None:
        """Emit what is whole; keep the rest for the next time."""
        grammar = self._grammar
        carried = grammar.txs == 0 and self._numbering.carries
        if grammar.open and not carried:
            first = int(grammar.transactions[grammar.txs, tk.TX_FIRST])
            begin = int(self._index[first, fk.EVENT_PACKET])
            if len(buffer) - begin <= REWIND_BYTES:
                at = begin
                grammar.back_to_start()
        self._flush(buffer)
        if at < len(buffer) and self.ending is None:
            # A view: what comes next may lie right behind it.
            self._rest, self._held = buffer[at:], len(buffer) - at
            self._wanted = max(self._wanted, self._held + 1)

    def _large_event(self, whole: np.ndarray) -> None:
        """An event of 16 MiB or more, in all its packets."""
        event = packets.joined(whole)
        self._start_piece()
        status, at, self._count = fk.frame(event, 0, len(event), False, self._grammar.checksummed, self._index, 0)
        if status != fk.NEED_MORE or at != len(event):
            raise self._broken(status)
        self._read(event)
        self._flush(event)

    def _broken(self, status: int) -> RowbackError:
        where = f"{self.file}:{self.position}"
        if status == fk.BAD_CRC:
            return damaged(f"the event at {where} has a wrong CRC32")
        return damaged(f"what the server sent for {where} is not a binlog event")

    # --- events --------------------------------------------------------------------------------------------------------

    def _read(self, buffer: np.ndarray) -> None:
        """Go over the events that are indexed and not yet read."""
        grammar = self._grammar
        while True:
            self._next = grammar.read(buffer, self._index, self._next, self._count, chained=True)
            if self._next == self._count:
                return
            event = event_of(buffer, self._index[self._next])
            if event.type == ev.TRANSACTION_PAYLOAD:
                self._payload(event, buffer)
            elif event.type in (ev.PREVIOUS_GTIDS, ev.MARIADB_GTID_LIST) and not event.artificial:
                self._flush(buffer)
                grammar.follow(event)
                self._check_previous(event)
            else:
                if event.type == ev.ROTATE:
                    self._flush(buffer)
                file = grammar.file
                grammar.special(event, self._next)
                if grammar.file != file:
                    self._numbering.enter_file()
                if event.type == ev.FORMAT_DESCRIPTION:
                    self._check_begun()
                if grammar.rolls_back and self._parts:
                    self._void = self._reads_again
                if grammar.heartbeat:
                    self.idle_since_us, grammar.heartbeat = self._arrived_at_us, False
                    self._idle_after = self._flushed + grammar.txs
            self._next += 1

    def _check_begun(self) -> None:
        """The file where the checkpoint stands is still the same: a server that was reset begins new ones of the old names.
        Its time may be the only proof, where the last captured transaction is purged or there was none yet."""
        file, begun_at_us = self.file, self._grammar.file_begun_at_us
        if file == self._resumed and self._begun_at_us is not None:
            if begun_at_us != self._begun_at_us:
                raise Diverged(f"the file `{file}` has been begun anew")
            self._begun_at_us = None
        if file == self._safe[0]:
            self._safe = (*self._safe[:2], begun_at_us)

    def _check_previous(self, event: ev.Event) -> None:
        mysql = event.type == ev.PREVIOUS_GTIDS
        text = ev.previous_gtids(event) if mysql else ",".join(ev.mariadb_gtid_list(event))
        previous = parse_gtid_set(text, self.flavor)
        if self._behind is not None:
            self._behind.check(self.file, filter(None, text.split(",")))
            self._behind = None
        if not previous.issubset(self._numbering.gtids):  # type: ignore[arg-type]
            raise damaged(f"{self.file} says that `{text}` stand before it, and the stream didn't bring them all")
        if not self._grammar.open and self.expect is None:
            self._safe = (self.file, self.position, self._grammar.file_begun_at_us)

    # --- compressed transactions ---------------------------------------------------------------------------------------

    def _payload(self, event: ev.Event, buffer: np.ndarray) -> None:
        """A compressed transaction: the events inside stand for the one that holds them."""
        start = self.position
        self._grammar.follow(event)
        try:
            content = payload.Payload(event.body)
            if content.size_bytes > payload.PART_BYTES:
                self._long_payload(content, buffer, start)
                return
            plain = payload.as_array(b"".join(content.parts()))
        except ValueError as error:
            raise self._bad_payload(start, str(error)) from error
        base = len(buffer) + sum(len(s) for s in self._side)
        self._side.append(plain)
        if self._inner_events(plain, base, start) != len(plain):
            raise self._bad_payload(start, "its last event is cut short")

    def _long_payload(self, content: payload.Payload, buffer: np.ndarray, start: int) -> None:
        """Part by part, each an open piece of its own, so that memory doesn't grow with the transaction."""
        outer = self._index[self._next : self._next + 1, fk.EVENT_CRC].astype(np.uint32)
        self._flush(buffer)
        self._rescuable = False
        rest = _NO_BYTES
        for part in content.parts():
            plain = np.concatenate((rest, payload.as_array(part)))
            used = self._inner_events(plain, 0, start)
            rest = plain[used:].copy()
            # The event that holds them counts once, with the last part.
            self._flush(plain, _NO_CRCS if self._grammar.open else outer)
        if len(rest) or self._grammar.open:
            raise self._bad_payload(start, "its last event is cut short")
        self._rescuable = True
        self._first = self._next + 1

    def _inner_events(self, plain: np.ndarray, base: int, start: int) -> int:
        """Read bare events; gives how many bytes were whole events. base: where `plain` lies in the piece's buffer; start:
        position of the event that holds them."""
        grammar = self._grammar
        end, first_row, txs, statements = self.position, grammar.n_rows, grammar.txs, len(grammar.statements)
        inner = np.empty((_INNER_ROWS, fk.EVENT_FIELDS), np.int64)
        at, status = 0, fk.INDEX_FULL
        while status == fk.INDEX_FULL:
            status, at, count = fk.frame(plain, at, len(plain), False, False, inner, 0)
            if status not in (fk.NEED_MORE, fk.INDEX_FULL):
                raise self._bad_payload(start, "it holds what is not an event")
            done = grammar.read(plain, inner, 0, count, chained=False)
            while done < count:
                grammar.special(event_of(plain, inner[done]), self._next, chained=False)
                done = grammar.read(plain, inner, done + 1, count, chained=False)
        grammar.statements[statements:] = [replace(s, position=start) for s in grammar.statements[statements:]]
        rows = grammar.rows[first_row : grammar.n_rows]
        rows[:, tk.ROW_BODY] += base
        rows[:, tk.ROW_END] += base
        rows[:, tk.ROW_POSITION] = start
        grammar.place_at(end)
        grammar.complete(txs, self._next, end)
        return at

    def _bad_payload(self, start: int, why: str) -> RowbackError:
        return damaged(f"the compressed transaction at {self.file}:{start} doesn't unpack: {why}")

    # --- pieces --------------------------------------------------------------------------------------------------------

    def _start_piece(self) -> None:
        """The index is empty again; an open transaction goes on."""
        self._count = self._next = self._first = 0
        self._carry()

    def _carry(self) -> None:
        grammar = self._grammar
        carried = grammar.transactions[grammar.txs].copy() if grammar.open else None
        grammar.clear(carried, self._first)
        self._side = []

    def _rescue(self, buffer: np.ndarray) -> None:
        """After a failure: emit the transactions that were whole before it."""
        try:
            self._emit(buffer, (0, self._grammar.txs), self._crcs(), open_=False)
        except (RowbackError, Diverged, ReadAgain) as error:  # says more than what ended it
            self.failure = error

    def _crcs(self) -> np.ndarray:
        return self._index[self._first : self._next + 1, fk.EVENT_CRC].astype(np.uint32)

    def _flush(self, buffer: np.ndarray, crcs: np.ndarray | None = None) -> None:
        """Emit what was read up to the event `_next`: the whole transactions, then the open one's part. crcs: of the events,
        if not those of the index."""
        grammar = self._grammar
        if crcs is None:
            crcs = self._index[self._first : self._next, fk.EVENT_CRC].astype(np.uint32)
        txs = grammar.txs
        self._emit(buffer, (0, txs), crcs, open_=False)
        if grammar.open:
            self._emit(buffer, (txs, txs + 1), crcs, open_=True)
        self._flushed += txs
        self._first = self._next
        self._carry()

    def _emit(self, buffer: np.ndarray, span: tuple[int, int], crcs: np.ndarray, *, open_: bool) -> None:
        """Number the transactions span[0] to span[1] and put them out as a piece."""
        if span[0] == span[1]:
            return
        if self._behind is not None:  # no list of GTIDs came
            raise self._behind.torn.error
        rescuable, self._rescuable = self._rescuable, False
        found = self._numbering.number(
            self._grammar, buffer, span, crcs, first_event=self._first, arrived_at_us=self._arrived_at_us
        )
        if open_:
            self._numbering.keep_open(found)
        if self.expect is not None and not open_:
            expected, self.expect = self.expect, None
            if found.digest(0) != expected:
                raise Diverged(f"the transaction at {self.file}:{found.start[0]} is another one")
            found, span = found.behind_first(), (span[0] + 1, span[1])
            self._numbering.drop_open()
        if self._void and not open_:
            raise ReadAgain(self._grammar.rollbacks.spans)
        if self.expect is None and len(found) and not self._void:
            piece = self._piece(buffer, found, span, open_=open_, continued=self._parts and span[0] == 0)
            if not open_:
                self._numbering.took(found)
                self._checkpoint = found.checkpoint(self._checkpoint, self._numbering.gtids, len(found))
                self._safe = (self._checkpoint.file, self._checkpoint.position, self._checkpoint.file_begun_at_us)
            self._parts = open_
            self._out.append(replace(piece, after=self._checkpoint))
        self._rescuable = rescuable

    def _piece(
        self,
        buffer: np.ndarray,
        found: Transactions,
        span: tuple[int, int],
        *,
        open_: bool,
        continued: bool,
    ) -> Piece:
        grammar = self._grammar
        rows = grammar.rows[: grammar.n_rows]
        skipped = int(np.searchsorted(rows[:, tk.ROW_TX], span[0]))
        rows = rows[skipped : np.searchsorted(rows[:, tk.ROW_TX], span[1])].copy()
        rows[:, tk.ROW_TX] -= span[0]
        kept = grammar.rollbacks.kept(grammar.file, rows[:, tk.ROW_POSITION])
        if kept is not None:
            rows = rows[kept]

        def counted(n: int) -> int:
            return n if kept is None else int(kept[:n].sum())

        whole, rows = self._uncompressed(buffer, rows)
        ddl = tuple(
            (counted(s.rows - skipped), ddl_action(s, found, s.tx - span[0], self._utc_since_us))
            for s in grammar.statements
            if span[0] <= s.tx < span[1]
        )
        xa = tuple(replace(x, tx=x.tx - span[0]) for x in grammar.xa if span[0] <= x.tx < span[1])
        if not continued:
            # Prepared and committed in one phase, and all here: an ordinary transaction.
            both = {x.tx for x in xa if x.kind == PREPARE} & {x.tx for x in xa if x.kind == COMMIT}
            xa = tuple(x for x in xa if x.tx not in both)
        return Piece(
            buffer=whole,
            rows=rows,
            transactions=found,
            open=open_,
            continued=continued,
            before=self._checkpoint,
            after=self._checkpoint,
            definitions=grammar.maps.bodies(used_definitions(rows)),
            ddl=ddl,
            xa=xa,
            size_bytes=int((rows[:, tk.ROW_END] - rows[:, tk.ROW_BODY]).sum()) + 64 * len(found),
        )

    def _uncompressed(self, buffer: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The piece's buffer with what compressed events unpacked to behind it, and row events that point there."""
        side = list(self._side)
        at = len(buffer) + sum(len(s) for s in side)
        for i in np.flatnonzero(rows[:, tk.ROW_TYPE] >= payload.WRITE_ROWS_COMPRESSED_V1):
            row = rows[i]
            body = buffer[row[tk.ROW_BODY] : row[tk.ROW_END]].tobytes()
            try:
                row_type, plain = payload.uncompressed_rows(int(row[tk.ROW_TYPE]), body)
            except ValueError as error:
                raise damaged(
                    f"the compressed row event at {self.file}:{row[tk.ROW_POSITION]} doesn't unpack: {error}"
                ) from error
            side.append(payload.as_array(plain))
            row[tk.ROW_TYPE], row[tk.ROW_BODY], row[tk.ROW_END] = row_type, at, at + len(plain)
            at += len(plain)
        return (np.concatenate((buffer, *side)) if side else buffer), rows


class Diverged(Exception):
    """The binlog isn't the one that the archive ends in: its text says what is another one."""
