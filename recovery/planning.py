"""A restore's plan from what the archive holds: the target resolved, snapshots located, what planning reads read.

The plan itself is pure (recovery/plan.py); this module fetches its facts. Promises: only transactions segments, snapshots'
definitions and the change segments at a range's ends are read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from recovery import except_
from recovery.archive.definitions import read_definitions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.cascades import boundary_changes
from recovery.errors import ArchiveDamaged
from recovery.except_report import REFUSE
from recovery.marks import SnapshotRange, locate_snapshot
from recovery.objects.choose import Known
from recovery.plan import plan_restore
from recovery.restore_plan import RestorePlan
from recovery.straddling import straddling
from recovery.target import Cut, Target, cut_of, format_us, known_until, missing_after, parse_target, resolve


def plan_for(
    store: Store,
    state: ArchiveState,
    to: str,
    tables: Sequence[str] = (),
    exclude: Sequence[str] = (),
    damaged: Mapping[str, str] = MappingProxyType({}),
    cut: Cut | None = None,
    leave_out: Sequence[str] = (),
    except_conflicts: str = REFUSE,
    events_disabled: bool = False,
) -> RestorePlan:
    """Resolve and plan. Reads transactions segments, and of tables whose changes the server passes on by foreign keys
    without logging them the segments at the range's ends; with transactions to leave out, the changes behind them. damaged:
    snapshots to pass over, by id, with the reason. cut: what `to` was resolved to before."""
    target = parse_target(to)
    cut = cut or resolve(store, state, target)
    without = except_.resolve(store, state, leave_out, cut)
    before_seq = without[0] if without else None
    ranges = _locate(store, state, cut.seq, damaged, before_seq)
    boundary = boundary_changes(store, state, cut.seq, ranges)
    warnings = [*_time_warnings(state, target), *_stop_warnings(state, target, cut)]
    warnings += [f"snapshot {name} was passed over: {why}" for name, why in damaged.items()]
    seqs = straddling(store, state, min((r.low_seq for r in ranges.values()), default=cut.seq), cut.seq)
    plan = plan_restore(
        state,
        target.text,
        cut,
        ranges,
        tables,
        warnings,
        exclude=exclude,
        boundary=boundary,
        seqs=seqs,
        before_seq=before_seq,
        definitions=_definitions(store, state, ranges),
        events_disabled=events_disabled,
        place=partial(_place, store, state),
    )
    return except_.without(store, state, plan, without, except_conflicts, ranges) if without else plan


def _place(store: Store, state: ArchiveState, seq: int) -> str:
    """`5, <GTID>, which ends at binlog.000001:4242`, for a message."""
    cut = cut_of(store, state, seq)
    gtid = f", {cut.gtid}" if cut.gtid else ""
    return f"{seq}{gtid}, which ends at {cut.file}:{cut.position},"


def _locate(
    store: Store,
    state: ArchiveState,
    cut_seq: int,
    damaged: Collection[str] = (),
    before_seq: int | None = None,
) -> dict[str, SnapshotRange]:
    """Snapshots' places in the stream, newest first, until those that serve the cut hold every table there is. before_seq:
    of a transaction that they mustn't hold."""
    ranges: dict[str, SnapshotRange] = {}
    enough = False
    missing = {(b.db, b.table) for s in state.snapshots for b in s.baselines}
    for snapshot in state.newest_first:
        # A synthetic one says its own place, and stands by a commit's time, which MariaDB has in whole seconds only: it may
        # be the newest all the same.
        if snapshot.snapshot_id in damaged or (enough and snapshot.synthetic is None):
            continue
        found = locate_snapshot(store, state, snapshot)
        ranges[snapshot.snapshot_id] = found
        serves = found.high_seq is not None and found.high_seq <= cut_seq and not found.before_start
        serves = serves and (before_seq is None or (found.high_seq or 0) < before_seq)
        if serves and not state.gaps:
            # A table without a key may need an older snapshot; one with a key takes this.
            missing -= {(b.db, b.table) for b in snapshot.baselines if b.definition.key or snapshot.mode != "none"}
        enough = not missing
    return ranges


def _definitions(store: Store, state: ArchiveState, ranges: Collection[str]) -> dict[str, Known]:
    """What these snapshots say of views, triggers, routines and events; a reason where that can't be read. Tables are
    restored all the same."""
    found: dict[str, Known] = {}
    for snapshot in state.snapshots:
        if snapshot.snapshot_id in ranges and snapshot.definitions is not None:
            try:
                found[snapshot.snapshot_id] = read_definitions(store, snapshot.definitions)
            except ArchiveDamaged as error:
                found[snapshot.snapshot_id] = error.message
    return found


def _time_warnings(state: ArchiveState, target: Target) -> list[str]:
    if target.kind == "time" and state.identity is not None and state.identity.flavor == "mariadb":
        return ["this source logs commit times in whole seconds; name a GTID to cut between transactions of one second"]
    return []


def _stop_warnings(state: ArchiveState, target: Target, cut: Cut) -> list[str]:
    """For `latest`, where the stream is known to go on behind it: what is restored isn't what the source holds now."""
    gap = missing_after(state, cut) if target.kind == "latest" else None
    if gap is None:
        return []
    where, known = f"{gap.from_file}:{gap.from_position}", format_us(known_until(state, gap))
    what = f"capture stopped at {where} ({gap.reason}): nothing after it is in the archive"
    return [f"{what}, and the source's state is known up to {known} only"]
