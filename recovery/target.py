"""Restore targets: what a user may name, and the transaction that it means.

    latest                         the newest transaction that the archive holds
    2026-05-02T10:00:00+02:00      the last transaction with cut_at_us at or before it (no time zone: UTC)
    <uuid>:<n>, <uuid>:<tag>:<n>   that MySQL transaction, inclusive
    <domain>-<server>-<n>          that MariaDB transaction, inclusive
    binlog.000007:4242             the last transaction that ends at or before the position

Promises: `resolve` answers with a transaction end inside the archive's coverage, or raises TargetOutsideCoverage with
the range that is covered and the gap in the way. It reads only the transactions segments that the log's own fields
bracket.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa

from recovery.archive.actions import Checkpoint, Gap, Transactions
from recovery.archive.segments import read_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ArchiveMissing, ConfigError, TargetOutsideCoverage
from recovery.gtid import binlog_order, is_gtid, parse_gtid_set

_POSITION = re.compile(r"(.+\.\d+):(\d+)")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Target:
    """A parsed target; the fields of its kind are set. gtid is in lower case."""

    kind: Literal["latest", "time", "gtid", "position"]
    text: str
    time_us: int = 0
    gtid: str = ""
    file: str = ""
    position: int = 0


@dataclass(frozen=True)
class Cut:
    """The end of transaction `seq`, at (file, position). Without a transaction yet (the archive's start), gtid is
    None and committed_at_us 0."""

    seq: int
    gtid: str | None
    file: str
    position: int
    committed_at_us: int
    cut_at_us: int


def parse_target(text: str) -> Target:
    """Raises ConfigError for a text that is none of the forms in this module's description."""
    stripped = text.strip()
    if stripped.lower() == "latest":
        return Target("latest", "latest")
    if _TIME.match(stripped):
        try:
            moment = datetime.fromisoformat(stripped)
        except ValueError:
            moment = None
        if moment is not None:
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return Target("time", stripped, time_us=_microseconds(aware))
    if is_gtid(stripped):
        return Target("gtid", stripped, gtid=stripped.lower())
    match = _POSITION.fullmatch(stripped)
    if match:
        return Target("position", stripped, file=match.group(1), position=int(match.group(2)))
    raise ConfigError(
        f"`{text}` is no time, GTID or binlog position",
        hint="Write `2026-05-02 10:00:00` (UTC unless it has a time zone), a GTID, `binlog.000007:4242` or `latest`.",
    )


def _microseconds(moment: datetime) -> int:
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def format_us(at_us: int) -> str:
    """Microseconds since the epoch as ISO text in UTC."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000).isoformat()


def coverage(state: ArchiveState) -> tuple[Checkpoint, Checkpoint]:
    """The first and the newest checkpoint. Raises ArchiveMissing while there is none."""
    if state.start is None or state.checkpoint is None:
        raise ArchiveMissing(
            "this archive covers nothing yet: capture has not committed",
            hint="Run `rowback capture` against the server first, then take a snapshot.",
        )
    return state.start, state.checkpoint


def describe_coverage(state: ArchiveState) -> str:
    start, newest = coverage(state)
    return (
        f"{format_us(start.covered_to_us)} ({start.file}:{start.position}) to "
        f"{format_us(newest.covered_to_us)} ({newest.file}:{newest.position})"
    )


def describe_gap(gap: Gap) -> str:
    end = f"{gap.to_file}:{gap.to_position}" if gap.to_file else "an end not yet known"
    return f"the gap from {gap.from_file}:{gap.from_position} to {end} ({gap.reason})"


# --- targets ----------------------------------------------------------------------------------------------------------


def resolve(store: Store, state: ArchiveState, target: Target) -> Cut:
    """The cut that a target means. Raises TargetOutsideCoverage; ArchiveDamaged for a bad transactions segment."""
    coverage(state)
    seq = {
        "latest": lambda: coverage(state)[1].seq,
        "time": lambda: _at_time(store, state, target),
        "gtid": lambda: _at_gtid(store, state, target),
        "position": lambda: _at_position(store, state, target),
    }[target.kind]()
    for gap in state.holes:
        if gap.after_seq == seq and _inside(state, gap, target):
            why = f": it lies inside {describe_gap(gap)}"
            if target.kind == "latest":
                raise _outside(
                    state, target, why, "The first transaction that is captured behind the gap makes it known."
                )
            raise _outside(state, target, why)
    return cut_of(store, state, seq)


def cut_of(store: Store, state: ArchiveState, seq: int) -> Cut:
    """The end of transaction `seq`; of the archive's start if that is where seq stands."""
    for segment in state.transactions:
        if segment.first_seq <= seq <= segment.last_seq:
            rows = read_rows(store, segment)
            row = rows.slice(int(np.searchsorted(_numbers(rows, "seq"), seq)), 1).to_pylist()[0]
            return Cut(
                seq=row["seq"],
                gtid=row["gtid"],
                file=row["binlog_file"],
                position=row["end_position"],
                committed_at_us=row["committed_at_us"],
                cut_at_us=row["cut_at_us"],
            )
    start, _ = coverage(state)
    return Cut(seq, None, start.file, start.position, 0, start.cut_at_us)


def _at_time(store: Store, state: ArchiveState, target: Target) -> int:
    start, newest = coverage(state)
    if target.time_us < start.covered_to_us:
        raise _outside(state, target, "")
    if target.time_us > newest.covered_to_us:
        raise _outside(state, target, ": it is later than what has been captured")
    index = bisect_right(state.transactions, target.time_us, key=lambda t: t.min_cut_at_us) - 1
    if index < 0:
        return start.seq
    segment = state.transactions[index]
    if segment.max_cut_at_us <= target.time_us:
        return segment.last_seq
    cuts = _numbers(read_rows(store, segment), "cut_at_us")
    return segment.first_seq + int(np.searchsorted(cuts, target.time_us, side="right")) - 1


def _at_position(store: Store, state: ArchiveState, target: Target) -> int:
    """Positions are of the server that capture follows now: an earlier one's files may have the same names."""
    start, newest = coverage(state)
    begin = state.failovers[-1] if state.failovers else start
    wanted = binlog_order(target.file, target.position)
    if target.file.rpartition(".")[0] != newest.file.rpartition(".")[0]:
        raise _outside(state, target, f": the source's binlog files are named like `{newest.file}`")
    if wanted < binlog_order(begin.file, begin.position):
        earlier = ": it may be of the server before the failover; a GTID tells" if state.failovers else ""
        raise _outside(state, target, earlier)
    if wanted > binlog_order(newest.file, newest.position):
        raise _outside(state, target, ": it is later than what has been captured")
    return last_ended(store, state, target.file, target.position)


def last_ended(store: Store, state: ArchiveState, file: str, position: int, *, started: bool = False) -> int:
    """seq of the last transaction that ends at or before the position (started: that starts strictly before it)."""
    wanted = binlog_order(file, position)
    after = state.failovers[-1].after_seq if state.failovers else coverage(state)[0].seq
    first = bisect_right(state.transactions, after, key=lambda t: t.first_seq)
    index = (
        bisect_left(state.transactions, wanted, lo=first, key=lambda t: binlog_order(t.first_file, t.first_position))
        - 1
    )
    if index < first:
        return after
    segment = state.transactions[index]
    if binlog_order(segment.last_file, segment.last_position) <= wanted:
        return segment.last_seq
    rows = read_rows(store, segment)
    files = np.array([binlog_order(str(name), 0)[0] for name in rows["binlog_file"].to_pylist()])
    offsets = _numbers(rows, "start_position" if started else "end_position")
    in_file = offsets < wanted[1] if started else offsets <= wanted[1]
    held = (files < wanted[0]) | ((files == wanted[0]) & in_file)
    return segment.first_seq + int(np.count_nonzero(held)) - 1


def _at_gtid(store: Store, state: ArchiveState, target: Target) -> int:
    start, _ = coverage(state)
    flavor = flavor_of(state)
    if ("-" in target.gtid.partition(":")[0] and ":" not in target.gtid) != (flavor == "mariadb"):
        raise _outside(state, target, f": the source is a {flavor} server, whose GTIDs look different")
    if parse_gtid_set(start.gtid_set, flavor).contains(target.gtid):
        raise _outside(state, target, ": it was committed before the archive's start")
    points = state.checkpoints
    holds = bisect_left(points, True, key=lambda c: parse_gtid_set(c.gtid_set, flavor).contains(target.gtid))
    if holds == len(points):
        raise _outside(state, target, ": no captured transaction has it")
    first = points[holds - 1].seq + 1 if holds else start.seq
    for segment in state.transactions:
        if segment.last_seq >= first and segment.first_seq <= points[holds].seq:
            rows = read_rows(store, segment)
            found = np.flatnonzero(np.array(rows["gtid"].to_pylist(), dtype=object) == target.gtid)
            if len(found):
                return segment.first_seq + int(found[0])
    gaps = "; ".join(describe_gap(gap) for gap in state.holes)
    raise _outside(state, target, f": it may be in {gaps}" if gaps else ": no captured transaction has it")


def _inside(state: ArchiveState, gap: Gap, target: Target) -> bool:
    """Whether a target that resolved to the last transaction before the gap stands after the gap's begin."""
    if target.kind == "position":
        begin = (gap.lineage, binlog_order(gap.from_file, gap.from_position))
        return (len(state.failovers), binlog_order(target.file, target.position)) > begin
    if target.kind == "time":
        return target.time_us > known_until(state, gap)
    # The newest state is one behind a gap that capture went on from; before an open one it is the newest that is known.
    return target.kind == "latest" and gap.to_file is not None


def _precedes(state: ArchiveState, checkpoint: Checkpoint, gap: Gap, begin: tuple[int, int]) -> bool:
    if checkpoint.seq < gap.after_seq:
        return True
    if any(checkpoint.covered_to_us > f.covered_to_us for f in state.failovers[gap.lineage :]):
        return False
    return checkpoint.seq == gap.after_seq and binlog_order(checkpoint.file, checkpoint.position) <= begin


def missing_after(state: ArchiveState, cut: Cut) -> Gap | None:
    """The gap that begins right behind the cut, if the archive knows of one."""
    return next((gap for gap in reversed(state.holes) if gap.after_seq == cut.seq), None)


def known_until(state: ArchiveState, gap: Gap) -> int:
    """The time up to which everything before a gap is known, in microseconds; inclusive."""
    begin = binlog_order(gap.from_file, gap.from_position)
    return max((c.covered_to_us for c in state.checkpoints if _precedes(state, c, gap, begin)), default=0)


def _outside(
    state: ArchiveState,
    target: Target,
    why: str,
    way_out: str = "`--to latest` takes the newest captured transaction.",
) -> TargetOutsideCoverage:
    return TargetOutsideCoverage(
        f"target `{target.text}` is outside the archive's coverage{why}",
        hint=f"Covered is {describe_coverage(state)}. {way_out}",
    )


def read_rows(store: Store, segment: Transactions) -> pa.Table:
    return next(iter(read_transactions(store, [segment])))


def _numbers(rows: pa.Table, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(rows[name].combine_chunks().to_numpy(zero_copy_only=False))


def flavor_of(state: ArchiveState) -> str:
    return state.identity.flavor if state.identity else "mysql"
