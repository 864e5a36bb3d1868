"""Whether what unlogged foreign keys did to a table can be derived, and from what: a pure function of the archive's state.

A derivation is of one snapshot: the tables above (and with) those that are to be derived, the foreign keys between them as
the snapshot's SHOW CREATE TABLE has them, and their baselines and segments. It reaches to the first DDL statement on one of
them; what foreign keys did behind it isn't derived. `Obstacle` says why there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from recovery.archive.actions import Baseline, Cascade, DataObject, Segment, Snapshot
from recovery.archive.state import ArchiveState
from recovery.autoincrement import counts_on
from recovery.cascades import Boundary, affected
from recovery.foreignkeys import ForeignKey, TableName, comparable, foreign_keys, is_unique
from recovery.lineage import touching
from recovery.marks import SnapshotRange
from recovery.schema import Table
from recovery.scope import label, uncaptured
from recovery.tableinfo import system_versioned


@dataclass(frozen=True)
class DerivedTable:
    """A table of the family as the snapshot has it, and what is read of it."""

    name: TableName
    definition: Table
    objects: tuple[DataObject, ...]
    segments: tuple[Segment, ...]

    @property
    def paths(self) -> list[str]:
        return [o.path for o in self.objects] + [s.path for s in self.segments]

    @property
    def size_bytes(self) -> int:
        return sum(o.size_bytes for o in self.objects) + sum(s.size_bytes for s in self.segments)


@dataclass(frozen=True)
class Derivation:
    """What is derived for the changes in (low_seq, high_seq] of one snapshot's tables. unique: (parent, referenced columns)
    under a unique key."""

    snapshot_id: str
    low_seq: int
    high_seq: int
    tables: tuple[DerivedTable, ...]
    edges: tuple[ForeignKey, ...]
    unique: frozenset[tuple[TableName, tuple[str, ...]]]

    @property
    def size_bytes(self) -> int:
        return sum(t.size_bytes for t in self.tables)

    @property
    def children(self) -> frozenset[TableName]:
        return frozenset(e.child for e in self.edges)


class Obstacle(Exception):
    """Why nothing can be derived. The text goes on from "... and what it did can't be derived: "."""


def derivation(
    state: ArchiveState,
    snapshot: Snapshot,
    found: SnapshotRange,
    cascades: Sequence[Cascade],
    broken: Collection[TableName],
    cut_seq: int,
    boundary: Boundary,
) -> Derivation:
    """cascades: `recovery.cascades.unlogged_after` of the snapshot. broken: the tables, folded, that are to be derived, by
    their names in the snapshot. Raises Obstacle."""
    if found.low_seq != found.high_seq:
        raise Obstacle(f"snapshot {snapshot.snapshot_id} was taken without a lock")
    baselines = {_fold((b.db, b.table)): b for b in snapshot.baselines}
    family = _family(cascades, broken)
    for held in (baselines[each] for each in sorted(family) if each in baselines):
        if any(not counts_on(d.statement) for d in held.program) or not held.definition.columns:
            raise Obstacle(
                f"snapshot {snapshot.snapshot_id} is a synthetic one from behind DDL on `{label((held.db, held.table))}`"
            )
    edges, unique = _edges(cascades, family, baselines)
    for one in (baselines[each].definition for each in sorted(family)):
        if uncaptured(state, (one.db, one.name), found.low_seq + 1, cut_seq):
            raise Obstacle(f"the capture filter left `{one.label}` out for a while")
    high_seq = _until_ddl(state, cascades, broken, family, baselines, (found.low_seq, cut_seq), boundary)
    tables = tuple(_table(state, baselines[name], found.low_seq, high_seq) for name in sorted(family))
    _check(edges, {t.name: t.definition for t in tables}, baselines)
    return Derivation(snapshot.snapshot_id, found.low_seq, high_seq, tables, edges, unique)


def _family(cascades: Iterable[Cascade], broken: Collection[TableName]) -> frozenset[TableName]:
    """These tables and those above them."""
    family = set(broken)
    waiting = list(broken)
    while waiting:
        child = waiting.pop()
        for edge in cascades:
            parent = _fold((edge.parent_db, edge.parent_table))
            if _fold((edge.db, edge.table)) == child and parent not in family:
                family.add(parent)
                waiting.append(parent)
    return frozenset(family)


def _edges(
    cascades: Sequence[Cascade], family: Collection[TableName], baselines: Mapping[TableName, Baseline]
) -> tuple[tuple[ForeignKey, ...], frozenset[tuple[TableName, tuple[str, ...]]]]:
    """The family's foreign keys, names as in the baselines, columns as in the definitions."""
    missing = next((name for name in sorted(family) if name not in baselines), None)
    if missing is not None:
        raise Obstacle(f"the snapshot doesn't hold `{label(missing)}`")
    listed = {
        (_fold((c.db, c.table)), _fold((c.parent_db, c.parent_table)))
        for c in cascades
        if _fold((c.db, c.table)) in family
    }
    edges: list[ForeignKey] = []
    unique: set[tuple[TableName, tuple[str, ...]]] = set()
    for name in sorted(family):
        held = baselines[name]
        for key in foreign_keys((held.db, held.table), held.create_statement):
            if (name, _fold(key.parent)) in listed:
                parent = baselines[_fold(key.parent)]
                edge = _spelled(key, held, parent)
                edges.append(edge)
                if is_unique(edge.referenced, parent.create_statement):
                    unique.add((edge.parent, edge.referenced))
    for lacking in sorted(listed - {(_fold(e.child), _fold(e.parent)) for e in edges}):
        child, above = (label(name) for name in lacking)
        raise Obstacle(f"the snapshot's definition of `{child}` lacks its foreign key to `{above}`")
    return tuple(edges), frozenset(unique)


def _spelled(key: ForeignKey, child: Baseline, parent: Baseline) -> ForeignKey:
    return ForeignKey(
        child=(child.db, child.table),
        columns=_columns(child.definition, key.columns),
        parent=(parent.db, parent.table),
        referenced=_columns(parent.definition, key.referenced),
        on_delete=key.on_delete,
        on_update=key.on_update,
        collations=key.collations,
    )


def _columns(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    known = {c.name.casefold(): c.name for c in table.columns}
    if any(n.casefold() not in known for n in names):
        raise Obstacle(f"the definition of `{table.label}` lacks a column of a foreign key")
    return tuple(known[n.casefold()] for n in names)


def _until_ddl(
    state: ArchiveState,
    cascades: Sequence[Cascade],
    broken: Collection[TableName],
    family: Iterable[TableName],
    baselines: Mapping[TableName, Baseline],
    span: tuple[int, int],
    boundary: Boundary,
) -> int:
    """The last transaction before the first statement on one of the family; raises Obstacle if foreign keys may have changed
    rows behind it."""
    low_seq, cut_seq = span
    names = [(baselines[name].db, baselines[name].table) for name in family]
    statements = [next(touching(state.ddls, low_seq + 1, cut_seq, name), None) for name in names]
    first = min((d for d in statements if d is not None), key=lambda d: d.seq, default=None)
    if first is None:
        return cut_seq
    if not affected(state, cascades, first.seq - 1, cut_seq, boundary).keys().isdisjoint(broken):
        text = " ".join(first.statement.split())[:200]
        raise Obstacle(f"`{text}` at {first.file}:{first.position} stands before such a change")
    return first.seq - 1


def _table(state: ArchiveState, baseline: Baseline, low_seq: int, high_seq: int) -> DerivedTable:
    name = (baseline.db, baseline.table)
    segments = tuple(
        s for s in state.segments if (s.db, s.table) == name and s.last_seq > low_seq and s.first_seq <= high_seq
    )
    for segment in segments:
        schema = state.schemas.get(segment.schema_id)
        if schema is None or schema.storage != baseline.definition.storage:
            raise Obstacle(f"`{label(name)}` has changes with another definition than the snapshot's")
    return DerivedTable(name, baseline.definition, baseline.objects, segments)


def _check(
    edges: Sequence[ForeignKey], tables: Mapping[TableName, Table], baselines: Mapping[TableName, Baseline]
) -> None:
    for edge in edges:
        child = tables[edge.child]
        if not child.key:
            raise Obstacle(f"`{label(edge.child)}` has no key")
        if system_versioned(baselines[_fold(edge.child)].create_statement):
            raise Obstacle(f"`{label(edge.child)}` keeps its history")
        if any(c.generated for c in child.columns if c.name in child.key):
            raise Obstacle(f"the key of `{label(edge.child)}` has a generated column")
        if "SET DEFAULT" in (edge.on_delete, edge.on_update):
            raise Obstacle(f"a foreign key of `{label(edge.child)}` says SET DEFAULT")
        for own, other in zip(edge.columns, edge.referenced, strict=True):
            if not comparable(child.column(own), tables[edge.parent].column(other)):
                raise Obstacle(f"the values of `{label(edge.child)}`.`{own}` can't be compared with its parent's")
    for edge in edges:
        # Whether another parent has an ambiguous key is asked of the parent's rows.
        texts = any(
            c.type in ("char", "varchar", "text") for c in tables[edge.parent].columns if c.name in edge.referenced
        )
        if texts and not tables[edge.parent].key:
            raise Obstacle(f"`{label(edge.parent)}` has no key")


def _fold(name: TableName) -> TableName:
    return name[0].casefold(), name[1].casefold()
