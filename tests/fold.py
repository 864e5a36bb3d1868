"""The archive's change segments folded to table contents, and the server's own SELECT in the same form.

Written for the tests from docs/FORMAT.md alone: it reads the Parquet columns and shares no folding or rendering code with
Rowback. Rows are tuples of the bytes that the server prints, None for NULL.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import pyarrow as pa

from recovery.schema import Column, Table
from testservers import Server

Row = tuple[bytes | None, ...]
FLOATS = ("float", "double")


class Folded:
    """One table's rows, image by image. `problems` says where an image doesn't fit what came before it."""

    def __init__(self) -> None:
        self.keyed: dict[Row, Row] = {}
        self.keyless: Counter[Row] = Counter()
        self.names: tuple[str, ...] = ()
        self.problems: list[str] = []

    def rows(self) -> Counter[Row]:
        return self.keyless + Counter(self.keyed.values())

    def fold(self, table: Table, images: pa.Table) -> None:
        """images: in order; an update's two images stand side by side."""
        self.names = tuple(column.name for column in table.columns)
        cells = list(zip(*(_texts(column, images) for column in table.columns), strict=True))
        key = [self.names.index(name) for name in table.key]
        old: Row = ()
        for op, seq, changed, row in zip(
            images["_rb_op"].to_pylist(),
            images["_rb_seq"].to_pylist(),
            images["_rb_changed"].to_pylist(),
            cells,
            strict=True,
        ):
            if op == "update_before":
                old = row
                continue
            if op in ("delete", "update_after"):
                self._remove(seq, key, old if op == "update_after" else row, changed)
            if op in ("insert", "update_after"):
                self._add(seq, key, row)

    def _remove(self, seq: int, key: list[int], row: Row, changed: bytes | None) -> None:
        if not key:
            if not self.keyless[row]:
                self.problems.append(f"seq {seq} takes away a row that isn't there: {row}")
            self.keyless[row] -= 1
            return
        was = self.keyed.pop(tuple(row[i] for i in key), None)
        if was is None:
            self.problems.append(f"seq {seq} takes away a row that isn't there: {row}")
            return
        for i, (before, now) in enumerate(zip(was, row, strict=True)):
            if (changed is None or changed[i // 8] >> (i % 8) & 1) and before != now:
                self.problems.append(
                    f"seq {seq}, column `{self.names[i]}`: its before image has {now!r}, not {before!r}"
                )

    def _add(self, seq: int, key: list[int], row: Row) -> None:
        if not key:
            self.keyless[row] += 1
            return
        name = tuple(row[i] for i in key)
        if name in self.keyed:
            self.problems.append(f"seq {seq} adds a key twice: {name}")
        self.keyed[name] = row


def selected(server: Server, db: str, table: str, columns: Iterable[Column]) -> Counter[Row]:
    """The same rows as the server prints them; FLOAT and DOUBLE as the double they are."""
    columns = tuple(columns)
    chosen = ", ".join(_quoted(c.name) + (" + 0e0" if c.type in FLOATS else "") for c in columns)
    with closing(server.connect(conv={}, use_unicode=False)) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(f"SELECT {chosen} FROM {_quoted(db)}.{_quoted(table)}")
        rows = cursor.fetchall()
    floats = [i for i, c in enumerate(columns) if c.type in FLOATS]
    if not floats:
        return Counter(rows)
    return Counter(
        tuple(repr(float(cell)).encode() if i in floats and cell is not None else cell for i, cell in enumerate(row))
        for row in rows
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _texts(column: Column, images: pa.Table) -> list[bytes | None]:
    values = images[column.archive_name].to_pylist()
    texts: list[bytes | None] = [None if value is None else _text(column, value) for value in values]
    for i, entry in enumerate(images["_rb_exact"].to_pylist()):
        if entry and (exact := dict(entry).get(column.name)) is not None:
            assert values[i] is None
            texts[i] = b"" if column.type == "enum" else exact.encode()
    return texts


def _text(column: Column, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, dt.datetime):
        text = value.replace(tzinfo=None).isoformat(" ", "microseconds")
        return text[: 20 + column.fsp if column.fsp else 19].encode()
    if column.type == "time":
        seconds, micros = divmod(abs(value), 1_000_000)
        sign, fraction = "-" * (value < 0), f".{micros:06}"[: 1 + column.fsp] if column.fsp else ""
        return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}".encode()
    if column.type == "year":
        return f"{value:04}".encode()
    if column.type in FLOATS:
        return repr(float(value)).encode()
    return (
        format(value, "f").encode() if column.type == "decimal" and not isinstance(value, str) else str(value).encode()
    )
