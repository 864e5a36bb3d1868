"""The window step: change batches gathered until a window is old, long or large enough, always at a transaction end.

Promises: a window holds whole transactions and their checkpoint, whatever batch it was closed at: rows of a transaction
that is still open stay for the next one. A transaction that alone fills a window goes ahead in Parts. At the end of the
input the open transaction is dropped (the next start reads it again) and a last Pulse makes the sink wait for its commits.
Holds state in memory only: what isn't committed is read from the source again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bytewax.operators import StatefulBatchLogic

from dataflow.batches import (
    ChangeBatch,
    Changes,
    Dropped,
    Item,
    Part,
    Prepared,
    Pulse,
    Resolved,
    Stop,
    Window,
    buffered,
)
from dataflow.xa import settle
from recovery.archive.actions import Checkpoint, Ddl
from recovery.errors import BinlogDamaged
from recovery.failpoint import failpoint
from recovery.schema import Table

IDLE_COMMIT_S = 300  # an idle source's heartbeats become one commit per this many seconds at most
SECONDS_PER_OBJECT = 2.0  # a window that holds little may wait this long for each object that it would make
FULL_OBJECT_BYTES = 256 * 1024  # of binlog events per object: from here on a window doesn't hold little
PULSE_S = (1.0, 30.0)  # after a window: the first pulse, and the longest pause between later ones
HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Limits:
    """When a window closes. seconds, max_seconds: its age by the system's clock, from its first transaction on; the
    second while it holds little. rows, size_bytes: row images, and bytes of binlog events. held_bytes: of Arrow buffers."""

    seconds: float
    rows: int
    size_bytes: int
    max_seconds: float = 0
    held_bytes: int = 64 * 1024 * 1024

    def age_s(self, objects: int, size_bytes: int) -> float:
        """How old a window that would make `objects` objects may become: in proportion to them, unless they are full."""
        if size_bytes >= objects * FULL_OBJECT_BYTES:
            return self.seconds
        return max(self.seconds, min(self.max_seconds, objects * SECONDS_PER_OBJECT))


class WindowLogic(StatefulBatchLogic[ChangeBatch | Stop, Item, None]):
    """One server's open window. limits: by server."""

    def __init__(self, limits: Mapping[str, Limits]) -> None:
        self._all_limits = limits
        self._server = ""
        self._generation = 0
        self._last_commit = datetime.now(UTC)
        self._pulse_s = PULSE_S[0]
        self._pulse_at: datetime | None = None
        self._begin()

    def _begin(self) -> None:
        """As if nothing had come yet: at the start, and behind a Stop, which a new generation may follow."""
        self._open = False  # the last batch ended inside a transaction
        self._ordinal = -1  # of that transaction's last row change seen
        self._xa = False  # it is prepared, not committed: its rows aren't its own yet
        self._parts = self._parts_seq = 0  # how many Parts went ahead, and of which transaction
        self._parts_xids: set[str] = set()  # XA transactions of which they had rows
        self._changes: dict[str, tuple[Table, list[pa.RecordBatch]]] = {}
        self._prepared: list[Prepared] = []
        self._ddl: list[Ddl] = []
        self._before: Checkpoint | None = None
        self._after: Checkpoint | None = None
        self._clear()

    def _clear(self) -> None:
        """Begin a new window behind the last one; rows of the open transaction stay."""
        self._before = self._after
        self._resolved: list[Resolved] = []
        self._transactions: list[pa.RecordBatch] = []
        self._rows = sum(b.num_rows for _, batches in self._held() for b in batches)
        self._held_bytes = sum(buffered(b) for _, batches in self._held() for b in batches)
        self._size = 0
        self._opened_at: datetime | None = None
        self._idle_until: datetime | None = None

    def _held(self) -> Iterable[tuple[Table, Iterable[pa.RecordBatch]]]:
        yield from self._changes.values()
        for prepared in self._prepared:
            yield from ((table, (rows,)) for table, rows in prepared.changes)

    def on_batch(self, batch: list[ChangeBatch | Stop]) -> tuple[Iterable[Item], bool]:
        out: list[Item] = []
        for item in batch:
            self._server, self._generation = item.server, item.generation
            self._limits = self._all_limits[item.server]
            if isinstance(item, Stop):
                out.extend(self._close())
                out.append(item)
                self._begin()
                self._pulse_at = None
                continue
            out.extend(self._restarted(item))
            if self._next_hour(item):
                out.extend(self._close())
            self._take(item)
            if self._full() or (self._parts and item.after.seq >= self._parts_seq):
                out.extend(self._close())
            if self._open and self._full():
                out.append(self._spill())
        return out, StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[Iterable[Item], bool]:
        now = datetime.now(UTC)
        out: list[Item] = []
        due = self._due()
        if due is not None and due <= now:
            out.extend(self._close())
        if self._pulse_at is not None and self._pulse_at <= now:
            out.append(Pulse(self._server, self._generation, flush=False))
            self._pulse_s = min(self._pulse_s * 2, PULSE_S[1])
            self._pulse_at = now + timedelta(seconds=self._pulse_s)
        return out, StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[Item], bool]:
        return [*self._close(), Pulse(self._server, self._generation, flush=True)], StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        times = [t for t in (self._due(), self._pulse_at) if t is not None]
        return min(times, default=None)

    def snapshot(self) -> None:
        return None

    def _due(self) -> datetime | None:
        if self._opened_at is None:
            return self._idle_until
        age = self._limits.age_s(len(self._changes) + 2, self._size)  # with the transactions segment and the log object
        return self._opened_at + timedelta(seconds=age)

    def _full(self) -> bool:
        limits = self._limits
        return self._rows >= limits.rows or self._size >= limits.size_bytes or self._held_bytes >= limits.held_bytes

    def _next_hour(self, item: ChangeBatch) -> bool:
        """Whether the batch's transactions begin in another hour than the window's last one, so that no file spans two."""
        if not self._transactions or self._after is None or not item.transactions.num_rows:
            return False
        first: int = item.transactions["cut_at_us"][0].as_py()
        return first // HOUR_US != self._after.cut_at_us // HOUR_US

    def _restarted(self, item: ChangeBatch) -> list[Item]:
        """A lost connection is mended by reading the open transaction again, and so is a rollback of what has been read:
        what was held of it is dropped."""
        if not self._open or self._after is None or item.continued:
            return []
        seq = self._after.seq + 1
        self._changes = _grouped(_split(self._changes, self._after.seq)[0])
        self._prepared = [p for p in self._prepared if p.seq < seq]
        self._ddl = [d for d in self._ddl if d.seq < seq]
        dropped: list[Item] = [Dropped(self._server, self._generation)] if self._parts else []
        self._parts, self._parts_xids, self._ordinal, self._open, self._xa = 0, set(), -1, False, False
        return dropped

    def _take(self, item: ChangeBatch) -> None:
        now = datetime.now(UTC)
        was_open, before = self._open, self._after
        if self._before is None:
            self._before = item.before
        self._after = item.after
        for table, rows in item.changes:
            self._changes.setdefault(table.schema_id, (table, []))[1].append(rows)
            self._rows += rows.num_rows
            self._held_bytes += buffered(rows)
        for prepared in item.prepared:
            self._prepared.append(prepared)
            self._rows += sum(rows.num_rows for _, rows in prepared.changes)
            self._held_bytes += sum(buffered(rows) for _, rows in prepared.changes)
        if was_open and before is not None:
            self._follow(item, before.seq + 1)
        if item.transactions.num_rows:
            if self._opened_at is None:
                self._opened_at = now
            self._transactions.append(item.transactions)
        elif self._idle_until is None and not item.open:
            self._idle_until = max(now, self._last_commit + timedelta(seconds=IDLE_COMMIT_S))
        self._ddl.extend(item.ddl)
        self._resolved.extend(item.resolved)
        self._size += item.size_bytes
        self._open = item.open
        if item.open and not (was_open and before is not None and item.after.seq == before.seq):
            self._ordinal = _last_ordinal(item, item.after.seq + 1)
            self._xa = False
        self._xa = self._xa or any(p.seq > item.after.seq for p in item.prepared)

    def _follow(self, item: ChangeBatch, seq: int) -> None:
        """The open transaction goes on in this batch, and perhaps ends: then it must have exactly the row changes that
        were seen. A server that comes back from a crash without it gives its seq to another one."""
        self._ordinal = max(self._ordinal, _last_ordinal(item, seq))
        if item.after.seq < seq:
            return
        row = item.transactions.slice(0, 1)
        (found,) = row["seq"].to_pylist() or [None]
        (changes,) = row["row_changes"].to_pylist() or [None]
        expected = 0 if self._xa else self._ordinal + 1
        if found != seq or changes != expected:
            raise BinlogDamaged(
                f"transaction {seq} ended with {changes} row changes, and {expected} came before its end",
                hint="Start capture again: it reads the transaction from its beginning.",
            )

    def _close(self) -> list[Item]:
        """The window with what is complete, if anything is."""
        if self._before is None or self._after is None or self._before == self._after:
            self._opened_at = self._idle_until = None
            return []
        last = self._after.seq
        whole, rest = _split(self._changes, last) if self._open else (_changes(self._changes), ())
        changes, transactions, prepared, resolved = settle(
            whole,
            self._transactions,
            [p for p in self._prepared if p.seq <= last],
            self._resolved,
            self._parts_xids,
        )
        window = Window(
            server=self._server,
            generation=self._generation,
            before=self._before,
            after=self._after,
            changes=changes,
            transactions=transactions,
            ddl=tuple(d for d in self._ddl if d.seq <= last),  # CREATE TABLE .. SELECT may be open
            prepared=prepared,
            resolved=resolved,
            parts=self._parts,
        )
        self._changes = _grouped(rest)
        self._prepared = [p for p in self._prepared if p.seq > last]
        self._ddl = [d for d in self._ddl if d.seq > last]
        self._parts, self._parts_xids = 0, set()
        self._clear()
        failpoint("window.closed")
        self._last_commit = datetime.now(UTC)
        self._pulse_s = PULSE_S[0]
        self._pulse_at = self._last_commit + timedelta(seconds=self._pulse_s)
        return [window]

    def _spill(self) -> Part:
        """What is held of the open transaction, ahead of its end; nothing else is held now."""
        part = Part(self._server, self._generation, _changes(self._changes), tuple(self._prepared))
        assert self._after is not None
        self._parts, self._parts_seq = self._parts + 1, self._after.seq + 1
        self._parts_xids.update(p.xid for p in self._prepared)
        self._changes, self._prepared = {}, []
        self._rows = self._held_bytes = self._size = 0
        return part


def _last_ordinal(item: ChangeBatch, seq: int) -> int:
    """Of a transaction's row changes in a batch; -1 if it has none there."""
    last = -1
    prepared = [pair for p in item.prepared if p.seq == seq for pair in p.changes]
    for _, rows in (*item.changes, *prepared):
        first, end = np.searchsorted(rows["_rb_seq"].to_numpy(), [seq, seq + 1])
        if first < end:
            last = max(last, pc.max(rows["_rb_ordinal"].slice(int(first), int(end - first))).as_py())
    return last


def _changes(held: dict[str, tuple[Table, list[pa.RecordBatch]]]) -> Changes:
    return tuple((table, tuple(batches)) for table, batches in held.values())


def _grouped(changes: Changes) -> dict[str, tuple[Table, list[pa.RecordBatch]]]:
    return {table.schema_id: (table, list(batches)) for table, batches in changes}


def _split(held: dict[str, tuple[Table, list[pa.RecordBatch]]], last_seq: int) -> tuple[Changes, Changes]:
    """The rows up to a transaction and those after it, as slices: rows ascend by seq."""
    whole: list[tuple[Table, tuple[pa.RecordBatch, ...]]] = []
    rest: list[tuple[Table, tuple[pa.RecordBatch, ...]]] = []
    for table, batches in held.values():
        cuts = [int(np.searchsorted(b["_rb_seq"].to_numpy(), last_seq, side="right")) for b in batches]
        for into, parts in (
            (whole, tuple(b.slice(0, cut) for b, cut in zip(batches, cuts, strict=True) if cut)),
            (rest, tuple(b.slice(cut) for b, cut in zip(batches, cuts, strict=True) if cut < b.num_rows)),
        ):
            if parts:
                into.append((table, parts))
    return tuple(whole), tuple(rest)
