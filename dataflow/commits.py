"""From a window whose objects are uploaded to its commit.

    Closed  what is left of a window once its rows are on their way
    Ready   its commit, made up: the actions, and what they follow on

Promises: a commit takes effect only if the archive ends exactly where its window begins, whoever makes it and however
often: `Ready` has its commit id, so that one which had landed is found instead of made twice.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from dataflow.batches import Part, Resolved, Window
from dataflow.uploads import PendingRows, Uploaded, by_hour
from dataflow.xa import outcome_of, with_row_changes
from recovery.archive.actions import Action, Checkpoint, Ddl, Pending, PendingEnd, SchemaSeen, Segment, Transactions
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.pending import resolved
from recovery.archive.segments import write_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import CommitConflict, UnsupportedEvent
from recovery.failpoint import failpoint
from recovery.schema import Table

Xid: TypeAlias = tuple[str, int]  # an XA transaction and the seq of its PREPARE


@dataclass(frozen=True)
class Archive:
    """One server's archive. spool_folder, spool_bytes: where closed windows wait while the store is away; 0: nowhere."""

    store: Store
    layout: Layout
    log: Log
    spool_folder: Path | None = None
    spool_bytes: int = 0


@dataclass(frozen=True)
class Closed:
    """A window without its rows. tables: by schema id, those of its segments and pending objects. prepared: XA transactions
    that begin here. transactions: only where `resolved` is not empty, for their segment is then still to be written."""

    generation: int
    before: Checkpoint
    after: Checkpoint
    ddl: tuple[Ddl, ...]
    tables: Mapping[str, Table]
    prepared: tuple[Xid, ...]
    resolved: tuple[Resolved, ...]
    transactions: tuple[pa.RecordBatch, ...]
    began: float
    commit_id: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True)
class Ready:
    """A commit, made up. actions: with every schema of its objects; those that the log has already are left out."""

    commit_id: str
    generation: int
    before: Checkpoint
    actions: tuple[Action, ...]

    @property
    def after(self) -> Checkpoint:
        found = self.actions[-1]
        assert isinstance(found, Checkpoint)
        return found


def close(window: Window, parts: Sequence[Part]) -> Closed:
    """parts: those that went ahead of it, without their rows."""
    items: list[Window | Part] = [*parts, window]
    tables = {table.schema_id: table for item in items for table, _ in item.changes}
    tables |= {table.schema_id: table for item in items for p in item.prepared for table, _ in p.changes}
    return Closed(
        generation=window.generation,
        before=window.before,
        after=window.after,
        ddl=window.ddl,
        tables=tables,
        prepared=tuple(dict.fromkeys((p.xid, p.seq) for item in items for p in item.prepared)),
        resolved=window.resolved,
        transactions=window.transactions if window.resolved else (),
        began=time.monotonic(),
    )


def ready(archive: Archive, state: ArchiveState, closed: Closed, uploaded: Sequence[Uploaded]) -> Ready:
    """Make the commit up. For XA transactions that end here and were prepared before, their objects are read and written
    again, and the transactions segment is written. state: the archive's head just before this commit. Raises
    UnsupportedEvent for a committed one whose rows were never captured."""
    begun = {xid: _pending(xid, uploaded) for xid in closed.prepared}
    if begun:
        failpoint("xa.pending")
    objects: list[Action] = [u for u in uploaded if not isinstance(u, PendingRows)]
    ends: list[PendingEnd] = []
    counts: dict[int, int] = {}
    schemas = {**state.schemas, **closed.tables}
    for r in closed.resolved:
        own = next((x for x in begun if x[0] == r.xid and x[1] <= r.seq), None)
        pending = begun.pop(own) if own else _known(state, r.xid)
        if pending is None:
            if r.committed:
                raise _never_captured(r)
            continue
        if own is None:
            ends.append(PendingEnd(r.xid, pending.seq, r.seq, r.committed))
        if r.committed:
            failpoint("xa.commit")
            segments = resolved(archive.store, archive.store, archive.layout, pending, schemas, outcome_of(r))
            objects.extend(segments)
            counts[r.seq] = pending.row_changes
    if closed.transactions:
        rows = pa.Table.from_batches(with_row_changes(closed.transactions, counts))
        objects.extend(write_transactions(archive.store, archive.layout, part) for part in by_hour(rows, "cut_at_us"))
    ends.extend(_given_up(state, ends, list(begun.values())))
    seen = [SchemaSeen(schema_id, closed.before.seq + 1, table) for schema_id, table in closed.tables.items()]
    actions = (*seen, *objects, *ends, *begun.values(), *closed.ddl, closed.after)
    return Ready(closed.commit_id, closed.generation, closed.before, actions)


def commit(log: Log, state: ArchiveState, what: Ready) -> ArchiveState:
    """Commit it. Raises Fenced if another capture has taken over, CommitConflict if the archive doesn't end where the window
    begins, StoreUnavailable if the outcome isn't known: repeat it with the same `what`."""

    def build(head: ArchiveState) -> Sequence[Action]:
        check_follows(head, what.before)
        return [a for a in what.actions if not (isinstance(a, SchemaSeen) and a.schema_id in head.schemas)]

    return log.commit(state, build, generation=what.generation, commit_id=what.commit_id)


def check_follows(head: ArchiveState, before: Checkpoint) -> None:
    """Raises CommitConflict unless the archive ends exactly where a window begins."""
    if not follows(head, before):
        at = head.checkpoint
        raise CommitConflict(
            f"the archive is at seq {at.seq if at else 0} and this window follows on seq {before.seq}",
            hint="Another capture wrote in between; start again, it resumes from the archive.",
        )


def follows(head: ArchiveState, before: Checkpoint) -> bool:
    """Positions aren't compared: the GTIDs and seq say more, and a source that takes over from another has positions of
    its own."""
    return head.checkpoint is not None and _place(head.checkpoint) == _place(before)


def _place(at: Checkpoint) -> tuple[int, int, int, str]:
    return at.seq, at.cut_at_us, at.covered_to_us, at.gtid_set


def counted(what: Ready) -> tuple[int, int, int]:
    """(transactions, row images, objects) of a commit."""
    transactions = sum(a.rows for a in what.actions if isinstance(a, Transactions))
    segments = [a for a in what.actions if isinstance(a, Segment)]
    return transactions, sum(s.rows for s in segments), len(segments) + (transactions > 0)


def _pending(xid: Xid, uploaded: Sequence[Uploaded]) -> Pending:
    mine = tuple(u.object for u in uploaded if isinstance(u, PendingRows) and (u.xid, u.seq) == xid)
    return Pending(*xid, sum(o.inserts + o.updates + o.deletes for o in mine), mine)


def _known(state: ArchiveState, xid: str) -> Pending | None:
    return next((p for p in state.pending if p.xid == xid), None)


def _given_up(state: ArchiveState, ends: Sequence[PendingEnd], begun: Sequence[Pending]) -> Iterator[PendingEnd]:
    """Pending ones whose xid is prepared again: they ended in a gap."""
    ended = {end.xid for end in ends}
    for new in begun:
        old = _known(state, new.xid)
        if old is not None and new.xid not in ended:
            yield PendingEnd(old.xid, old.seq, new.seq, committed=False)


def _never_captured(r: Resolved) -> UnsupportedEvent:
    return UnsupportedEvent(
        f"transaction {r.seq} commits the XA transaction {r.xid}, which was prepared before this archive begins: its rows "
        "are not in it",
        hint="Go on behind it with `rowback capture --skip-gap` and take a new snapshot; XA RECOVER lists "
        "those that should be ended before a capture begins.",
    )
