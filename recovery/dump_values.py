"""A merged row as SQL literals, rendered by DuckDB over columns: what recovery/dump.py writes into INSERT statements.

Promises: every literal means the same under every sql_mode and connection character set: text is printable ASCII without
quote and backslash, or `_utf8mb4 X'..'` (for columns in a set unlike ASCII always with `_utf8mb4`); binary, GEOMETRY and
VECTOR are `X'..'`. Values come back exactly: FLOAT and DOUBLE by the shortest digits of the double, DECIMAL by its
digits, zero dates by their text, an ENUM's invalid value by its number 0, GEOMETRY with its SRID and its axes as stored,
JSON so that it prints the same, text without a text by its bytes. Those that no statement can store raise NotComputable:
`Functions.check` is to be called before what was rendered is trusted.
"""

from __future__ import annotations

from typing import Any, Final

import duckdb

from recovery.charset import exact_bytes, is_raw_label
from recovery.errors import NotComputable
from recovery.json_literals import SUSPECT, document_sql
from recovery.literals import LIKE_ASCII, check_storable, literal_sql
from recovery.merge import MergedTable, literal
from recovery.schema import BINARY_TYPES, DECIMAL_ARROW_MAX, INTEGER_BITS, TEXT_TYPES, Column

_BYTES: Final = "rowback_bytes"
_JSON: Final = "rowback_json"
_DOCUMENT: Final = Column("document", "json")


class Functions:
    """The rare values that SQL can't render, rendered in Python. An error inside becomes no SQL at all, and `check` raises
    it: DuckDB would give it another name. Close it: names belong to the connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table_label: str, flavor: str | None) -> None:
        self._connection = connection
        self._label = table_label
        self._flavor = flavor
        self._fault: NotComputable | None = None
        text: list[Any] = [duckdb.sqltypes.VARCHAR]
        connection.create_function(_BYTES, self._bytes, text * 3, duckdb.sqltypes.VARCHAR)
        connection.create_function(_JSON, self._json, text, duckdb.sqltypes.VARCHAR)

    def close(self) -> None:
        self._connection.remove_function(_BYTES)
        self._connection.remove_function(_JSON)

    def check(self) -> None:
        """Raises NotComputable if a value was met that no statement can store."""
        if self._fault is not None:
            raise NotComputable(f"table `{self._label}`: {self._fault.message}", hint=self._fault.hint)

    def _bytes(self, exact: str, name: str, charset: str) -> str:
        raw = exact_bytes(exact)
        try:
            check_storable(Column(name, "text", charset=charset), raw, self._flavor)
        except NotComputable as error:
            self._fault = error
        return f"X'{raw.hex().upper()}'"

    def _json(self, text: str) -> str:
        return document_sql(text) or literal_sql(_DOCUMENT, text)


def written(merged: MergedTable) -> list[tuple[int, Column]]:
    """The columns of the INSERTs, with their positions in the table."""
    return [(i, merged.table.columns[i]) for i in merged.columns if not merged.table.columns[i].generated]


def recoded_in(merged: MergedTable | None) -> frozenset[str]:
    """Names of columns that may have another character set at the cut."""
    return merged.recoded if merged is not None else frozenset()


def rows_sql(merged: MergedTable, digest: str) -> str:
    """A text column, each row as "(value,value),\\n", in the merged order, and beside it the expression `digest`. Needs the
    connection's `Functions`."""
    values = [value_sql(column, f"v{i}", "e") for i, column in written(merged)]
    row = ", ',', ".join(values)
    return f"SELECT concat('(', {row}, '),', chr(10)), {digest} FROM ({merged.sql}) ORDER BY {merged.order_by}"


def value_sql(column: Column, value: str, exact: str) -> str:
    """A DuckDB expression for the value as a MySQL literal: never null. exact: the map of exact texts."""
    fallback = _exact(column, f"{exact}[{literal(column.name)}]")
    return f"coalesce({_plain_value(column, value)}, CASE WHEN {exact} IS NOT NULL THEN {fallback} END, 'NULL')"


def _exact(column: Column, entry: str) -> str:
    if column.type == "enum":  # its invalid value, which is number 0 (MySQL manual, "The ENUM Type")
        return f"CASE WHEN {entry} IS NOT NULL THEN '0' END"
    if column.type in TEXT_TYPES:  # a null entry is never handed to Python
        return f"{_BYTES}({entry}, {literal(column.name)}, {literal(column.charset or '')})"
    return _text(entry)


def _plain_value(column: Column, value: str) -> str:
    kind = column.type
    if kind in INTEGER_BITS or kind in ("year", "bit"):
        return f"{value}::VARCHAR"
    if kind == "decimal":
        return _text(value) if (column.precision or 0) > DECIMAL_ARROW_MAX else f"{value}::VARCHAR"
    if kind in ("float", "double"):
        # A FLOAT widens to a double exactly; the shortest digits of a double read back as the same double. The exponent
        # makes the literal a double: without one it would be a DECIMAL.
        text = f"{value}::DOUBLE::VARCHAR"
        return f"CASE WHEN contains({text}, 'e') THEN {text} ELSE {text} || 'e0' END"
    if kind in BINARY_TYPES:
        return f"'X''' || hex({value}) || ''''"
    if kind == "time":
        return _time(value)
    if kind in ("date", "datetime"):
        return f"'''' || {value}::VARCHAR || ''''"
    if kind == "timestamp":
        return f"'''' || make_timestamp(epoch_us({value}))::VARCHAR || ''''"
    if kind == "json":
        return f"CASE WHEN regexp_matches({value}, {literal(SUSPECT)}) THEN {_JSON}({value}) ELSE {_text(value)} END"
    if any(map(is_raw_label, column.labels)):
        return number_sql(column, value)
    return _text(value, column.charset)


def number_sql(column: Column, value: str) -> str:
    """An ENUM's or SET's number as text. A label that the definition lacks is an error."""
    unknown = f"ELSE error({literal(f'a label of column {column.name} that its definition lacks')})"
    if column.type == "enum":
        cases = " ".join(f"WHEN {literal(label)} THEN '{n}'" for n, label in enumerate(column.labels, 1))
        return f"CASE WHEN {value} IS NOT NULL THEN CASE {value} {cases} {unknown} END END"
    cases = " ".join(f"WHEN {literal(label)} THEN {1 << n}::HUGEINT" for n, label in enumerate(column.labels))
    bits = f"list_sum(list_transform(string_split({value}, ','), lambda x: CASE x {cases} {unknown} END))"
    return f"CASE {value} WHEN '' THEN '0' ELSE {bits}::VARCHAR END"


def _text(value: str, charset: str | None = None) -> str:
    """Printable ASCII but quote and backslash in quotes; all else in hex with an introducer."""
    plain = f"regexp_full_match({value}, '[ -&(-\\[\\]-~]*')"
    introducer = "" if charset is None or charset in LIKE_ASCII else "_utf8mb4 "
    quoted = f"'{introducer}''' || {value} || ''''"
    return f"CASE WHEN {plain} THEN {quoted} ELSE '_utf8mb4 X''' || hex(encode({value})) || '''' END"


def _time(value: str) -> str:
    """Microseconds as [-]HHH:MM:SS.ffffff."""
    total = f"abs({value})"
    parts = f"{total} // 3600000000, {total} // 60000000 % 60, {total} // 1000000 % 60, {total} % 1000000"
    clock = f"format('{{:02d}}:{{:02d}}:{{:02d}}.{{:06d}}', {parts})"
    return f"'''' || CASE WHEN {value} < 0 THEN '-' ELSE '' END || {clock} || ''''"
