"""Change segments and transactions segments: one Parquet row per row image, and one per transaction.

A change segment holds the row images of one table with one definition, in the order (seq, ordinal, before then after).
Metadata columns come first, under the reserved prefix:

    _rb_op               string   insert | delete | update_before | update_after
    _rb_seq              int64    ordinal of the transaction in this archive, from 1
    _rb_ordinal          int64    ordinal of the row change within its transaction, from 0; both images of an update share it
    _rb_committed_at_us  int64    what the server logged as commit time
    _rb_cut_at_us        int64    never decreases with seq; time targets use it
    _rb_gtid             string   null where the source has no GTIDs
    _rb_binlog_file      string
    _rb_binlog_pos       int64    where the row event starts in that file
    _rb_connection_id    int64    the client's connection on the source; null where the binlog doesn't say
    _rb_flags            uint16   the row event's flags, as in the binlog; null in files of format 2 and older
    _rb_changed          binary   of updates: bit i (byte i//8, lowest bit first) says that table column i changed
    _rb_exact            map      column name -> exact text, for values that the column's type can't hold

then one typed column per table column. `update_before` holds the key and the changed columns, the other cells are null
(tables without a key keep the whole image). docs/FORMAT.md has the SQL that rebuilds the full image.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recovery.archive.actions import Segment, Transactions
from recovery.archive.encoding import encode_parquet
from recovery.archive.names import Layout
from recovery.archive.store import Puts, Store
from recovery.errors import ArchiveDamaged, ObjectNotFound
from recovery.failpoint import failpoint
from recovery.schema import EXACT, EXACT_TYPE, FORMAT, Table, table_metadata, value_fields

INSERT: Final = "insert"
DELETE: Final = "delete"
UPDATE_BEFORE: Final = "update_before"
UPDATE_AFTER: Final = "update_after"

_FLAGS: Final = pa.field("_rb_flags", pa.uint16())
METADATA_FIELDS: Final = [
    pa.field("_rb_op", pa.string(), nullable=False),
    pa.field("_rb_seq", pa.int64(), nullable=False),
    pa.field("_rb_ordinal", pa.int64(), nullable=False),
    pa.field("_rb_committed_at_us", pa.int64(), nullable=False),
    pa.field("_rb_cut_at_us", pa.int64(), nullable=False),
    pa.field("_rb_gtid", pa.string()),
    pa.field("_rb_binlog_file", pa.string(), nullable=False),
    pa.field("_rb_binlog_pos", pa.int64(), nullable=False),
    pa.field("_rb_connection_id", pa.int64()),
    _FLAGS,
    pa.field("_rb_changed", pa.binary()),
    pa.field(EXACT, EXACT_TYPE),
]

# Flags of a row event (MySQL's libs/mysql/binlog/event/rows_event.h, Rows_event::enum_flag; MariaDB's sql/log_event.h).
NO_FOREIGN_KEY_CHECKS: Final = 2  # foreign_key_checks = 0 in its session: InnoDB carries no foreign key out
USE_SQL_FOREIGN_KEY: Final = 16  # MySQL 9.6: what foreign keys did stands in row events of its own

# One row per transaction, in seq order. start_position is where its first event starts, end_position where its last ends.
TRANSACTIONS_SCHEMA: Final = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("gtid", pa.string()),
        pa.field("committed_at_us", pa.int64(), nullable=False),
        pa.field("cut_at_us", pa.int64(), nullable=False),
        pa.field("binlog_file", pa.string(), nullable=False),
        pa.field("start_position", pa.int64(), nullable=False),
        pa.field("end_position", pa.int64(), nullable=False),
        pa.field("connection_id", pa.int64()),
        pa.field("row_changes", pa.int64(), nullable=False),
    ],
    metadata={b"rowback.format": str(FORMAT).encode()},
)


def segment_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a table's change segments, with the table's definition in its metadata."""
    return pa.schema(METADATA_FIELDS + value_fields(table), metadata=table_metadata(table))


def write_segment(store: Puts, layout: Layout, table: Table, data: pa.Table) -> Segment:
    """Upload one change segment under a name of its own and describe it. Nothing refers to it before the commit.

    data: rows of `segment_schema(table)`, sorted by (seq, ordinal), not empty. Text columns may come dictionary-encoded.
    """
    body = encode_parquet(data, [table.column(name).archive_name for name in table.key])
    digest = hashlib.sha256(body).hexdigest()
    first, last = _bounds(data["_rb_seq"])
    min_cut, max_cut = _bounds(data["_rb_cut_at_us"])
    path = layout.segment(table.db, table.name, min_cut, first, last, digest, secrets.token_hex(4))
    failpoint("segment.encoded")
    store.put(path, body)
    failpoint("segment.uploaded")
    counts = count_operations(data["_rb_op"])
    key_min, key_max = _key_bounds(table, data)
    return Segment(
        path=path,
        db=table.db,
        table=table.name,
        schema_id=table.schema_id,
        rows=data.num_rows,
        size_bytes=len(body),
        sha256=digest,
        first_seq=first,
        last_seq=last,
        min_cut_at_us=min_cut,
        max_cut_at_us=max_cut,
        inserts=counts[INSERT],
        updates=counts[UPDATE_AFTER],
        deletes=counts[DELETE],
        key_min=key_min,
        key_max=key_max,
    )


def write_transactions(store: Puts, layout: Layout, data: pa.Table) -> Transactions:
    """Upload one transactions segment (rows of TRANSACTIONS_SCHEMA in seq order, not empty) and describe it."""
    body = encode_parquet(data, ("gtid",))
    digest = hashlib.sha256(body).hexdigest()
    first, last = _bounds(data["seq"])
    min_cut, max_cut = _bounds(data["cut_at_us"])
    path = layout.transactions(min_cut, first, last, digest, secrets.token_hex(4))
    failpoint("segment.encoded")
    store.put(path, body)
    failpoint("segment.uploaded")
    final = data.num_rows - 1
    return Transactions(
        path=path,
        rows=data.num_rows,
        size_bytes=len(body),
        sha256=digest,
        first_seq=first,
        last_seq=last,
        min_cut_at_us=min_cut,
        max_cut_at_us=max_cut,
        first_file=data["binlog_file"][0].as_py(),
        first_position=data["start_position"][0].as_py(),
        last_file=data["binlog_file"][final].as_py(),
        last_position=data["end_position"][final].as_py(),
    )


@dataclass(frozen=True)
class Verified:
    """An object's bytes, proved to be those that the log recorded."""

    path: str
    body: bytes


def fetch_verified(store: Store, path: str, sha256: str) -> Verified:
    """Read an object whole and check it against the log. Raises ArchiveDamaged naming the object."""
    try:
        body = store.get(path)
    except ObjectNotFound as error:
        raise ArchiveDamaged(
            f"object `{path}` is missing from the archive",
            hint="Bring it back from the store's own versioning or a copy; a restore that doesn't need it still works.",
        ) from error
    if hashlib.sha256(body).hexdigest() != sha256:
        raise ArchiveDamaged(
            f"object `{path}` doesn't have the bytes that were recorded for it",
            hint="Bring it back from the store's own versioning or a copy; a restore that doesn't need it still works.",
        )
    return Verified(path, body)


def read_segment(store: Store, segment: Segment, columns: Sequence[str] | None = None) -> pa.Table:
    """A change segment's rows, verified. columns: only these; None for all."""
    return read_verified(store, segment.path, segment.sha256, columns)


def read_verified(store: Store, path: str, sha256: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of any Parquet object of the archive. Raises ArchiveDamaged unless it has these bytes."""
    return _parse(fetch_verified(store, path, sha256), columns)


def read_transactions(store: Store, segments: Sequence[Transactions]) -> Iterator[pa.Table]:
    """Transactions segments, verified, one table each, in the given order."""
    for segment in segments:
        yield _parse(fetch_verified(store, segment.path, segment.sha256))


def _parse(verified: Verified, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        # Not pq.read_table: it leaves the source to a pool thread, which may let go of it after the interpreter's end and
        # then aborts the process (seen with pyarrow 26, in one of eight short runs).
        source = pa.BufferReader(verified.body)
        file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False)
        return (
            with_flags(file.read(use_threads=False)) if columns is None else file.read(list(columns), use_threads=False)
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise ArchiveDamaged(
            f"object `{verified.path}` is not a readable Parquet file: {error}",
            hint="It has the recorded bytes, so it was written wrong: please report this with the object's name.",
        ) from error


def with_flags(data: pa.Table) -> pa.Table:
    """Change segments of format 2 and older have no flags: they are unknown."""
    if "_rb_op" not in data.schema.names or "_rb_flags" in data.schema.names:
        return data
    return data.add_column(data.schema.get_field_index("_rb_changed"), _FLAGS, pa.nulls(data.num_rows, _FLAGS.type))


def count_operations(column: pa.ChunkedArray) -> Counter[str]:
    """How often each value stands in a column; by chunk, for each may have a dictionary of its own."""
    counts: Counter[str] = Counter()
    for chunk in column.chunks:
        for row in pc.value_counts(chunk).to_pylist():
            counts[row["values"]] += row["counts"]
    return counts


def _bounds(column: pa.ChunkedArray) -> tuple[int, int]:
    both = pc.min_max(column).as_py()
    return both["min"], both["max"]


def _key_bounds(table: Table, data: pa.Table) -> tuple[str | None, str | None]:
    """Smallest and largest first key column as text; (None, None) unless it is an integer or text without exact values."""
    if not table.key:
        return None, None
    column = data[table.column(table.key[0]).archive_name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_integer(column.type) or pa.types.is_string(column.type)) or column.null_count:
        return None, None
    both = pc.min_max(column).as_py()
    return str(both["min"]), str(both["max"])
