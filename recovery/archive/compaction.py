"""Which small segments become larger ones: a pure function of the archive's state, with a reason for each decision.

Only hours that are over count (the stream covers them to their end), so that nothing is written to them any more. Segments
of one table, one schema and one hour become files of up to `target_bytes`, in runs of seqs that don't overlap, so that a
reader of a range still opens few of them. A run never reaches over a DDL statement that may touch the table, so that what
stands before one stays apart from what stands after it. Left as they are:

- tables whose foreign keys' parents they are, where the server doesn't log what the keys do (MariaDB, MySQL before 9.6): a
  restore asks which transactions changed the parent, and the log's ranges answer that the finer they are;
- tables without a key, near a snapshot or within the last days: whether such a table changed between a snapshot's marks is
  asked of the ranges as well, and a snapshot that still runs isn't in the log yet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from recovery.archive.actions import Segment, Transactions
from recovery.archive.replacing import HOUR_US
from recovery.archive.state import ArchiveState

T = TypeVar("T", Segment, Transactions)
_Group: TypeAlias = tuple[str, str, str, int]  # database, table, schema, hour; empty names for transactions segments


@dataclass(frozen=True)
class Policy:
    """target_bytes, target_rows: what one new file may hold, which bounds the memory of making it. settled_s: how long after
    its end an hour counts as over. keyless_days: how old an hour must be for tables without a key."""

    target_bytes: int = 32 * 1024 * 1024
    target_rows: int = 500_000
    settled_s: int = 0
    keyless_days: int = 7


@dataclass(frozen=True)
class Merge:
    """One new file out of several. of: "segment" or "transactions"; the table's names are empty for the latter. inputs: in
    the order of their seqs."""

    of: str
    db: str
    table: str
    schema_id: str
    hour_us: int
    inputs: tuple[Segment, ...] | tuple[Transactions, ...]
    reason: str

    @property
    def label(self) -> str:
        return f"{self.db}.{self.table}" if self.of == Segment.kind else "transactions"

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.inputs)

    @property
    def size_bytes(self) -> int:
        return sum(s.size_bytes for s in self.inputs)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(s.path for s in self.inputs)


@dataclass(frozen=True)
class Left:
    """Small segments of a table that stay as they are."""

    label: str
    segments: int
    reason: str


@dataclass(frozen=True)
class CompactionPlan:
    """version: of the state that it was made from."""

    version: int
    merges: tuple[Merge, ...]
    left: tuple[Left, ...]

    @property
    def inputs(self) -> int:
        return sum(len(m.inputs) for m in self.merges)

    @property
    def size_bytes(self) -> int:
        return sum(m.size_bytes for m in self.merges)


def plan_compaction(state: ArchiveState, policy: Policy | None = None) -> CompactionPlan:
    """The merges that are worth it now, oldest hour first."""
    policy = policy or Policy()
    if state.checkpoint is None:
        return CompactionPlan(state.version, (), ())
    over_us = state.checkpoint.covered_to_us - policy.settled_s * 1_000_000
    merges: list[Merge] = []
    left: dict[tuple[str, str], int] = defaultdict(int)
    parents = _parents(state)
    for (db, table, schema_id, hour_us), found in _groups(state.segments).items():
        small = [s for s in found if _is_small(s, policy)]
        if len(small) < 2:
            continue
        why = _why_not(state, (db, table, schema_id, hour_us), over_us, parents, policy)
        if why:
            left[f"{db}.{table}", why] += len(small)
            continue
        for run in _runs(found, policy, _ddls_on(state, db, table)):
            reason = f"{len(run)} segments of one hour"
            merges.append(Merge(Segment.kind, db, table, schema_id, hour_us, tuple(run), reason))
    # Positions of two servers can't be compared, so a transactions segment is of one.
    moves = [f.after_seq + 0.5 for f in state.failovers]
    for hour_us, held in _transactions_by_hour(state.transactions).items():
        if hour_us + HOUR_US > over_us:
            left["transactions", "the hour isn't over yet"] += len(held)
            continue
        for joined in _runs(held, policy, moves):
            reason = f"{len(joined)} transactions segments of one hour"
            merges.append(Merge(Transactions.kind, "", "", "", hour_us, tuple(joined), reason))
    merges.sort(key=lambda m: (m.hour_us, m.of, m.db, m.table, m.inputs[0].first_seq))
    listed = tuple(Left(label, count, why) for (label, why), count in sorted(left.items()))
    return CompactionPlan(state.version, tuple(merges), listed)


def _groups(segments: Sequence[Segment]) -> dict[_Group, list[Segment]]:
    groups: dict[_Group, list[Segment]] = defaultdict(list)
    for s in segments:
        groups[s.db, s.table, s.schema_id, s.min_cut_at_us // HOUR_US * HOUR_US].append(s)
    for found in groups.values():
        found.sort(key=lambda s: (s.first_seq, s.last_seq, s.path))
    return groups


def _transactions_by_hour(segments: Sequence[Transactions]) -> dict[int, list[Transactions]]:
    """In the order of seqs. A run of them never leaves an hour, though one of an old archive may."""
    hours: dict[int, list[Transactions]] = defaultdict(list)
    for t in segments:
        hour = t.min_cut_at_us // HOUR_US * HOUR_US
        if t.max_cut_at_us < hour + HOUR_US:
            hours[hour].append(t)
    return {hour: held for hour, held in hours.items() if len(held) > 1}


def _is_small(segment: Segment | Transactions, policy: Policy) -> bool:
    return segment.size_bytes * 2 <= policy.target_bytes and segment.rows * 2 <= policy.target_rows


def _ddls_on(state: ArchiveState, db: str, table: str) -> list[int]:
    """The seqs of statements that may touch the table, ascending. Without case, as recovery/plan.py compares them."""
    names = {(db.casefold(), table.casefold()), (db.casefold(), "")}
    return [
        d.seq for d in state.ddls if d.tables is None or any((a.casefold(), b.casefold()) in names for a, b in d.tables)
    ]


def _runs(found: Sequence[T], policy: Policy, barriers: Sequence[float] = ()) -> Iterator[list[T]]:
    """Runs of at least two small segments that make a file of the target's size. A large one ends a run, and so does a
    hole between transactions segments, or a barrier."""
    run: list[T] = []
    for segment in found:
        size, rows = sum(s.size_bytes for s in run), sum(s.rows for s in run)
        full = size + segment.size_bytes > policy.target_bytes or rows + segment.rows > policy.target_rows
        hole = bool(run) and isinstance(segment, Transactions) and run[-1].last_seq + 1 != segment.first_seq
        barred = bool(run) and bisect_left(barriers, run[0].first_seq) < bisect_right(barriers, segment.last_seq)
        if run and (full or hole or barred or not _is_small(segment, policy)):
            if len(run) > 1:
                yield run
            run = []
        if _is_small(segment, policy):
            run.append(segment)
    if len(run) > 1:
        yield run


def _why_not(
    state: ArchiveState, group: _Group, over_us: int, parents: frozenset[tuple[str, str]], policy: Policy
) -> str | None:
    db, table, schema_id, hour_us = group
    if hour_us + HOUR_US > over_us:
        return "the hour isn't over yet"
    if (db.casefold(), table.casefold()) in parents:
        return "foreign keys to it change rows without the server logging it"
    definition = state.schemas.get(schema_id)
    if definition is not None and not definition.key:
        if hour_us + HOUR_US > over_us - policy.keyless_days * 24 * HOUR_US:
            return f"it has no key, and the hour is younger than {policy.keyless_days} days"
        marks = [(s.low.read_at_us, s.high.read_at_us) for s in state.snapshots]
        # An hour on either side: marks are read by another clock than cut times.
        if any(low - HOUR_US < hour_us + HOUR_US and high + HOUR_US > hour_us for low, high in marks):
            return "it has no key, and a snapshot was taken in that hour"
    return None


def _parents(state: ArchiveState) -> frozenset[tuple[str, str]]:
    """Tables that unlogged foreign keys refer to, folded, with all names that a RENAME may have given them."""
    names = {(c.parent_db.casefold(), c.parent_table.casefold()) for s in state.snapshots for c in s.cascades}
    if not names:
        return frozenset()
    for ddl in state.ddls:
        told = {(db.casefold(), table.casefold()) for db, table in ddl.tables or ()}
        if told & names and ddl.verb.upper() in ("RENAME TABLE", "ALTER TABLE"):
            names |= told
    return frozenset(names)
