"""Row images that correct a fold: what stands at the end of a stage for the keys that a transaction left out had touched.

A correction is an image like any other, with a place behind all others of its stage: the merge takes it as the last one of
its key and needs no rule of its own. Arrow and DuckDB find and build them; only rows that need it pass through Python.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import compute

from recovery.alike import loose, loose_sql, register
from recovery.archive.actions import Segment
from recovery.archive.segments import DELETE, INSERT, read_segment, segment_schema
from recovery.archive.store import Store
from recovery.images import UPDATE, Image, changed_bits, materialise, pair
from recovery.schema import EXACT, EXACT_TYPE, TEXT_TYPES, Table, arrow_type, table_of
from recovery.stages import Stage

pc: Any = compute  # the stubs miss most of what a kernel accepts
FIRST_ORDINAL: Final = 2**62  # above every ordinal of a transaction; twice of it still fits the merge's version
Cell = tuple[object, str | None]  # a column's value, and its exact text if the type can't hold it
Row = Mapping[str, Cell]
Key = tuple[str | None, ...]
ALL: Final = None  # all columns, as a set of them
_ENTRIES: Final = pa.list_(pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.string())]))


@dataclass(frozen=True)
class Undone:
    """Rows that are otherwise without the transactions than in the source, at the end of a table's last stage. keys: their
    keys there (`keys_of`, without `n`); columns: in which they differ, ALL for rows that the source doesn't have; later: the
    columns that transactions which stay had set behind the first one left out. Names of the last stage."""

    keys: pa.Table
    columns: frozenset[str] | None
    later: frozenset[str] = frozenset()


def paired(store: Store, segment: Segment, stage: Stage, first_seq: int) -> pa.Table:
    """The segment's changes in the stage, from transaction `first_seq` on, one row each (`recovery.images.pair`)."""
    low = max(stage.low_seq + 1, first_seq)
    if segment.last_seq < low or segment.first_seq > stage.high_seq:
        return pair(segment_schema(stage.definition).empty_table(), stage.definition, "")
    data = read_segment(store, segment)
    inside = pc.and_(pc.greater_equal(data["_rb_seq"], low), pc.less_equal(data["_rb_seq"], stage.high_seq))
    return pair(data.filter(inside), table_of(data.schema), segment.path)


def of_transactions(pairs: pa.Table, seqs: Collection[int], *, inverse: bool = False) -> pa.Table:
    mask = pc.is_in(pairs["_rb_seq"], pa.array(sorted(seqs), pa.int64()))
    return pairs.filter(pc.invert(mask) if inverse else mask)


def rows_at(pairs: pa.Table, numbers: Sequence[int]) -> pa.Table:
    return pairs.take(pa.array(numbers, pa.int64()))


def key_indexes(table: Table) -> list[int]:
    """Positions of the key's columns; of all that aren't generated, for a table without a key."""
    names = [c.name for c in table.columns]
    if table.key:
        return [names.index(name) for name in table.key]
    return [i for i, c in enumerate(table.columns) if not c.generated]


def keys_of(pairs: pa.Table, indexes: Sequence[int], sides: str = "ba") -> pa.Table:
    """The keys before and after (b, a), as columns k0, k1, ... and `n`, the row in `pairs`."""
    parts = []
    for side in sides:
        columns = {f"k{n}": pairs[f"{side}{i}"] for n, i in enumerate(indexes)}
        columns["n"] = pa.chunked_array([pa.array(range(pairs.num_rows), pa.int64())])
        parts.append(pa.table(columns).filter(pc.not_equal(pairs["_rb_op"], INSERT if side == "b" else DELETE)))
    return pa.concat_tables(parts)


def matching(keys: pa.Table, among: pa.Table, collations: Sequence[str | None] | None = None) -> list[int]:
    """The rows `n` of `keys` whose key is one of `among`, ascending. Too many rows, never too few: values that their type
    can't hold are null here and all match each other; with collations, of the key's columns, texts also match that these may
    take for one another."""
    return _semi_join(keys, among, f"SELECT {', '.join(_names(keys))} FROM among", collations)


def repeated(keys: pa.Table) -> list[int]:
    """The rows `n` whose key is another row's, too."""
    many = f"SELECT {', '.join(_names(keys))} FROM among GROUP BY ALL HAVING count(DISTINCT n) > 1"
    return _semi_join(keys, keys, many, None)


def _semi_join(keys: pa.Table, among: pa.Table, wanted: str, collations: Sequence[str | None] | None) -> list[int]:
    forms: list[str] = []
    unsaid: list[str] = []
    for name, collation in zip(_names(keys), collations or itertools.repeat(None), strict=False):
        value = f"t.{name}"
        if collations is not None and pa.types.is_string(keys.schema.field(name).type):
            form = loose_sql(value, collation)
            unsaid.append(f"({value} IS NOT NULL AND {form} IS NULL)")
            value = f"coalesce({form}, {value})"
        forms.append(f"{value} AS f{len(forms)}")
    any_unsaid = " OR ".join(unsaid) or "false"
    on = " AND ".join(f"a.f{n} IS NOT DISTINCT FROM b.f{n}" for n in range(len(forms)))
    with duckdb.connect(":memory:") as engine:
        register(engine)
        engine.register("keys", keys)
        engine.register("among", among)
        engine.sql(f"CREATE TABLE a AS SELECT n, {', '.join(forms)}, {any_unsaid} AS unsaid FROM keys AS t")
        engine.sql(f"CREATE TABLE b AS SELECT {', '.join(forms)}, {any_unsaid} AS unsaid FROM ({wanted}) AS t")
        found = engine.sql(
            f"SELECT n FROM a SEMI JOIN b ON {on} UNION SELECT n FROM a WHERE unsaid AND EXISTS (FROM b) "
            "UNION SELECT n FROM a WHERE EXISTS (FROM b WHERE unsaid) ORDER BY n"
        ).fetchall()
    return [row[0] for row in found]


def loose_key(image: Image, collations: Sequence[str | None]) -> Key | None:
    """The key with its texts in their loose forms (recovery/alike.py); None if one has none. collations: of the key's
    columns."""
    columns = [image.table.column(name) for name in image.table.key]
    cells = zip(image.key(), columns, collations, strict=True)
    forms = [loose(v, c) if column.type in TEXT_TYPES and v is not None else v for v, column, c in cells]
    return None if any(f is None and v is not None for f, v in zip(forms, image.key(), strict=True)) else tuple(forms)


def _names(keys: pa.Table) -> list[str]:
    return [name for name in keys.schema.names if name != "n"]


def moved(pairs: pa.Table, indexes: Sequence[int]) -> Any:
    """A mask: updates that gave a row another key."""
    found: Any = pa.array([False] * pairs.num_rows, pa.bool_())
    for i in indexes:
        found = pc.or_(found, pc.invert(pc.fill_null(pc.equal(pairs[f"b{i}"], pairs[f"a{i}"]), False)))
    return pc.and_(found, pc.equal(pairs["_rb_op"], UPDATE))


def setting(pairs: pa.Table, table: Table, columns: Collection[int]) -> Any:
    """A mask: changes that gave a row one of these columns' values, or its key."""
    changed = np.ones((pairs.num_rows, len(table.columns)), np.bool_)
    updates = pc.equal(pairs["_rb_op"], UPDATE).to_numpy(zero_copy_only=False)
    changed[updates] = changed_bits(pairs.filter(pa.array(updates))["_rb_changed"], len(table.columns), table.label)
    wanted = pa.array(changed[:, sorted({*columns, *table.key_indexes})].any(axis=1))
    return pc.and_(wanted, pc.not_equal(pairs["_rb_op"], DELETE))


def not_alone(pairs: pa.Table, indexes: Sequence[int]) -> set[int]:
    """Rows that can't be taken back on their own: with a key of another row, moved to another key, or with exact texts."""
    exact = pc.or_(_has_exact(pairs["b_exact"]), _has_exact(pairs["a_exact"]))
    flagged = pc.or_(moved(pairs, indexes), exact)
    return {*repeated(keys_of(pairs, indexes)), *pc.indices_nonzero(flagged).to_pylist()}


def _has_exact(column: Any) -> Any:
    return pc.fill_null(pc.greater(pc.list_value_length(column.cast(_ENTRIES)), 0), False)


def taken_back(pairs: pa.Table, table: Table, seq: int) -> pa.Table:
    """Corrections for rows that are alone: what an insert made goes, what a delete or an update found comes back."""
    inserts = pairs.filter(pc.equal(pairs["_rb_op"], INSERT))
    others = pairs.filter(pc.not_equal(pairs["_rb_op"], INSERT))
    gone = _of_side(inserts, "a", table, DELETE, seq, FIRST_ORDINAL)
    return pa.concat_tables([gone, _of_side(others, "b", table, INSERT, seq, FIRST_ORDINAL + gone.num_rows)])


def undone(pairs: pa.Table, table: Table) -> Iterator[Undone]:
    """What `taken_back` leaves otherwise: rows that come back, and those that have other values."""
    indexes = key_indexes(table)
    back = pairs.filter(pc.equal(pairs["_rb_op"], DELETE))
    if back.num_rows:
        yield Undone(keys_of(back, indexes, "b").drop_columns(["n"]), ALL)
    updates = pairs.filter(pc.equal(pairs["_rb_op"], UPDATE))
    if updates.num_rows:
        changed = changed_bits(updates["_rb_changed"], len(table.columns), table.label)
        names = frozenset(c.name for i, c in enumerate(table.columns) if changed[:, i].any())
        yield Undone(keys_of(updates, indexes, "b").drop_columns(["n"]), names)


def _of_side(pairs: pa.Table, side: str, table: Table, op: str, seq: int, first: int) -> pa.Table:
    values = {c.archive_name: pairs[f"{side}{i}"] for i, c in enumerate(table.columns)}
    return _images(table, values, [None] * pairs.num_rows, [op] * pairs.num_rows, seq, first)


def inverted(pairs: pa.Table, table: Table, seq: int) -> pa.Table:
    """The opposite of every image, for a table without a key, whose rows fold as a multiset."""
    rows: list[tuple[str, Row]] = []
    for change in materialise(pairs, table):
        rows += [(DELETE, cells(change.after))] if change.after is not None else []
        rows += [(INSERT, cells(change.before))] if change.before is not None else []
    return from_cells(rows, table, seq)


def cells(image: Image) -> dict[str, Cell]:
    return {c.name: image.cell(c.name) for c in image.table.columns}


def key_cells(image: Image) -> tuple[Cell, ...]:
    return tuple(image.cell(name) for name in image.table.key)


def keys_table(table: Table, places: Sequence[tuple[Cell, ...]]) -> pa.Table:
    """`keys_of` without `n`, of rows with these key cells."""
    kinds = [arrow_type(table.column(name), table.label) for name in table.key]
    return pa.table({f"k{n}": pa.array([p[n][0] for p in places], kind) for n, kind in enumerate(kinds)})


def from_cells(rows: Iterable[tuple[str, Row]], table: Table, seq: int, taken: int = 0) -> pa.Table:
    """Corrections of (operation, cells by column name); a delete needs the key's cells only. taken: ordinals in use."""
    given = list(rows)
    values = {
        c.archive_name: pa.array([row.get(c.name, (None,))[0] for _, row in given], arrow_type(c, table.label))
        for c in table.columns
    }
    exact = [[(name, text) for name, (_, text) in row.items() if text is not None] for _, row in given]
    return _images(table, values, exact, [op for op, _ in given], seq, FIRST_ORDINAL + taken)


def _images(
    table: Table, values: Mapping[str, Any], exact: Sequence[Any], ops: Sequence[str], seq: int, first: int
) -> pa.Table:
    count = len(ops)
    columns: dict[str, Any] = {
        **{name: [0] * count for name in ("_rb_committed_at_us", "_rb_cut_at_us", "_rb_binlog_pos")},
        "_rb_binlog_file": [""] * count,
        "_rb_op": list(ops),
        "_rb_seq": [seq] * count,
        "_rb_ordinal": range(first, first + count),
        EXACT: pa.array([e or None for e in exact], EXACT_TYPE),
        **values,
    }
    schema = segment_schema(table)
    return pa.table({f.name: columns.get(f.name, pa.nulls(count, f.type)) for f in schema}, schema=schema)
