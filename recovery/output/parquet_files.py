"""Parquet output: a folder per table with typed files, for engines that read Parquet.

    <table key>/00000.parquet ...     columns as in the archive's baselines (docs/FORMAT.md, Types), without generated ones
    <table key>/schema.sql            the statements that create the table
    <db>.create.sql                   CREATE DATABASE
    load-objects.mysql                views, triggers, routines and events (recovery/objects/files.py)

Promises: every value is exact: what a column's type can't hold (zero dates, stored bytes without a text, an ENUM's
invalid value) stands in `_rb_exact`, as in the archive. Rows are in the order of the key. A table without rows has one
file without rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recovery.archive.names import encode, table_key
from recovery.dump import HEAD
from recovery.dump_values import recoded_in, written
from recovery.merge import MergedTable, Merger
from recovery.objects.files import CLIENT_FILE, for_client
from recovery.objects.plan import ObjectPlan
from recovery.output.digest import Digest, Stored, digest_statement, hash_sql
from recovery.output.files import FileRecord, Sink, TableFiles, Written, unheard, write_text
from recovery.output.options import OutputOptions
from recovery.quoting import quote
from recovery.schema import EXACT, EXACT_TYPE, Table, table_metadata, value_fields
from recovery.statement_settings import as_statements
from recovery.tableinfo import system_versioned

_BATCH_ROWS = 8192
_GROUP_ROWS = 131_072
_GROUP_BYTES = 64 * 1024 * 1024


@dataclass
class ParquetWriter:
    """Writes into `directory`, which exists."""

    directory: Path
    options: OutputOptions
    _sequences: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def sequences(self, statements: Mapping[str, Sequence[str]]) -> None:
        self._sequences = statements

    def database(self, db: str, create_statement: str) -> None:
        text = create_statement.strip().rstrip(";") or f"CREATE DATABASE {quote(db)}"
        made = "".join(f"{one};\n" for one in (text, *self._sequences.get(db, ())))
        write_text(self.directory, f"{encode(db)}.create.sql", made)

    def objects(self, plan: ObjectPlan) -> None:
        """Views, triggers, routines and events as one file for the plain client."""
        if plan.objects:
            (self.directory / CLIENT_FILE).write_bytes(for_client(plan))

    def table(
        self,
        merger: Merger,
        table: tuple[str, str],
        schema: Sequence[str],
        merged: MergedTable | None,
        heard: Written = unheard,
    ) -> TableFiles:
        """Write a table's definition and rows; merged: None for no rows. Raises duckdb.Error and OSError as they come."""
        folder = table_key(*table)
        program = "".join(f"{body};\n" for text in schema for body in as_statements(text))
        definition = write_text(self.directory, f"{folder}/schema.sql", f"{HEAD}USE {quote(table[0])};\n{program}")
        columns = written(merged) if merged is not None else []
        kept = Table(*table, tuple(c for _, c in columns), _key(merged, {c.name for _, c in columns}))
        digest = Digest()
        with _Files(self.directory, folder, kept, self.options) as out:
            if merged is not None:
                values = ", ".join(["e", *(f"v{i}" for i, _ in columns)])
                sql = f"SELECT {values}, {hash_sql(columns)} FROM ({merged.sql}) ORDER BY {merged.order_by}"
                with closing(Stored(merger.connection)):
                    for batch in merger.connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
                        digest.add(batch.column(batch.num_columns - 1))
                        out.add(batch.select(range(batch.num_columns - 1)))
                        heard(digest.rows, out.size_bytes)
        return TableFiles(
            db=table[0],
            table=table[1],
            rows=digest.rows,
            size_bytes=sum(f.size_bytes for f in out.files),
            files=tuple(out.files),
            columns=tuple(c.name for c in kept.columns),
            digest=digest.text(),
            digest_sql=digest_statement(
                *table, kept.columns, history=any(map(system_versioned, schema)), recoded=recoded_in(merged)
            ),
            definition=(definition,),
        )

    def finish(self, tables: Sequence[TableFiles]) -> None:
        """Nothing more: the folders are complete."""


def _key(merged: MergedTable | None, names: set[str]) -> tuple[str, ...]:
    key = merged.table.key if merged is not None else ()
    return key if names.issuperset(key) else ()


class _Files:
    """Cuts batches into row groups and files. A context manager."""

    def __init__(self, directory: Path, folder: str, table: Table, options: OutputOptions) -> None:
        self.files: list[FileRecord] = []
        self._directory, self._folder, self._options = directory, folder, options
        fields: list[Any] = [pa.field(EXACT, EXACT_TYPE), *value_fields(table)]
        self._schema = pa.schema(fields, metadata=table_metadata(table))
        self._sink: Sink | None = None
        self._writer: Any = None
        self._rows = 0  # of the open file, with those that wait
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._ended_bytes = 0

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                if not self.files and self._sink is None:
                    self._open()
                self._end_file()
        finally:
            if self._sink is not None:
                self._sink.close()

    @property
    def size_bytes(self) -> int:
        return self._ended_bytes + (self._sink.raw.tell() if self._sink else 0)

    def add(self, batch: Any) -> None:
        limit = self._options.rows_per_file
        while batch.num_rows:
            if self._sink is None:
                self._open()
            room = batch.num_rows if limit is None else min(batch.num_rows, limit - self._rows)
            self._waiting.append(batch.slice(0, room))
            self._waiting_bytes += self._waiting[-1].nbytes
            self._rows += room
            batch = batch.slice(room)
            if sum(b.num_rows for b in self._waiting) >= _GROUP_ROWS or self._waiting_bytes >= _GROUP_BYTES:
                self._flush()
            if self._rows == limit or self.size_bytes >= self._options.file_bytes:
                self._end_file()

    def _open(self) -> None:
        codec = self._options.codec
        self._sink = Sink(self._directory, f"{self._folder}/{len(self.files):05d}.parquet")
        self._writer = pq.ParquetWriter(
            self._sink.raw, self._schema, compression=codec, store_schema=True, write_page_checksum=True
        )

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting).rename_columns(self._schema.names)
            self._writer.write_table(table.cast(self._schema), row_group_size=_GROUP_ROWS)
        self._waiting, self._waiting_bytes = [], 0

    def _end_file(self) -> None:
        if self._sink is None:
            return
        self._flush()
        self._writer.close()
        self.files.append(self._sink.end(self._rows))
        self._ended_bytes += self.files[-1].size_bytes
        self._sink, self._rows = None, 0
