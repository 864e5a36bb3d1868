"""CSV output: files that LOAD DATA and readers of RFC 4180 take, with the statements that load them.

    <db>.<table>.00000.csv ...        a header line, then rows in key order; load.mysql loads all with LOAD DATA LOCAL
    <db>.<table>-load.sql             its LOAD DATA statements

UTF-8; fields are separated by `,`, lines end in LF; text, hex and labels stand in double quotes with `"` doubled and `\\`
doubled (LOAD DATA takes it for an escape; there are no other escapes); NULL is \\N without quotes. Binary, GEOMETRY and
VECTOR are upper-case hex; so is a text column of this table that holds bytes without a text: all its values are the
stored bytes then. BIT is a number, ENUM and SET are labels (by number where a label is given by its bytes, or where a
label is `0`), an ENUM's invalid value is 0; times are as SELECT prints them, TIMESTAMP in UTC.

Promises: what load.mysql loads is exactly what was restored. Refused (NotComputable): JSON with DECIMALs inside, which no
text brings back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

import duckdb

from recovery.charset import exact_bytes, is_raw_label
from recovery.dump import DumpWriter
from recovery.dump_values import number_sql, written
from recovery.errors import NotComputable
from recovery.json_literals import SUSPECT, document_sql
from recovery.literals import check_storable
from recovery.merge import MergedTable, Merger, literal
from recovery.output.digest import Digest, Stored, hash_sql, moment_sql, stored_sql, time_sql
from recovery.output.files import TableFiles, Written, unheard
from recovery.output.rowfiles import RowFiles, Shape
from recovery.quoting import quote
from recovery.schema import BINARY_TYPES, DECIMAL_ARROW_MAX, INTEGER_BITS, TEXT_TYPES, Column

_BATCH_ROWS: Final = 8192
_CHECKED: Final = "rowback_loadable"


@dataclass
class CsvWriter(DumpWriter):
    """As DumpWriter, with CSV for rows."""

    for_myloader: bool = False
    checked: bool = True  # LOAD DATA LOCAL makes warnings of errors
    _client_options: str = "--local-infile=1 --loose-commands --comments"
    _bytes: frozenset[str] = frozenset()

    def table(
        self,
        merger: Merger,
        table: tuple[str, str],
        schema: Sequence[str],
        merged: MergedTable | None,
        heard: Written = unheard,
    ) -> TableFiles:
        columns = [c for _, c in written(merged)] if merged is not None else []
        self._bytes = _without_text(merger, merged, self.flavor) if merged is not None else frozenset()
        files = super().table(merger, table, schema, merged, heard)
        history = "FOR SYSTEM_TIME ALL" in files.digest_sql
        lines = [self._head(table[0], history=history)]
        lines += [f"{statement};\n" for statement in self._load(files, columns)]
        script = self._write(f"{self._stem(*table)}-load.sql", "".join(lines))
        return replace(files, definition=(*files.definition, script))

    def _load(self, files: TableFiles, columns: Sequence[Column]) -> Iterator[str]:
        fields, sets = [], []
        for number, column in enumerate(columns):
            expression = self._expression(column, f"@v{number}")
            fields.append(quote(column.name) if expression is None else f"@v{number}")
            if expression is not None:
                sets.append(f"{quote(column.name)} = {expression}")
        assign = f" SET {', '.join(sets)}" if sets else ""
        for file in files.files:
            yield (
                f"LOAD DATA LOCAL INFILE '{file.name.removesuffix(self.options.suffix)}' INTO TABLE "
                f"{quote(files.db, files.table)} CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED "
                f"BY '\"' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' IGNORE 1 LINES ({', '.join(fields)}){assign}"
            )

    def _expression(self, column: Column, variable: str) -> str | None:
        if column.type in BINARY_TYPES or column.name in self._bytes:
            return f"UNHEX({variable})"
        if column.type == "bit" or (column.type in ("enum", "set") and _by_number(column)):
            return f"CAST({variable} AS UNSIGNED)"
        return None

    def _shape(self, table: tuple[str, str], columns: Sequence[tuple[int, Column]], head: str) -> Shape:
        names = ",".join(_quoted_name(c.name) for _, c in columns)
        return Shape(self._stem(*table), ".csv", f"{names}\n".encode())

    def _fill(self, out: RowFiles, merger: Merger, merged: MergedTable, digest: Digest, heard: Written) -> None:
        connection = merger.connection
        check = _Json(connection, merged.table.label)
        columns = written(merged)
        fields = ", ',', ".join(_field(c, f"v{i}", c.name in self._bytes) for i, c in columns)
        sql = f"SELECT concat({fields}, chr(10)), {hash_sql(columns)} FROM ({merged.sql}) ORDER BY {merged.order_by}"
        with closing(check), closing(Stored(connection)):
            for batch in connection.sql(sql).to_arrow_reader(_BATCH_ROWS):
                check.raise_fault()
                out.add(batch.column(0))
                digest.add(batch.column(1))
                heard(out.rows, out.size_bytes)
            check.raise_fault()

    def _sources(self, table: TableFiles) -> Iterator[str]:
        yield f"{self._stem(table.db, table.table)}-load.sql"


class _Json:
    """Tells documents that LOAD DATA would change. Close it: names belong to the connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, label: str) -> None:
        self._connection, self._label = connection, label
        self._found = ""
        text: list[Any] = [duckdb.sqltypes.VARCHAR] * 2
        connection.create_function(_CHECKED, self._check, text, duckdb.sqltypes.VARCHAR)

    def close(self) -> None:
        self._connection.remove_function(_CHECKED)

    def _check(self, document: str, column: str) -> str:
        if document_sql(document) is not None:
            self._found = column
        return document

    def raise_fault(self) -> None:
        if self._found:
            raise NotComputable(
                f"column `{self._found}` of table `{self._label}` holds JSON with DECIMALs, which LOAD DATA makes DOUBLEs",
                hint="Use another --format (mydumper, sql, parquet), or leave the table out with `--exclude`.",
            )


def _without_text(merger: Merger, merged: MergedTable, flavor: str | None) -> frozenset[str]:
    """The text columns that hold stored bytes without a text. Raises NotComputable for bytes that no server stores."""
    columns = [c for _, c in written(merged) if c.type in TEXT_TYPES]
    if not columns:
        return frozenset()
    kept = ", ".join(literal(c.name) for c in columns)
    entries = f"unnest(list_filter(map_entries(e), lambda p: list_contains([{kept}], p.key)))"
    sql = f"SELECT DISTINCT p.key, p.value FROM (SELECT {entries} AS p FROM ({merged.sql}) WHERE e IS NOT NULL)"
    named = {c.name: c for c in columns}
    found = set()
    for name, exact in merger.connection.sql(sql).fetchall():
        check_storable(named[name], exact_bytes(exact), flavor)
        found.add(name)
    return frozenset(found)


def _by_number(column: Column) -> bool:
    return any(map(is_raw_label, column.labels)) or (column.type == "enum" and "0" in column.labels)


def _quoted_name(name: str) -> str:
    """A header is for readers; LOAD DATA passes one line over."""
    printable = "".join(c if c.isprintable() else "?" for c in name)
    return '"' + printable.replace("\\", "\\\\").replace('"', '""') + '"'


def _field(column: Column, value: str, as_bytes: bool) -> str:
    """A DuckDB expression for a cell: never null."""
    exact = f"e[{literal(column.name)}]"
    if as_bytes:
        stored = stored_sql(column, value, exact)
        if stored is None:
            stored = f"coalesce(encode({value}), CASE WHEN e IS NOT NULL THEN unhex(substr({exact}, 3)) END)"
        return f"coalesce('\"' || hex({stored}) || '\"', '\\N')"
    return f"coalesce({_value(column, value)}, CASE WHEN e IS NOT NULL THEN {exact} END, '\\N')"


def _value(column: Column, value: str) -> str:
    kind = column.type
    if kind in INTEGER_BITS or kind == "bit":
        return f"{value}::VARCHAR"
    if kind == "year":  # LOAD DATA takes 0 for 2000
        return f"format('{{:04d}}', {value})"
    if kind == "decimal":
        return value if (column.precision or 0) > DECIMAL_ARROW_MAX else f"{value}::VARCHAR"
    if kind in ("float", "double"):
        return f"{value}::DOUBLE::VARCHAR"
    if kind in BINARY_TYPES:
        return f"'\"' || hex({value}) || '\"'"
    if kind == "time":
        return time_sql(value, column.fsp or 0)
    if kind in ("date", "datetime", "timestamp"):
        return moment_sql(column, value)
    if kind in ("enum", "set") and _by_number(column):
        return number_sql(column, value)
    if kind == "json":
        suspect = f"regexp_matches({value}, {literal(SUSPECT)})"
        value = f"CASE WHEN {suspect} THEN {_CHECKED}({value}, {literal(column.name)}) ELSE {value} END"
    return f"'\"' || replace(replace({value}, '\\', '\\\\'), '\"', '\"\"') || '\"'"
