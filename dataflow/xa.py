"""XA transactions that are prepared and end within one window: their rows join the window's others, in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataflow.batches import Changes, Prepared, Resolved
from recovery.archive.pending import Outcome, with_outcome
from recovery.archive.segments import UPDATE_AFTER
from recovery.schema import Table


def outcome_of(resolved: Resolved) -> Outcome:
    return Outcome(resolved.seq, resolved.gtid, resolved.committed_at_us, resolved.cut_at_us, resolved.connection_id)


def settle(
    changes: Changes,
    transactions: Sequence[pa.RecordBatch],
    prepared: Sequence[Prepared],
    resolved: Sequence[Resolved],
    elsewhere: Collection[str],
) -> tuple[Changes, tuple[pa.RecordBatch, ...], tuple[Prepared, ...], tuple[Resolved, ...]]:
    """(changes, transactions) with the rows of those XA transactions that are here from PREPARE to COMMIT, and what of
    (prepared, resolved) is left: still pending, or prepared before. elsewhere: xids of which rows have gone ahead in Parts.
    Rows join behind the others of their table: sorting is the writer's."""
    if not resolved:
        return changes, tuple(transactions), tuple(prepared), ()
    grouped: dict[str, tuple[Table, list[pa.RecordBatch]]] = {t.schema_id: (t, list(b)) for t, b in changes}
    waiting: dict[str, list[Prepared]] = {}
    for p in prepared:
        waiting.setdefault(p.xid, []).append(p)
    late: list[Resolved] = []
    counts: dict[int, int] = {}
    for r in resolved:
        mine = [p for p in waiting.get(r.xid, ()) if p.seq <= r.seq]
        if not mine or r.xid in elsewhere:
            late.append(r)
            continue
        waiting[r.xid] = [p for p in waiting[r.xid] if p.seq > r.seq]
        if not r.committed:
            continue
        outcome = outcome_of(r)
        for table, rows in (pair for p in mine for pair in p.changes):
            grouped.setdefault(table.schema_id, (table, []))[1].append(with_outcome(rows, outcome))
            counts[r.seq] = counts.get(r.seq, 0) + row_changes(rows)
    left = tuple(p for p in prepared if any(p is w for w in waiting[p.xid]))
    whole = tuple((table, tuple(batches)) for table, batches in grouped.values())
    return whole, with_row_changes(transactions, counts), left, tuple(late)


def row_changes(rows: pa.RecordBatch) -> int:
    """How many row changes these images are of: an update's two are one."""
    after = pc.sum(pc.equal(rows["_rb_op"].cast(pa.string()), UPDATE_AFTER)).as_py()
    changes: int = rows.num_rows - (after or 0)
    return changes


def with_row_changes(transactions: Sequence[pa.RecordBatch], counts: Mapping[int, int]) -> tuple[pa.RecordBatch, ...]:
    """The transactions with these row changes, by seq, for those that are named."""
    out: list[pa.RecordBatch] = []
    for part in transactions:
        seqs = part["seq"].to_numpy()
        mine = {seq: n for seq, n in counts.items() if len(seqs) and seqs[0] <= seq <= seqs[-1]}
        if mine:
            numbers = np.array(part["row_changes"].to_numpy())
            for seq, n in mine.items():
                numbers[seq - seqs[0]] = n
            at = part.schema.get_field_index("row_changes")
            part = part.set_column(at, part.schema.field(at), pa.array(numbers))
        out.append(part)
    return tuple(out)
