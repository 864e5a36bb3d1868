"""Undo: the SQL that takes a range of changes to one table back, for a person to review and apply. Never applied here.

Promises:
- statements stand in strictly reverse order of (seq, ordinal), one for each change, and each is guarded: an INSERT is
  undone by a DELETE of exactly the row that it left, an UPDATE sets back only the columns that it changed, where the
  key and those columns still are as it left them, a DELETE by an INSERT of the row as it was;
- columns that can't be written because they are generated are checked after each statement, for what is known of them
  may be out of date: the row must be in them too what it was;
- whole script or nothing (recovery/undo_script.py);
- a range that isn't known completely (a gap, a capture that lags) or in which the table was changed by DDL is refused,
  never undone in part (recovery/undo_range.py);
- rows that changed again later are reported, with the transaction that did it.

It doesn't undo what triggers or foreign-key cascades did to other tables: those changes are in those tables' histories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from recovery.archive.segments import DELETE, INSERT
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.changes import ChangeQuery, cascade_warnings, check_query, select, span_of
from recovery.conflicts import Conflict, find_conflicts
from recovery.errors import NotComputable
from recovery.images import UPDATE, Change, Image
from recovery.literals import column_ref, guard, identifier, literal, needs_loose_mode, table_ref
from recovery.schema import Table
from recovery.seqrange import SeqRange, known_to, seqs_of
from recovery.tableinfo import TableInfo, table_info
from recovery.undo_range import asked_range, range_warnings, refuse_bounds, refuse_ddl, refuse_incomplete

# Counts the failed statements of the running script. Each statement asks for it to be 0, so that nothing more is
# changed after a failure, a deadlock's implicit rollback or a reconnect (the variable is NULL in a new session).
FAILED = "rowback_failed"
COUNTED = "rowback_rows"  # what the check of a statement counted
COUNTED_BEFORE = "rowback_before"  # the same before the statement, for a row that may have twins


@dataclass(frozen=True)
class UndoStatement:
    """One inverse statement and the change that it takes back. loose: it needs a sql_mode without strictness. unwritten:
    columns that the statement leaves to the server. check: where there are such, a condition for the row as it then must
    be; exactly one row (without a key: one more than before) must meet it."""

    expression: exp.Expression
    change: Change
    loose: bool = False
    unwritten: tuple[str, ...] = ()
    check: exp.Where | None = None


@dataclass(frozen=True)
class UndoneTransaction:
    seq: int
    gtid: str | None
    committed_at_us: int
    connection_id: int | None
    changes: int


@dataclass(frozen=True)
class UndoSummary:
    """inserts, updates, deletes: the changes that are taken back. transactions: newest first."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    transactions: tuple[UndoneTransaction, ...] = ()

    @property
    def changes(self) -> int:
        return self.inserts + self.updates + self.deletes


@dataclass(frozen=True)
class UndoScript:
    """statements: newest first. warnings: whole sentences. conflicts: rows changed again later. truncated: the query's
    limit left older changes out. known_to_us: everything up to then is known, nothing after it.
    `recovery.undo_script.script_sql` is the script as text."""

    query: ChangeQuery
    span: SeqRange
    statements: tuple[UndoStatement, ...]
    summary: UndoSummary
    warnings: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = field(default=())
    truncated: bool = False
    known_to_us: int | None = None


def undo(
    store: Store, state: ArchiveState, query: ChangeQuery, *, generated: frozenset[str] | None = None
) -> UndoScript:
    """The inverse of the changes that `query` selects (its order is ignored: undo is newest first).

    generated: the table's generated columns as read from the live server; None: those that the newest snapshot knows.
    Raises UnknownTable, ConfigError, ArchiveDamaged as `changes` does, DdlInRange if a DDL statement among the changes
    may have touched the table or a later one replaced its rows, TargetOutsideCoverage for an unknown transaction and a
    range that holds a gap, begins before the archive or goes beyond what is known, NotComputable for a system-versioned
    table and for bytes that no statement can store.
    """
    check_query(state, query)
    query = replace(query, newest_first=True)
    span = span_of(store, state, query)
    refuse_bounds(state, query, span)
    seqs = seqs_of(store, state, query.transactions)
    by_seq = replace(query, transactions=tuple(sorted(seqs)))
    selected = list(_limited(select(store, state, by_seq, span), query.limit))
    truncated = query.limit is not None and len(selected) > query.limit
    selected = selected[: query.limit]
    asked = asked_range(span, query, selected, seqs)
    refuse_incomplete(state, query, asked)
    refuse_ddl(state, query, asked, selected)
    info = table_info(state, query.table)
    if info.versioned:
        raise NotComputable(
            f"table `{'.'.join(query.table)}` is system-versioned: no statement changes its history, which is a part of it",
            hint="Restore it to before the change, or write what FOR SYSTEM_TIME AS OF shows back by hand.",
        )
    if generated is not None:
        info = replace(info, known=True, generated=generated)
    statements = tuple(statement_for(change, info) for change in selected)
    conflicts = find_conflicts(store, state, query.table, selected)
    return UndoScript(
        query=query,
        span=span,
        statements=statements,
        summary=_summary(selected),
        warnings=(
            *range_warnings(state, query, span, selected),
            *cascade_warnings(state, query.table, asked),
            *_warnings(info, statements),
        ),
        conflicts=conflicts,
        truncated=truncated,
        known_to_us=known_to(state),
    )


def statement_for(change: Change, info: TableInfo) -> UndoStatement:
    """The guarded inverse of one change."""
    generated = info.generated | {c.name for c in change.table.columns if c.generated}
    if change.op == DELETE:
        assert change.before is not None
        return _insert(change, change.before, generated, info.flavor)
    assert change.after is not None
    if change.op == INSERT:
        where = _where(change.after, _names(change.table))
        return UndoStatement(_limit(exp.Delete(this=_table(change), where=where), change.table), change)
    return _update(change, change.after, generated, info)


def _insert(change: Change, before: Image, generated: frozenset[str], flavor: str | None) -> UndoStatement:
    columns = [c for c in change.table.columns if c.name not in generated]
    values = [literal(c, *before.cell(c.name), flavor=flavor) for c in columns]
    # Not VALUES: the SELECT can ask for @rowback_failed.
    row = exp.Select(
        expressions=values,
        from_=exp.From(this=exp.Table(this=exp.Var(this="DUAL"))),
        where=exp.Where(this=_still_good()),
    )
    target = exp.Schema(this=_table(change), expressions=[identifier(c.name) for c in columns])
    loose = any(needs_loose_mode(c, before.cell(c.name)[1]) for c in columns)
    unwritten = tuple(c.name for c in change.table.columns if c.name in generated)
    return UndoStatement(exp.Insert(this=target, expression=row), change, loose, unwritten, _check(before, unwritten))


def _update(change: Change, after: Image, generated: frozenset[str], info: TableInfo) -> UndoStatement:
    assert change.before is not None
    table = change.table
    changed = [c for c in table.columns if c.name in change.changed]
    # Generated columns don't change alone, all columns being in the image: then they are no longer generated.
    reverted = [c for c in changed if c.name not in generated] or changed
    unwritten = tuple(c.name for c in changed if c not in reverted)
    sets = [_assign(c.name, literal(c, *change.before.cell(c.name), flavor=info.flavor)) for c in reverted]
    # A column that sets itself at each UPDATE keeps its value only if it is named (MySQL manual, "Automatic
    # Initialization and Updating for TIMESTAMP and DATETIME").
    for column in table.columns:
        if column.name in change.changed or column.name in generated:
            continue
        unknown = info.stale or not info.known
        if column.name in info.on_update or (unknown and column.type in ("timestamp", "datetime")):
            sets.append(_assign(column.name, column_ref(column.name)))
    names = {c.name for c in reverted} | set(table.key) if table.key else set(_names(table))
    where = _where(after, [c.name for c in table.columns if c.name in names])
    loose = any(needs_loose_mode(c, change.before.cell(c.name)[1]) for c in reverted)
    statement = exp.Update(this=_table(change), expressions=sets, where=where)
    return UndoStatement(_limit(statement, table), change, loose, unwritten, _check(change.before, unwritten))


def _names(table: Table) -> list[str]:
    """The columns of a whole-image guard. Both servers log generated columns, virtual ones too, with their values."""
    return [c.name for c in table.columns]


def _check(image: Image, unwritten: tuple[str, ...]) -> exp.Where | None:
    """The row by its key (by everything, without one) and by the columns that the statement doesn't write."""
    if not unwritten:
        return None
    return _where(image, dict.fromkeys((*image.table.key, *unwritten)) if image.table.key else _names(image.table))


def _where(image: Image, names: Iterable[str]) -> exp.Where:
    conditions: list[exp.Expression] = []
    for name in sorted(names, key=lambda n: n not in image.table.key):  # the key first: it is what a reader looks for
        column = image.table.columns[image.positions[name]]
        value, exact = image.cell(name)
        condition = guard(column, value, exact)
        if name in image.table.key and exact is None:
            plain = exp.NullSafeEQ(this=column_ref(name), expression=literal(column, value))
            if condition != plain:
                conditions.append(plain)  # for the index; the guard is stricter
        conditions.append(condition)
    return exp.Where(this=exp.and_(*conditions, _still_good(), copy=False))


def _still_good() -> exp.Expression:
    failed = exp.Parameter(this=exp.Var(this=FAILED))
    return exp.EQ(this=failed, expression=exp.Literal(this="0", is_string=False))


def _assign(name: str, value: exp.Expression) -> exp.Expression:
    return exp.EQ(this=column_ref(name), expression=value)


def _table(change: Change) -> exp.Table:
    return table_ref(change.table.db, change.table.name)


def _limit(statement: exp.Expression, table: Table) -> exp.Expression:
    """A row without a key may have equal twins; one of them is meant."""
    if not table.key:
        statement.set("limit", exp.Limit(expression=exp.Literal(this="1", is_string=False)))
    return statement


def _limited(changes: Iterator[Change], limit: int | None) -> Iterator[Change]:
    for number, change in enumerate(changes):
        yield change
        if limit is not None and number >= limit:
            return


def _summary(undone: Sequence[Change]) -> UndoSummary:
    counts = Counter(change.op for change in undone)
    per_seq = Counter(change.seq for change in undone)
    firsts = {change.seq: change for change in undone}
    transactions = tuple(
        UndoneTransaction(seq, firsts[seq].gtid, firsts[seq].committed_at_us, firsts[seq].connection_id, number)
        for seq, number in per_seq.items()
    )
    return UndoSummary(counts[INSERT], counts[UPDATE], counts[DELETE], transactions)


def _warnings(info: TableInfo, statements: Sequence[UndoStatement]) -> Iterator[str]:
    if not info.known and statements:
        yield (
            "No snapshot holds this table, so generated columns are not known; if it has some, the script fails and "
            "rolls back."
        )
    if info.stale and statements:
        yield (
            "The table was changed by DDL after its newest snapshot: which columns are generated is known as capture saw "
            "them; if that is wrong, the script fails and rolls back."
        )
    if info.engine is not None and info.engine.lower() not in ("innodb", "rocksdb", "ndbcluster"):
        yield f"The table's engine {info.engine} has no transactions: a script that fails midway can't be rolled back."
    deletes = any(s.change.op == INSERT for s in statements)
    keys = any(s.change.op == UPDATE and set(s.change.changed).intersection(s.change.table.key) for s in statements)
    for label, action in info.referencing:
        if (deletes and action.startswith("ON DELETE")) or (keys and action.startswith("ON UPDATE")):
            yield f"Rows of {label} that refer to the undone rows change with them ({action})."
