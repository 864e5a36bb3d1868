"""The action of a synthetic snapshot: tables' baselines at a cut, and what the snapshot behind them says of all else.

Promises: nothing that only a server can say is made up (recovery/synthetic.py); no commit is made here.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recovery.archive.actions import Baseline, Cascade, Ddl, Mark, Snapshot, Synthetic
from recovery.archive.definitions import Definition, read_definitions, write_definitions
from recovery.archive.names import Layout
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ArchiveDamaged
from recovery.marks import locate_snapshot
from recovery.objects.choose import Known, definitions_of, read_at
from recovery.objects.fold import fold
from recovery.objects.sequence_choice import with_segments
from recovery.objects.sequence_fold import fold as fold_sequences
from recovery.objects.sequences import KIND, LiveSequence, Made
from recovery.restore_plan import RestorePlan
from recovery.schema import Table
from recovery.sequence_rows import made_from, put_back
from recovery.snapshot.baseline import BaselineWriter
from recovery.snapshot.coordinates import Clock, microseconds
from recovery.synthetic import cascades_at, object_ddls, objects_at, sequences_at
from recovery.target import Cut

# The mode of a snapshot that no log holds: a restore's own, of tables that went through a scratch server.
REPLAYED: Final = "replayed"


@dataclass(frozen=True)
class Begun:
    """A snapshot that is being made. store: where its objects are written."""

    snapshot_id: str
    started_at_us: int
    store: Store
    layout: Layout

    @staticmethod
    def at(now: Clock, store: Store, layout: Layout) -> Begun:
        started_at = now()
        snapshot_id = f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        return Begun(snapshot_id, microseconds(started_at), store, layout)

    def writer(self, table: Table, staging: Path) -> BaselineWriter:
        return BaselineWriter(self.store, self.layout, self.snapshot_id, table, staging)


@dataclass(frozen=True)
class _Base:
    """The newest of the snapshots that tables come from: what isn't of a table comes of it."""

    snapshot: Snapshot
    low_seq: int


def synthetic_snapshot(
    store: Store,
    state: ArchiveState,
    plan: RestorePlan,
    begun: Begun,
    baselines: tuple[Baseline, ...],
    now: Clock,
    *,
    whole: bool,
) -> tuple[Snapshot, list[str]]:
    """The action, and what it lacks, in words. plan: of the tables that the baselines come from, with the cut that they are
    of. whole: also with what databases without any of these tables hold. Writes the definitions. Raises StoreError."""
    cut, base = plan.cut, _base(state, plan)
    told = base.snapshot
    mark = Mark("", cut.file, cut.position, cut.cut_at_us)
    known = definitions_of(told, _known(store, told))
    wanted = {b.db for b in baselines}
    databases = tuple(d for d in told.databases if d[0] in wanted or whole)
    held = [d for d in known if d.db in dict(databases) and d.type != KIND]
    made = _sequences(store, state, base, known, cut, dict(databases))
    held += sequences_at(made)
    ddls = object_ddls(told, base.low_seq, state.ddls, cut.seq)
    definitions = write_definitions(begun.store, begun.layout, begun.snapshot_id, held)
    snapshot = Snapshot(
        snapshot_id=begun.snapshot_id,
        mode="synthetic",
        low=mark,
        high=mark,
        started_at_us=begun.started_at_us,
        finished_at_us=microseconds(now()),
        path="",
        size_bytes=sum(o.size_bytes for b in baselines for o in b.objects) + definitions.size_bytes,
        databases=databases,
        baselines=baselines,
        skipped=told.skipped,
        sql_mode=told.sql_mode,
        cascades=_cascades(store, state, base, cut),
        objects=objects_at(told, held, state.ddls, base.low_seq, cut.seq),
        lineage=state.lineage_of(cut.seq),
        definitions=definitions,
        synthetic=Synthetic(
            seq=cut.seq,
            gtid=cut.gtid,
            target=plan.target,
            sources=tuple(dict.fromkeys(_sources(state, plan))),
            definitions_read_at_us=read_at(told),
            ddls=ddls,
        ),
    )
    lacking = sorted(db for db in wanted - {db for db, _ in databases} if not _made(ddls, db))
    return snapshot, [put_back(one) for one, how in made if how.set_back] + [
        f"views, triggers, routines, events and sequences of database `{db}` aren't in it: snapshot {told.snapshot_id} "
        "doesn't hold it"
        for db in lacking
    ]


def _sequences(
    store: Store, state: ArchiveState, base: _Base, known: Sequence[Definition], cut: Cut, databases: Collection[str]
) -> list[tuple[LiveSequence, Made]]:
    """As they are at the cut."""
    found = fold_sequences(known, state.ddls, base.low_seq, cut.seq)
    live = [one for (db, _), one in found.items() if db in databases]
    return made_from(store, with_segments(state, live, cut.seq))


def _sources(state: ArchiveState, plan: RestorePlan) -> Iterator[str]:
    """Ids of snapshots in the archive: one that was made for a replay alone isn't there."""
    by_id = {s.snapshot_id: s for s in state.snapshots}
    for table in plan.tables:
        source = by_id[table.snapshot_id]
        if source.mode == REPLAYED and source.synthetic is not None:
            yield from source.synthetic.sources
        else:
            yield source.snapshot_id


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


def _cascades(store: Store, state: ArchiveState, base: _Base, cut: Cut) -> tuple[Cascade, ...]:
    """Of the newest snapshot at or before the cut, for each lists those of the whole server."""
    newest, low_seq = base.snapshot, base.low_seq
    for snapshot in state.newest_first:
        found = locate_snapshot(store, state, snapshot)
        usable = found.high_seq is not None and found.high_seq <= cut.seq and not found.before_start
        if usable and found.low_seq >= low_seq:
            newest, low_seq = snapshot, found.low_seq
            break
    return cascades_at(newest.cascades, state.ddls, low_seq, cut.seq)
