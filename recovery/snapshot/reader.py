"""Our own reading of tables that mydumper bends: one streamed SELECT per table, in raw bytes.

The session converts nothing (character_set_results = NULL), so text comes in each column's own character set, as in a
dump. Promises: within `open_snapshot` all tables are read at one moment, that of the call. Memory: one chunk of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pymysql
import pymysql.cursors

from recovery.config import ServerSettings
from recovery.errors import SnapshotError
from recovery.quoting import quote
from recovery.schema import Column, Table
from recovery.snapshot.dumpfile import MAX_CHUNK_BYTES, MAX_CHUNK_ROWS
from recovery.snapshot.values import Raw, enum_by_index
from recovery.source import Connection, connect, fetch, source_error

_FETCH_ROWS: Final = 2_000
_DEFINITION_CHANGED: Final = 1412  # ER_TABLE_DEF_CHANGED: the table is younger than the consistent snapshot


def open_snapshot(server: ServerSettings) -> Connection:
    """A connection whose consistent snapshot is open when this returns."""
    connection = connect(server, conv={}, use_unicode=False, cursorclass=pymysql.cursors.SSCursor)
    try:
        fetch(connection, "SET SESSION character_set_results = NULL, net_write_timeout = 28800")
        fetch(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        fetch(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    except BaseException:
        connection.close()
        raise
    return connection


def close(connection: Connection) -> None:
    """Close it, if it is still open: the driver takes a second close for an error."""
    if connection.open:
        connection.close()


def read_rows(
    connection: Connection,
    table: Table,
    *,
    history: bool = False,
    max_rows: int = MAX_CHUNK_ROWS,
    max_bytes: int = MAX_CHUNK_BYTES,
) -> Iterator[list[list[Raw]]]:
    """All rows in chunks, by column in the table's order, as recovery.snapshot.values.convert takes them. A generator
    that is not read to its end closes the connection. history: of a system-versioned table, with its old rows."""
    expressions = ", ".join(_expression(c) for c in table.columns)
    order = ", ".join(quote(name) for name in table.key)
    source = quote(table.db, table.name) + (" FOR SYSTEM_TIME ALL" if history else "")
    sql = f"SELECT {expressions} FROM {source}" + (f" ORDER BY {order}" if order else "")
    rows: list[tuple[Raw, ...]] = []
    size = 0
    try:
        cursor = connection.cursor(pymysql.cursors.SSCursor)
        cursor.execute(sql)
        while batch := cursor.fetchmany(_FETCH_ROWS):
            rows.extend(batch)
            size += sum(len(value) for row in batch for value in row if value is not None)
            if len(rows) >= max_rows or size >= max_bytes:
                yield _columns(table, rows)
                rows, size = [], 0
        cursor.close()
    except BaseException as error:
        close(connection)  # not the cursor: closing that would read the rest of the table
        if isinstance(error, pymysql.MySQLError) and error.args and error.args[0] == _DEFINITION_CHANGED:
            raise SnapshotError(
                f"table `{table.label}` was altered, truncated or recreated while the snapshot ran",
                hint="Take the snapshot again when the schema change is through.",
            ) from error
        if isinstance(error, pymysql.MySQLError | OSError):
            raise source_error(error, connection=connection) from error
        raise
    if rows:
        yield _columns(table, rows)


def _expression(column: Column) -> str:
    name = quote(column.name)
    if column.type == "float":
        return f"{name} * 1e0"  # prints as DOUBLE: all digits, and the sign of a negative zero
    if enum_by_index(column):
        return f"{name} + 0"
    return name


def _columns(table: Table, rows: Sequence[tuple[Raw, ...]]) -> list[list[Raw]]:
    return [list(values) for values in zip(*rows, strict=True)]
