"""Foreign-key cascades that the server didn't log: which tables they may have changed behind the archive's back.

MariaDB, and MySQL before 9.6 or with innodb_native_foreign_keys=ON, let InnoDB carry out ON DELETE and ON UPDATE actions
below the binlog: the child's rows change without row images. Each snapshot lists such foreign keys. A child whose parent
(or its parent's parent, and so on) was deleted from or updated between the snapshot and the target can't be folded from
its own changes alone: recovery/derive_plan.py says whether what is missing can be derived, else it is refused.

Promise: a table that `affected` doesn't name was not changed by an unlogged cascade in the range. The other way round it
errs on the safe side: an update of a parent counts although it may not have changed the referenced columns. Pure but for
`boundary_changes`, which reads the segments that a range cuts through. Names are compared without case, for
lower_case_table_names. Not seen: innodb_native_foreign_keys turned on after the newest snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow.compute as compute

from recovery.archive.actions import Cascade, Segment, Snapshot
from recovery.archive.segments import DELETE, UPDATE_AFTER, read_segment
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.marks import SnapshotRange
from recovery.references import parents
from recovery.retarget import NotRewritten
from recovery.scope import TableName, uncaptured

# The referential actions that change the child (MySQL manual, "FOREIGN KEY Constraints", Referential Actions).
_CHILD_OP = {"CASCADE": "delete", "SET NULL": "update", "SET DEFAULT": "update"}
_ACTION: Final = re.compile(r"\bON\s+(DELETE|UPDATE)\s+(CASCADE|SET\s+(NULL|DEFAULT))\b", re.IGNORECASE)
# Path of a segment -> (seq, "delete" | "update") of its changes, each pair once, in seq order.
Boundary = Mapping[str, Sequence[tuple[int, str]]]


@dataclass(frozen=True)
class Cause:
    """Why a child's rows aren't known: parent, which was changed (`op`: "delete", "update" or "unknown", not captured) from
    transaction `seq` at the earliest. via: the tables between parent and child."""

    parent: TableName
    op: str
    seq: int
    via: tuple[TableName, ...] = ()


def unlogged_cascade_parents(state: ArchiveState, table: TableName) -> tuple[TableName, ...]:
    """The tables whose deletes or updates may change this one without a trace, directly or through others, by the newest
    snapshot; sorted. The table itself is among them if it refers to itself."""
    if not state.snapshots:
        return ()
    edges = _effective(state.newest_first[0].cascades)
    found: dict[TableName, TableName] = {}
    waiting = [_fold(table)]
    while waiting:
        child = waiting.pop()
        for edge in edges:
            parent = (edge.parent_db, edge.parent_table)
            if _fold((edge.db, edge.table)) == child and _fold(parent) not in found:
                found[_fold(parent)] = parent
                waiting.append(_fold(parent))
    return tuple(sorted(found.values()))


def unlogged_after(state: ArchiveState, snapshot: Snapshot, ranges: Mapping[str, SnapshotRange]) -> tuple[Cascade, ...]:
    """The unlogged foreign keys after a snapshot. Those that only a later snapshot lists count too, unless DDL on the child
    stands between: the server may have been switched to native foreign keys."""
    low_seq = ranges[snapshot.snapshot_id].low_seq
    edges = list(snapshot.cascades)
    for later in state.snapshots:
        found = ranges.get(later.snapshot_id)
        if found is None or found.low_seq < low_seq or later is snapshot:
            continue
        for edge in later.cascades:
            concerned = {_fold((edge.db, edge.table))}
            if later.synthetic is not None:  # it names the parent as it was called there
                concerned.add(_fold((edge.parent_db, edge.parent_table)))
            between = [d for d in state.ddls if low_seq < d.seq <= found.low_seq]
            altered = any(d.tables is None or concerned & {_fold(t) for t in d.tables} for d in between)
            if edge not in edges and not altered:
                edges.append(edge)
    return _effective(edges)


def made_in(state: ArchiveState, low_seq: int, cut_seq: int) -> Iterator[Cascade]:
    """Foreign keys that statements in (low_seq, cut_seq] made, as if they did all that one can do. What can't be read is a
    table that is refused; others behind it aren't seen."""
    for ddl in state.ddls:
        if low_seq < ddl.seq <= cut_seq and ddl.tables and unlogged_action(state, ddl.statement):
            with suppress(NotRewritten):
                for parent in parents(ddl.statement, ddl.default_db):
                    yield Cascade(*ddl.tables[0], *parent.table, "CASCADE", "CASCADE")


def affected(
    state: ArchiveState, edges: Sequence[Cascade], low_seq: int, cut_seq: int, boundary: Boundary
) -> dict[TableName, Cause]:
    """Children (names folded to lower case) that unlogged cascades may have changed in (low_seq, cut_seq], with why."""
    if not edges:
        return {}
    names = {_fold((e.parent_db, e.parent_table)): (e.parent_db, e.parent_table) for e in edges}
    aliases = _renamed(state, names, low_seq, cut_seq)
    logged = sorted(_logged(state, aliases, low_seq, cut_seq, boundary), key=lambda found: found[2])
    waiting = [(parent, op, Cause(names[parent], op, seq)) for parent, op, seq in logged]
    for name, origins in aliases.values():
        if uncaptured(state, name, low_seq + 1, cut_seq):
            for parent in origins:
                waiting += [(parent, op, Cause(names[parent], "unknown", low_seq + 1)) for op in ("delete", "update")]
    result: dict[TableName, Cause] = {}
    seen: set[tuple[TableName, str]] = set()
    while waiting:
        parent, op, cause = waiting.pop(0)
        if (parent, op) in seen:
            continue
        seen.add((parent, op))
        for edge in edges:
            rule = edge.on_delete if op == "delete" else edge.on_update
            if _fold((edge.parent_db, edge.parent_table)) != parent or rule not in _CHILD_OP:
                continue
            child = _fold((edge.db, edge.table))
            result.setdefault(child, cause)
            # ON UPDATE CASCADE updates the child; ON DELETE CASCADE deletes from it.
            done = _CHILD_OP[rule] if op == "delete" else "update"
            waiting.append((child, done, Cause(cause.parent, cause.op, cause.seq, (*cause.via, (edge.db, edge.table)))))
    return result


def boundary_changes(
    store: Store, state: ArchiveState, cut_seq: int, ranges: Mapping[str, SnapshotRange]
) -> dict[str, tuple[tuple[int, str], ...]]:
    """Of parents' segments that the cut or a snapshot's LOW cuts through, which transactions deleted or updated. Raises
    ArchiveDamaged."""
    parents = {_fold((c.parent_db, c.parent_table)) for s in state.snapshots for c in _effective(s.cascades)}
    if not parents:
        return {}
    parents |= {_fold(t) for d in state.ddls if _renames(d.verb) for t in d.tables or ()}
    edges = {cut_seq, *(r.low_seq for r in ranges.values())}
    return {
        segment.path: _deeds(store, segment)
        for segment in state.segments
        if _fold((segment.db, segment.table)) in parents
        and segment.deletes + segment.updates
        and any(segment.first_seq <= at < segment.last_seq for at in edges)
    }


def _deeds(store: Store, segment: Segment) -> tuple[tuple[int, str], ...]:
    rows = read_segment(store, segment).select(["_rb_seq", "_rb_op"])
    found: set[tuple[int, str]] = set()
    for op, name in ((DELETE, "delete"), (UPDATE_AFTER, "update")):
        seqs = rows.filter(compute.equal(rows["_rb_op"], op))["_rb_seq"].to_numpy()
        found |= {(int(seq), name) for seq in np.unique(seqs)}
    return tuple(sorted(found))


# Folded name -> the name as it is written, and the parents (folded, by their names in the snapshot) that it may be.
_Aliases = Mapping[TableName, tuple[TableName, frozenset[TableName]]]


def _logged(
    state: ArchiveState, aliases: _Aliases, low_seq: int, cut_seq: int, boundary: Boundary
) -> Iterator[tuple[TableName, str, int]]:
    """(parent, op, seq) of logged deletes and updates of these tables in (low_seq, cut_seq]."""
    for segment in state.segments:
        _, parents = aliases.get(_fold((segment.db, segment.table)), ((), ()))
        if not parents or segment.first_seq > cut_seq or segment.last_seq <= low_seq:
            continue
        counts = (("delete", segment.deletes), ("update", segment.updates))
        found = boundary.get(segment.path, [(max(segment.first_seq, low_seq + 1), op) for op, n in counts if n])
        yield from ((parent, op, seq) for parent in parents for seq, op in found if low_seq < seq <= cut_seq)


def _renamed(state: ArchiveState, parents: Mapping[TableName, TableName], low_seq: int, cut_seq: int) -> _Aliases:
    """The names that parents may have in the range: a foreign key follows its parent through a RENAME. All tables of such a
    statement count as one another."""
    result = {folded: (name, frozenset({folded})) for folded, name in parents.items()}
    for ddl in state.ddls:
        if low_seq < ddl.seq <= cut_seq and ddl.tables and _renames(ddl.verb):
            known = [result[_fold(t)][1] for t in ddl.tables if _fold(t) in result]
            origins = frozenset().union(*known)
            for name in ddl.tables if origins else ():
                result[_fold(name)] = (name, origins)
    return result


def _renames(verb: str) -> bool:
    return verb.upper() in ("RENAME TABLE", "ALTER TABLE")


def _effective(cascades: Iterable[Cascade]) -> tuple[Cascade, ...]:
    return tuple(c for c in cascades if c.on_delete in _CHILD_OP or c.on_update in _CHILD_OP)


def _fold(name: tuple[str, str]) -> TableName:
    return name[0].casefold(), name[1].casefold()


def unlogged_action(state: ArchiveState, statement: str) -> bool:
    """Whether the statement may make a foreign key that changes rows without the server logging it."""
    return _ACTION.search(statement) is not None and not _logs_cascades(state)


def _logs_cascades(state: ArchiveState) -> bool:
    """Whether the server writes rows that foreign keys change into its binlog: MySQL since 9.6, unless a snapshot says that
    it is told not to."""
    identity = state.identity
    if identity is None or identity.flavor != "mysql" or any(s.cascades for s in state.snapshots):
        return False
    version = [int(part) for part in re.findall(r"\d+", identity.server_version)[:2]]
    return version >= [9, 6]
