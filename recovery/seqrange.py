"""From `--since` and `--until`, times or GTIDs, to a range of transactions; and what lies in that range: DDL, gaps.

Both bounds are inclusive: "at or after" and "at or before", by cut_at_us for times (it never decreases with seq). Only
the transactions segments at the two ends are read, or, for a GTID, those from the newest backwards until it is found.

A range that begins or ends after everything that is known is no empty range: `refuse_unknown` says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyarrow import compute

from recovery.archive.actions import Ddl, Gap, Segment
from recovery.archive.segments import read_transactions
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ConfigError, TargetOutsideCoverage
from recovery.gtid import is_gtid
from recovery.sqlscan import bare

pc: Any = compute  # the stubs miss most of what a kernel accepts
TableName = tuple[str, str]
CATCH_UP = "Run `rowback capture --until-caught-up`, then ask again"
# DDL after which the rows under a table's name are others, or none.
_REPLACING = frozenset({"DROP TABLE", "DROP DATABASE", "TRUNCATE TABLE", "RENAME TABLE"})


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


def known_text(known_to_us: int | None, asked_at_us: int | None = None) -> str:
    """`known up to 2026-05-02 10:00:00 UTC`, with the capture's lag if the time of asking is given."""
    if known_to_us is None:
        return "nothing is known yet"
    text = f"known up to {moment_text(known_to_us)} UTC"
    if asked_at_us is None or asked_at_us <= known_to_us:
        return text
    return f"{text}; capture is {_duration((asked_at_us - known_to_us) // 1_000_000)} behind"


def _duration(seconds: int) -> str:
    for size, unit in ((172_800, 86_400), (7_200, 3_600), (120, 60)):
        if seconds >= size:
            return f"{seconds // unit} {'days' if unit == 86_400 else 'h' if unit == 3_600 else 'min'}"
    return f"{seconds} s"


def known_to(state: ArchiveState) -> int | None:
    """Up to when everything is known (microseconds, inclusive); None before the first checkpoint."""
    return state.checkpoint.covered_to_us if state.checkpoint else None


def refuse_unknown(state: ArchiveState, at_us: int | None, what: str, asked_at_us: int | None) -> None:
    """Raises TargetOutsideCoverage if a bound (`what` it does, `begins` or `ends`) lies after all that is known."""
    known = known_to(state)
    if at_us is not None and (known is None or at_us > known):
        raise TargetOutsideCoverage(
            f"the range {what} at {moment_text(at_us)} UTC, beyond the archive: {known_text(known, asked_at_us)}",
            hint=f"{CATCH_UP}; or choose a range that the archive covers (`rowback status`).",
        )


def _held(state: ArchiveState) -> str:
    if state.start is None or not state.last_seq:
        return "no transactions yet"
    begin = moment_text(state.start.covered_to_us)
    return f"transactions seq 1 to {state.last_seq}, from {begin} UTC on, {known_text(known_to(state))}"


def seqs_of(store: Store, state: ArchiveState, transactions: Sequence[str | int]) -> frozenset[int]:
    """The seqs of transactions given as GTIDs or seqs. Raises ConfigError for text that is no GTID and
    TargetOutsideCoverage for a transaction that the archive doesn't hold."""
    return frozenset(_seq_of(store, state, transaction) for transaction in transactions)


def _seq_of(store: Store, state: ArchiveState, transaction: str | int) -> int:
    if isinstance(transaction, str):
        if not is_gtid(transaction.strip()):
            raise ConfigError(
                f"`{transaction}` is neither a GTID nor a transaction's number",
                hint="`rowback changes` shows both, as `transaction` and `seq`.",
            )
        return seq_of_gtid(store, state, transaction)
    if not 1 <= transaction <= state.last_seq:
        raise TargetOutsideCoverage(
            f"transaction seq {transaction} is not in the archive, which holds {_held(state)}",
            hint=f"{CATCH_UP} if it is a newer one; `rowback changes` shows each change's seq.",
        )
    return transaction


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
        f"transaction `{gtid}` is not in the archive, which holds {_held(state)}",
        hint=f"{CATCH_UP} if it is a newer one; `rowback status` shows what is covered.",
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


def replaces_rows(ddl: Ddl) -> bool:
    """Whether the rows under a touched table's name are others afterwards, or none, without a row event: DROP, TRUNCATE,
    RENAME, CREATE OR REPLACE, an ALTER TABLE that names a second table (RENAME, EXCHANGE PARTITION), or that drops or
    empties partitions."""
    if ddl.verb in _REPLACING:
        return True
    if ddl.verb == "CREATE TABLE":
        return re.search(r"\bCREATE\s+OR\s+REPLACE\b", bare(ddl.statement), re.IGNORECASE) is not None
    if ddl.verb != "ALTER TABLE":
        return False
    emptied = re.search(r"\b(TRUNCATE|DROP)\s+PARTITION\b", ddl.statement, re.IGNORECASE) is not None
    return emptied or (ddl.tables is not None and len(ddl.tables) > 1)


def ddl_text(ddl: Ddl) -> str:
    return f"`{' '.join(ddl.statement.split())[:200]}` at seq {ddl.seq} ({moment_text(ddl.cut_at_us)} UTC)"


def unlogged_parents(state: ArchiveState, table: TableName, first: int, last: int) -> Sequence[TableName]:
    """Tables with deletes or updates in first..last whose foreign-key actions change this one, directly or through others,
    without row events in the binlog; as the snapshots know them. Sorted."""
    parents: dict[TableName, set[TableName]] = {}
    for snapshot in state.snapshots:
        for c in snapshot.cascades:
            parents.setdefault((c.db, c.table), set()).add((c.parent_db, c.parent_table))
    above: set[TableName] = set()
    todo = [table]
    while todo:
        new = parents.get(todo.pop(), set()) - above
        above |= new
        todo += new
    above.discard(table)
    return sorted(
        {(s.db, s.table) for s in state.segments if (s.db, s.table) in above and _may_cascade(s, first, last)}
    )


def _may_cascade(segment: Segment, first: int, last: int) -> bool:
    return segment.first_seq <= last and segment.last_seq >= first and segment.deletes + segment.updates > 0


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
