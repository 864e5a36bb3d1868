"""The account of GTIDs: every captured one once, and each checkpoint's set the sum of what stands before it.

Works on one transactions segment at a time and keeps intervals only, so its memory depends on the holes in the numbering and
not on the number of transactions. MySQL: sets of uuid (and tag) intervals. MariaDB: a checkpoint names the last GTID of each
domain; that a GTID stands once is judged by domain, server and number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recovery.archive.actions import Checkpoint, Gap
from recovery.gtid import GtidSet, MariaDBGtidPosition, MySQLGtidSet, parse_gtid_set


class GtidAccount:
    """Feed it the transactions in the order of their seqs; it yields what is wrong, in words.

    checkpoints: of the log, in order; the first is where coverage begins. gaps: behind one that capture was told to skip,
    a checkpoint may name GTIDs that were not captured.
    """

    def __init__(self, flavor: str, checkpoints: Sequence[Checkpoint], gaps: Sequence[Gap]) -> None:
        self._mysql = flavor != "mariadb"
        self._flavor = flavor
        self._waiting = iter(checkpoints)
        self._next = next(self._waiting, None)
        self._ends = {(g.after_seq, g.to_file, g.to_position) for g in gaps if g.to_file is not None}
        self._seen = MySQLGtidSet()  # of both flavors: intervals by what stands before the number
        self._sum: GtidSet = parse_gtid_set(self._next.gtid_set if self._next else "", flavor)
        self._from = 1  # the first seq not yet accounted for
        if isinstance(self._sum, MySQLGtidSet):
            self._seen = self._sum.copy()
        self.count = 0

    def add(self, rows: pa.Table) -> Iterator[str]:
        """rows: of the next transactions segment: `seq` and `gtid`, whole and in order."""
        seqs = np.asarray(rows["seq"].to_numpy())
        gtids = rows["gtid"].combine_chunks()
        at = 0
        while at < len(seqs):
            while self._next is not None and self._next.seq < int(seqs[at]):
                yield from self._check(self._next)
            limit = len(seqs) if self._next is None else int(np.searchsorted(seqs, self._next.seq, side="right"))
            yield from self._take(gtids.slice(at, limit - at))
            at = limit

    def finish(self) -> Iterator[str]:
        """The checkpoints behind the last transaction."""
        while self._next is not None:
            yield from self._check(self._next)

    def _check(self, point: Checkpoint) -> Iterator[str]:
        found = parse_gtid_set(point.gtid_set, self._flavor)
        where = f"the checkpoint at seq {point.seq} ({point.file}:{point.position})"
        if found != self._sum:
            skipped = (point.seq, point.file, point.position) in self._ends
            if not (skipped and self._sum.issubset(found)):  # type: ignore[arg-type]
                added = f"the transactions before it add up to `{_short(self._sum)}`"
                yield f"{where} has the GTIDs `{_short(found)}`, and {added}"
            self._sum = found  # so that one wrong checkpoint is told once
            if isinstance(found, MySQLGtidSet):
                self._seen = self._seen.union(found)
        self._next = next(self._waiting, None)

    def _take(self, gtids: pa.Array) -> Iterator[str]:
        gtids = pc.utf8_lower(gtids.drop_null())
        if not len(gtids):
            return
        self.count += len(gtids)
        parts = pc.split_pattern(gtids, ":" if self._mysql else "-", max_splits=1, reverse=True)
        sources = pc.list_element(parts, 0).dictionary_encode()
        numbers = pc.cast(pc.list_element(parts, 1), pa.int64()).to_numpy()
        codes = sources.indices.to_numpy()
        for code, source in enumerate(sources.dictionary.to_pylist()):
            yield from self._spans(source, np.sort(numbers[codes == code]))
        if isinstance(self._sum, MariaDBGtidPosition):
            for gtid in _newest_of_each_domain(gtids, numbers):
                self._sum.add(gtid)

    def _spans(self, source: str, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[str]:
        steps = np.diff(numbers)
        for number in numbers[:-1][steps == 0][:3]:
            yield f"GTID `{source}{':' if self._mysql else '-'}{number}` stands twice"
        starts = np.concatenate([[0], np.flatnonzero(steps > 1) + 1])
        ends = np.concatenate([starts[1:] - 1, [len(numbers) - 1]])
        for first, last in zip(numbers[starts].tolist(), numbers[ends].tolist(), strict=True):
            if self._seen.overlaps(source, first, last):
                yield f"GTIDs of `{source}` in {first} to {last} stand twice, or stood before the archive's start"
            self._seen.add_interval(source, first, last)
            if isinstance(self._sum, MySQLGtidSet):
                self._sum.add_interval(source, first, last)


def _newest_of_each_domain(gtids: pa.Array, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[str]:
    """For each domain the last GTID with its highest number: adding these is adding all."""
    domains = pc.list_element(pc.split_pattern(gtids, "-"), 0).dictionary_encode()
    codes = domains.indices.to_numpy()
    for code in range(len(domains.dictionary)):
        mine = np.flatnonzero(codes == code)
        highest = mine[numbers[mine] == numbers[mine].max()]
        yield gtids[int(highest[-1])].as_py()


def _short(held: GtidSet) -> str:
    text = str(held)
    return text if len(text) <= 300 else f"{text[:297]}..."
