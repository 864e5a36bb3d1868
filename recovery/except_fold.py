"""The fold of one table without some transactions: images that correct what its stages fold to (recovery/except_rows.py).

Rows that nothing else touches are taken back in Arrow, however many they are; rows that the transactions or later ones
changed again are walked one by one (recovery/except_walk.py). Images of the transactions left out are held in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from recovery.archive.actions import Ddl
from recovery.archive.segments import segment_schema
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import NotComputable
from recovery.except_rows import (
    ALL,
    Undone,
    from_cells,
    inverted,
    key_indexes,
    keys_of,
    matching,
    moved,
    not_alone,
    of_transactions,
    paired,
    rows_at,
    taken_back,
    undone,
)
from recovery.except_walk import LaterChange, Walker
from recovery.images import materialise, pair
from recovery.lineage import touching
from recovery.refused import refused
from recovery.schema import INTEGER_BITS, Column
from recovery.scope import TableName, label, spelled
from recovery.stages import Source, Stage


@dataclass(frozen=True)
class Corrected:
    """corrections: images for the stages (by number) of a table. later: changes of the same rows; open: those of them that
    conflict and weren't settled. rows: how many each transaction left out had changed, by seq. undone: the rows that are
    otherwise in the end."""

    corrections: Mapping[int, pa.Table]
    later: tuple[LaterChange, ...]
    open: tuple[LaterChange, ...]
    rows: Mapping[int, int]
    undone: tuple[Undone, ...]


def correct(
    store: Store,
    state: ArchiveState,
    name: TableName,
    stages: Sequence[Stage],
    seqs: Collection[int],
    collations: Sequence[str | None],
    keep_later: bool,
) -> Corrected | None:
    """None if the transactions didn't touch the table. name: at the cut; collations: of the key's columns, None for one that
    isn't known. Raises NotComputable, DdlInRange, ArchiveDamaged."""
    left_out = [_left_out(store, stage, seqs) for stage in stages]
    first = next((n for n, pairs in enumerate(left_out) if pairs.num_rows), None)
    if first is None:
        return None
    rows = _counted(left_out)
    for removal in (r for stage in stages[first + 1 :] for r in stage.removed):
        raise refused(name, removal.ddl, "it took the rows of partitions away, behind a transaction that is left out")
    if not stages[first].definition.key:
        return _keyless(store, state, name, stages, left_out, seqs, rows)
    _check_keys(state, name, stages[first:])
    later = _touching_again(store, stages, left_out, seqs, collations)
    walker = Walker(name, frozenset(seqs), collations, keep_later)
    corrections: dict[int, pa.Table] = {}
    simply: list[Undone] = []
    for number in range(first, len(stages)):
        stage = stages[number]
        if number > first:
            names, blurred = _carried(stages[number - 1], stage)
            walker.next_stage(names, blurred)
            simply = [_renamed(one, names) for one in simply]
        alone = _alone(stages, number, left_out, later, collations)
        simple = rows_at(left_out[number], alone)
        rest = rows_at(left_out[number], sorted(set(range(left_out[number].num_rows)) - set(alone)))
        changes = [*materialise(rest, stage.definition), *materialise(later[number], stage.definition)]
        for change in sorted(changes, key=lambda c: c.place):
            walker.step(change)
        simply += undone(simple, stage.definition)
        walked = from_cells(walker.corrections(), stage.definition, stage.high_seq, simple.num_rows)
        images = pa.concat_tables([taken_back(simple, stage.definition, stage.high_seq), walked])
        if images.num_rows:
            corrections[number] = images
    otherwise = (*(u for u in simply if u.columns is ALL or u.columns), *walker.undone(stages[-1].definition))
    return Corrected(corrections, tuple(walker.later), tuple(walker.conflicts()), rows, otherwise)


def _renamed(one: Undone, names: Mapping[str, str]) -> Undone:
    """In the next definition."""
    if one.columns is ALL:
        return one
    return replace(one, columns=frozenset(names[n] for n in one.columns if n in names))


def _left_out(store: Store, stage: Stage, seqs: Collection[int]) -> pa.Table:
    """What the transactions changed in the stage."""
    held = [s for s in stage.segments if any(s.first_seq <= seq <= s.last_seq for seq in seqs)]
    parts = [of_transactions(paired(store, s, stage, min(seqs)), seqs) for s in dict.fromkeys(held)]
    return pa.concat_tables([_nothing(stage), *parts])


def _nothing(stage: Stage) -> pa.Table:
    return pair(segment_schema(stage.definition).empty_table(), stage.definition, "")


def _counted(left_out: Iterable[pa.Table]) -> dict[int, int]:
    rows: dict[int, int] = {}
    for pairs in left_out:
        for value in pairs["_rb_seq"].value_counts().to_pylist():
            rows[value["values"]] = rows.get(value["values"], 0) + value["counts"]
    return rows


def _touching_again(
    store: Store,
    stages: Sequence[Stage],
    left_out: Sequence[pa.Table],
    seqs: Collection[int],
    collations: Sequence[str | None],
) -> list[pa.Table]:
    """For each stage, the other transactions' changes of rows that these had touched, under whatever key they moved to."""
    keys = [keys_of(pairs, key_indexes(s.definition)) for s, pairs in zip(stages, left_out, strict=True)]
    wanted = pa.concat_tables(keys)
    while True:
        found = [_with_keys(store, stage, wanted, seqs, collations) for stage in stages]
        more = [
            keys_of(pairs.filter(moved(pairs, indexes)), indexes)
            for pairs, indexes in zip(found, [key_indexes(s.definition) for s in stages], strict=True)
        ]
        extended = pa.concat_tables([wanted, *more])
        new = pa.concat_tables(more)
        if not new.num_rows or len(set(matching(_numbered(new), wanted))) == new.num_rows:
            return found
        wanted = extended


def _numbered(keys: pa.Table) -> pa.Table:
    return keys.drop_columns(["n"]).append_column("n", pa.array(range(keys.num_rows), pa.int64()))


def _with_keys(
    store: Store, stage: Stage, wanted: pa.Table, seqs: Collection[int], collations: Sequence[str | None]
) -> pa.Table:
    indexes = key_indexes(stage.definition)
    parts = [_nothing(stage)]
    for segment in dict.fromkeys(stage.segments):
        pairs = of_transactions(paired(store, segment, stage, min(seqs)), seqs, inverse=True)
        if pairs.num_rows:
            parts.append(rows_at(pairs, matching(keys_of(pairs, indexes), wanted, collations)))
    return pa.concat_tables(parts)


def _alone(
    stages: Sequence[Stage],
    number: int,
    left_out: Sequence[pa.Table],
    later: Sequence[pa.Table],
    collations: Sequence[str | None],
) -> list[int]:
    """The changes left out of a stage that nothing else touches: they needn't be walked."""
    pairs, indexes = left_out[number], key_indexes(stages[number].definition)
    if not pairs.num_rows or sum(1 for other in left_out if other.num_rows) > 1:
        return []
    own = keys_of(pairs, indexes)
    walked = not_alone(pairs, indexes)
    for stage, changes in zip(stages, later, strict=True):
        if changes.num_rows:
            walked.update(matching(own, keys_of(changes, key_indexes(stage.definition)), collations))
    # A row that is walked for its own sake may stand in the way of another one's key.
    return [n for n in range(pairs.num_rows) if n not in walked]


# --- statements that altered the table ---------------------------------------------------------------------------------


def _check_keys(state: ArchiveState, name: TableName, stages: Sequence[Stage]) -> None:
    """Raises DdlInRange or NotComputable unless the key stays the same through all stages with changes."""
    for before, after in itertools.pairwise(stages):
        names = {before.definition.columns[s.index].name: c for s, c in _sources(after) if s.index is not None}
        renamed = tuple(names[k].name for k in before.definition.key if k in names)
        same = renamed == after.definition.key and all(
            _storage(before.definition.column(k)) == _storage(names[k]) for k in before.definition.key
        )
        if not same:
            ddl = _between(state, name, before, after)
            why = "the table's key is another one behind it, and a transaction before it is to be left out"
            if ddl is not None:
                raise refused(name, ddl, why)
            raise NotComputable(f"table `{label(name)}` can't be restored without the transaction: {why}", hint=_HINT)


_HINT = "Restore to before the key was altered, or leave the table out with `--exclude`."


def _sources(stage: Stage) -> list[tuple[Source, Column]]:
    return list(zip(stage.sources, stage.definition.columns, strict=True))


def _storage(column: Column) -> tuple[object, ...]:
    return column.storage[1:]


def _between(state: ArchiveState, name: TableName, before: Stage, after: Stage) -> Ddl | None:
    """The last statement between two stages that may have touched the table."""
    names = {name, *((s.db, s.table) for s in (*before.segments, *after.segments))}
    found = [d for n in names for d in touching(state.ddls, before.high_seq + 1, after.low_seq, n)]
    return max(found, key=lambda d: d.seq, default=None)


def _carried(before: Stage, after: Stage) -> tuple[dict[str, str], dict[str, str]]:
    """For `Walker.next_stage`: the columns' next names, and those whose values aren't the same in the next definition."""
    names: dict[str, str] = {}
    blurred: dict[str, str] = {}
    for source, column in _sources(after):
        if source.index is not None:
            old = before.definition.columns[source.index]
            names[old.name] = column.name
            numbers = old.type in INTEGER_BITS and column.type in INTEGER_BITS
            if not numbers and _storage(old) != _storage(column):
                blurred[old.name] = "its type was altered"
    return names, blurred


# --- tables without a key -----------------------------------------------------------------------------------------------


def _keyless(
    store: Store,
    state: ArchiveState,
    name: TableName,
    stages: Sequence[Stage],
    left_out: Sequence[pa.Table],
    seqs: Collection[int],
    rows: Mapping[int, int],
) -> Corrected:
    """Rows are told apart by all their values: images are taken back by their opposite, if no later change found a row as
    the transactions had made it."""
    corrections: dict[int, pa.Table] = {}
    otherwise: list[Undone] = []
    for number, (stage, pairs) in enumerate(zip(stages, left_out, strict=True)):
        if not pairs.num_rows:
            continue
        if number + 1 < len(stages):
            ddl = _between(state, name, stage, stages[number + 1])
            why = "the table has no key, and a transaction before it is to be left out"
            if ddl is not None:
                raise refused(name, ddl, why)
            raise NotComputable(f"table `{label(name)}` can't be restored without the transaction: {why}", hint=_HINT)
        indexes = key_indexes(stage.definition)
        made = keys_of(pairs, indexes, "a")
        for segment in dict.fromkeys(stage.segments):
            others = of_transactions(paired(store, segment, stage, min(seqs)), seqs, inverse=True)
            again = rows_at(others, matching(keys_of(others, indexes, "b"), made))
            for change in materialise(again, stage.definition):
                who = change.gtid or f"transaction {change.seq}"
                raise NotComputable(
                    f"table `{label(name)}` has no key, and {who} at {change.binlog_file}:{change.binlog_pos} changed a row "
                    "that the transaction left out had made, or its twin: which one isn't known",
                    hint=f"Restore to before it, or leave the table out with `--exclude '{spelled(name)}'`.",
                )
        corrections[number] = inverted(pairs, stage.definition, stage.high_seq)
        otherwise.append(Undone(keys_of(pairs, indexes, "b").drop_columns(["n"]), ALL))
    return Corrected(corrections, (), (), rows, tuple(otherwise))
