"""Roll forward: a new baseline at a target from the archive alone, committed like a snapshot. No server is touched.

A restore's plan is carried out up to the typed rows, which become baselines. Order of writes: the tables' files, the
definitions, the commit. Promises: nothing is visible before the commit, so a failure anywhere leaves at worst objects that
nothing refers to (`rowback sweep` takes them); a later restore from the synthetic snapshot gives what one from its sources
gives; what can't be computed is refused as in a restore, never left out silently.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import duckdb
import pyarrow as pa

from recovery import tiers
from recovery.archive.actions import Baseline, Cascade, Ddl, Mark, Snapshot, Synthetic
from recovery.archive.definitions import read_definitions, write_definitions
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.autoincrement import Counter
from recovery.convert import converted
from recovery.errors import ArchiveDamaged, ObjectArchived, SnapshotError
from recovery.failpoint import failpoint
from recovery.folding import (
    BadObject,
    DerivedFiles,
    derived_files,
    emptied,
    last_stage,
    no_space,
    note,
    scratch_folder,
    without,
)
from recovery.marks import locate_snapshot
from recovery.merge import MergedTable, Merger, engine_error
from recovery.objects.choose import Known, definitions_of, read_at
from recovery.objects.fold import fold
from recovery.output.report import Report, RestoreProgress, unreported
from recovery.planning import plan_for
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.schema import Table
from recovery.sizes import DEFAULT_MEMORY_LIMIT_BYTES
from recovery.snapshot.baseline import BaselineWriter
from recovery.snapshot.coordinates import Clock, microseconds
from recovery.stages import Source
from recovery.synthetic import baseline_of, cascades_at, object_ddls, objects_at
from recovery.target import Cut

# A file of a baseline takes rows up to this, in Arrow's memory.
_CHUNK_BYTES = 64 * 1024 * 1024


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
class _Base:
    """The newest of the snapshots that tables come from: what isn't of a table comes of it."""

    snapshot: Snapshot
    low_seq: int


@dataclass(frozen=True)
class _Run:
    store: Store
    state: ArchiveState
    layout: Layout
    snapshot_id: str
    scratch: Path
    memory_limit_bytes: int
    progress: Report


def roll_forward(
    store: Store,
    layout: Layout,
    log: Log,
    state: ArchiveState,
    request: RollForwardRequest,
    *,
    now: Clock,
    progress: Report = unreported,
) -> RollForwardResult:
    """Make the tables' state at the target a snapshot. state: what `log` reads.

    Raises TargetError for what can't be computed, SnapshotError if there is no table, ArchiveDamaged, NoSpace,
    ObjectArchived, ConfigError and the store's errors.
    """
    begin, started_at = time.monotonic(), now()
    if request.dry_run:
        plan = _checked(_planned(store, state, request))
        away = tiers.notes(tiers.held_back(store, tiers.read_by(plan)))
        return RollForwardResult(plan, None, warnings=(*plan.warnings, *away))
    plan = _checked(_planned_thawed(store, state, request, progress))
    snapshot_id = f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    damaged: dict[str, str] = {}
    with scratch_folder(request.scratch_dir) as scratch:
        run = _Run(store, state, layout, snapshot_id, scratch, request.memory_limit_bytes, progress)
        while True:
            _check_space(plan, scratch)
            tiers.make_readable(store, tiers.read_by(plan), request.thaw, partial(note, progress))
            try:
                baselines = _baselines(run, plan)
                break
            except BadObject as bad:
                plan = without(bad, state, damaged, partial(_planned, store, state, request, damaged, plan.cut))
                note(progress, f"going back to an older snapshot: {bad.error.message}")
                emptied(scratch)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise no_space(f"no space left in `{scratch}`") from error
                raise
    snapshot, notes = _snapshot(run, plan, request, baselines, microseconds(started_at), now)
    failpoint("roll-forward.commit")
    # Whatever was committed meanwhile is behind the cut: nothing at or before it ever changes.
    committed = log.commit(state, lambda _: [snapshot])
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


def _check_space(plan: RestorePlan, scratch: Path) -> None:
    largest = max(t.size_bytes for t in plan.tables) + sum(d.size_bytes for d in plan.derivations)
    free = shutil.disk_usage(scratch).free
    if free < largest + _CHUNK_BYTES:
        raise no_space(
            f"`{scratch.parent}` has {free} bytes free, and copies of the largest table need at least {largest}"
        )


# --- tables -----------------------------------------------------------------------------------------------------------


def _baselines(run: _Run, plan: RestorePlan) -> tuple[Baseline, ...]:
    derived = [derived_files(run.store, run.scratch, d, run.progress) for d in plan.derivations]
    made: list[Baseline] = []
    with Merger(run.scratch, run.memory_limit_bytes) as merger:
        for table in plan.tables:
            label, total = table.label, len(plan.tables)
            run.progress(RestoreProgress(label, len(made), total, 0, 0))
            try:
                made.append(_baseline(run, plan.cut, merger, table, derived))
            except duckdb.Error as error:
                raise engine_error(error, label) from error
            emptied(run.scratch)
            failpoint("roll-forward.table")
            size_bytes = sum(o.size_bytes for o in made[-1].objects)
            run.progress(RestoreProgress(label, len(made), total, made[-1].rows, size_bytes, done=True))
    return tuple(made)


def _baseline(run: _Run, cut: Cut, merger: Merger, table: TablePlan, derived: Sequence[DerivedFiles]) -> Baseline:
    counter = Counter(table.schema)
    merged = last_stage(run.store, table, merger, run.scratch, derived, counter)
    name = (table.db, table.table)
    if merged is None:
        return baseline_of(run.state, table, cut, None, (), counter.statements(name))
    writer = BaselineWriter(run.store, run.layout, run.snapshot_id, _named(merged, table), run.scratch)
    for chunk in _chunks(merger, merged, writer.table):
        writer.write_typed(chunk)
    return baseline_of(run.state, table, cut, writer.table, writer.objects, counter.statements(name))


def _named(merged: MergedTable, table: TablePlan) -> Table:
    return replace(merged.table, db=table.db, name=table.table)


def _chunks(merger: Merger, merged: MergedTable, definition: Table) -> Iterator[pa.Table]:
    """The rows in tables of about _CHUNK_BYTES."""
    same = tuple(Source(i) for i in range(len(definition.columns)))
    held: list[pa.Table] = []
    for rows in converted(merger, merged, definition, same):
        held.append(rows)
        if sum(t.nbytes for t in held) >= _CHUNK_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


# --- the snapshot -----------------------------------------------------------------------------------------------------


def _snapshot(
    run: _Run,
    plan: RestorePlan,
    request: RollForwardRequest,
    baselines: tuple[Baseline, ...],
    started_at_us: int,
    now: Clock,
) -> tuple[Snapshot, list[str]]:
    """The action, and what it lacks, in words."""
    state, cut, base = run.state, plan.cut, _base(run.state, plan)
    told = base.snapshot
    mark = Mark("", cut.file, cut.position, cut.cut_at_us)
    known = definitions_of(told, _known(run.store, told))
    wanted = {b.db for b in baselines}
    databases = tuple(d for d in told.databases if d[0] in wanted or not request.tables)
    held = [d for d in known if d.db in dict(databases)]
    ddls = object_ddls(told, base.low_seq, state.ddls, cut.seq)
    definitions = write_definitions(run.store, run.layout, run.snapshot_id, held)
    snapshot = Snapshot(
        snapshot_id=run.snapshot_id,
        mode="synthetic",
        low=mark,
        high=mark,
        started_at_us=started_at_us,
        finished_at_us=microseconds(now()),
        path="",
        size_bytes=sum(o.size_bytes for b in baselines for o in b.objects) + definitions.size_bytes,
        databases=databases,
        baselines=baselines,
        skipped=told.skipped,
        sql_mode=told.sql_mode,
        cascades=_cascades(run, base, cut),
        objects=objects_at(told, held, state.ddls, base.low_seq, cut.seq),
        lineage=state.lineage_of(cut.seq),
        definitions=definitions,
        synthetic=Synthetic(
            seq=cut.seq,
            gtid=cut.gtid,
            target=plan.target,
            sources=tuple(dict.fromkeys(t.snapshot_id for t in plan.tables)),
            definitions_read_at_us=read_at(told),
            ddls=ddls,
        ),
    )
    lacking = sorted(db for db in wanted - {db for db, _ in databases} if not _made(ddls, db))
    return snapshot, [
        f"views, triggers, routines and events of database `{db}` aren't in it: snapshot {told.snapshot_id} doesn't hold it"
        for db in lacking
    ]


def _made(ddls: Sequence[Ddl], db: str) -> bool:
    catalog = fold((), {}, ddls, -1, ddls[-1].seq if ddls else -1)
    return db in catalog.created


def _base(state: ArchiveState, plan: RestorePlan) -> _Base:
    newest = max(plan.tables, key=lambda t: t.low_seq)
    return _Base(next(s for s in state.snapshots if s.snapshot_id == newest.snapshot_id), newest.low_seq)


def _known(store: Store, snapshot: Snapshot) -> Known | None:
    if snapshot.definitions is None:
        return None
    try:
        return read_definitions(store, snapshot.definitions)
    except ArchiveDamaged as error:
        return error.message


def _cascades(run: _Run, base: _Base, cut: Cut) -> tuple[Cascade, ...]:
    """Of the newest snapshot at or before the cut, for each lists those of the whole server."""
    newest, low_seq = base.snapshot, base.low_seq
    for snapshot in run.state.newest_first:
        found = locate_snapshot(run.store, run.state, snapshot)
        usable = found.high_seq is not None and found.high_seq <= cut.seq and not found.before_start
        if usable and found.low_seq >= low_seq:
            newest, low_seq = snapshot, found.low_seq
            break
    return cascades_at(newest.cascades, run.state.ddls, low_seq, cut.seq)
