"""One number for a table's rows, whatever their order, that a server computes by plain SQL and Rowback out of core.

A row is the concatenation of its cells, each `N` for NULL or its length in bytes, a colon and its bytes (text and binary as
stored, numbers and times as SELECT prints them, FLOAT and DOUBLE as their 64 bits in hex, ENUM and SET by number). Its
SHA-256 gives two 64-bit numbers; the digest is `rows-sum of the first-sum of the second`. docs/FORMAT.md has all. Sums,
not XOR: copies of a row count.

Promises: `digest_statement`, run on MySQL or MariaDB with time_zone '+00:00', gives what `Digest` counted over the same
rows, for every type (tests/test_output_digest.py). It finds damage and differences; it is no defence against a forger.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from recovery.charset import encode_text
from recovery.dump_values import number_sql
from recovery.literals import LIKE_ASCII
from recovery.merge import literal
from recovery.quoting import quote
from recovery.schema import (
    BINARY_TYPES,
    DECIMAL_ARROW_MAX,
    INTEGER_BITS,
    MARIADB_TEXT_TYPES,
    TEXT_TYPES,
    Column,
)

_STORED: Final = "rowback_stored"
_ROW_BYTES: Final = 32


class Digest:
    """Counts rows by their hashes (a column of 32 bytes each, as `hash_sql` makes it)."""

    def __init__(self) -> None:
        self.rows = 0
        self._sums = [0, 0]

    def add(self, hashes: pa.Array[Any]) -> None:
        count = len(hashes)
        if not count:
            return
        assert not hashes.null_count
        _, offsets, data = hashes.buffers()
        wide = pa.types.is_large_binary(hashes.type)
        first = np.frombuffer(offsets, np.int64 if wide else np.int32)[hashes.offset]
        words = np.frombuffer(data, ">u8", count * _ROW_BYTES // 8, int(first)).reshape(count, 4)
        for i in range(2):
            high, low = words[:, i] >> np.uint64(32), words[:, i] & np.uint64(0xFFFFFFFF)
            self._sums[i] += (int(high.sum(dtype=np.uint64)) << 32) + int(low.sum(dtype=np.uint64))
        self.rows += count

    def text(self) -> str:
        return f"{self.rows}-{self._sums[0]}-{self._sums[1]}"


def digest_statement(
    db: str, table: str, columns: Sequence[Column], *, history: bool = False, recoded: Collection[str] = ()
) -> str:
    """The SELECT that computes a table's digest on a server. history: a system-versioned table's rows are all there were.
    recoded: names of columns whose text counts in the character set given here, whichever it is stored in."""
    cells = ", ".join(_server_cell(c, recoded=c.name in recoded) for c in columns) or "''"
    rows = f"{quote(db, table)}{' FOR SYSTEM_TIME ALL' if history else ''}"
    sums = ", '-', ".join(f"IFNULL(SUM(CAST(CONV(SUBSTRING(h, {at}, 16), 16, 10) AS UNSIGNED)), 0)" for at in (1, 17))
    return (
        f"SELECT CONCAT(COUNT(*), '-', {sums}) AS digest FROM (SELECT SHA2(CONCAT({cells}), 256) AS h FROM {rows}) AS r"
    )


def _server_cell(column: Column, *, recoded: bool) -> str:
    name = quote(column.name)
    kind = column.type
    if kind in TEXT_TYPES and recoded:
        # Every server knows utf8mb4 by this name; utf8mb3 is the same bytes.
        charset = "utf8mb4" if column.charset in (None, "utf8", "utf8mb3") else column.charset
        text = f"CAST(CONVERT({name} USING {charset}) AS BINARY)"
    elif kind in TEXT_TYPES or kind in BINARY_TYPES or kind == "json":
        text = f"CAST({name} AS BINARY)"
    elif kind in ("enum", "set", "bit"):
        text = f"CAST({name} AS UNSIGNED)"
    elif kind in INTEGER_BITS or kind == "year":
        text = f"({name} + 0)"  # without ZEROFILL's zeros
    elif kind in ("float", "double"):
        # Their text differs between servers and loses digits in expressions; a point's WKB has the double's own bytes.
        text = f"HEX(REVERSE(SUBSTRING(ST_AsBinary(POINT({name}, 0)), 6, 8)))"
    else:
        text = f"CAST(CAST({name} AS CHAR) AS BINARY)"
    return f"IFNULL(CONCAT(OCTET_LENGTH({text}), ':', {text}), 'N')"


# --- the same in DuckDB -----------------------------------------------------------------------------------------------


def hash_sql(columns: Sequence[tuple[int, Column]]) -> str:
    """A DuckDB expression over v<i> and e: 32 bytes per row. Needs the connection's `Stored`."""
    cells = [_cell(column, f"v{i}") for i, column in columns]
    if not cells:
        return "unhex(sha256(''))"
    if not any(binary for _, binary in cells):
        return f"unhex(sha256(concat({', '.join(text for text, _ in cells)})))"
    return f"unhex(sha256({' || '.join(text if binary else f'encode({text})' for text, binary in cells)}))"


class Stored:
    """Text as the server stores it, for character sets unlike UTF-8. Close it: names belong to the connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        text: list[Any] = [duckdb.sqltypes.VARCHAR] * 2
        connection.create_function(_STORED, encode_text, text, duckdb.sqltypes.BLOB)

    def close(self) -> None:
        self._connection.remove_function(_STORED)


def _cell(column: Column, value: str) -> tuple[str, bool]:
    """(expression, whether it is a BLOB)."""
    exact = f"e[{literal(column.name)}]"
    if column.type in BINARY_TYPES:
        return _counted_blob(value), True
    if column.type in TEXT_TYPES:
        stored = stored_sql(column, value, exact)
        if stored is not None:
            return _counted_blob(stored), True
        raw = f"unhex(substr({exact}, 3))"  # bytes that are no UTF-8
        plain = f"encode(strlen({value})::VARCHAR || ':' || {value})"
        odd = f"CASE WHEN e IS NOT NULL THEN encode(octet_length({raw})::VARCHAR || ':') || {raw} END"
        return f"coalesce({plain}, {odd}, encode('N'))", True
    text = f"coalesce({_text(column, value)}, CASE WHEN e IS NOT NULL THEN {exact} END)"
    return f"coalesce(strlen({text})::VARCHAR || ':' || {text}, 'N')", False


def stored_sql(column: Column, value: str, exact: str) -> str | None:
    """The bytes of a text value as its column stores them; None if they are its UTF-8 and it has no exact text."""
    charset = column.charset or "utf8mb4"
    if charset in ("utf8mb4", "utf8mb3", "utf8", "ascii", "binary"):
        return None
    encoded = f"{_STORED}({value}, {literal(charset)})"
    if charset in LIKE_ASCII:
        encoded = f"CASE WHEN strlen({value}) = length({value}) THEN encode({value}) ELSE {encoded} END"
    odd = f"CASE WHEN e IS NOT NULL THEN unhex(substr({exact}, 3)) END"
    return f"coalesce(CASE WHEN {value} IS NOT NULL THEN {encoded} END, {odd})"


def _counted_blob(value: str) -> str:
    return f"coalesce(encode(octet_length({value})::VARCHAR || ':') || {value}, encode('N'))"


def _text(column: Column, value: str) -> str:
    kind = column.type
    if kind in INTEGER_BITS or kind in ("year", "bit"):
        return f"{value}::VARCHAR"
    if kind == "decimal":
        return value if (column.precision or 0) > DECIMAL_ARROW_MAX else f"{value}::VARCHAR"
    if kind in ("float", "double"):
        return f"hex({value}::DOUBLE::BIT::BLOB)"
    if kind == "time":
        return time_sql(value, column.fsp or 0)
    if kind in ("date", "datetime", "timestamp"):
        return moment_sql(column, value)
    if kind in ("enum", "set"):
        return number_sql(column, value)
    assert kind == "json" or kind in MARIADB_TEXT_TYPES, kind
    return value


def moment_sql(column: Column, value: str) -> str:
    """DATE, DATETIME and TIMESTAMP as SELECT prints them, in UTC."""
    if column.type == "date":
        return f"{value}::VARCHAR"
    moment = f"make_timestamp(epoch_us({value}))" if column.type == "timestamp" else value
    fsp = column.fsp or 0
    text = f"strftime({moment}, '%Y-%m-%d %H:%M:%S.%f')"
    return f"left({text}, {19 + (fsp + 1 if fsp else 0)})"


def time_sql(value: str, fsp: int) -> str:
    """Microseconds as [-]HH:MM:SS[.ffffff]."""
    total = f"abs({value})"
    parts = f"{total} // 3600000000, {total} // 60000000 % 60, {total} // 1000000 % 60"
    clock = f"format('{{:02d}}:{{:02d}}:{{:02d}}', {parts})"
    fraction = f" || left(format('.{{:06d}}', {total} % 1000000), {fsp + 1})" if fsp else ""
    return f"CASE WHEN {value} < 0 THEN '-' ELSE '' END || {clock}{fraction}"
