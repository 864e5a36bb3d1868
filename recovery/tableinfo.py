"""What a change segment can't know of its table and a snapshot's SHOW CREATE TABLE does: generated columns, columns
that update themselves, the engine, foreign keys that point at it. Read with regular expressions from the server's own,
normalised output, after its string literals are blanked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from recovery.archive.actions import Snapshot
from recovery.archive.state import ArchiveState
from recovery.gtid import binlog_order
from recovery.seqrange import TableName, ddls_on

_STRING = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_NAME = r"`((?:[^`]|``)+)`"
_COLUMN = re.compile(rf"^\s+{_NAME}\s+(.*)$", re.MULTILINE)
_GENERATED = re.compile(r"\bGENERATED ALWAYS AS\b|\bAS \(.*\) (?:VIRTUAL|STORED|PERSISTENT)\b", re.IGNORECASE)
_ON_UPDATE = re.compile(r"\bON UPDATE (?:CURRENT_TIMESTAMP|NOW)", re.IGNORECASE)
_ENGINE = re.compile(r"\)\s*ENGINE=(\w+)", re.IGNORECASE)
_REFERENCE = re.compile(rf"REFERENCES (?:{_NAME}\.)?{_NAME} \(.*?\)(.*)$", re.MULTILINE)
_ACTION = re.compile(r"ON (DELETE|UPDATE) (CASCADE|SET NULL|SET DEFAULT)", re.IGNORECASE)


@dataclass(frozen=True)
class TableInfo:
    """known: whether a snapshot holds the table; without one the rest is empty, but for the source's flavor ("mysql",
    "mariadb"). stale: a DDL statement after that snapshot may have changed the table; then generated and on_update are
    empty. generated: columns that can't be written. on_update: columns that the server sets by itself at each UPDATE.
    referencing: (table label, "ON DELETE CASCADE") of the foreign keys that point at it with an action. versioned: MariaDB
    keeps its history in it."""

    known: bool = False
    stale: bool = False
    generated: frozenset[str] = frozenset()
    on_update: frozenset[str] = frozenset()
    engine: str | None = None
    referencing: tuple[tuple[str, str], ...] = ()
    flavor: str | None = None
    versioned: bool = False


def table_info(state: ArchiveState, table: TableName) -> TableInfo:
    """From the newest snapshot that holds the table."""
    # A synthetic one may have the user's CREATE TABLE, which doesn't say all: only where the server's own isn't there.
    taken = sorted(state.newest_first, key=lambda s: s.synthetic is not None)
    held = ((s, b) for s in taken for b in s.baselines if (b.db, b.table) == table)
    snapshot, baseline = next(held, (None, None))
    flavor = state.identity.flavor if state.identity else None
    if snapshot is None or baseline is None:
        return TableInfo(flavor=flavor)
    stale = snapshot.synthetic is not None or _changed_since(state, table, snapshot)
    text = _STRING.sub("''", baseline.create_statement)
    columns = [(m.group(1).replace("``", "`"), m.group(2)) for m in _COLUMN.finditer(text)]
    engine = _ENGINE.search(text)
    marked = {c.name for c in baseline.definition.columns if c.generated}
    return TableInfo(
        known=True,
        stale=stale,
        generated=frozenset(() if stale else marked | {name for name, rest in columns if _GENERATED.search(rest)}),
        on_update=frozenset(() if stale else {name for name, rest in columns if _ON_UPDATE.search(rest)}),
        engine=engine.group(1) if engine else None,
        referencing=tuple(_referencing(state, table)),
        flavor=flavor,
        versioned=system_versioned(baseline.create_statement),
    )


def system_versioned(create_statement: str) -> bool:
    """Whether MariaDB keeps the table's history (WITH SYSTEM VERSIONING)."""
    return re.search(r"\bWITH SYSTEM VERSIONING\b", _STRING.sub("''", create_statement)) is not None


def _changed_since(state: ArchiveState, table: TableName, snapshot: Snapshot) -> bool:
    low = (snapshot.lineage, binlog_order(snapshot.low.file, snapshot.low.position))
    return any(
        (state.lineage_of(d.seq), binlog_order(d.file, d.position)) >= low
        for d in ddls_on(state, table, 1, state.last_seq)
    )


def _referencing(state: ArchiveState, table: TableName) -> list[tuple[str, str]]:
    taken = sorted(state.snapshots, key=lambda s: s.synthetic is None)
    newest = {(b.db, b.table): b for snapshot in taken for b in snapshot.baselines}
    found = []
    for (db, name), baseline in newest.items():
        for match in _REFERENCE.finditer(_STRING.sub("''", baseline.create_statement)):
            parent_db = (match.group(1) or db).replace("``", "`")
            if (parent_db, match.group(2).replace("``", "`")) == table:
                found += [(f"{db}.{name}", f"ON {m.group(1)} {m.group(2)}") for m in _ACTION.finditer(match.group(3))]
    return found
