"""XA transactions between PREPARE and COMMIT in the fold of the log: which are pending, and what ends them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recovery.archive.actions import Pending, PendingEnd, Segment
from recovery.archive.replacing import Removed, must
from recovery.schema import Table


def fold_pending(
    known: Sequence[Pending],
    new: Sequence[Pending],
    ends: Sequence[PendingEnd],
    segments: Sequence[Segment],
    schemas: Mapping[str, Table],
    seqs: tuple[int, int],
    version: int,
) -> tuple[Sequence[Pending], list[Removed]]:
    """(what is pending after a commit, the objects that no longer count). Ends come first: an xid may be used again.

    segments: the commit's. seqs: its transactions are those above the first and up to the second. Raises InvariantError.
    """
    if not new and not ends:
        return known, []
    first, last = seqs
    pending = {p.xid: p for p in known}
    removed: list[Removed] = []
    for end in ends:
        of = pending.pop(end.xid, None)
        must(of is not None and of.seq == end.prepared_seq, f"ends the XA transaction {end.xid}, which isn't pending")
        assert of is not None
        must(first < end.seq <= last, f"ends an XA transaction with transaction {end.seq}, which isn't its own")
        mine = [s for s in segments if s.first_seq == s.last_seq == end.seq]
        changes = sum(s.inserts + s.updates + s.deletes for s in mine)
        must(
            changes == (of.row_changes if end.committed else changes),
            f"brings {changes} row changes of the XA transaction {end.xid}, which had prepared {of.row_changes}",
        )
        removed.extend(Removed(o.path, version) for o in of.objects)
    for action in new:
        must(action.xid not in pending, f"prepares the XA transaction {action.xid} a second time")
        must(first < action.seq <= last, f"holds the XA transaction of transaction {action.seq}, which isn't its own")
        for o in action.objects:
            must(o.schema_id in schemas, f"refers to the schema `{o.schema_id}`, which no commit holds")
        counted = sum(o.inserts + o.updates + o.deletes for o in action.objects)
        must(counted == action.row_changes, f"says {action.row_changes} row changes for {counted} of {action.xid}")
        pending[action.xid] = action
    return tuple(pending.values()), removed
