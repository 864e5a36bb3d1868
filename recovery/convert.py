"""Rows under one definition to rows under the next: a merged table's query becomes a local Parquet file that has the columns
of the next stage, for the merge to start from. Columns are made as recovery/stages.py planned; no row passes through Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recovery.archive.actions import Ddl
from recovery.conversions import Check, reordered
from recovery.fixed_digits import FixedDigits
from recovery.merge import MergedTable, Merger, literal
from recovery.refused import refused
from recovery.removed_rows import Removal, condition, doubt
from recovery.schema import Column, Table, arrow_type, baseline_schema
from recovery.stages import Source, Staged

_BATCH_ROWS = 65_536


def convert(
    merger: Merger,
    merged: MergedTable,
    target: Table,
    sources: Sequence[Source],
    path: Path,
    removed: Sequence[Removal] = (),
) -> None:
    """Write the rows of `merged`, but for those that are removed, as rows of `target`. Raises DdlInRange for a row that
    doesn't pass a check or of which it isn't known whether it is removed, and duckdb.Error."""
    with pq.ParquetWriter(
        path, baseline_schema(target), compression="zstd", compression_level=1, store_schema=True
    ) as writer:
        for table in converted(merger, merged, target, sources, removed):
            writer.write_table(table)


def converted(
    merger: Merger, merged: MergedTable, target: Table, sources: Sequence[Source], removed: Sequence[Removal] = ()
) -> Iterator[pa.Table]:
    """The same in memory, some rows at a time."""
    before = merged.table
    merged = without(merger, merged, removed, (target.db, target.name))
    for source in sources:
        for check in source.checks:
            if source.index is not None and source.ddl is not None:
                check_rows(merger, merged, source.index, check, source.ddl, (target.db, target.name))
    names = {
        before.columns[s.index].name: column.name
        for s, column in zip(sources, target.columns, strict=True)
        if s.index is not None
    }
    values = [_value(merged, column, s, target.label) for s, column in zip(sources, target.columns, strict=True)]
    listed = ", ".join(f"{value} AS c{i}" for i, value in enumerate(values))
    sql = f"SELECT {renamed(names)} AS e, {listed} FROM ({merged.sql})"
    schema = baseline_schema(target)
    for batch in merger.connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
        yield pa.Table.from_batches([batch]).rename_columns(schema.names).cast(schema)


def without(merger: Merger, merged: MergedTable, removed: Sequence[Removal], name: tuple[str, str]) -> MergedTable:
    """The rows that stay. Raises DdlInRange."""
    for removal in removed:
        open_question = doubt(merged, removal)
        if open_question is not None:
            asked = f"SELECT EXISTS (SELECT 1 FROM ({merged.sql}) WHERE {open_question})"
            if merger.connection.sql(asked).fetchall()[0][0]:
                raise refused(name, removal.ddl, "a collation decides in which partition some of its texts are")
        kept = f"SELECT * FROM ({merged.sql}) WHERE NOT ({condition(merged, removal.test, removal.indexes)})"
        merged = replace(merged, sql=kept)
    return merged


def check_rows(merger: Merger, merged: MergedTable, index: int, check: Check, ddl: Ddl, name: tuple[str, str]) -> None:
    """Raises DdlInRange if a row doesn't pass the check there."""
    wrong, why = _wrong(merged.table.columns[index], f"v{index}", check)
    found = merger.connection.sql(f"SELECT EXISTS (SELECT 1 FROM ({merged.sql}) WHERE {wrong})").fetchall()
    if found[0][0]:
        raise refused(name, ddl, f"column `{merged.table.columns[index].name}` {why}")


def _wrong(column: Column, value: str, check: Check) -> tuple[str, str]:
    """The condition of rows that don't pass, and what is said of them."""
    if isinstance(check, FixedDigits):
        of_rows = (
            f"was given {check.digits} digits, {check.scale} of them behind the point, and has values that they change"
        )
        return check.changes(value), of_rows
    exact = f"(e IS NOT NULL AND e[{literal(column.name)}] IS NOT NULL)"
    return {
        "not null": (f"{value} IS NULL AND NOT {exact}", "became NOT NULL and has NULLs before it"),
        "no zero": (f"{value} = 0", "became AUTO_INCREMENT, and rows with 0 were numbered"),
        "valid text": (exact, "got another character set and has text that wasn't valid in the old one"),
        "three bytes": (
            f"regexp_matches({value}, '[^\\x{{0}}-\\x{{FFFF}}]')",
            "got a character set without characters above U+FFFF and had some",
        ),
    }[check]


def finished(merged: MergedTable, staged: Staged, name: tuple[str, str]) -> MergedTable:
    """The rows of the last stage under the names of the cut: of the table and of its columns; those that were dropped are
    left out. Values are written as the definitions behind the last stage have them."""
    before = merged.table
    columns = tuple(replace(c, name=new or c.name) for c, new in zip(staged.redefined, staged.final, strict=True))
    kept = tuple(i for i in merged.columns if staged.final[i] is not None)
    names = {before.columns[i].name: columns[i].name for i in kept}
    key = tuple(names[k] for k in before.key if k in names)
    table = Table(name[0], name[1], columns, key if len(key) == len(before.key) else ())
    done = replace(merged, table=table, columns=kept, recoded=frozenset(columns[i].name for i in staged.recoded))
    exact = "e" if all(old == new for old, new in names.items()) else f"{renamed(names)} AS e"
    if exact == "e" and staged.redefined == before.columns:
        return done
    values = ", ".join(_last_value(merged, staged.redefined, i) for i in merged.columns)
    return replace(done, sql=f"SELECT {values}, {exact} FROM ({merged.sql})")


def _last_value(merged: MergedTable, redefined: Sequence[Column], index: int) -> str:
    old, new = merged.table.columns[index], redefined[index]
    if old == new:
        return f"v{index}"
    return f"{_passed(old, new, f'v{index}', duckdb_type(new, merged.table.label))} AS v{index}"


def renamed(names: dict[str, str]) -> str:
    """The map of exact texts with the columns' new names; entries of other columns fall away."""
    if not names:
        return "NULL::MAP(VARCHAR, VARCHAR)"
    old = ", ".join(literal(n) for n in names)
    new = ", ".join(literal(n) for n in names.values())
    kept = f"list_filter(map_entries(e), lambda p: list_contains([{old}], p.key))"
    name = f"[{new}][list_position([{old}], p.key)]"
    changed = f"list_transform({kept}, lambda p: struct_pack(key := {name}, value := p.value))"
    return f"CASE WHEN cardinality(e) > 0 THEN map_from_entries({changed}) END"


def _value(merged: MergedTable, column: Column, source: Source, label: str) -> str:
    kind = duckdb_type(column, label)
    if source.index is not None:
        if source.index not in merged.columns:  # generated: never written
            return f"NULL::{kind}"
        return _passed(merged.table.columns[source.index], column, f"v{source.index}", kind)
    if source.added is None:
        return f"NULL::{kind}"
    if kind == "BLOB":
        return f"encode({literal(source.added)})"
    return f"CAST({literal(source.added)} AS {kind})"


def _passed(old: Column, new: Column, value: str, kind: str) -> str:
    """A value of the old definition under the new one; kind: its DuckDB type."""
    if old.type == "decimal" and kind == "VARCHAR":  # more digits than DuckDB's own: as text, with the new scale
        zeros = (new.scale or 0) - (old.scale or 0)
        point = "." if zeros and not old.scale else ""
        return f"({value}::VARCHAR || {literal(point + '0' * zeros)})"
    if reordered(old, new):
        labels = ", ".join(map(literal, new.labels))
        held = f"list_filter([{labels}], lambda label: list_contains(string_split({value}, ','), label))"
        return f"CASE WHEN {value} IS NOT NULL THEN array_to_string({held}, ',') END"
    return f"CAST({value} AS {kind})"


def duckdb_type(column: Column, label: str) -> str:
    """The DuckDB type in which the column's Arrow values are read and written."""
    kind = arrow_type(column, label)
    simple = {
        pa.int8(): "TINYINT", pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.uint8(): "UTINYINT",
        pa.uint16(): "USMALLINT", pa.uint32(): "UINTEGER", pa.uint64(): "UBIGINT", pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE", pa.date32(): "DATE", pa.string(): "VARCHAR", pa.binary(): "BLOB",
        pa.timestamp("us"): "TIMESTAMP", pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
    }  # fmt: skip
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return simple[kind]
