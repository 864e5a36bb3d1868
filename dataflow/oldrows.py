"""Row events to Arrow record batches: one `TableRows` per table definition gathers row images, then builds the batch.

The interface that the rest of the dataflow sees is `TableRows.add` and `TableRows.batch`; nothing outside this file and
dataflow/values.py knows how a row image is laid out.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa

from dataflow import events as ev
from dataflow.framer import Rows, Transaction
from dataflow.tablemap import TableMap
from dataflow.values import Exact, Value, reader
from recovery.archive.segments import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE, segment_schema
from recovery.errors import BinlogDamaged, UnsupportedEvent
from recovery.schema import check_supported

_V2 = frozenset({ev.WRITE_ROWS, ev.UPDATE_ROWS, ev.DELETE_ROWS})
_OPERATION = {
    ev.WRITE_ROWS: INSERT,
    ev.WRITE_ROWS_V1: INSERT,
    ev.DELETE_ROWS: DELETE,
    ev.DELETE_ROWS_V1: DELETE,
}


class TableRows:
    """The row images of one table definition, in order, column by column."""

    def __init__(self, table_map: TableMap) -> None:
        self.table = table_map.table
        check_supported(self.table)
        self._readers = [
            reader(column, wire, self.table.label)
            for column, wire in zip(self.table.columns, table_map.wire, strict=True)
        ]
        self._names = [c.name for c in self.table.columns]
        # Without a key, every column identifies the row, so before images stay whole.
        self._kept = frozenset(self.table.key_indexes) if self.table.key else frozenset(range(len(self._names)))
        self._metadata: list[list[Any]] = [[] for _ in range(11)]
        self._columns: list[list[Value]] = [[] for _ in self._readers]
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._metadata[0])

    def add(self, transaction: Transaction, rows: Rows, ordinal: int) -> int:
        """Decode one row event; gives the next row change's ordinal. Raises BinlogDamaged, UnsupportedEvent or
        UnsupportedColumn."""
        try:
            return self._add(transaction, rows, ordinal)
        except (IndexError, ValueError, struct.error) as error:
            raise BinlogDamaged(
                f"the row event at {transaction.file}:{rows.start} for table `{self.table.label}` doesn't parse: {error}",
                hint="Start capture again; if it recurs, report this with the table's SHOW CREATE TABLE.",
            ) from error

    def _add(self, transaction: Transaction, rows: Rows, ordinal: int) -> int:
        body = rows.body
        at = 8  # table id 6, flags 2
        if rows.type in _V2:
            at += int.from_bytes(body[8:10], "little")  # extra data; the length counts itself
        count, at = _packed(body, at)
        if count != len(self._readers):
            raise ValueError(f"it has {count} columns and its TABLE_MAP {len(self._readers)}")
        bitmap = (count + 7) // 8
        operation = _OPERATION.get(rows.type)
        for _ in range(1 if operation else 2):
            self._require_full(body[at : at + bitmap], count, transaction, rows)
            at += bitmap
        while at < len(body):
            values, spans, at = self._image(body, at)
            if operation:
                self._append(transaction, rows, ordinal, operation, values, None)
            else:
                after, after_spans, at = self._image(body, at)
                changed = [i for i in range(count) if spans[i] != after_spans[i]]
                bits = sum(1 << i for i in changed).to_bytes(bitmap, "little")
                keep = self._kept.union(changed)
                before = [v if i in keep else None for i, v in enumerate(values)]
                self._append(transaction, rows, ordinal, UPDATE_BEFORE, before, bits)
                self._append(transaction, rows, ordinal, UPDATE_AFTER, after, bits)
            ordinal += 1
        self.size_bytes += len(body)
        return ordinal

    def _image(self, body: bytes, at: int) -> tuple[list[Value], list[bytes | None], int]:
        """One row image: values, the raw bytes of each (None for NULL), and where the next thing starts."""
        count = len(self._readers)
        nulls = int.from_bytes(body[at : at + (count + 7) // 8], "little")
        at += (count + 7) // 8
        values: list[Value] = []
        spans: list[bytes | None] = []
        for i, read in enumerate(self._readers):
            if nulls >> i & 1:
                values.append(None)
                spans.append(None)
                continue
            value, end = read(body, at)
            if end > len(body):
                raise ValueError("a value reaches beyond its event")
            values.append(value)
            spans.append(body[at:end])
            at = end
        return values, spans, at

    def _append(
        self,
        transaction: Transaction,
        rows: Rows,
        ordinal: int,
        operation: str,
        values: list[Value],
        changed: bytes | None,
    ) -> None:
        exact = None
        for i, value in enumerate(values):
            if isinstance(value, Exact):
                exact = exact or []
                exact.append((self._names[i], value.text))
                self._columns[i].append(None)
            else:
                self._columns[i].append(value)
        metadata = (
            operation,
            transaction.seq,
            ordinal,
            transaction.committed_at_us,
            transaction.cut_at_us,
            transaction.gtid,
            transaction.file,
            rows.start,
            transaction.connection_id,
            changed,
            exact,
        )
        for cells, cell in zip(self._metadata, metadata, strict=True):
            cells.append(cell)

    def _require_full(self, bitmap: bytes, count: int, transaction: Transaction, rows: Rows) -> None:
        if int.from_bytes(bitmap, "little") & ((1 << count) - 1) != (1 << count) - 1:
            raise UnsupportedEvent(
                f"{transaction.file}:{rows.start} holds a partial row image of table `{self.table.label}`",
                hint="Run `SET GLOBAL binlog_row_image = FULL` on the source, let its sessions reconnect, go on with "
                "`rowback capture --skip-gap`, and take a new snapshot.",
            )

    def batch(self) -> pa.RecordBatch:
        """All rows so far as a record batch of `segment_schema(table)`."""
        schema = segment_schema(self.table)
        cells = [*self._metadata, *self._columns]
        arrays = [_array(column, field.type) for column, field in zip(cells, schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(cells: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_date32(kind):
        return pa.array(cells, pa.int32()).view(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(cells, pa.int64()).view(kind)
    if pa.types.is_decimal(kind):
        assert all(c is None or isinstance(c, Decimal) for c in cells)
    return pa.array(cells, kind)


def _packed(body: bytes, at: int) -> tuple[int, int]:
    first = body[at]
    if first < 251:
        return first, at + 1
    width = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(body[at + 1 : at + 1 + width], "little"), at + 1 + width
