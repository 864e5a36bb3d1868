"""Where snapshots stand in the stream: a snapshot's LOW and HIGH marks as seqs of the archive.

By GTID membership on MySQL with GTIDs: transactions become visible in another order than they stand in the binlog, so LOW
may hold a later transaction and miss an earlier one. By position elsewhere: on MariaDB a GTID position speaks per domain,
while the binlog position that a snapshot reads there is exact.

Promise: changes with a seq above low_seq include all that LOW doesn't hold, and no change above high_seq is in HIGH. Reads
only the transactions segments that the checkpoints bracket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from recovery.archive.actions import Mark, Snapshot
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.gtid import binlog_order, is_subset, parse_gtid_set
from recovery.target import coverage, flavor_of, last_ended, read_rows


@dataclass(frozen=True)
class SnapshotRange:
    """Where a snapshot stands in the stream: everything up to low_seq is in it, nothing after high_seq is. A target
    below high_seq can't use it. high_seq None: the stream doesn't cover HIGH yet. before_start: LOW lies before the
    archive's start, so changes between them are missing."""

    low_seq: int
    high_seq: int | None
    before_start: bool = False


def locate_snapshot(store: Store, state: ArchiveState, snapshot: Snapshot) -> SnapshotRange:
    """The seqs of a snapshot's marks; a synthetic one says its own. Raises ArchiveDamaged for a bad transactions segment."""
    if snapshot.synthetic is not None:
        return SnapshotRange(snapshot.synthetic.seq, snapshot.synthetic.seq)
    start, newest = coverage(state)
    if flavor_of(state) == "mysql" and snapshot.low.gtid_set and snapshot.high.gtid_set:
        if not is_subset(start.gtid_set, snapshot.low.gtid_set, "mysql"):
            return SnapshotRange(start.seq, None, before_start=True)
        high = (
            _last_in(store, state, snapshot.high)
            if is_subset(snapshot.high.gtid_set, newest.gtid_set, "mysql")
            else None
        )
        return SnapshotRange(_first_not_in(store, state, snapshot.low) - 1, high)
    low, high_mark = snapshot.low, snapshot.high
    if binlog_order(low.file, low.position) < binlog_order(start.file, start.position):
        return SnapshotRange(start.seq, None, before_start=True)
    low_seq = last_ended(store, state, low.file, low.position)
    if binlog_order(high_mark.file, high_mark.position) > binlog_order(newest.file, newest.position):
        return SnapshotRange(low_seq, None)
    return SnapshotRange(low_seq, last_ended(store, state, high_mark.file, high_mark.position, started=True))


def _first_not_in(store: Store, state: ArchiveState, mark: Mark) -> int:
    """seq of the first transaction that isn't in the mark's GTID set; one after the newest if all are."""
    points = state.checkpoints
    # Checkpoints' sets grow, so "not within the mark" turns true once and stays true.
    index = bisect_left(points, True, key=lambda c: not is_subset(c.gtid_set, mark.gtid_set, "mysql"))
    after = points[index - 1].seq if index else coverage(state)[0].seq
    holds = _holder(mark)
    for segment in state.transactions:
        if segment.last_seq > after:
            for row in _chronological(read_rows(store, segment)):
                if row[0] > after and not holds(row):
                    return row[0]
    return coverage(state)[1].seq + 1


def _last_in(store: Store, state: ArchiveState, mark: Mark) -> int:
    """seq of the last transaction that is in the mark's GTID set; the archive's start if none is."""
    points = state.checkpoints
    index = bisect_left(points, True, key=lambda c: is_subset(mark.gtid_set, c.gtid_set, "mysql"))
    until = points[min(index, len(points) - 1)].seq
    holds = _holder(mark)
    for segment in reversed(state.transactions):
        if segment.first_seq <= until:
            held = [row[0] for row in _chronological(read_rows(store, segment)) if row[0] <= until and holds(row)]
            if held:
                return held[-1]
    return coverage(state)[0].seq


_Row = tuple[int, str | None, str, int]  # seq, gtid, binlog file, end position


def _holder(mark: Mark) -> Callable[[_Row], bool]:
    """Whether a transaction is in the mark: by its GTID; an anonymous one (gtid_mode was being switched) by
    position."""
    held = parse_gtid_set(mark.gtid_set, "mysql")
    end = binlog_order(mark.file, mark.position)
    return lambda row: held.contains(row[1]) if row[1] else binlog_order(row[2], row[3]) <= end


def _chronological(rows: pa.Table) -> Iterator[_Row]:
    columns = [rows[name].to_pylist() for name in ("seq", "gtid", "binlog_file", "end_position")]
    return zip(*columns, strict=True)
