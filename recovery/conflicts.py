"""Rows that changed again: later changes to the same keys that a set of undone changes leaves standing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from recovery.archive.segments import read_segment
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.changes import segments_of
from recovery.images import UPDATE, Change, materialise, pair
from recovery.schema import Table, arrow_type, table_of
from recovery.seqrange import TableName

pc: Any = compute  # the stubs miss most of what a kernel accepts
Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Conflict:
    """change: a later change to a row that the undo touches. blocking: it touches cells that the undo's guard looks at,
    so the script is expected to roll back (unless the row was changed back since)."""

    key: Key
    change: Change
    blocking: bool


@dataclass
class _Touched:
    """What the undo does to one key: from which place on, and which columns (None: the whole row)."""

    since: tuple[int, int]
    columns: frozenset[str] | None


def find_conflicts(
    store: Store, state: ArchiveState, table: TableName, undone: Sequence[Change]
) -> tuple[Conflict, ...]:
    """In the order of the archive. Reads every segment of the table from the oldest undone change on."""
    if not undone:
        return ()
    touched = _touched(undone)
    places = {change.place for change in undone}
    found = []
    for change in _later(store, state, table, undone):
        if change.place in places:
            continue
        for key in change.keys:
            what = touched.get(key)
            if what is not None and change.place > what.since:
                found.append(Conflict(key, change, _blocks(change, what)))
                break
    return tuple(found)


def _touched(undone: Sequence[Change]) -> Mapping[Key, _Touched]:
    touched: dict[Key, _Touched] = {}
    for change in undone:
        columns = frozenset(change.changed) if change.op == UPDATE and change.table.key else None
        for key in change.keys:
            known = touched.get(key)
            if known is None:
                touched[key] = _Touched(change.place, columns)
                continue
            known.since = min(known.since, change.place)
            known.columns = None if known.columns is None or columns is None else known.columns | columns
    return touched


def _blocks(change: Change, what: _Touched) -> bool:
    if change.op != UPDATE or what.columns is None:
        return True
    return bool(what.columns.intersection(change.changed) or set(change.table.key).intersection(change.changed))


def _later(store: Store, state: ArchiveState, table: TableName, undone: Sequence[Change]) -> Iterator[Change]:
    first = min(change.seq for change in undone)
    for segment in segments_of(state, table, first, state.last_seq):
        data = read_segment(store, segment)
        definition = table_of(data.schema)
        pairs = pair(data.filter(pc.greater_equal(data["_rb_seq"], first)), definition, segment.path)
        mask = _candidates(pairs, definition, undone)
        yield from materialise(pairs if mask is None else pairs.filter(mask), definition)


def _candidates(pairs: pa.Table, table: Table, undone: Sequence[Change]) -> Any:
    """Rows whose first identifying column has a value of the undone rows; None to look at all of them."""
    name = (table.key or tuple(c.name for c in table.columns))[0]
    at = [c.name for c in table.columns].index(name)
    images = [image for change in undone for image in (change.before, change.after) if image is not None]
    if any(image.table.storage != table.storage for image in images):
        return None
    values = pa.array({image.values[at] for image in images}, arrow_type(table.columns[at], table.label))
    return pc.or_(pc.is_in(pairs[f"b{at}"], values), pc.is_in(pairs[f"a{at}"], values))
