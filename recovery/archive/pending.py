"""The objects of XA transactions that are prepared: written before their fate is known, read back to become segments.

    <tenant>/<server>/pending/<seq of the PREPARE>-<hash>-<attempt>.parquet     rows of one table, as in a change segment

Promises: no reader looks here; what `resolved` writes has the same rows in the same order under the seq, GTID, times and
connection of the transaction that committed them, and one object at a time is in memory.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recovery.archive.actions import Pending, PendingObject, Segment
from recovery.archive.encoding import encode_parquet
from recovery.archive.names import Layout
from recovery.archive.segments import DELETE, INSERT, UPDATE_AFTER, count_operations, read_verified, write_segment
from recovery.archive.store import Puts, Store
from recovery.failpoint import failpoint
from recovery.schema import Table


@dataclass(frozen=True)
class Outcome:
    """The transaction that commits an XA transaction: what its rows carry from then on."""

    seq: int
    gtid: str | None
    committed_at_us: int
    cut_at_us: int
    connection_id: int | None


def write_pending(store: Puts, layout: Layout, table: Table, data: pa.Table) -> PendingObject:
    """Upload rows of one prepared transaction and describe them. data: as for a change segment, not empty."""
    body = encode_parquet(data, [table.column(name).archive_name for name in table.key])
    digest = hashlib.sha256(body).hexdigest()
    path = layout.pending(data["_rb_seq"][0].as_py(), digest, secrets.token_hex(4))
    failpoint("segment.encoded")
    store.put(path, body)
    failpoint("segment.uploaded")
    counts = count_operations(data["_rb_op"])
    return PendingObject(
        path=path,
        db=table.db,
        table=table.name,
        schema_id=table.schema_id,
        rows=data.num_rows,
        size_bytes=len(body),
        sha256=digest,
        inserts=counts[INSERT],
        updates=counts[UPDATE_AFTER],
        deletes=counts[DELETE],
    )


def resolved(
    source: Store, into: Puts, layout: Layout, pending: Pending, schemas: Mapping[str, Table], outcome: Outcome
) -> Iterator[Segment]:
    """Read a pending transaction's objects back, each verified, and write them as segments of `outcome`. source, into:
    where they are read and where the segments go. Raises ArchiveDamaged."""
    for held in pending.objects:
        data = read_verified(source, held.path, held.sha256)
        rows = pa.Table.from_batches([with_outcome(b, outcome) for b in data.to_batches()], schema=data.schema)
        yield write_segment(into, layout, schemas[held.schema_id], rows)


def with_outcome(rows: pa.RecordBatch, outcome: Outcome) -> pa.RecordBatch:
    """The rows under another transaction's seq, GTID, times and connection; ordinals and positions stay."""
    given: dict[str, object] = {
        "_rb_seq": outcome.seq,
        "_rb_gtid": outcome.gtid,
        "_rb_committed_at_us": outcome.committed_at_us,
        "_rb_cut_at_us": outcome.cut_at_us,
        "_rb_connection_id": outcome.connection_id,
    }
    columns = [
        _constant(given[field.name], field.type, rows.num_rows) if field.name in given else rows.column(i)
        for i, field in enumerate(rows.schema)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _constant(value: object, of: pa.DataType, length: int) -> pa.Array:
    if value is None:
        return pa.nulls(length, of)
    if pa.types.is_dictionary(of):
        index = pa.array(np.zeros(length, np.int64), of.index_type, safe=False)
        return pa.DictionaryArray.from_arrays(index, pa.array([value], of.value_type))
    return pa.repeat(pa.scalar(value, of), length)


__all__ = ["Outcome", "resolved", "with_outcome", "write_pending"]
