"""From the row images of a change segment to whole changes: both images of an update side by side, cells rebuilt.

`update_before` rows hold only the key and the changed cells; `_rb_changed` of the update says which are, and the others
are those of `update_after` (docs/FORMAT.md). `pair` does that for a whole segment in Arrow; `materialise` makes Python
objects of the rows that are wanted in the end, and of no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

from recovery.archive.segments import DELETE, INSERT, METADATA_FIELDS, UPDATE_AFTER, UPDATE_BEFORE
from recovery.errors import ArchiveDamaged
from recovery.literals import text_of
from recovery.schema import EXACT, EXACT_TYPE, Table, arrow_type

pc: Any = compute  # the stubs miss most of what a kernel accepts
UPDATE = "update"
OPERATIONS = (INSERT, UPDATE, DELETE)


@dataclass(frozen=True)
class Image:
    """One whole row: values in the table's column order, and the exact texts of those that their type can't hold.
    positions: column name to index, shared by the rows of a segment."""

    table: Table
    values: tuple[object, ...]
    exact: Mapping[str, str]
    positions: Mapping[str, int]

    def cell(self, name: str) -> tuple[object, str | None]:
        """(value, exact text) of a column."""
        return self.values[self.positions[name]], self.exact.get(name)

    def texts(self) -> tuple[str | None, ...]:
        """Every value as SELECT prints it (recovery.literals.text_of)."""
        cells = zip(self.table.columns, self.values, strict=True)
        return tuple(text_of(c, v, self.exact.get(c.name)) for c, v in cells)

    def key(self) -> tuple[str | None, ...]:
        """The key's values as text, in the key's order; the whole row for a table without a key."""
        if not self.table.key:
            return self.texts()
        columns = [self.table.columns[self.positions[name]] for name in self.table.key]
        return tuple(text_of(c, *self.cell(c.name)) for c in columns)


@dataclass(frozen=True)
class Change:
    """One row change. before: None for an insert; after: None for a delete. changed: the columns that an update
    changed, in the table's order. seq, ordinal: its place in the archive. flags: its row event's; None if unknown.
    (binlog_file, binlog_pos): where its event starts."""

    table: Table
    op: str
    seq: int
    ordinal: int
    gtid: str | None
    committed_at_us: int
    cut_at_us: int
    binlog_file: str
    binlog_pos: int
    connection_id: int | None
    before: Image | None
    after: Image | None
    changed: tuple[str, ...]
    flags: int | None = None

    @property
    def place(self) -> tuple[int, int]:
        return (self.seq, self.ordinal)

    @property
    def image(self) -> Image:
        """What the row looks like after the change; before it, for a delete."""
        image = self.after or self.before
        assert image is not None
        return image

    @property
    def keys(self) -> tuple[tuple[str | None, ...], ...]:
        """The key before and after; one of them if they are equal or there is only one image."""
        return tuple(dict.fromkeys(image.key() for image in (self.before, self.after) if image is not None))


def pair(data: pa.Table, table: Table, path: str) -> pa.Table:
    """One row per change, in (seq, ordinal) order: the metadata columns of the segment (with `_rb_op` insert, update or
    delete), `b<i>` and `a<i>` for column i before and after, `b_exact` and `a_exact`.

    data: rows of a segment, both images of each update among them. Raises ArchiveDamaged naming `path`.
    """
    afters = _sorted(data.filter(pc.equal(data["_rb_op"], UPDATE_AFTER)))
    befores = _sorted(data.filter(pc.equal(data["_rb_op"], UPDATE_BEFORE)))
    if not all(afters[name].equals(befores[name]) for name in ("_rb_seq", "_rb_ordinal")):
        raise _damaged(path, "has updates with one image")
    inserts = data.filter(pc.equal(data["_rb_op"], INSERT))
    deletes = data.filter(pc.equal(data["_rb_op"], DELETE))
    if inserts.num_rows + deletes.num_rows + 2 * afters.num_rows != data.num_rows:
        raise _damaged(path, "has rows of an unknown operation")
    changed = changed_bits(afters["_rb_changed"], len(table.columns), path)
    parts = [
        _side_by_side(table, inserts, None, inserts, INSERT),
        _side_by_side(table, deletes, deletes, None, DELETE),
        _side_by_side(table, afters, _rebuilt(table, befores, afters, changed), afters, UPDATE),
    ]
    return _sorted(pa.concat_tables(parts))


def materialise(pairs: pa.Table, table: Table) -> Iterator[Change]:
    """Python objects for the rows of `pair`, in their order."""
    names = [c.name for c in table.columns]
    positions = {name: i for i, name in enumerate(names)}
    meta = pairs.select([n for n in _META if n != EXACT]).to_pylist()
    before = list(zip(*(pairs[f"b{i}"].to_pylist() for i in range(len(names))), strict=True))
    after = list(zip(*(pairs[f"a{i}"].to_pylist() for i in range(len(names))), strict=True))
    exact = zip(pairs["b_exact"].to_pylist(), pairs["a_exact"].to_pylist(), strict=True)
    for row, old, new, (old_exact, new_exact) in zip(meta, before, after, exact, strict=True):
        op = row["_rb_op"]
        bits = row["_rb_changed"] or b""
        changed = tuple(n for i, n in enumerate(names) if op == UPDATE and bits[i // 8] >> (i % 8) & 1)
        after_exact = dict(new_exact or ())
        before_exact = dict(old_exact or ())
        if op == UPDATE:
            unchanged = {n: t for n, t in after_exact.items() if n not in changed}
            before_exact = unchanged | {n: t for n, t in before_exact.items() if n in changed}
        yield Change(
            table=table,
            op=op,
            seq=row["_rb_seq"],
            ordinal=row["_rb_ordinal"],
            gtid=row["_rb_gtid"],
            committed_at_us=row["_rb_committed_at_us"],
            cut_at_us=row["_rb_cut_at_us"],
            binlog_file=row["_rb_binlog_file"],
            binlog_pos=row["_rb_binlog_pos"],
            connection_id=row["_rb_connection_id"],
            before=None if op == INSERT else Image(table, old, before_exact, positions),
            after=None if op == DELETE else Image(table, new, after_exact, positions),
            changed=changed,
            flags=row["_rb_flags"],
        )


_FIELDS: Any = METADATA_FIELDS
_META: list[str] = [field.name for field in _FIELDS]


def _sorted(data: pa.Table) -> pa.Table:
    return data.sort_by([("_rb_seq", "ascending"), ("_rb_ordinal", "ascending")])


def _rebuilt(table: Table, befores: pa.Table, afters: pa.Table, changed: npt.NDArray[np.bool_]) -> pa.Table:
    """The whole before images: changed cells from `befores`, the others from `afters`."""
    for i, column in enumerate(table.columns):
        at = befores.schema.get_field_index(column.archive_name)
        cells = pc.if_else(pa.array(changed[:, i]), befores[column.archive_name], afters[column.archive_name])
        befores = befores.set_column(at, befores.schema.field(at), cells)
    return befores


def _side_by_side(table: Table, meta: pa.Table, before: pa.Table | None, after: pa.Table | None, op: str) -> pa.Table:
    arrays: dict[str, Any] = {name: meta[name] for name in _META if name != EXACT}
    arrays["_rb_op"] = pa.array([op] * meta.num_rows, pa.string())
    for side, images in (("b", before), ("a", after)):
        for i, column in enumerate(table.columns):
            kind = arrow_type(column, table.label)
            arrays[f"{side}{i}"] = _nulls(meta.num_rows, kind) if images is None else images[column.archive_name]
        arrays[f"{side}_exact"] = _nulls(meta.num_rows, EXACT_TYPE) if images is None else images[EXACT]
    return pa.table(arrays)


def _nulls(rows: int, kind: pa.DataType) -> Any:
    return pa.array([None] * rows, type=kind)


def changed_bits(column: Any, columns: int, path: str) -> npt.NDArray[np.bool_]:
    """Row by column: whether the update changed it."""
    bitmaps: list[bytes | None] = column.to_pylist()
    width = len(bitmaps[0] or b"") if bitmaps else (columns + 7) // 8
    if width * 8 < columns or any(b is None or len(b) != width for b in bitmaps):
        raise _damaged(path, "has updates without their changed columns")
    flat = np.frombuffer(b"".join(b for b in bitmaps if b is not None), dtype=np.uint8).reshape(-1, width)
    return np.unpackbits(flat, axis=1, bitorder="little")[:, :columns].astype(np.bool_)


def _damaged(path: str, what: str) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"object `{path}` {what}",
        hint="It has the recorded bytes, so it was written wrong: please report this with the object's name.",
    )
