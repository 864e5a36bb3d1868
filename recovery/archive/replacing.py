"""What may stand in the place of removed segments: the same rows under other names. Pure.

Compaction takes segments of one table and schema away and adds others; a reader must find every row of every
transaction exactly once before and after. Counts and ranges are checked here, at each commit and at each reading; that the
rows themselves are the same is for `rowback verify --archive` to prove.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from recovery.archive.actions import Segment, Transactions
from recovery.schema import Table

HOUR_US = 3_600_000_000


class InvariantError(ValueError):
    """A commit can't follow a state. The text completes the sentence "log object X ..."."""


@dataclass(frozen=True)
class Removed:
    """An object that doesn't count any more, since this version of the log."""

    path: str
    version: int


def must(condition: bool, text: str) -> None:
    if not condition:
        raise InvariantError(text)


def check_replaced(
    old: Sequence[Segment],
    old_transactions: Sequence[Transactions],
    new: Sequence[Segment],
    new_transactions: Sequence[Transactions],
    schemas: Mapping[str, Table],
) -> None:
    """Raises InvariantError unless the new ones hold what the old ones held, as far as the log tells."""
    for group in {(s.db, s.table, s.schema_id) for s in (*old, *new)}:
        before = [s for s in old if (s.db, s.table, s.schema_id) == group]
        after = [s for s in new if (s.db, s.table, s.schema_id) == group]
        label = f"{group[0]}.{group[1]}"
        must(group[2] in schemas, f"refers to the schema `{group[2]}`, which no commit holds")
        must(_totals(before) == _totals(after), f"replaces segments of `{label}` by others with other rows")
        for s in after:
            must(
                s.first_seq <= s.last_seq and s.min_cut_at_us // HOUR_US == s.max_cut_at_us // HOUR_US,
                f"replaces segments of `{label}` by one that spans two hours",
            )
    _check_transactions(old_transactions, new_transactions)


def _totals(segments: Sequence[Segment]) -> tuple[object, ...]:
    """Row counts and the hull of seqs and cut times."""
    counts = tuple(sum(getattr(s, name) for s in segments) for name in ("rows", "inserts", "updates", "deletes"))
    if not segments:
        return counts
    return (
        *counts,
        min(s.first_seq for s in segments),
        max(s.last_seq for s in segments),
        min(s.min_cut_at_us for s in segments),
        max(s.max_cut_at_us for s in segments),
    )


def _check_transactions(old: Sequence[Transactions], new: Sequence[Transactions]) -> None:
    """Each new one stands for a run of old ones, and each old one is in such a run."""
    waiting = sorted(old, key=lambda t: t.first_seq)
    for one in sorted(new, key=lambda t: t.first_seq):
        run = [t for t in waiting if one.first_seq <= t.first_seq <= one.last_seq]
        whole = all(a.last_seq + 1 == b.first_seq for a, b in pairwise(run))
        must(
            bool(run) and whole and _outline(run) == _outline([one]),
            f"replaces transactions segments by one that holds the transactions {one.first_seq} to {one.last_seq}",
        )
        waiting = [t for t in waiting if t not in run]
    must(not waiting, "removes a transactions segment that nothing replaces")


def _outline(run: Sequence[Transactions]) -> tuple[object, ...]:
    first, last = run[0], run[-1]
    return (
        sum(t.rows for t in run),
        first.first_seq,
        last.last_seq,
        first.min_cut_at_us,
        last.max_cut_at_us,
        (first.first_file, first.first_position, last.last_file, last.last_position),
    )
