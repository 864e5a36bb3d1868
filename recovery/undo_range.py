"""Whether what an undo was asked for is known completely, and whether the table is still the one that the changes belong to.

Promises: a gap, a time outside coverage, or DDL on the table between the oldest and the newest selected change refuses;
so does later DDL after which other rows stand under the table's name. Other DDL after the selected changes, and DDL in an
explicitly given range before them, become warnings: a statement that no longer fits fails, and the script rolls back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from recovery.archive.actions import Ddl
from recovery.archive.state import ArchiveState
from recovery.changes import ChangeQuery
from recovery.errors import DdlInRange, TargetOutsideCoverage
from recovery.images import Change
from recovery.scope import uncaptured
from recovery.seqrange import (
    SeqRange,
    ddl_text,
    ddls_on,
    gaps_in,
    known_text,
    known_to,
    moment_text,
    refuse_unknown,
    replaces_rows,
)


def refuse_bounds(state: ArchiveState, query: ChangeQuery, span: SeqRange) -> None:
    """Raises TargetOutsideCoverage for a range that begins or ends beyond what is known."""
    if known_to(state) is None:
        raise TargetOutsideCoverage("the archive holds no changes yet", hint="Start `rowback capture` first.")
    refuse_unknown(state, span.since_us, "begins", query.asked_at_us)
    refuse_unknown(state, span.until_us, "ends", query.asked_at_us)


def asked_range(span: SeqRange, query: ChangeQuery, selected: Sequence[Change], seqs: frozenset[int]) -> SeqRange:
    """What must be known for the selection (newest first) to be complete: not what lies before it once the limit was
    reached, and only the named transactions."""
    if seqs:
        first, last = max(span.first, min(seqs)), min(span.last, max(seqs))
        return SeqRange(first, max(last, first - 1), since_exact=True, until_exact=True)
    if query.limit is not None and len(selected) >= query.limit:
        return replace(span, first=selected[-1].seq, since_us=None, since_exact=True)
    return span


def refuse_incomplete(state: ArchiveState, query: ChangeQuery, span: SeqRange) -> None:
    """Raises TargetOutsideCoverage for a range (`asked_range`) of which something isn't known."""
    label = ".".join(query.table)
    if uncaptured(state, query.table, span.first, span.last):
        raise TargetOutsideCoverage(
            f"`{label}` was left out by the capture filter for a part of the range",
            hint="Choose a range in which it was captured throughout.",
        )
    if gaps := gaps_in(state, span):
        raise TargetOutsideCoverage(
            f"changes after transaction seq {gaps[0].after_seq} were not captured ({gaps[0].reason}), inside the range",
            hint="Choose a range before or after the gap; `rowback status` shows what is covered.",
        )
    if state.start is not None and span.since_us is not None and span.since_us < state.start.covered_to_us:
        raise TargetOutsideCoverage(
            f"the range begins at {moment_text(span.since_us)} UTC, the archive after "
            f"{moment_text(state.start.covered_to_us)} UTC",
            hint="Begin the range later, or leave --since out to take everything that is known.",
        )


def refuse_ddl(state: ArchiveState, query: ChangeQuery, span: SeqRange, selected: Sequence[Change]) -> None:
    """Raises DdlInRange. span: of `asked_range`; it counts where nothing was selected. selected: newest first."""
    label = ".".join(query.table)
    if not selected:
        for ddl in ddls_on(state, query.table, span.first, span.last):
            if replaces_rows(ddl):
                raise DdlInRange(
                    f"no change of `{label}` matches, but rows came or went by {ddl_text(ddl)}, which logs no row changes",
                    hint="Restore the table to just before it: `rowback restore --before GTID`, or `--to` a time.",
                )
        return
    newest, oldest = selected[0], selected[-1]
    for ddl in ddls_on(state, query.table, oldest.seq, newest.seq):
        # CREATE TABLE .. SELECT is one transaction with its rows (MySQL manual, "Atomic Data Definition Statement
        # Support"), the statement first.
        if ddl.seq > oldest.seq or ddl.verb != "CREATE TABLE":
            raise DdlInRange(
                f"`{label}` may have been changed by {ddl_text(ddl)}, between the changes to undo",
                hint="Undo the changes after it with --since, those before it with --until, or restore the table.",
            )
    for ddl in ddls_on(state, query.table, newest.seq + 1, state.last_seq):
        if replaces_rows(ddl):
            raise DdlInRange(
                f"`{label}` holds other rows since {ddl_text(ddl)}, after the changes to undo",
                hint="Restore the table to a time before it; the rows under this name now aren't those that were changed.",
            )


def range_warnings(
    state: ArchiveState, query: ChangeQuery, span: SeqRange, selected: Sequence[Change]
) -> Iterator[str]:
    """Whole sentences about the range that was asked for. selected: newest first."""
    if not selected:
        yield (
            f"Nothing that is known matches; {known_text(known_to(state))} only. If it happened later, run "
            "`rowback capture --until-caught-up` and ask again."
        )
        return
    newest, oldest = selected[0], selected[-1]
    if query.since is not None:
        for ddl in _before(state, query, span, oldest):
            yield f"{ddl_text(ddl)} is in the range, before the changes to undo; it isn't taken back."
    for ddl in ddls_on(state, query.table, newest.seq + 1, state.last_seq):
        yield (
            f"The table may have been changed after the range, by {ddl_text(ddl)}; if a statement no longer fits, the "
            "script fails and rolls back."
        )


def _before(state: ArchiveState, query: ChangeQuery, span: SeqRange, oldest: Change) -> Sequence[Ddl]:
    return ddls_on(state, query.table, span.first, oldest.seq - 1)
