"""Which tables a restore is about: the user's patterns against what the usable snapshots hold.

A pattern is `db.table` with fnmatch's wildcards, compared with case; a table's literal name wins over the pattern that it
would be. Nothing is passed over in silence: a pattern without a match is UnknownTable with near names, and tables in scope
that a plan can't hold become warnings.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from recovery.archive.actions import Snapshot, Writer
from recovery.archive.state import ArchiveState
from recovery.config import wanted
from recovery.errors import UnknownTable

TableName = tuple[str, str]


def label(name: TableName) -> str:
    return f"{name[0]}.{name[1]}"


def uncaptured(state: ArchiveState, name: TableName, first_seq: int, last_seq: int) -> Writer | None:
    """The first writer whose filter left this table out while transactions of first_seq..last_seq passed; None if every
    change of the table in that range is in the archive."""
    ends = [*(w.after_seq for w in state.writers[1:]), state.last_seq]
    for writer, until in zip(state.writers, ends, strict=False):
        overlaps = max(first_seq, writer.after_seq + 1) <= min(last_seq, until)
        if overlaps and not wanted(writer.include, writer.exclude, *name):
            return writer
    return None


def choose(
    held: Collection[TableName], newest: Snapshot, snapshots: Iterable[Snapshot], patterns: Sequence[str]
) -> list[tuple[TableName, bool]]:
    """The tables to restore, sorted, each with whether the user named it without a wildcard.

    held: the tables of all usable snapshots, of which `newest` is the newest. snapshots: all there are, for the message.
    """
    if not patterns:
        return [(name, False) for name in sorted(held)]
    chosen: dict[TableName, bool] = {}
    for pattern in patterns:
        literal = [name for name in held if label(name) == pattern]
        matches = literal or [name for name in held if fnmatchcase(label(name), pattern)]
        if not matches:
            raise _unknown(held, newest, snapshots, pattern)
        for name in matches:
            chosen[name] = chosen.get(name, False) or bool(literal)
    return sorted(chosen.items())


def left_out(
    newest: Snapshot, planned: set[TableName], patterns: Sequence[str], changed: Iterable[TableName]
) -> list[str]:
    """Warnings for tables in scope that the plan doesn't hold. changed: the tables that the archive has changes of."""

    def wanted(name: TableName) -> bool:
        return name not in planned and (not patterns or any(fnmatchcase(label(name), p) for p in patterns))

    notes = [
        f"table `{db}.{table}` was left out of the snapshot: {why}"
        for db, table, why in newest.skipped
        if wanted((db, table))
    ]
    skipped = {(db, table) for db, table, _ in newest.skipped}
    held = {(b.db, b.table) for b in newest.baselines}
    notes.extend(
        f"table `{label(name)}` has changes in the archive but no snapshot that this target can use; it is left out"
        for name in sorted(changed)
        if wanted(name) and name not in skipped and name not in held
    )
    return notes


def _unknown(
    held: Collection[TableName], newest: Snapshot, snapshots: Iterable[Snapshot], pattern: str
) -> UnknownTable:
    for db, table, why in newest.skipped:
        if fnmatchcase(f"{db}.{table}", pattern):
            return UnknownTable(
                f"table `{db}.{table}` was left out of snapshot {newest.snapshot_id}: {why}",
                hint="Remove the reason and take a snapshot; the table can be restored to any later point.",
            )
    elsewhere = {(b.db, b.table) for s in snapshots for b in s.baselines}
    if any(fnmatchcase(label(name), pattern) for name in elsewhere):
        return UnknownTable(
            f"no snapshot that can serve this target holds table `{pattern}`; another one does",
            hint="Choose a later target, at or after the snapshot that holds it (`rowback status` lists them).",
        )
    near = difflib.get_close_matches(pattern, [label(name) for name in held], n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(f'`{n}`' for n in near)}?" if near else "`rowback status` lists the snapshots."
    return UnknownTable(f"no table of the archive matches `{pattern}`", hint=hint)
