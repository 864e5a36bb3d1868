"""What an archive covers: a pure function of its state, the time now, and what the server said if it answered.

Promises: works without the source server; never says that a snapshot can be used before the stream covers its HIGH mark;
counts come from the log, no data object is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from recovery.archive.actions import Checkpoint, Gap, Mark, Snapshot
from recovery.archive.state import ArchiveState
from recovery.gtid import binlog_order, is_subset
from recovery.plain import moment
from recovery.spooled import Spooled

RATE_S = 600
WAITING = "waiting for the stream to reach the snapshot's end"


@dataclass(frozen=True)
class Point:
    """A place in the source's history. at: the time that time targets are compared with."""

    at: datetime
    file: str
    position: int
    gtid_set: str
    seq: int


@dataclass(frozen=True)
class Window:
    """The newest window that held transactions."""

    first_seq: int
    last_seq: int
    transactions: int
    row_changes: int
    size_bytes: int
    to: datetime


@dataclass(frozen=True)
class SnapshotLine:
    """usable: whether a restore can start from it now; reason says why not, or what is left out. made_from: of a synthetic
    one, the snapshots that it was rolled forward from; seq: the transaction at whose end it stands."""

    snapshot_id: str
    mode: str
    started_at: datetime
    finished_at: datetime
    size_bytes: int
    tables: int
    rows: int
    path: str
    usable: bool
    reason: str
    restorable_from: datetime | None
    skipped: tuple[str, ...]
    made_from: tuple[str, ...] = ()
    seq: int | None = None


@dataclass(frozen=True)
class GapLine:
    after_seq: int
    from_position: str
    to_position: str | None
    recorded_at: datetime
    reason: str
    closed: bool  # capture stopped here and later went on at the same place: nothing is missing


@dataclass(frozen=True)
class FailoverLine:
    """Behind transaction after_seq capture went on at another server; gtid: by which both are known to have one history."""

    after_seq: int
    from_server_uuid: str
    server_uuid: str
    gtid: str
    proof: str


@dataclass(frozen=True)
class Live:
    """What the server said just now. bytes_behind: of binlog not yet captured; None where it can't be told."""

    file: str
    position: int
    bytes_behind: int | None


@dataclass(frozen=True)
class Rates:
    """Means over the newest `seconds` of the source's time that the archive covers."""

    seconds: float
    transactions_per_s: float
    row_changes_per_s: float


@dataclass(frozen=True)
class Process:
    """What a running capture says about this server on its metrics port. state: starting, running, reconnecting, paused,
    stopped or ended; reason: why it isn't running. Spooled windows are closed and not yet safe."""

    state: str
    reason: str
    reconnects: int
    spool_windows: int
    spool_bytes: int
    pending_xa: int
    transactions_per_s: float
    rows_per_s: float


@dataclass(frozen=True)
class PendingXa:
    """An XA transaction that is prepared on the source and neither committed nor rolled back."""

    xid: str
    seq: int
    row_changes: int


@dataclass(frozen=True)
class Status:
    server: str
    tenant: str
    archive: str
    log_version: int
    generation: int
    source: str | None
    coverage_from: Point | None
    coverage_to: Point | None
    lag_s: float | None
    last_window: Window | None
    snapshots: tuple[SnapshotLine, ...]
    gaps: tuple[GapLine, ...]
    tables: int
    transactions: int
    row_changes: int
    segments: int
    size_bytes: int
    ddl_statements: int
    live: Live | None
    live_problem: str | None
    last_commit_age_s: float | None = None
    rates: Rates | None = None
    snapshot_needed: str | None = None  # why no restore to a new moment is possible until one is taken
    process: Process | None = None
    process_problem: str | None = None
    pending_xa: tuple[PendingXa, ...] = ()
    spooled: Spooled | None = None
    failovers: tuple[FailoverLine, ...] = ()

    @property
    def restorable(self) -> bool:
        """Whether there is at least one moment that can be given back."""
        return self.coverage_to is not None and any(line.usable for line in self.snapshots)


def bytes_behind(logs: Sequence[tuple[str, int]], file: str, position: int) -> int | None:
    """Binlog bytes after a position. logs: SHOW BINARY LOGS as (file, size), oldest first. None: the file was purged."""
    names = [name for name, _ in logs]
    if file not in names:
        return None
    index = names.index(file)
    return max(0, logs[index][1] - position) + sum(size for _, size in logs[index + 1 :])


def build(
    state: ArchiveState,
    *,
    server: str,
    tenant: str,
    archive: str,
    now: datetime,
    live: Live | None = None,
    live_problem: str | None = None,
    process: Process | None = None,
    process_problem: str | None = None,
    spooled: Spooled | None = None,
) -> Status:
    """The status at `now` (aware). live_problem, process_problem: why the server or the running capture wasn't asked or
    didn't answer."""
    to = state.checkpoint
    rows = sum(s.inserts + s.updates + s.deletes for s in state.segments)
    sizes = [s.size_bytes for s in state.segments] + [t.size_bytes for t in state.transactions]
    sizes += [o.size_bytes for s in state.snapshots for b in s.baselines for o in b.objects]
    sizes += [s.definitions.size_bytes for s in state.snapshots if s.definitions]
    return Status(
        server=server,
        tenant=tenant,
        archive=archive,
        log_version=state.version,
        generation=state.generation,
        source=None if state.source is None else f"{state.source.flavor} {state.source.server_version}",
        coverage_from=None if state.start is None else _point(state.start),
        coverage_to=None if to is None else _point(to),
        lag_s=None if to is None else _age_s(now, to.covered_to_us),
        last_window=_last_window(state),
        snapshots=tuple(_snapshot(state, s) for s in state.snapshots),
        gaps=_gaps(state),
        tables=len(
            {(s.db, s.table) for s in state.segments} | {(b.db, b.table) for s in state.snapshots for b in s.baselines}
        ),
        transactions=sum(t.rows for t in state.transactions),
        row_changes=rows,
        segments=len(state.segments),
        size_bytes=sum(sizes),
        ddl_statements=len(state.ddls),
        live=live,
        live_problem=live_problem,
        last_commit_age_s=_age_s(now, state.updated_at_us) if state.version else None,
        rates=_rates(state),
        snapshot_needed=_snapshot_needed(state),
        process=process,
        process_problem=process_problem,
        pending_xa=tuple(PendingXa(p.xid, p.seq, p.row_changes) for p in state.pending),
        spooled=spooled,
        failovers=tuple(
            FailoverLine(f.after_seq, f.from_server_uuid, f.server_uuid, f.gtid, f.proof) for f in state.failovers
        ),
    )


def _age_s(now: datetime, us: int) -> float:
    return max(0.0, (now - moment(us)).total_seconds())


def _rates(state: ArchiveState) -> Rates | None:
    """Over the last RATE_S seconds before the end of coverage; a segment that reaches further back counts in proportion."""
    if state.checkpoint is None:
        return None
    since = state.checkpoint.covered_to_us - RATE_S * 1_000_000

    def share(min_us: int, max_us: int) -> float:
        return 1.0 if min_us >= since else (max_us - since) / (max_us - min_us + 1)

    transactions = rows = 0.0
    first = None
    for window in reversed(state.transactions):
        if window.max_cut_at_us < since:
            break
        transactions += window.rows * share(window.min_cut_at_us, window.max_cut_at_us)
        first = window.first_seq
    for segment in state.segments:  # not in the order of seqs, once compacted
        if first is not None and segment.last_seq >= first and segment.max_cut_at_us >= since:
            changes = segment.inserts + segment.updates + segment.deletes
            rows += changes * share(segment.min_cut_at_us, segment.max_cut_at_us)
    return Rates(RATE_S, transactions / RATE_S, rows / RATE_S)


def _snapshot_needed(state: ArchiveState) -> str | None:
    """Why no moment from now on can be given back until one is taken; a gap that capture merely stopped at needs none."""
    if state.checkpoint is None:
        return None
    if not state.snapshots:
        return "none was taken yet"
    for hole in reversed(state.holes):
        if hole.to_file is None:
            continue
        end = (hole.lineage, binlog_order(hole.to_file, hole.to_position or 0))
        if not any((s.lineage, binlog_order(s.low.file, s.low.position)) >= end for s in state.snapshots):
            return f"none was taken since the gap at {hole.from_file}:{hole.from_position}"
    return None


def covers(state: ArchiveState, mark: Mark) -> bool:
    """Whether every transaction that the mark contains is in the archive (or is older than its beginning)."""
    at = state.checkpoint
    if at is None:
        return False
    if _by_gtid(state, mark.gtid_set, at.gtid_set):
        return is_subset(mark.gtid_set, at.gtid_set, "mysql")
    return binlog_order(mark.file, mark.position) <= binlog_order(at.file, at.position)


def _by_gtid(state: ArchiveState, *gtid_sets: str) -> bool:
    """As recovery.target does: by GTID on MySQL, by position elsewhere (MariaDB's GTID positions stand per domain)."""
    mysql = state.identity is None or state.identity.flavor == "mysql"
    return mysql and all(gtid_sets)


def _point(checkpoint: Checkpoint) -> Point:
    return Point(
        moment(checkpoint.covered_to_us), checkpoint.file, checkpoint.position, checkpoint.gtid_set, checkpoint.seq
    )


def _last_window(state: ArchiveState) -> Window | None:
    if not state.transactions:
        return None
    last = state.transactions[-1]
    segments = [s for s in state.segments if s.first_seq >= last.first_seq and s.last_seq <= last.last_seq]
    return Window(
        first_seq=last.first_seq,
        last_seq=last.last_seq,
        transactions=last.rows,
        row_changes=sum(s.inserts + s.updates + s.deletes for s in segments),
        size_bytes=last.size_bytes + sum(s.size_bytes for s in segments),
        to=moment(last.max_cut_at_us),
    )


def _snapshot(state: ArchiveState, snapshot: Snapshot) -> SnapshotLine:
    usable, reason = _usable(state, snapshot)
    return SnapshotLine(
        snapshot_id=snapshot.snapshot_id,
        mode=snapshot.mode,
        started_at=moment(snapshot.started_at_us),
        finished_at=moment(snapshot.finished_at_us),
        size_bytes=snapshot.size_bytes,
        tables=len(snapshot.baselines),
        rows=sum(b.rows for b in snapshot.baselines),
        path=snapshot.path,
        usable=usable,
        reason=reason,
        restorable_from=moment(snapshot.high.read_at_us) if usable else None,
        skipped=tuple(f"{db}.{table}: {why}" for db, table, why in snapshot.skipped),
        made_from=snapshot.synthetic.sources if snapshot.synthetic else (),
        seq=snapshot.synthetic.seq if snapshot.synthetic else None,
    )


def _usable(state: ArchiveState, snapshot: Snapshot) -> tuple[bool, str]:
    if state.checkpoint is None or state.start is None:
        return False, "no changes captured yet; start `rowback capture`"
    if snapshot.synthetic is not None:
        return True, ""
    if not _after_start(state, snapshot.low):
        return False, "taken before capture began: the changes in between are not in the archive"
    standing = _standing(state)
    for hole in state.holes:
        if hole in standing and _cut_off(hole, snapshot):
            return False, f"cut off by the gap at {hole.from_file}:{hole.from_position}"
    if not covers(state, snapshot.high):
        return False, WAITING
    for hole in state.holes:
        # Transactions are what targets are named by: the state right behind a gap has none yet.
        if hole.to_file is not None and hole.after_seq == state.checkpoint.seq and not _before(snapshot, hole):
            return False, f"waiting for the first transaction behind the gap at {hole.from_file}:{hole.from_position}"
    return True, ""


def _cut_off(hole: Gap, snapshot: Snapshot) -> bool:
    """Whether the hole holds transactions that the stream would have to bring to the snapshot's end."""
    low = (snapshot.lineage, binlog_order(snapshot.low.file, snapshot.low.position))
    end = None if hole.to_file is None else (hole.lineage, binlog_order(hole.to_file, hole.to_position or 0))
    return not _before(snapshot, hole) and not (end is not None and low >= end)


def _before(snapshot: Snapshot, hole: Gap) -> bool:
    """Whether the snapshot ends before the hole begins."""
    high = (snapshot.lineage, binlog_order(snapshot.high.file, snapshot.high.position))
    return high <= (hole.lineage, binlog_order(hole.from_file, hole.from_position))


def _after_start(state: ArchiveState, low: Mark) -> bool:
    start = state.start
    assert start is not None
    if _by_gtid(state, low.gtid_set, start.gtid_set):
        return is_subset(start.gtid_set, low.gtid_set, "mysql")
    return binlog_order(start.file, start.position) <= binlog_order(low.file, low.position)


def _standing(state: ArchiveState) -> Sequence[Gap]:
    """The gaps, without the stops that `--skip-gap` made gaps of later: they are on record twice."""

    def ended(at: int, stop: Gap) -> bool:
        place = (stop.lineage, stop.from_file, stop.from_position)
        return any(g.to_file and (g.lineage, g.from_file, g.from_position) == place for g in state.gaps[at + 1 :])

    return [gap for at, gap in enumerate(state.gaps) if gap.to_file is not None or not ended(at, gap)]


def _gaps(state: ArchiveState) -> tuple[GapLine, ...]:
    holes = state.holes
    return tuple(
        GapLine(
            after_seq=g.after_seq,
            from_position=f"{g.from_file}:{g.from_position}",
            to_position=None if g.to_file is None else f"{g.to_file}:{g.to_position}",
            recorded_at=moment(g.recorded_at_us),
            reason=g.reason,
            closed=g not in holes,
        )
        for g in _standing(state)
    )
