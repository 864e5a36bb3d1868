"""Derivations carried out: which rows of a family of tables are needed, read from local files, and the derived changes of
each child as a change segment beside its others, for the merge.

`derivation` (recovery/derive_plan.py) says what a derivation is. Rows are looked for in rounds: `recovery.derive`
says whose rows it needs, until it needs no others, one round per level of foreign keys and one. Memory grows with the rows
that foreign keys reached, not with the tables; every round reads the files again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from recovery.alike import loose
from recovery.archive.segments import DELETE, UPDATE_AFTER, segment_schema, with_flags
from recovery.derive import Derived, DerivedChange, Member, derive
from recovery.foreignkeys import ForeignKey, Key, TableName, text_columns
from recovery.images import Image, changed_bits, materialise, pair
from recovery.schema import EXACT, Table

pc: Any = compute  # the stubs miss most of what a kernel accepts
_Mask: TypeAlias = npt.NDArray[np.bool_]
_ROUNDS = 64  # InnoDB refuses to nest deeper than 15 levels (FK_MAX_CASCADE_DEL)


@dataclass(frozen=True)
class Files:
    """A table of the family and its local files. low_seq, high_seq: the changes in (low_seq, high_seq] count."""

    definition: Table
    bases: Sequence[Path]
    changes: Sequence[Path]
    low_seq: int
    high_seq: int


@dataclass
class _Asked:
    """What was looked for in a table: keys by column list."""

    keys: dict[tuple[str, ...], set[Key]] = field(default_factory=lambda: defaultdict(set))


def derived_changes(
    files: Mapping[TableName, Files],
    edges: Sequence[ForeignKey],
    unique: frozenset[tuple[TableName, tuple[str, ...]]],
) -> dict[TableName, list[DerivedChange]]:
    """The derived changes of each table. Raises NotComputable and ArchiveDamaged."""
    asked: dict[tuple[TableName, tuple[str, ...]], set[Key]] = defaultdict(set)
    for _ in range(_ROUNDS):
        members = {name: _member(name, of, edges, asked) for name, of in files.items()}
        found: Derived = derive(members, edges, asked, unique)
        if not found.wanted:
            return dict(found.changes)
        for where, keys in found.wanted.items():
            asked[where] |= keys
    raise AssertionError("a derivation doesn't end")


def write_changes(table: Table, changes: Sequence[DerivedChange], path: Path) -> None:
    """A change segment for `Merger.merge`, as far as that reads it."""
    rows = [
        {
            "_rb_op": change.op,
            "_rb_seq": change.seq,
            "_rb_ordinal": change.ordinal,
            "_rb_committed_at_us": 0,
            "_rb_cut_at_us": 0,
            "_rb_binlog_file": "",
            "_rb_binlog_pos": 0,
            EXACT: list(change.image.exact.items()) or None,
            **{c.archive_name: v for c, v in zip(table.columns, change.image.values, strict=True)},
        }
        for change in changes
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=segment_schema(table)), path)


def _member(
    name: TableName,
    of: Files,
    edges: Sequence[ForeignKey],
    asked: Mapping[tuple[TableName, tuple[str, ...]], set[Key]],
) -> Member:
    table = of.definition
    wanted = {columns: keys for (db_table, columns), keys in asked.items() if db_table == name and keys}
    collations = {
        columns: e.collations
        for e in edges
        for at, columns in ((e.child, e.columns), (e.parent, e.referenced))
        if at == name
    }
    tracked: set[Key] = set()
    for data in _all_rows(of) if wanted else ():
        for columns, keys in wanted.items():
            mask = _holds(table, data, columns, keys, collations.get(columns))
            if mask.any():
                tracked.update(_keys(table, data.filter(pa.array(mask))))
    for columns, keys in wanted.items():
        if columns == table.key:
            tracked |= keys
    changes = [
        change
        for path in of.changes
        for change in _changes(table, _segment(path, of), path, tracked, [e for e in edges if e.parent == name])
    ]
    changes.sort(key=lambda change: change.place)
    rows = [row for path in of.bases if tracked for row in _rows(table, _read(path), tracked)]
    return Member(table, rows, changes, frozenset(tracked))


# --- files ------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> pa.Table:
    return with_flags(pq.ParquetFile(path, pre_buffer=False).read(use_threads=False))


def _segment(path: Path, of: Files) -> pa.Table:
    data = _read(path)
    seq = data["_rb_seq"]
    return data.filter(pc.and_(pc.greater(seq, of.low_seq), pc.less_equal(seq, of.high_seq)))


def _all_rows(of: Files) -> Iterator[pa.Table]:
    yield from (_read(path) for path in of.bases)
    yield from (_segment(path, of) for path in of.changes)


def _keys(table: Table, data: pa.Table) -> Iterator[Key]:
    """The primary keys of rows."""
    exact = [dict(found or ()) for found in data[EXACT].to_pylist()]
    values = [data[table.column(name).archive_name].to_pylist() for name in table.key]
    for found, row in zip(exact, zip(*values, strict=True), strict=True):
        yield tuple((value, found.get(name)) for name, value in zip(table.key, row, strict=True))


def _rows(table: Table, data: pa.Table, tracked: Collection[Key]) -> Iterator[Image]:
    data = data.filter(pa.array(_holds(table, data, table.key, tracked, None)))
    positions = {c.name: i for i, c in enumerate(table.columns)}
    exact = [dict(found or ()) for found in data[EXACT].to_pylist()]
    columns = [data[c.archive_name].to_pylist() for c in table.columns]
    for key, texts, values in zip(_keys(table, data), exact, zip(*columns, strict=True), strict=True):
        if key in tracked:
            yield Image(table, values, texts, positions)


def _changes(
    table: Table, data: pa.Table, path: Path, tracked: Collection[Key], below: Sequence[ForeignKey]
) -> Iterator[Any]:
    """The changes of tracked rows, and those that fire an action of a child."""
    mask = _fires(table, data, path, below)
    if tracked and table.key:
        candidates = np.flatnonzero(_holds(table, data, table.key, tracked, None))
        keys = _keys(table, data.take(pa.array(candidates)))
        mask[[at for at, key in zip(candidates.tolist(), keys, strict=True) if key in tracked]] = True
    seqs, ordinals = data["_rb_seq"].to_numpy(), data["_rb_ordinal"].to_numpy()
    # Both images of an update.
    places = set(zip(seqs[mask].tolist(), ordinals[mask].tolist(), strict=True))
    near = np.flatnonzero(np.isin(seqs, seqs[mask]))
    kept = [i for i in near.tolist() if (int(seqs[i]), int(ordinals[i])) in places]
    yield from materialise(pair(data.take(pa.array(kept, pa.int64())), table, str(path)), table)


def _fires(table: Table, data: pa.Table, path: Path, below: Sequence[ForeignKey]) -> _Mask:
    op = data["_rb_op"]
    mask = np.zeros(data.num_rows, np.bool_)
    if any(e.on_delete for e in below):
        mask |= pc.equal(op, DELETE).to_numpy().astype(np.bool_)
    names = {name for e in below if e.on_update for name in e.referenced}
    if names:
        updates = np.flatnonzero(pc.equal(op, UPDATE_AFTER).to_numpy())
        bits = changed_bits(data["_rb_changed"].take(pa.array(updates)), len(table.columns), str(path))
        concerned = [i for i, c in enumerate(table.columns) if c.name in names]
        mask[updates[bits[:, concerned].any(axis=1)]] = True
    return mask


def _holds(
    table: Table, data: pa.Table, columns: Sequence[str], keys: Collection[Key], collations: Sequence[str | None] | None
) -> _Mask:
    """Rows whose cells may make one of these keys: at least those that do, or that a collation may take for it."""
    mask = np.ones(data.num_rows, np.bool_)
    odd = data[EXACT].is_valid().to_numpy().astype(np.bool_)
    texts = text_columns(table, columns)
    for n, name in enumerate(columns):
        column = table.column(name)
        cells = {key[n] for key in keys}
        values = data[column.archive_name]
        if texts[n] and collations is not None:
            forms = {loose(v, collations[n]) if isinstance(v, str) else None for v, _ in cells}
            mask &= _alike(values, forms, collations[n], odd)
            continue
        plain = pa.array([v for v, _ in cells if v is not None], values.type)
        found = pc.is_in(values, value_set=plain).to_numpy().astype(np.bool_)
        mask &= found | (odd if any(exact is not None for _, exact in cells) else False)
    return mask


def _alike(values: pa.ChunkedArray, wanted: Collection[str | None], collation: str | None, odd: _Mask) -> _Mask:
    """Texts whose loose form is wanted or can't be said; wanted with None: every text may be."""
    encoded = values.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    forms = [None if v is None else loose(v, collation) for v in encoded.dictionary.to_pylist()]
    good = np.array([form is None or None in wanted or form in wanted for form in forms], np.bool_)
    index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(index >= 0, good[np.maximum(index, 0)] if len(good) else False, odd)


__all__ = ["Files", "derived_changes", "write_changes"]
