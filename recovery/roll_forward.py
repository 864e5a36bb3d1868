"""Roll forward: a new baseline at a target from the archive alone, committed like a snapshot. No server is touched.

A restore's plan is carried out up to the typed rows, which become baselines. Order of writes: the tables' files, the
definitions, the commit. Promises: nothing is visible before the commit, so a failure anywhere leaves at worst objects that
nothing refers to (`rowback sweep` takes them); a later restore from the synthetic snapshot gives what one from its sources
gives; what can't be computed is refused as in a restore, never left out silently.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import duckdb
import pyarrow as pa

from recovery import tiers
from recovery.archive.actions import Baseline, Snapshot
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.convert import converted
from recovery.errors import ObjectArchived, SnapshotError
from recovery.failpoint import failpoint
from recovery.folding import Folding, around_damage, check_scratch, derived_files, emptied, note, scratch_folder
from recovery.merge import MergedTable, Merger, engine_error
from recovery.output.report import Report, RestoreProgress, unreported
from recovery.planning import plan_for
from recovery.rehearsal import Room, rehearsed
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.schema import Table
from recovery.sizes import DEFAULT_MEMORY_LIMIT_BYTES
from recovery.snapshot.coordinates import Clock
from recovery.stages import Source
from recovery.synthetic import baseline_of
from recovery.synthetic_snapshot import Begun, synthetic_snapshot
from recovery.target import Cut

# A file of a baseline takes rows up to this, in Arrow's memory; while it is written they are there encoded, too.
_CHUNK_BYTES = 64 * 1024 * 1024
_HELD_BYTES = 2 * _CHUNK_BYTES


@dataclass(frozen=True)
class RollForwardRequest:
    """to: a target's text (recovery/target.py). tables: patterns (recovery/scope.py), empty for all; exclude: patterns of
    tables to leave out. memory_limit_bytes: of the process. scratch_dir: for copies and spilled data, by default the
    system's. thaw: how to ask for objects in an archive tier; without it they are refused by name."""

    to: str = "latest"
    tables: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    dry_run: bool = False
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES
    scratch_dir: Path | None = None
    thaw: tiers.Thaw | None = None


@dataclass(frozen=True)
class RollForwardResult:
    """snapshot: None after a dry run; log_version: of its commit."""

    plan: RestorePlan
    snapshot: Snapshot | None
    duration_s: float = 0.0
    log_version: int = 0
    warnings: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        return sum(b.rows for b in self.snapshot.baselines) if self.snapshot else 0


@dataclass(frozen=True)
class _Run:
    store: Store
    state: ArchiveState
    begun: Begun
    scratch: Path
    memory_limit_bytes: int
    progress: Report


def roll_forward(
    store: Store,
    state: ArchiveState,
    into: Store,
    layout: Layout,
    log: Log,
    request: RollForwardRequest,
    *,
    now: Clock,
    progress: Report = unreported,
) -> RollForwardResult:
    """Make the tables' state at the target a snapshot in the archive of `into`, `layout` and `log`. store, state: that
    archive, maybe with what was replayed on top of it (recovery/replay.py).

    Raises TargetError for what can't be computed, SnapshotError if there is no table, ArchiveDamaged, NoSpace,
    ObjectArchived, ConfigError and the store's errors.
    """
    begin, begun = time.monotonic(), Begun.at(now, into, layout)
    if request.dry_run:
        plan = _checked(_planned(store, state, request))
        away = tiers.notes(tiers.held_back(store, tiers.read_by(plan)))
        if not away:
            room = Room(request.memory_limit_bytes, request.scratch_dir)
            plan = rehearsed(store, state, plan, room, partial(_planned, store, state, request), progress)
        return RollForwardResult(plan, None, warnings=(*plan.warnings, *away))
    plan = _checked(_planned_thawed(store, state, request, progress))
    with scratch_folder(request.scratch_dir) as scratch:
        run = _Run(store, state, begun, scratch, request.memory_limit_bytes, progress)

        def make(plan: RestorePlan) -> tuple[Baseline, ...]:
            check_scratch(plan, scratch, _CHUNK_BYTES)
            tiers.make_readable(store, tiers.read_by(plan), request.thaw, partial(note, progress))
            return _baselines(run, plan)

        replan = partial(_planned, store, state, request)
        plan, baselines = around_damage(state, plan, scratch, replan, progress, make)
    snapshot, notes = synthetic_snapshot(store, state, plan, begun, baselines, now, whole=not request.tables)
    failpoint("roll-forward.commit")
    # Whatever was committed meanwhile is behind the cut: nothing at or before it ever changes.
    committed = log.commit(log.read(), lambda _: [snapshot])
    return RollForwardResult(plan, snapshot, time.monotonic() - begin, committed.version, (*plan.warnings, *notes))


def _planned(
    store: Store,
    state: ArchiveState,
    request: RollForwardRequest,
    damaged: Mapping[str, str] = MappingProxyType({}),
    cut: Cut | None = None,
) -> RestorePlan:
    return plan_for(store, state, request.to, request.tables, request.exclude, damaged, cut)


def _planned_thawed(store: Store, state: ArchiveState, request: RollForwardRequest, progress: Report) -> RestorePlan:
    try:
        return _planned(store, state, request)
    except ObjectArchived:
        if request.thaw is None:
            raise
        tiers.make_readable(store, tiers.read_by_planning(state), request.thaw, partial(note, progress))
        return _planned(store, state, request)


def _checked(plan: RestorePlan) -> RestorePlan:
    if not plan.tables:
        raise SnapshotError(
            f"there is no table to roll forward to target `{plan.target}`",
            hint="Widen `--tables`, or name another target; `rowback restore --dry-run` shows what there is.",
        )
    return plan


# --- tables -----------------------------------------------------------------------------------------------------------


def _baselines(run: _Run, plan: RestorePlan) -> tuple[Baseline, ...]:
    derived = [derived_files(run.store, run.scratch, d, run.progress) for d in plan.derivations]
    made: list[Baseline] = []
    with Merger(run.scratch, run.memory_limit_bytes, _HELD_BYTES) as merger:
        folding = Folding(run.store, merger, run.scratch, derived)
        for table in plan.tables:
            label, total = table.label, len(plan.tables)
            run.progress(RestoreProgress(label, len(made), total, 0, 0))
            try:
                made.append(_baseline(run, plan.cut, folding, table))
            except duckdb.Error as error:
                raise engine_error(error, label) from error
            emptied(run.scratch)
            failpoint("roll-forward.table")
            size_bytes = sum(o.size_bytes for o in made[-1].objects)
            run.progress(RestoreProgress(label, len(made), total, made[-1].rows, size_bytes, done=True))
    return tuple(made)


def _baseline(run: _Run, cut: Cut, folding: Folding, table: TablePlan) -> Baseline:
    counter = Counter(table.schema)
    merged = folding.last_stage(table, counter)
    name = (table.db, table.table)
    if merged is None:
        return baseline_of(run.state, table, cut, None, (), counter.statements(name))
    writer = run.begun.writer(_named(merged, table), run.scratch)
    for chunk in _chunks(folding.merger, merged, writer.table):
        writer.write_typed(chunk)
    return baseline_of(run.state, table, cut, writer.table, writer.objects, counter.statements(name))


def _named(merged: MergedTable, table: TablePlan) -> Table:
    return replace(merged.table, db=table.db, name=table.table)


def _chunks(merger: Merger, merged: MergedTable, definition: Table) -> Iterator[pa.Table]:
    """The rows in tables of about _CHUNK_BYTES."""
    same = tuple(Source(i) for i in range(len(definition.columns)))
    held: list[pa.Table] = []
    held_bytes = 0
    for rows in converted(merger, merged, definition, same):
        held.append(rows)
        held_bytes += rows.get_total_buffer_size()
        if held_bytes >= _CHUNK_BYTES:
            yield pa.concat_tables(held)
            held, held_bytes = [], 0
    if held:
        yield pa.concat_tables(held)
