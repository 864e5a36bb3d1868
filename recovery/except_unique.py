"""Whether rows that are only so without a transaction left out stand beside others with the same unique values.

Equal bytes are the same key under every collation. Other texts that a collation may take for one another are refused, too,
and so are those of which that isn't known, unless the source had both rows at a time with that very key: then they aren't
equal. Values of generated columns aren't in
the archive; those over whole numbers are computed (recovery/numeric.py), and what else reads one of their columns is refused
where later changes set such a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from recovery.alike import loose_sql, may_equal_sql, register, unregister
from recovery.archive.actions import Ddl
from recovery.constraints import PRIMARY, Constraint, Part
from recovery.errors import NotComputable
from recovery.except_rows import Undone
from recovery.except_since import SHOWN, Otherwise
from recovery.merge import literal
from recovery.numeric import number_sql
from recovery.schema import BINARY_TYPES, TEXT_TYPES

UNSAID: Final = "?"
# Types of generated columns that hold every whole number as itself, or refuse it at the load.
_WHOLE: Final = frozenset({
    "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "INTEGER", "BIGINT", "DECIMAL", "NUMERIC", "CHAR", "VARCHAR",
})  # fmt: skip


@dataclass(frozen=True)
class _Value:
    """Of a part of a key, in DuckDB, NULL where it is NULL. exact: as text; loose: equal where a collation may find two
    values equal, with UNSAID in front where that isn't known. text: what a collation compares; None for other types.
    collation: None if it isn't known."""

    exact: str
    loose: str
    text: str | None = None
    collation: str | None = None


def check_unique(rows: Otherwise, key: Constraint) -> None:
    """Raises NotComputable, and duckdb.Error."""
    undone = rows.touched(key.reads)
    if not undone or any(_is_null(rows, part) for part in key.parts):
        return
    values = [_value(rows, part) for part in key.parts]
    since = None if rows.old(key.since) else key.since
    if None in values:
        _check_unknown(rows, key, undone, since, "what they are can't be computed")
        return
    known = [v for v in values if v is not None]
    if key.kind == PRIMARY and all(v.text is None for v in known):
        return  # the fold knows no two of them
    connection = rows.merger.connection
    register(connection)
    try:
        _gather(rows, known, undone)
        _check_equal(rows, key, known, since)
        if _unsaid(rows, key, known, undone, since):
            _check_unknown(rows, key, undone, since, "what their collation takes for equal isn't known")
        else:
            _check_alike(rows, key, known, since)
    finally:
        unregister(connection)
        for name in ("near_key", "undone_key", "fresh_one", "fresh_other"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")


def _is_null(rows: Otherwise, part: Part) -> bool:
    """Whether it is a column that was added as NULL behind the last change: NULLs don't collide."""
    facts = rows.definition.columns.get((part.column or "").casefold())
    return facts is not None and facts.null and facts.generated is None and facts.name.casefold() not in rows.indexes


def _value(rows: Otherwise, part: Part) -> _Value | None:
    """None if it can't be computed."""
    facts = rows.definition.columns.get((part.column or "").casefold())
    expression = part.expression or (facts.generated if facts is not None else None)
    if expression is not None:
        number = number_sql(expression, rows.values)
        if number is None or (facts is not None and facts.type not in _WHOLE) or part.length is not None:
            return None
        return _Value(f"'v' || ({number})::VARCHAR", f"'v' || ({number})::VARCHAR")
    found = None if facts is None else rows.values.get(facts.name.casefold())
    if facts is None or found is None:
        return None
    column, value = found
    odd = f"('x' || e[{literal(column.name)}])"  # the exact text of a value that its type can't hold
    if column.type in TEXT_TYPES:
        text = value if part.length is None else f"left({value}, {part.length})"
        exact = f"coalesce('v' || {text}, {odd})"
        loose = f"coalesce('v' || {loose_sql(text, facts.collation)}, {odd}, '{UNSAID}' || {text})"
        return _Value(exact, loose, text, facts.collation)
    if column.type in BINARY_TYPES:
        text = f"hex({value})" if part.length is None else f"left(hex({value}), {2 * part.length})"
    else:
        # 0.0 and -0.0 are equal to both servers.
        text = f"({value} + 0.0)::VARCHAR" if column.type in ("float", "double") else f"{value}::VARCHAR"
    exact = f"coalesce('v' || {text}, {odd})"
    return _Value(exact, exact)


def _gather(rows: Otherwise, values: Sequence[_Value], undone: Sequence[Undone]) -> None:
    """near_key: the rows whose values may be those of an undone row, numbered. x: exact, l: loose, t: texts, k: the table's
    key; undone: whether it is one."""
    all_rows, of_undone = (_keyed(rows, values, query) for query in (rows.merged.sql, rows.among(undone)))
    alike = " AND ".join(f"a.l{n} = b.l{n}" for n in range(len(values)))
    same = " AND ".join(f"a.k{n} IS NOT DISTINCT FROM u.k{n}" for n in range(len(rows.key)))
    rows.merger.connection.execute(
        f"CREATE OR REPLACE TEMP TABLE near_key AS SELECT a.*, row_number() OVER () AS n, "
        f"EXISTS (SELECT 1 FROM undone_key AS u WHERE {same}) AS undone "
        f"FROM ({all_rows}) AS a SEMI JOIN ({of_undone}) AS b ON {alike}"
    )


def _keyed(rows: Otherwise, values: Sequence[_Value], query: str) -> str:
    """A query of x, l, t and k (see `_gather`) of a query's rows that have no NULL in the key."""
    named = [f"{v.exact} AS x{n}, {v.loose} AS l{n}, {v.text or 'NULL'} AS t{n}" for n, v in enumerate(values)]
    keys = [f"v{i} AS k{n}" for n, i in enumerate(rows.key)]
    there = " AND ".join(f"x{n} IS NOT NULL" for n in range(len(values)))
    return f"SELECT * FROM (SELECT {', '.join([*named, *keys])} FROM ({query})) WHERE {there}"


def _unsaid(
    rows: Otherwise, key: Constraint, values: Sequence[_Value], undone: Sequence[Undone], since: Ddl | None
) -> bool:
    """Whether it isn't known what a collation takes for equal to a text of an undone row, or of a row that got its values
    behind the first transaction left out."""
    where = " OR ".join(f"l{n} LIKE '{UNSAID}%'" for n, v in enumerate(values) if v.text is not None) or "false"
    of_undone = f"FROM ({_keyed(rows, values, rows.among(undone))}) AS b WHERE {where}"
    if rows.merger.connection.execute(f"SELECT 1 {of_undone} LIMIT 1").fetchall():
        return True
    others = _keys(rows, f"FROM ({_keyed(rows, values, rows.merged.sql)}) AS b WHERE {where}")
    if since is None and others.num_rows:
        others = rows.set_since(others, key.reads, by_all=True)
    return bool(others.num_rows)


def _check_equal(rows: Otherwise, key: Constraint, values: Sequence[_Value], since: Ddl | None) -> None:
    equal = " AND ".join(f"a.x{n} = b.x{n}" for n in range(len(values)))
    pairs = f"FROM near_key AS a JOIN near_key AS b ON {equal} AND a.n <> b.n WHERE a.undone"
    shown = ", ".join(f"a.x{n}" for n in range(len(values)))
    found = rows.merger.connection.execute(f"SELECT DISTINCT {shown} {pairs} ORDER BY ALL LIMIT {SHOWN}").fetchall()
    if found:
        taken = "; ".join(", ".join(x[1:] for x in row) for row in found)
        what = f"would have several rows with the same values ({taken}) of its {key.text} without the transaction"
        raise _refused(rows, key, what, pairs, since)


def _check_alike(rows: Otherwise, key: Constraint, values: Sequence[_Value], since: Ddl | None) -> None:
    texts = [(n, v) for n, v in enumerate(values) if v.text is not None]
    if not texts:
        return
    columns = range(len(values))
    alike = [f"a.l{n} = b.l{n}" for n in columns]
    alike += [
        f"(a.x{n} = b.x{n} OR coalesce({may_equal_sql(f'a.t{n}', f'b.t{n}', v.collation)}, true))" for n, v in texts
    ]
    differ = " OR ".join(f"a.x{n} <> b.x{n}" for n in columns)
    pairs = (
        f"FROM near_key AS a JOIN near_key AS b ON {' AND '.join(alike)} AND a.n <> b.n WHERE a.undone AND ({differ})"
    )
    if since is None:
        _gather_fresh(rows, key, pairs)
        keys = range(len(rows.key))
        fresh = [" AND ".join(f"f.k{n} IS NOT DISTINCT FROM {side}.k{n}" for n in keys) for side in ("a", "b")]
        pairs += (
            f" AND (EXISTS (SELECT 1 FROM fresh_one AS f WHERE {fresh[0]})"
            f" OR CASE WHEN b.undone THEN EXISTS (SELECT 1 FROM fresh_one AS f WHERE {fresh[1]})"
            f" ELSE EXISTS (SELECT 1 FROM fresh_other AS f WHERE {fresh[1]}) END)"
        )
    shown = ", ".join(f"a.x{n}, b.x{n}" for n, _ in texts)
    found = rows.merger.connection.execute(f"SELECT {shown} {pairs} ORDER BY ALL LIMIT {SHOWN}").fetchall()
    if found:
        taken = "; ".join(" and ".join(f"`{x[1:]}`" for x in row) for row in found)
        names = " and ".join(sorted({f"`{v.collation}`" for _, v in texts if v.collation})) or "its collation"
        what = (
            f"may have several rows with equal values ({taken}) of its {key.text} under {names} without the transaction"
        )
        raise _refused(rows, key, what, pairs, since)


def _gather_fresh(rows: Otherwise, key: Constraint, pairs: str) -> None:
    """fresh_one, fresh_other: which of the rows of the pairs, undone or others, got their values of the key behind the first
    transaction left out; all others had been there together before it."""
    for name, by_all in (("fresh_one", False), ("fresh_other", True)):
        wanted = _keys(rows, f"{pairs} AND {'NOT ' if by_all else ''}b.undone")
        if not by_all:
            wanted = pa.concat_tables([wanted, _keys(rows, pairs, "a")])
        rows.register(name, rows.set_since(wanted, key.reads, by_all=by_all))


def _keys(rows: Otherwise, pairs: str, side: str = "b") -> pa.Table:
    """As `recovery.except_rows.keys_of`, in the types of the archive."""
    names = ", ".join(f"{side}.k{n}" for n in range(len(rows.key)))
    found = rows.merger.connection.sql(f"SELECT DISTINCT {names} {pairs}").to_arrow_table()
    schema = rows.table.undone[0].keys.schema
    return (
        found.rename_columns(schema.names).cast(schema).append_column("n", pa.array(range(found.num_rows), pa.int64()))
    )


def _refused(rows: Otherwise, key: Constraint, what: str, pairs: str, since: Ddl | None) -> NotComputable:
    set_by = rows.set_since(_keys(rows, f"{pairs} AND NOT b.undone"), key.reads, by_all=False)
    if not set_by.num_rows:
        set_by = rows.set_since(_keys(rows, pairs), key.reads, by_all=False)
    return rows.refuse(what, since, set_by)


def _check_unknown(rows: Otherwise, key: Constraint, undone: Sequence[Undone], since: Ddl | None, why: str) -> None:
    """Values that can't be compared: fine only if no row of the table got a value of the key's columns later."""
    if since is None and not rows.set_since(None, key.reads, by_all=False).num_rows:
        return
    if found := rows.shown(rows.among(undone)):
        raise rows.refuse(
            f"may have several rows with the same values of its {key.text} without the transaction: later changes may have "
            f"taken those of {found}, and {why}",
            since,
        )
