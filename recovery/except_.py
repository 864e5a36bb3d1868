"""Restore with transactions left out: everything up to the target but these, as if they had never happened.

`resolve` finds the transactions, `without` adds to a plan what corrects its folds and what a person must know: which later
transactions touched the same rows, and where what they did can't be so without them (recovery/except_walk.py). Only rows
that a transaction left out had touched are looked at: what others read of it, or computed from it, stays as it was logged.

Refused by name: transactions with DDL; tables without a key whose changed rows changed again; foreign keys whose actions the
server doesn't log; a key that was altered afterwards; once its rows are folded, what a table doesn't admit
(recovery/except_checks.py). Reads the segments of the tables concerned from the first of them on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recovery.archive.segments import read_segment, read_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.cascades import unlogged_after
from recovery.constraints import PRIMARY, definition_of
from recovery.errors import ConfigError, DdlInRange, NotComputable, TargetOutsideCoverage
from recovery.except_fold import Corrected, correct
from recovery.except_report import DROP_LATER, POLICIES, Excluded, Exclusion, Later
from recovery.except_walk import LaterChange
from recovery.marks import SnapshotRange
from recovery.references import parents as parents_of
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.retarget import NotRewritten
from recovery.scope import TableName, label, spelled
from recovery.seqrange import seqs_of
from recovery.target import Cut, last_ended, parse_target

# --- finding the transactions -----------------------------------------------------------------------------------------


def resolve(store: Store, state: ArchiveState, texts: Sequence[str], cut: Cut) -> tuple[int, ...]:
    """The seqs of transactions given as GTID, FILE:POSITION (of its begin or anything in it) or seq, ascending. Raises
    ConfigError, TargetOutsideCoverage, and DdlInRange for one that is a DDL statement."""
    found = sorted({_seq(store, state, text.strip()) for text in texts})
    for seq in found:
        if seq > cut.seq:
            raise ConfigError(
                f"transaction {seq} of `--except` is later than the target, which ends with transaction {cut.seq}",
                hint="Leave `--except` out, or choose a later target.",
            )
        for ddl in state.ddls:
            if ddl.seq == seq:
                statement = " ".join(ddl.statement.split())[:200]
                raise DdlInRange(
                    f"transaction {ddl.gtid or seq} can't be left out: it is `{statement}` at {ddl.file}:{ddl.position}, "
                    "and what came after it was done on its result",
                    hint=f"Restore to just before it with `--to {ddl.file}:{ddl.position}`, or the tables that it doesn't "
                    "touch with `--tables`.",
                )
    return tuple(found)


def _seq(store: Store, state: ArchiveState, text: str) -> int:
    if text.isdigit():
        return next(iter(seqs_of(store, state, [int(text)])))
    if ":" in text and parse_target(text).kind == "position":
        return _around(store, state, text)
    return next(iter(seqs_of(store, state, [text])))


def _around(store: Store, state: ArchiveState, text: str) -> int:
    """The transaction that starts at the position or has it inside."""
    target = parse_target(text)
    seq = last_ended(store, state, target.file, target.position) + 1
    if seq <= state.last_seq:
        row = _transaction(store, state, seq)
        if row["binlog_file"] == target.file and row["start_position"] <= target.position < row["end_position"]:
            return seq
    raise TargetOutsideCoverage(
        f"no captured transaction stands at `{text}`",
        hint="Name the position of its begin or of one of its row events; `rowback changes` shows them.",
    )


def _transaction(store: Store, state: ArchiveState, seq: int) -> Mapping[str, Any]:
    for segment in state.transactions:
        if segment.first_seq <= seq <= segment.last_seq:
            (rows,) = read_transactions(store, [segment])
            row: Mapping[str, Any] = rows.slice(seq - segment.first_seq, 1).to_pylist()[0]
            return row
    raise TargetOutsideCoverage(f"transaction {seq} is not in the archive", hint="See `rowback status`.")


# --- correcting the plan ----------------------------------------------------------------------------------------------


def without(
    store: Store,
    state: ArchiveState,
    plan: RestorePlan,
    seqs: Sequence[int],
    conflicts: str,
    ranges: Mapping[str, SnapshotRange],
) -> RestorePlan:
    """The plan with the transactions left out. Its snapshots are older than the first of them. Raises NotComputable,
    ConfigError for a transaction without rows and an unknown policy, ArchiveDamaged."""
    if conflicts not in POLICIES:
        raise ConfigError(f"`{conflicts}` is no way to settle conflicts", hint=f"Choose {', '.join(POLICIES)}.")
    _check_cascades(store, state, plan, seqs, ranges)
    found: dict[TableName, Corrected] = {}
    tables: list[TablePlan] = []
    for table in plan.tables:
        name = (table.db, table.table)
        collations = _collations(table, min(seqs))
        corrected = correct(store, state, name, table.staged.stages, seqs, collations, conflicts != DROP_LATER)
        if corrected is None:
            tables.append(table)
            continue
        found[name] = corrected
        images, undone = corrected.corrections, corrected.undone
        tables.append(replace(table, corrections=images, undone=undone, left_out=tuple(seqs)))
    exclusion = _describe(store, state, seqs, found, conflicts)
    warnings = (*plan.warnings, *exclusion.warnings(), *_foreign_keys(plan, set(found)))
    return replace(plan, tables=tuple(tables), exclusion=exclusion, warnings=warnings)


def _collations(table: TablePlan, first_seq: int) -> list[str | None]:
    """Of the key's columns, as they have been since before transaction `first_seq`; None for those of which that isn't
    known."""
    if not table.staged.stages or table.lineage is None:
        return []
    last = table.staged.stages[-1].definition
    new = dict(zip((c.name for c in last.columns), table.staged.final, strict=True))
    found = definition_of(table.lineage)
    same = any(c.kind == PRIMARY and (c.since is None or c.since.seq < first_seq) for c in found.constraints)
    return [found.collation_of(new[k] or "") if same else None for k in last.key]


def _describe(
    store: Store, state: ArchiveState, seqs: Sequence[int], found: Mapping[TableName, Corrected], conflicts: str
) -> Exclusion:
    transactions = []
    for seq in seqs:
        row = _transaction(store, state, seq)
        name = row["gtid"] or f"{row['binlog_file']}:{row['start_position']}"
        if not row["row_changes"]:
            raise ConfigError(
                f"transaction `{name}` of `--except` changed no row that was captured",
                hint="`rowback changes` shows the transaction of each change. Of an XA transaction, name the XA COMMIT.",
            )
        tables = tuple((label(n), c.rows[seq]) for n, c in sorted(found.items()) if c.rows.get(seq))
        elsewhere = row["row_changes"] - sum(count for _, count in tables)
        place = (row["binlog_file"], row["start_position"], row["committed_at_us"])
        transactions.append(Excluded(seq, row["gtid"], *place, tables, elsewhere))
    later = [_later(name, entry, entry in c.open) for name, c in found.items() for entry in c.later]
    return Exclusion(tuple(transactions), tuple(sorted(later, key=lambda e: (e.seq, e.position))), conflicts)


def _later(table: TableName, entry: LaterChange, unsettled: bool) -> Later:
    change = entry.change
    place = (change.seq, change.gtid, change.binlog_file, change.binlog_pos, change.committed_at_us)
    why = entry.why if unsettled else None
    return Later(*place, label(table), change.op, entry.key, change.changed, entry.again, why)


def _check_cascades(
    store: Store, state: ArchiveState, plan: RestorePlan, seqs: Collection[int], ranges: Mapping[str, SnapshotRange]
) -> None:
    """Raises NotComputable where rows that foreign keys change without the server logging it depend on rows left out: of a
    child in the plan, or of a table above it, in the plan or not."""
    for snapshot in state.snapshots:
        planned = {_fold(t.origin or (t.db, t.table)): t for t in plan.tables if t.snapshot_id == snapshot.snapshot_id}
        edges = unlogged_after(state, snapshot, ranges) if planned else ()
        family = {_fold((e.db, e.table)) for e in edges} & planned.keys()
        children = [planned[name] for name in sorted(family)]
        for _ in edges:
            family |= {_fold((e.parent_db, e.parent_table)) for e in edges if _fold((e.db, e.table)) in family}
        # Under which other name a table of the family was changed isn't looked up: any that was renamed may be one.
        family |= {_fold(t) for d in state.ddls if children and len(d.tables or ()) > 1 for t in d.tables or ()}
        for changed in _changed(store, state, family, seqs):
            names = ",".join(spelled((t.db, t.table)) for t in children)
            raise NotComputable(
                f"table `{children[0].label}` can't be restored without the transaction, which changed `{label(changed)}`: "
                "foreign keys between them have actions that the server doesn't log; what they would do isn't known",
                hint=f"Leave what is below them out with `--exclude '{names}'`, or restore to before the transaction and "
                "take later changes over by hand.",
            )


def _changed(
    store: Store, state: ArchiveState, family: Collection[TableName], seqs: Collection[int]
) -> Iterator[TableName]:
    """The tables with these names (folded) that the transactions changed."""
    for segment in state.segments:
        name = (segment.db, segment.table)
        if _fold(name) in family and any(segment.first_seq <= seq <= segment.last_seq for seq in seqs):
            held = read_segment(store, segment)["_rb_seq"].unique().to_pylist()
            if not set(seqs).isdisjoint(held):
                yield name


def _foreign_keys(plan: RestorePlan, touched: set[TableName]) -> Iterator[str]:
    """A warning for each foreign key between a table that was corrected and another one: nobody checks it at the load."""
    names = {(t.db, t.table) for t in plan.tables}
    for table in plan.tables:
        child = (table.db, table.table)
        try:
            parents = {p.table for text in table.schema for p in parents_of(text, table.db)}
        except NotRewritten:
            continue
        for parent in sorted(parents & names):
            if touched & {child, parent}:
                yield (
                    f"the foreign key of `{label(child)}` to `{label(parent)}` isn't checked against what was left out, and "
                    "a load doesn't either (FOREIGN_KEY_CHECKS=0): look for rows without their parent before you use them"
                )


def _fold(name: TableName) -> TableName:
    return name[0].casefold(), name[1].casefold()
