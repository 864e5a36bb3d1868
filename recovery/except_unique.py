"""Whether rows that are only there without a transaction left out stand beside later ones with the same unique values.

The primary key is the walk's business (recovery/except_walk.py); here are the table's other unique keys, compared by stored
bytes. What a collation takes for equal besides, keys over prefixes, expressions and generated columns, and tables whose
definition was altered behind their snapshot are left to the server, which refuses such rows at the load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recovery.errors import NotComputable
from recovery.merge import MergedTable, Merger
from recovery.scope import TableName, label, spelled
from recovery.sqlscan import Word, scan

_SHOWN = 3


def check_unique(merger: Merger, merged: MergedTable, schema: Sequence[str], name: TableName) -> None:
    """merged: the finished rows of a table whose fold was corrected. Raises NotComputable, and duckdb.Error."""
    if len(schema) != 1:
        return
    places = {merged.table.columns[i].name.casefold(): i for i in merged.columns}
    for key in unique_keys(schema[0]):
        indexes = [places.get(column.casefold()) for column in key]
        if None in indexes:
            continue
        values = ", ".join(f"v{i}" for i in indexes)
        there = " AND ".join(f"v{i} IS NOT NULL" for i in indexes)
        sql = f"SELECT {values} FROM ({merged.sql}) WHERE {there} GROUP BY {values} HAVING count(*) > 1 LIMIT {_SHOWN}"
        found = merger.connection.execute(sql).fetchall()
        if found:
            shown = "; ".join(", ".join(map(str, row)) for row in found)
            raise NotComputable(
                f"table `{label(name)}` would have several rows with the same values of its unique key "
                f"({', '.join(key)}) without the transaction: {shown}",
                hint="A later transaction took values that it had freed: restore to before that one, or leave the table out "
                f"with `--exclude '{spelled(name)}'` and take the rows over by hand.",
            )


def unique_keys(create: str) -> Iterator[tuple[str, ...]]:
    """The columns of each UNIQUE KEY over whole columns in SHOW CREATE TABLE's text."""
    words = list(scan(create))
    for at, word in enumerate(words):
        if word.says("UNIQUE"):
            begin = next((i for i in range(at, min(at + 6, len(words))) if words[i].says("(")), None)
            columns = None if begin is None else _columns(words, begin + 1)
            if columns:
                yield columns


def _columns(words: Sequence[Word], at: int) -> tuple[str, ...] | None:
    """None unless they are plain names."""
    found = []
    while at + 1 < len(words):
        if not words[at].names:
            return None
        found.append(words[at].text)
        at += 1
        if words[at].says("ASC", "DESC"):
            at += 1
        if words[at].says(")"):
            return tuple(found)
        if not words[at].says(","):
            return None
        at += 1
    return None
