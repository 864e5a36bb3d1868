"""Which objects a window or a part of one makes, as jobs for the upload threads.

Promises: each object has rows of one table and one hour (or of one prepared XA transaction), ordered by seq and ordinal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from dataflow.batches import Part, Prepared, Window, buffered
from recovery.archive.actions import PendingObject, Segment, Transactions
from recovery.archive.names import Layout
from recovery.archive.pending import write_pending
from recovery.archive.segments import write_segment, write_transactions
from recovery.archive.store import Puts
from recovery.schema import Table

HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True)
class PendingRows:
    """An uploaded object of the XA transaction `xid` that transaction `seq` prepares."""

    xid: str
    seq: int
    object: PendingObject


Uploaded: TypeAlias = Segment | Transactions | PendingRows


def jobs(item: Window | Part, store: Puts, layout: Layout) -> Iterator[tuple[int, Callable[[], Uploaded]]]:
    """(bytes of rows, the upload) for each object of the item. The transactions segment of a window that ends an XA
    transaction from before it isn't among them: what the window holds doesn't say how many changes that one had."""
    for table, batches in item.changes:
        rows = ordered(batches)
        for data in by_hour(rows, "_rb_cut_at_us"):
            yield buffered(rows) * data.num_rows // rows.num_rows, partial(write_segment, store, layout, table, data)
    for prepared, table, data in _prepared(item.prepared):
        yield buffered(data), partial(_write_prepared, store, layout, prepared, table, data)
    if isinstance(item, Window) and item.transactions and not item.resolved:
        rows = pa.Table.from_batches(item.transactions)
        for data in by_hour(rows, "cut_at_us"):
            yield buffered(rows) * data.num_rows // rows.num_rows, partial(write_transactions, store, layout, data)


def ordered(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The rows of one table by seq; they nearly always ascend already. Those of an XA transaction that was committed in
    the same window stand at the end, and two definitions in the binlog may be one to us."""
    data = pa.Table.from_batches(batches)
    spans = [(b["_rb_seq"][0].as_py(), b["_rb_seq"][-1].as_py()) for b in batches if b.num_rows]
    if all(a[1] <= b[0] for a, b in pairwise(spans)):
        return data
    data = data.unify_dictionaries().combine_chunks()
    # lexsort is stable: the two images of an update, which have one ordinal, stay as they stand.
    seqs, ordinals = data["_rb_seq"].to_numpy(), data["_rb_ordinal"].to_numpy()
    return data.take(pa.array(np.lexsort((ordinals, seqs))))


def by_hour(data: pa.Table, column: str) -> Iterator[pa.Table]:
    """The data in parts that each lie within one hour. Cut times ascend, so each is a slice, and nearly always the only
    one: the window step closes at the hour."""
    times = data[column]
    first, last = times[0].as_py() // HOUR_US, times[len(times) - 1].as_py() // HOUR_US
    if first == last:
        yield data
        return
    hours = times.to_numpy() // HOUR_US
    starts = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(hours)]
    for start, end in pairwise(starts):
        yield data.slice(start, end - start)


def _prepared(prepared: Sequence[Prepared]) -> Iterator[tuple[Prepared, Table, pa.Table]]:
    """Rows of each XA transaction and table together."""
    found: dict[tuple[str, int, str], tuple[Prepared, Table, list[pa.RecordBatch]]] = {}
    for p in prepared:
        for table, rows in p.changes:
            found.setdefault((p.xid, p.seq, table.schema_id), (p, table, []))[2].append(rows)
    for p, table, batches in found.values():
        yield p, table, ordered(batches)


def _write_prepared(store: Puts, layout: Layout, prepared: Prepared, table: Table, data: pa.Table) -> PendingRows:
    return PendingRows(prepared.xid, prepared.seq, write_pending(store, layout, table, data))
