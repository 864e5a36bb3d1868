"""The restore planner: a pure function from the archive's state and a cut to what the executor walks.

Promises: every table of a plan is exact at the plan's one cut, or the planner raises and says why: no usable snapshot
(TargetOutsideCoverage), a DDL statement whose effect can't be computed (DdlInRange), a table definition that doesn't fit
(NotComputable), rows that foreign keys changed without a trace in the binlog (NotComputable), a table that no snapshot
holds (UnknownTable). Nothing is read from the store here; `--dry-run` prints the same object,
once recovery/rehearsal.py has looked at the rows that may refuse it.

A snapshot serves a target at or after its high_seq, with the changes in (low_seq, cut.seq] folded in, if no gap lies
between. A table without a key can't be folded from LOW when it changed inside [LOW, HIGH): such a snapshot is passed
over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from recovery.archive.actions import Baseline, Cascade, Ddl, Gap, Segment, Snapshot
from recovery.archive.snapshot_scope import SnapshotScope
from recovery.archive.state import ArchiveState
from recovery.cascades import Boundary, Cause, affected, made_in, unlogged_after
from recovery.derive_plan import Derivation, Obstacle, derivation
from recovery.errors import DdlInRange, NotComputable, TargetOutsideCoverage
from recovery.generated import bound_to_session
from recovery.gtid import binlog_order
from recovery.lineage import Lineage, follow, touching
from recovery.marks import SnapshotRange
from recovery.objects.choose import Known, Scope, choose_objects
from recovery.objects.fold import made_names
from recovery.objects.sequence_choice import choose_sequences, made_sequences
from recovery.objects.sequences import of_sequences
from recovery.program import program
from recovery.refused import refused
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.scope import (
    TableName,
    check_exclude,
    choose,
    label,
    left_out,
    parse_pattern,
    spelled,
    uncaptured,
)
from recovery.stages import build
from recovery.straddling import Seqs, has_rows
from recovery.target import Cut, describe_coverage, describe_gap, format_us

Place = Callable[[int], str]


@dataclass(frozen=True)
class _Candidate:
    """A usable snapshot, and the tables at the cut that come of it."""

    snapshot: Snapshot
    low_seq: int
    high_seq: int
    baselines: Mapping[TableName, Baseline]
    lineages: Mapping[TableName, Lineage]


def plan_restore(
    state: ArchiveState,
    target: str,
    cut: Cut,
    ranges: Mapping[str, SnapshotRange],
    patterns: Sequence[str] = (),
    warnings: Sequence[str] = (),
    *,
    exclude: Sequence[str] = (),
    boundary: Boundary | None = None,
    seqs: Seqs | None = None,
    before_seq: int | None = None,
    definitions: Mapping[str, Known] | None = None,
    events_disabled: bool = False,
    place: Place = str,
) -> RestorePlan:
    """The plan for a cut, or the error that says why there is none.

    ranges: of the snapshots that may be used, by snapshot_id (`recovery.marks.locate_snapshot`). patterns, exclude: see
    recovery/scope.py; no patterns for every table. warnings: taken over into the plan. boundary: what
    `recovery.cascades.boundary_changes` found; without it, whole segments count. seqs: what
    `recovery.straddling.straddling` found. before_seq: of a transaction that no snapshot may hold, for it is to be left out.
    definitions: of the snapshots' views, triggers, routines and events, by snapshot_id; events_disabled: create events so
    that none runs.
    place: what a message says of a transaction, by seq.
    """
    wanted, unwanted = ([parse_pattern(state.stored_name(p)) for p in given] for given in (patterns, exclude))
    segments = segments_by_table(state, cut)
    candidates, reasons = _candidates(state, cut, ranges, before_seq, partial(_existed, state, ranges, segments))
    if not candidates:
        raise _no_snapshot(state, target, ranges, reasons)
    notes = list(warnings)
    tables: list[TablePlan] = []
    held = {name for c in candidates for name in (*c.baselines, *c.lineages)}
    newest = candidates[0].snapshot
    made_by = made_names(state.ddls) | made_sequences(state.ddls) if unwanted else set()
    made = {(db, state.stored_name(name)) for db, name in made_by}
    check_exclude(unwanted, held | made, state)
    for name, named in choose(held, newest, state.snapshots, wanted, unwanted):
        if name not in candidates[0].lineages:
            note = _absent(state, candidates, cut, name, named, segments.get(name, ()), seqs or {})
            if note is not None:
                notes.append(note)
                continue
        usable = [c for c in candidates if name in c.lineages]
        exact = [c for c in usable if _exact(state, c, name, segments)]
        # A snapshot of some tables may not know what a statement copies; an older one of more does.
        chosen = next((c for c in exact if c.lineages[name].obstacle is None), exact[0] if exact else None)
        if chosen is None:
            raise _inexact(state, usable[0], name)
        lineage = chosen.lineages[name]
        if any(uncaptured(state, span.name, span.low_seq + 1, span.high_seq) for span in lineage.spans):
            if named:
                raise _uncaptured(name, chosen)
            notes.append(f"table `{label(name)}` was left out by the capture filter for a while and is left out here")
            continue
        tables.append(_table_plan(state, chosen, cut, lineage, segments, seqs or {}))
    derivations = _derivations(state, tables, cut, ranges, boundary or {}, place)
    planned = {(t.db, t.table) for t in tables}
    forms = of_sequences(state.schemas)
    rows = {name for name, found in segments.items() if any(s.schema_id not in forms for s in found)}
    notes.extend(left_out(newest, planned, wanted, rows, unwanted))
    computed = [t.label for t in tables if bound_to_session(t.schema)]
    if computed:
        notes.append(
            f"STORED generated columns of {', '.join(computed)} are computed anew by the server that loads them, which may "
            "give other values than the source's sessions did (a TIMESTAMP's time zone, div_precision_increment)"
        )
    told = [(c.snapshot, c.low_seq) for c in candidates], definitions or {}
    schemas = {(t.db, t.table): t.schema for t in tables}
    sequences = choose_sequences(state, *told, cut.seq, schemas, wanted, unwanted)
    objects = choose_objects(
        *told,
        state.ddls,
        cut.seq,
        Scope(frozenset(planned), wanted, unwanted, state.writer, state.stored_name, sequences.names),
        events_disabled=events_disabled,
    )
    notes.extend((*sequences.notes, *objects.notes))
    planned_objects = sequences.joined(objects.plan)
    return RestorePlan(
        target, cut, objects.databases, tuple(tables), tuple(notes), derivations, objects=planned_objects
    )


def _derivations(
    state: ArchiveState,
    tables: Sequence[TablePlan],
    cut: Cut,
    ranges: Mapping[str, SnapshotRange],
    boundary: Boundary,
    place: Place,
) -> tuple[Derivation, ...]:
    """How the tables that unlogged cascades may have changed are restored all the same. Raises NotComputable, naming those
    of the plan, if nothing can be derived."""
    snapshots = {s.snapshot_id: s for s in state.snapshots}
    edges: dict[str, Sequence[Cascade]] = {}
    causes: dict[str, Mapping[TableName, Cause]] = {}
    broken: dict[str, list[tuple[TablePlan, Cause]]] = {}
    for table in tables:
        if table.snapshot_id not in causes:
            found = [*unlogged_after(state, snapshots[table.snapshot_id], ranges)]
            found += made_in(state, table.low_seq, cut.seq)
            edges[table.snapshot_id] = found
            causes[table.snapshot_id] = affected(state, found, table.low_seq, cut.seq, boundary)
        db, name = table.origin or (table.db, table.table)
        cause = causes[table.snapshot_id].get((db.casefold(), name.casefold()))
        if cause is not None:
            broken.setdefault(table.snapshot_id, []).append((table, cause))
    result = []
    for snapshot_id, those in broken.items():
        names = [t.origin or (t.db, t.table) for t, _ in those]
        folded = {(db.casefold(), name.casefold()) for db, name in names}
        of = snapshots[snapshot_id], ranges[snapshot_id]
        try:
            result.append(derivation(state, *of, edges[snapshot_id], folded, cut.seq, boundary))
        except Obstacle as obstacle:
            raise _cascaded(those, str(obstacle), place) from obstacle
    return tuple(result)


# --- snapshots --------------------------------------------------------------------------------------------------------


def _candidates(
    state: ArchiveState,
    cut: Cut,
    ranges: Mapping[str, SnapshotRange],
    before_seq: int | None,
    existed: Callable[[TableName, int], bool],
) -> tuple[list[_Candidate], list[str]]:
    """Usable snapshots, newest first, and for each of the others the reason against it. existed: see lineage.follow."""
    usable: list[_Candidate] = []
    reasons: list[str] = []
    located = [s for s in state.newest_first if s.snapshot_id in ranges]
    for snapshot in sorted(located, key=lambda s: ranges[s.snapshot_id].low_seq, reverse=True):
        found = ranges[snapshot.snapshot_id]
        reason = _reason_against(state, snapshot, found, cut)
        if reason is None and before_seq is not None and (found.high_seq or 0) >= before_seq:
            reason = f"may hold transaction {before_seq}, which is to be left out"
        if reason is None:
            assert found.high_seq is not None
            baselines = {(b.db, b.table): b for b in snapshot.baselines}
            lineages = follow(baselines, found.low_seq, state.ddls, cut.seq, existed)
            usable.append(_Candidate(snapshot, found.low_seq, found.high_seq, baselines, lineages))
        else:
            reasons.append(f"snapshot {snapshot.snapshot_id} {reason}")
    return usable, reasons


def _existed(
    state: ArchiveState,
    ranges: Mapping[str, SnapshotRange],
    segments: Mapping[TableName, Sequence[Segment]],
    name: TableName,
    seq: int,
) -> bool:
    """Whether the table may have been there in front of this transaction: a snapshot or changes say so, and no statement
    took it away since; or no snapshot of a scope with it says otherwise."""
    gone = max((d.seq for d in touching(state.ddls, 0, seq - 1, name) if _takes_away(d, name)), default=-1)
    if any(s.first_seq < seq and s.last_seq > gone for s in segments.get(name, ())):
        return True
    since = [s for s in state.snapshots if s.snapshot_id in ranges and gone <= ranges[s.snapshot_id].low_seq < seq]
    if any(name in ((b.db, b.table) for b in s.baselines) or name in (k[:2] for k in s.skipped) for s in since):
        return True
    return gone < 0 and not any(_would_hold(s, name) for s in since)


def _would_hold(snapshot: Snapshot, name: TableName) -> bool:
    scope = SnapshotScope() if snapshot.scope is None and snapshot.synthetic is None else snapshot.scope
    return scope is not None and scope.covers(*name)


def _takes_away(ddl: Ddl, name: TableName) -> bool:
    if ddl.verb == "RENAME TABLE":  # old, new, old, new ...
        return ddl.tables is not None and name in ddl.tables[::2] and name not in ddl.tables[1::2]
    return ddl.verb in ("DROP TABLE", "DROP DATABASE")


def _reason_against(state: ArchiveState, snapshot: Snapshot, found: SnapshotRange, cut: Cut) -> str | None:
    if found.before_start:
        return "was begun before the archive's start"
    if found.high_seq is None:
        return "ends after what has been captured so far"
    if cut.seq < found.high_seq:
        return f"serves targets from {snapshot.high.file}:{snapshot.high.position} on"
    for gap in state.holes:
        if not _same_side(gap, snapshot, found, cut):
            return f"is cut off from the target by {describe_gap(gap)}"
    return None


def _same_side(gap: Gap, snapshot: Snapshot, found: SnapshotRange, cut: Cut) -> bool:
    """Whether snapshot and target surely stand on one side of the gap. A position alone doesn't prove it (a source that
    was reset counts anew), so the mark's clock must agree with it. A synthetic snapshot knows its transaction."""
    if snapshot.synthetic is not None:
        return (cut.seq <= gap.after_seq) == (snapshot.synthetic.seq <= gap.after_seq)
    if cut.seq <= gap.after_seq:
        high = (snapshot.lineage, binlog_order(snapshot.high.file, snapshot.high.position))
        before = high <= (gap.lineage, binlog_order(gap.from_file, gap.from_position))
        return before and snapshot.low.read_at_us < gap.recorded_at_us
    if gap.to_file is None or gap.to_position is None:
        return False
    low = (snapshot.lineage, binlog_order(snapshot.low.file, snapshot.low.position))
    after = low >= (gap.lineage, binlog_order(gap.to_file, gap.to_position))
    return after and snapshot.low.read_at_us > gap.recorded_at_us and found.low_seq >= gap.after_seq


def _no_snapshot(
    state: ArchiveState, target: str, ranges: Mapping[str, SnapshotRange], reasons: Sequence[str]
) -> TargetOutsideCoverage:
    usable = [
        s
        for s in state.snapshots
        if s.snapshot_id in ranges
        and ranges[s.snapshot_id].high_seq is not None
        and not ranges[s.snapshot_id].before_start
    ]
    if usable:
        first = min(usable, key=lambda s: ranges[s.snapshot_id].high_seq or 0)
        when = f"The first usable point is {first.high.file}:{first.high.position} ({format_us(first.high.read_at_us)})"
    else:
        when = "No snapshot is usable yet: run `rowback snapshot` while capture runs"
    why = "; ".join(reasons) if reasons else "the archive holds no snapshot"
    return TargetOutsideCoverage(
        f"no snapshot can serve target `{target}`: {why}",
        hint=f"{when}; the change history covers {describe_coverage(state)}.",
    )


def _exact(
    state: ArchiveState, candidate: _Candidate, name: TableName, segments: Mapping[TableName, Sequence[Segment]]
) -> bool:
    """Whether folding from LOW is exact for this table: if no DDL touched it between LOW and HIGH, with a key always,
    without one if nothing changed in between."""
    lineage = candidate.lineages[name]
    if candidate.low_seq == candidate.high_seq or lineage.baseline is None:
        return True
    if _altered_during(state, candidate, name) is not None:
        return False
    if lineage.baseline.definition.key:
        return True
    own = segments.get((lineage.baseline.db, lineage.baseline.table), ())
    return not any(s.first_seq <= candidate.high_seq and s.last_seq > candidate.low_seq for s in own)


def _altered_during(state: ArchiveState, candidate: _Candidate, name: TableName) -> Ddl | None:
    """A statement that may have touched the table while its snapshot was being taken."""
    lineage = candidate.lineages[name]
    names = {span.name for span in lineage.spans}
    for each in sorted(names):
        for ddl in touching(state.ddls, candidate.low_seq + 1, candidate.high_seq, each):
            return ddl
    return None


def _inexact(state: ArchiveState, candidate: _Candidate, name: TableName) -> NotComputable | DdlInRange:
    ddl = _altered_during(state, candidate, name)
    if ddl is not None:
        return refused(name, ddl, "it ran while the snapshot was being taken without a lock", replayed=False)
    return _keyless(name, candidate.snapshot)


def _absent(
    state: ArchiveState,
    candidates: Sequence[_Candidate],
    cut: Cut,
    name: TableName,
    named: bool,
    segments: Sequence[Segment],
    seqs: Seqs,
) -> str | None:
    """A note for a table that the newest snapshot says isn't there at the cut; None if an older one knows better. Raises
    DdlInRange for one that the user named."""
    # The newest may hold some tables alone: what was renamed to this name since may have been none of them.
    if any(name in c.lineages for c in candidates):
        return None
    chosen = next(c for c in candidates if name in c.baselines)
    last = None
    for ddl in touching(state.ddls, chosen.low_seq + 1, cut.seq, name):
        last = ddl
    assert last is not None, "only a statement takes a table away"
    if any(has_rows(s, seqs, last.seq, cut.seq) for s in segments):
        why = "there are changes to a table of this name behind it, and none of its statements made it"
        raise refused(name, last, why, replayed=False)
    if named:
        raise refused(name, last, "there is no table of this name at the target", replayed=False)
    verb = "renamed" if last.verb in ("RENAME TABLE", "ALTER TABLE") else "dropped"
    return f"table `{label(name)}` was {verb} at {last.file}:{last.position} and is left out"


def _uncaptured(name: TableName, candidate: _Candidate) -> TargetOutsideCoverage:
    return TargetOutsideCoverage(
        f"table `{label(name)}` was left out by the capture filter for a while after snapshot "
        f"{candidate.snapshot.snapshot_id}, so its changes up to the target are not all known",
        hint="Restore it to a point before the filter left it out, take a new snapshot now that it is captured, or leave it "
        f"out with `--exclude '{spelled(name)}'`.",
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _table_plan(
    state: ArchiveState,
    candidate: _Candidate,
    cut: Cut,
    lineage: Lineage,
    segments: Mapping[TableName, Sequence[Segment]],
    seqs: Seqs,
) -> TablePlan:
    staged = build(lineage, state.schemas, segments, seqs)
    baseline = lineage.baseline
    return TablePlan(
        db=lineage.name[0],
        table=lineage.name[1],
        snapshot_id=candidate.snapshot.snapshot_id,
        low_seq=candidate.low_seq,
        high_seq=candidate.high_seq,
        origin=None if baseline is None else (baseline.db, baseline.table),
        schema=tuple(program(state, candidate.low_seq, cut.seq, lineage)),
        staged=staged,
        baseline_rows=0 if baseline is None else baseline.rows,
        objects=() if baseline is None else baseline.objects,
        lineage=lineage,
    )


def segments_by_table(state: ArchiveState, cut: Cut) -> dict[TableName, list[Segment]]:
    """Segments with changes at or before the cut, in seq order."""
    result: dict[TableName, list[Segment]] = {}
    for segment in state.segments:
        if segment.first_seq <= cut.seq:
            result.setdefault((segment.db, segment.table), []).append(segment)
    for found in result.values():
        found.sort(key=lambda s: (s.first_seq, s.last_seq, s.path))
    return result


# --- errors -----------------------------------------------------------------------------------------------------------


def _cascaded(broken: Sequence[tuple[TablePlan, Cause]], why: str, place: Place) -> NotComputable:
    table, cause = broken[0]
    own = (cause.parent[0].casefold(), cause.parent[1].casefold()) == (table.db.casefold(), table.table.casefold())
    parent = "itself" if own else f"`{label(cause.parent)}`"
    what = {"delete": "rows were deleted from", "update": "rows were updated in"}.get(
        cause.op, "changes weren't captured of"
    )
    via = f" (through {', '.join(f'`{label(name)}`' for name in cause.via)})" if cause.via else ""
    others = f"; the same holds for {', '.join(f'`{t.label}`' for t, _ in broken[1:])}" if len(broken) > 1 else ""
    names = ",".join(spelled((t.db, t.table)) for t, _ in broken)
    return NotComputable(
        f"table `{table.label}` can't be restored: {what} {parent}{' which it refers to' if own else ''} after snapshot "
        f"{table.snapshot_id}, and its foreign key to {parent}{via} may have changed rows without the server logging it"
        f"{others}. What it did can't be derived: {why}",
        hint=f"Restore to before that (transaction {place(cause.seq)} at the earliest), or to after a new snapshot; or "
        f"leave out what is affected with `--exclude '{names}'`.",
    )


def _keyless(name: TableName, snapshot: Snapshot) -> NotComputable:
    low, high = snapshot.low, snapshot.high
    return NotComputable(
        f"table `{label(name)}` has no key and changed while snapshot {snapshot.snapshot_id} was taken without a lock, "
        f"between {low.file}:{low.position} and {high.file}:{high.position}",
        hint=f"Take a snapshot with `--lock brief`, or leave the table out with `--exclude '{spelled(name)}'`.",
    )
