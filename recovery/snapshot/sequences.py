"""The rows of MariaDB's sequences, read between a snapshot's marks.

A sequence keeps no old rows for a consistent snapshot: whoever reads it sees the newest one. Read behind LOW it holds all
that the binlog has up to there; what came in between is in the binlog behind LOW as well, as the image of the whole row, so
that folding these in gives the same. Under the brief lock LOW is HIGH and nothing comes in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from recovery.archive.definitions import Definition
from recovery.errors import SourceError
from recovery.objects.sequences import BETWEEN, COLUMNS, KIND, Held, Row
from recovery.quoting import quote
from recovery.source import Connection, fetch

Pair = tuple[str, str]
_AT_ONCE: Final = 50
_GONE: Final = "its row couldn't be read while the snapshot was taken"


def sequences_of(definitions: Iterable[Definition]) -> tuple[Pair, ...]:
    """The names of the sequences among them."""
    return tuple((d.db, d.name) for d in definitions if d.type == KIND and d.statement is not None)


def read_rows(connection: Connection, names: Sequence[Pair]) -> dict[Pair, Row]:
    """The row of each sequence that can be read. Raises SourceUnreachable."""
    found: dict[Pair, Row] = {}
    for some in (names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE)):
        try:
            found |= _rows(connection, some)
        except SourceError as error:
            if error.retryable:
                raise
            for name in some:
                found |= _one(connection, name)
    return found


def _one(connection: Connection, name: Pair) -> dict[Pair, Row]:
    try:
        return _rows(connection, [name])
    except SourceError as error:
        if error.retryable:
            raise
        return {}


def _rows(connection: Connection, names: Sequence[Pair]) -> dict[Pair, Row]:
    columns = ", ".join(quote(c) for c in COLUMNS)
    queries = (f"SELECT {number}, {columns} FROM {quote(*name)}" for number, name in enumerate(names))
    rows = fetch(connection, " UNION ALL ".join(queries))
    return {names[int(number)]: tuple(map(int, row)) for number, *row in rows}


def with_rows(definitions: Iterable[Definition], rows: Mapping[Pair, Row]) -> tuple[Definition, ...]:
    """A sequence's definition is what creates it and what gives it its row."""
    return tuple(_with_row(one, rows.get((one.db, one.name))) for one in definitions)


def _with_row(one: Definition, row: Row | None) -> Definition:
    if one.type != KIND or one.statement is None:
        return one
    if row is None:
        return replace(one, statement=None, problem=_GONE)
    return replace(one, statement=f"{one.statement}{BETWEEN}{Held(row).of((one.db, one.name))}")
