"""What each data object must hold: pure checks of a file's content against what the log says of it. Findings are words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recovery.archive.actions import DataObject, PendingObject, Segment, Transactions
from recovery.archive.replacing import HOUR_US
from recovery.archive.segments import (
    DELETE,
    INSERT,
    TRANSACTIONS_SCHEMA,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    count_operations,
    segment_schema,
)
from recovery.schema import RESERVED_PREFIX, Table, value_fields


def check_segment(segment: Segment, table: Table | None, data: pa.Table) -> Iterator[str]:
    """table: what the log has under the segment's schema_id."""
    if (problem := _misfit(segment.schema_id, table, data)) or table is None:
        yield problem or "its schema isn't in the log"
        return
    found = _span(data, "_rb_seq", "first_seq", "last_seq")
    found |= _span(data, "_rb_cut_at_us", "min_cut_at_us", "max_cut_at_us")
    yield from _differences(segment, found)
    yield from _check_counts(segment, data)
    if segment.min_cut_at_us // HOUR_US != segment.max_cut_at_us // HOUR_US:
        yield "it spans two hours"
    yield from _check_key(segment, table, data)
    yield from _check_places(data)


def check_pending(one: PendingObject, seq: int, table: Table | None, data: pa.Table) -> Iterator[str]:
    """seq: of the PREPARE."""
    if problem := _misfit(one.schema_id, table, data):
        yield problem
        return
    yield from _check_counts(one, data)
    if pc.unique(data["_rb_seq"]).to_pylist() != [seq]:
        yield f"it has rows of other transactions than {seq}"
    yield from _check_places(data)


def _misfit(schema_id: str, table: Table | None, data: pa.Table) -> str:
    metadata = data.schema.metadata or {}
    if table is None or metadata.get(b"rowback.schema_id", b"").decode() != schema_id:
        return f"its footer names another schema than `{schema_id}`"
    wanted = segment_schema(table)
    if data.schema.names != wanted.names or data.schema.types != wanted.types:
        return "its columns aren't those of its schema"
    return ""


def _check_counts(told: Segment | PendingObject, data: pa.Table) -> Iterator[str]:
    counts = count_operations(data["_rb_op"])
    found = {
        "rows": data.num_rows,
        "inserts": counts[INSERT],
        "updates": counts[UPDATE_AFTER],
        "deletes": counts[DELETE],
    }
    yield from _differences(told, found)
    if counts[UPDATE_BEFORE] != counts[UPDATE_AFTER]:
        yield "it has updates with one image"
    if counts.keys() - {INSERT, DELETE, UPDATE_BEFORE, UPDATE_AFTER}:
        yield "it has rows of an unknown operation"


def _check_key(segment: Segment, table: Table, data: pa.Table) -> Iterator[str]:
    if segment.key_min is None or not table.key:
        return
    both = pc.min_max(data[table.column(table.key[0]).archive_name]).as_py()
    if (str(both["min"]), str(both["max"])) != (segment.key_min, segment.key_max):
        yield f"its keys go from `{both['min']}` to `{both['max']}`, which the log says otherwise"


def _check_places(data: pa.Table) -> Iterator[str]:
    """Each row change of a transaction has an ordinal of its own; the images of an update share it."""
    after = pc.not_equal(data["_rb_op"], UPDATE_BEFORE)
    seqs = data["_rb_seq"].filter(after).to_numpy()
    ordinals = data["_rb_ordinal"].filter(after).to_numpy()
    order = np.lexsort((ordinals, seqs))
    if np.any((np.diff(seqs[order]) == 0) & (np.diff(ordinals[order]) == 0)):
        yield "it has a row change twice"


def check_transactions(segment: Transactions, data: pa.Table, cut_at_us: int) -> Iterator[str]:
    """cut_at_us: of the transaction before."""
    if data.schema.names != TRANSACTIONS_SCHEMA.names or data.schema.types != TRANSACTIONS_SCHEMA.types:
        yield "its columns aren't those of a transactions segment"
        return
    if not data.num_rows:
        yield "it is empty"
        return
    found = {"rows": data.num_rows} | _span(data, "seq", "first_seq", "last_seq")
    found |= _span(data, "cut_at_us", "min_cut_at_us", "max_cut_at_us")
    final = data.num_rows - 1
    found |= {"first_file": data["binlog_file"][0].as_py(), "last_file": data["binlog_file"][final].as_py()}
    found |= {"first_position": data["start_position"][0].as_py(), "last_position": data["end_position"][final].as_py()}
    yield from _differences(segment, found)
    if np.any(np.diff(data["seq"].to_numpy()) != 1):
        yield "its seqs aren't one after the other"
    cuts = data["cut_at_us"].to_numpy()
    if np.any(np.diff(cuts) < 0) or cuts[0] < cut_at_us:
        yield "its cut times fall"
    if np.any(data["end_position"].to_numpy() <= data["start_position"].to_numpy()):
        within = pc.less_equal(data["end_position"], data["start_position"])
        yield f"transaction {data.filter(within)['seq'][0].as_py()} ends before it starts"


def check_baseline(one: DataObject, table: Table, data: pa.Table) -> Iterator[str]:
    yield from _differences(one, {"rows": data.num_rows})
    found = {f.name: f.type for f in data.schema if not f.name.startswith(RESERVED_PREFIX)}
    wanted = {f.name: f.type for f in value_fields(table) if not f.name.startswith(RESERVED_PREFIX)}
    if found != wanted:
        yield "its columns aren't those of its table"


def _span(data: pa.Table, column: str, low: str, high: str) -> dict[str, object]:
    both = pc.min_max(data[column]).as_py()
    return {low: both["min"], high: both["max"]}


def _differences(told: object, found: Mapping[str, object]) -> Iterator[str]:
    for name, value in found.items():
        if getattr(told, name) != value:
            yield f"its {name} is {value}, and the log says {getattr(told, name)}"
