"""The writer of each format, behind one narrow interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from recovery.dump import DumpWriter, check_statements
from recovery.merge import MergedTable, Merger
from recovery.objects.plan import ObjectPlan
from recovery.output.csv_files import CsvWriter
from recovery.output.files import TableFiles, Written
from recovery.output.options import OutputOptions
from recovery.output.parquet_files import ParquetWriter
from recovery.output.sql_files import SqlWriter


class Writer(Protocol):
    """`sequences` and `objects`, then `database` and `table` in any order, then `finish` with all tables of the directory,
    of an earlier run too.

    table: its (database, name), the statements that create it, and its rows, None for none. Files are new each time and
    stay as they are once `table` has returned.
    """

    def database(self, db: str, create_statement: str) -> None: ...

    def table(
        self,
        merger: Merger,
        table: tuple[str, str],
        schema: Sequence[str],
        merged: MergedTable | None,
        heard: Written = ...,
    ) -> TableFiles: ...

    def objects(self, plan: ObjectPlan) -> None: ...

    def sequences(self, statements: Mapping[str, Sequence[str]]) -> None: ...

    def finish(self, tables: Sequence[TableFiles]) -> None: ...


def check_definitions(options: OutputOptions, tables: Iterable[tuple[Sequence[str], str]]) -> None:
    """What `table` refuses of a definition, without writing it. tables: the statements that create each, and its label.
    Raises NotComputable."""
    if options.format != "parquet":
        for schema, label in tables:
            check_statements(schema, label)


def writer_for(
    options: OutputOptions, directory: Path, tables: Sequence[tuple[str, str]], flavor: str | None
) -> Writer:
    """tables: all (database, name) pairs of the directory."""
    if options.format == "parquet":
        return ParquetWriter(directory, options)
    if options.format == "csv":
        return CsvWriter(directory, tables, options, flavor)
    if options.format == "sql":
        return SqlWriter(directory, tables, options, flavor)
    return DumpWriter(directory, tables, options, flavor)
