"""The typed base state: one table's rows as Parquet files, written and uploaded chunk by chunk.

Promises: a file is uploaded whole before it is named in the result, and nothing refers to it before the commit. Memory
and staging space are bounded by one chunk, whatever the table's size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from recovery.archive.actions import Baseline, DataObject
from recovery.archive.names import Layout
from recovery.archive.store import Store
from recovery.errors import DumperFailed
from recovery.schema import EXACT_TYPE, Table, baseline_schema
from recovery.snapshot.values import Exacts, Raw, convert

_BLOCK: Final = 1 << 20


class BaselineWriter:
    """Takes one table's rows in chunks; `objects` and `rows` are what has been uploaded so far."""

    def __init__(self, store: Store, layout: Layout, snapshot_id: str, table: Table, staging: Path) -> None:
        self.table = table
        self.objects: list[DataObject] = []
        self.rows = 0
        self._store, self._layout = store, layout
        self._snapshot_id = snapshot_id
        self._staging = staging
        self._schema = baseline_schema(table)

    def write(self, columns: Sequence[str], values: Sequence[Sequence[Raw]]) -> None:
        """Upload rows given by column: every column of the table, by name, in any order. Raises DumperFailed if one is
        missing, UnsupportedColumn for a value that doesn't fit."""
        by_name = dict(zip(columns, values, strict=True))
        if set(by_name) != {c.name for c in self.table.columns} or len(by_name) != len(columns):
            raise DumperFailed(
                f"the dump of table `{self.table.label}` doesn't have the table's columns",
                hint="The table was altered while the snapshot ran: take it again.",
            )
        data = to_arrow(self.table, self._schema, [by_name[c.name] for c in self.table.columns])
        self.write_typed(data)

    def write_typed(self, data: pa.Table) -> None:
        """The same with rows that are typed already, in the schema of `baseline_schema`."""
        if data.num_rows:
            self._upload(data)

    def baseline(self, create_statement: str) -> Baseline:
        """What has been written, for the commit. create_statement: the server's SHOW CREATE TABLE."""
        table = self.table
        return Baseline(
            db=table.db,
            table=table.name,
            schema_id=table.schema_id,
            definition=table,
            create_statement=create_statement,
            rows=self.rows,
            objects=tuple(self.objects),
        )

    def _upload(self, data: pa.Table) -> None:
        path = self._staging / f"baseline-{len(self.objects)}.parquet"
        try:
            pq.write_table(
                data, path, compression="zstd", compression_level=1, write_page_index=True, write_page_checksum=True
            )
            key = self._layout.baseline(self._snapshot_id, self.table.db, self.table.name, len(self.objects))
            self._store.upload(key, path)
            self.objects.append(DataObject(key, data.num_rows, path.stat().st_size, file_digest(path)))
        finally:
            path.unlink(missing_ok=True)
        self.rows += data.num_rows


def to_arrow(table: Table, schema: pa.Schema, columns: Sequence[Sequence[Raw]]) -> pa.Table:
    """Rows by column, in the table's order, as the baseline's Arrow table."""
    arrays: list[Any] = []
    exact: dict[int, list[tuple[str, str]]] = {}
    for column, raws in zip(table.columns, columns, strict=True):
        array, texts = convert(column, raws, table)
        arrays.append(array)
        _collect(exact, column.name, texts)
    rows = len(columns[0]) if columns else 0
    cells = pa.nulls(rows, EXACT_TYPE) if not exact else pa.array([exact.get(i) for i in range(rows)], EXACT_TYPE)
    return pa.Table.from_arrays([cells, *arrays], schema=schema)


def _collect(exact: dict[int, list[tuple[str, str]]], name: str, texts: Exacts) -> None:
    for row, text in texts.items():
        exact.setdefault(row, []).append((name, text))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
