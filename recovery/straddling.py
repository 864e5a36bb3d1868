"""Segments that reach over several DDL statements on their table: in which transactions their rows are.

A window may hold rows under one definition, a statement, rows under another, and a statement back. The first definition's
segment then lies around the second's rows, or around a stretch without any, and its first and last seq don't tell whether
it has rows there. Planning by them alone would take the wrong definition for that stretch and refuse the table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recovery.archive.actions import Segment
from recovery.archive.segments import read_segment
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ArchiveDamaged
from recovery.lineage import touching

# Path of a segment -> the seqs that have rows in it, ascending, each once.
Seqs: TypeAlias = Mapping[str, npt.NDArray[np.int64]]


def straddling(store: Store, state: ArchiveState, low_seq: int, cut_seq: int) -> dict[str, npt.NDArray[np.int64]]:
    """Of the segments with rows in (low_seq, cut_seq] those around two or more statements on their table. Reads them;
    one that is damaged is left out, and its ends must do."""
    seqs = sorted(d.seq for d in state.ddls if d.tables != ())  # one behind the cut counts: it may lead back
    result = {}
    for segment in state.segments:
        if segment.last_seq <= low_seq or segment.first_seq > cut_seq or not _within(seqs, segment):
            continue
        ddls = touching(state.ddls, segment.first_seq + 1, segment.last_seq, (segment.db, segment.table))
        if sum(1 for _ in ddls) < 2:
            continue
        try:
            result[segment.path] = np.unique(read_segment(store, segment, ["_rb_seq"])["_rb_seq"].to_numpy())
        except ArchiveDamaged:  # perhaps of a table that isn't asked for; else the restore will read and name it
            continue
    return result


def _within(seqs: Sequence[int], segment: Segment) -> bool:
    return bisect_right(seqs, segment.last_seq) - bisect_right(seqs, segment.first_seq) > 1


def has_rows(segment: Segment, seqs: Seqs, low_seq: int, high_seq: int) -> bool:
    """Whether the segment has rows of (low_seq, high_seq]; by its ends alone if its seqs aren't known."""
    known = seqs.get(segment.path)
    if known is None:
        return segment.last_seq > low_seq and segment.first_seq <= high_seq
    return bool(np.searchsorted(known, low_seq, "right") < np.searchsorted(known, high_seq, "right"))
