"""From `--since` and `--until`, times or GTIDs, to a range of transactions; and what lies in that range: DDL, gaps.

Both bounds are inclusive: "at or after" and "at or before", by cut_at_us for times (it never decreases with seq). Only
the transactions segments at the two ends are read, or, for a GTID, those from the newest backwards until it is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyarrow import compute

from recovery.archive.actions import Ddl, Gap
from recovery.archive.segments import read_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ConfigError, TargetOutsideCoverage
from recovery.gtid import is_gtid

pc: Any = compute  # the stubs miss most of what a kernel accepts
TableName = tuple[str, str]


@dataclass(frozen=True)
class SeqRange:
    """Transactions first..last, both inclusive (first = last + 1: none). since_us, until_us: where a bound is a time or
    open (None); a bound given as a GTID sets its `exact` flag instead."""

    first: int
    last: int
    since_us: int | None = None
    until_us: int | None = None
    since_exact: bool = False
    until_exact: bool = False


def parse_bound(text: str) -> int | str:
    """A time as microseconds since the epoch (UTC if it names no zone), or a GTID in the form the archive writes.

    Raises ConfigError for anything else.
    """
    text = text.strip()
    try:
        # First: a date has the form of a MariaDB GTID. No GTID is written with a zero-padded part.
        moment = datetime.fromisoformat(text)
    except ValueError:
        if is_gtid(text.lower()):
            return text.lower()
        raise ConfigError(
            f"`{text}` is neither a time nor a GTID",
            hint="Write a time as `2026-05-02T10:00:00` (UTC, or with a zone as in `+02:00`), or one whole GTID.",
        ) from None
    return micros(moment)


def micros(moment: datetime) -> int:
    """Exact, unlike timestamp()."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def moment_text(at_us: int) -> str:
    """`2026-05-02 10:00:00.123456`, UTC; fractional digits only if there are any."""
    whole, fraction = divmod(at_us, 1_000_000)
    text = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%d %H:%M:%S}"
    return f"{text}.{fraction:06d}" if fraction else text


def resolve(store: Store, state: ArchiveState, since: int | str | None, until: int | str | None) -> SeqRange:
    """The transactions between two bounds (microseconds, a GTID, or None for open).

    Raises TargetOutsideCoverage for a GTID that the archive doesn't hold.
    """
    first, last = 1, state.last_seq
    if isinstance(since, str):
        first = seq_of_gtid(store, state, since)
    elif since is not None:
        first = _first_at_or_after(store, state, since)
    if isinstance(until, str):
        last = seq_of_gtid(store, state, until)
    elif until is not None:
        last = _first_at_or_after(store, state, until + 1) - 1
    return SeqRange(
        first=first,
        last=max(last, first - 1),
        since_us=since if isinstance(since, int) else None,
        until_us=until if isinstance(until, int) else None,
        since_exact=isinstance(since, str),
        until_exact=isinstance(until, str),
    )


def seq_of_gtid(store: Store, state: ArchiveState, gtid: str) -> int:
    """The transaction with this GTID. Raises TargetOutsideCoverage."""
    wanted = gtid.strip().lower()
    for segment in reversed(state.transactions):
        (rows,) = read_transactions(store, [segment])
        at = pc.index(pc.utf8_lower(rows["gtid"]), wanted).as_py()
        if at >= 0:
            return int(rows["seq"][at].as_py())
    raise TargetOutsideCoverage(
        f"transaction `{gtid}` is not in the archive",
        hint="`rowback status` shows what is covered; a time works too.",
    )


def _first_at_or_after(store: Store, state: ArchiveState, at_us: int) -> int:
    """The first seq whose cut_at_us is at or after this time; one past the newest if there is none."""
    for segment in state.transactions:
        if segment.max_cut_at_us < at_us:
            continue
        if segment.min_cut_at_us >= at_us:
            return segment.first_seq
        (rows,) = read_transactions(store, [segment])
        at = pc.index(pc.greater_equal(rows["cut_at_us"], at_us), True).as_py()
        return int(rows["seq"][at].as_py())
    return state.last_seq + 1


def ddls_on(state: ArchiveState, table: TableName, first: int, last: int) -> Sequence[Ddl]:
    """DDL with seq in first..last that may touch this table, in order."""
    return [d for d in state.ddls if first <= d.seq <= last and _touches(d, table)]


def _touches(ddl: Ddl, table: TableName) -> bool:
    return ddl.tables is None or table in ddl.tables or (table[0], "") in ddl.tables


def gaps_in(state: ArchiveState, span: SeqRange) -> Sequence[Gap]:
    """Gaps of the capture that the range takes in. A gap lies between after_seq and the next transaction; at the
    range's own ends it counts unless the bound proves that it lies outside."""
    return [gap for gap in state.holes if _within(state, gap, span)]


def _within(state: ArchiveState, gap: Gap, span: SeqRange) -> bool:
    if span.first <= gap.after_seq < span.last:
        return True
    if gap.after_seq == span.last and not span.until_exact:
        return span.until_us is None or span.until_us > _covered_before(state, gap)
    if gap.after_seq == span.first - 1 and not span.since_exact:
        return span.since_us is None or gap.to_file is None or span.since_us <= gap.recorded_at_us
    return False


def _covered_before(state: ArchiveState, gap: Gap) -> int:
    """To which time everything is known, before the gap begins."""
    at = (gap.after_seq, gap.from_file, gap.from_position)
    return max((c.covered_to_us for c in state.checkpoints if (c.seq, c.file, c.position) == at), default=0)
