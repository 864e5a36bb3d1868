"""Undo: the SQL that takes a range of changes to one table back, for a person to review and apply. Never applied here.

Promises:
- statements stand in strictly reverse order of (seq, ordinal), one for each change, and each is guarded: an INSERT is
  undone by a DELETE of exactly the row that it left, an UPDATE sets back only the columns that it changed, where the
  key and those columns still are as it left them, a DELETE by an INSERT of the row as it was;
- whole script or nothing (recovery/undo_script.py);
- a range that isn't known completely (a gap) or holds DDL on the table is refused, never undone in part;
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
from recovery.changes import ChangeQuery, check_query, select, span_of
from recovery.conflicts import Conflict, find_conflicts
from recovery.errors import DdlInRange, TargetOutsideCoverage
from recovery.images import UPDATE, Change, Image
from recovery.literals import column_ref, guard, identifier, literal, needs_loose_mode, table_ref
from recovery.schema import Table
from recovery.scope import uncaptured
from recovery.seqrange import SeqRange, ddls_on, gaps_in, moment_text
from recovery.tableinfo import TableInfo, table_info

# Counts the failed statements of the running script. Each statement asks for it to be 0, so that nothing more is
# changed after a failure, a deadlock's implicit rollback or a reconnect (the variable is NULL in a new session).
FAILED = "rowback_failed"


@dataclass(frozen=True)
class UndoStatement:
    """One inverse statement and the change that it takes back. loose: it needs a sql_mode without strictness."""

    expression: exp.Expression
    change: Change
    loose: bool = False


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
    limit left older changes out. `recovery.undo_script.script_sql` is the script as text."""

    query: ChangeQuery
    span: SeqRange
    statements: tuple[UndoStatement, ...]
    summary: UndoSummary
    warnings: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = field(default=())
    truncated: bool = False


def undo(
    store: Store, state: ArchiveState, query: ChangeQuery, *, generated: frozenset[str] | None = None
) -> UndoScript:
    """The inverse of the changes that `query` selects (its order is ignored: undo is newest first).

    generated: the table's generated columns as read from the live server; None: those that the newest snapshot knows.
    Raises UnknownTable, ConfigError, ArchiveDamaged as `changes` does, DdlInRange if a DDL statement in the range may
    have touched the table, TargetOutsideCoverage if the range holds a gap or begins before the archive.
    """
    check_query(state, query)
    query = replace(query, newest_first=True)
    span = span_of(store, state, query)
    _refuse_incomplete(state, query, span)
    selected = list(_limited(select(store, state, query, span), query.limit))
    truncated = query.limit is not None and len(selected) > query.limit
    selected = selected[: query.limit]
    info = table_info(state, query.table)
    if generated is not None:
        info = replace(info, known=True, generated=generated)
    built = [(change, statement_for(change, info)) for change in selected]
    statements = tuple(s for _, s in built if s is not None)
    conflicts = find_conflicts(store, state, query.table, selected)
    return UndoScript(
        query=query,
        span=span,
        statements=statements,
        summary=_summary([s.change for s in statements]),
        warnings=tuple(_warnings(state, query, span, info, statements, len(built))),
        conflicts=conflicts,
        truncated=truncated,
    )


def statement_for(change: Change, info: TableInfo) -> UndoStatement | None:
    """The guarded inverse of one change; None for an update that changed only generated columns."""
    generated = info.generated | {c.name for c in change.table.columns if c.generated}
    if change.op == DELETE:
        assert change.before is not None
        return _insert(change, change.before, generated)
    assert change.after is not None
    if change.op == INSERT:
        where = _where(change.after, _guarded(change.table, generated))
        return UndoStatement(_limit(exp.Delete(this=_table(change), where=where), change.table), change)
    return _update(change, change.after, generated, info)


def _insert(change: Change, before: Image, generated: frozenset[str]) -> UndoStatement:
    columns = [c for c in change.table.columns if c.name not in generated]
    values = [literal(c, *before.cell(c.name)) for c in columns]
    # Not VALUES: the SELECT can ask for @rowback_failed.
    row = exp.Select(
        expressions=values,
        from_=exp.From(this=exp.Table(this=exp.Var(this="DUAL"))),
        where=exp.Where(this=_still_good()),
    )
    target = exp.Schema(this=_table(change), expressions=[identifier(c.name) for c in columns])
    loose = any(needs_loose_mode(c, before.cell(c.name)[1]) for c in columns)
    return UndoStatement(exp.Insert(this=target, expression=row), change, loose)


def _update(change: Change, after: Image, generated: frozenset[str], info: TableInfo) -> UndoStatement | None:
    assert change.before is not None
    table = change.table
    reverted = [c for c in table.columns if c.name in change.changed and c.name not in generated]
    if not reverted:
        return None
    sets = [_assign(c.name, literal(c, *change.before.cell(c.name))) for c in reverted]
    # A column that sets itself at each UPDATE keeps its value only if it is named (MySQL manual, "Automatic
    # Initialization and Updating for TIMESTAMP and DATETIME").
    for column in table.columns:
        if column.name in change.changed or column.name in generated:
            continue
        if column.name in info.on_update or (not info.known and column.type in ("timestamp", "datetime")):
            sets.append(_assign(column.name, column_ref(column.name)))
    names = {c.name for c in reverted} | set(table.key) if table.key else set(_guarded(table, generated))
    where = _where(after, [c.name for c in table.columns if c.name in names])
    loose = any(needs_loose_mode(c, change.before.cell(c.name)[1]) for c in reverted)
    statement = exp.Update(this=_table(change), expressions=sets, where=where)
    return UndoStatement(_limit(statement, table), change, loose)


def _guarded(table: Table, generated: frozenset[str]) -> list[str]:
    """The columns of a whole-image guard: generated ones follow from the others."""
    return [c.name for c in table.columns if c.name not in generated or c.name in table.key]


def _where(image: Image, names: Iterable[str]) -> exp.Where:
    conditions: list[exp.Expression] = []
    for name in sorted(names, key=lambda n: n not in image.table.key):  # the key first: it is what a reader looks for
        column = image.table.columns[image.positions[name]]
        value, exact = image.cell(name)
        condition = guard(column, value, exact)
        plain = exp.NullSafeEQ(this=column_ref(name), expression=literal(column, value, exact))
        if name in image.table.key and condition != plain:
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


def _refuse_incomplete(state: ArchiveState, query: ChangeQuery, span: SeqRange) -> None:
    label = ".".join(query.table)
    if ddls := ddls_on(state, query.table, span.first, span.last):
        ddl = ddls[0]
        raise DdlInRange(
            f"`{label}` may have been changed by `{_one_line(ddl.statement)}` at seq {ddl.seq} "
            f"({moment_text(ddl.cut_at_us)} UTC), inside the range",
            hint="Undo the changes after it with --since, those before it with --until, or restore the table.",
        )
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
    newest = state.checkpoint.covered_to_us if state.checkpoint else 0
    if span.until_us is not None and span.until_us > newest:
        raise TargetOutsideCoverage(
            f"the range ends at {moment_text(span.until_us)} UTC, the archive knows all to {moment_text(newest)} UTC",
            hint="Wait for the capture, or leave --until out to take everything that is known.",
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _summary(undone: Sequence[Change]) -> UndoSummary:
    counts = Counter(change.op for change in undone)
    per_seq = Counter(change.seq for change in undone)
    firsts = {change.seq: change for change in undone}
    transactions = tuple(
        UndoneTransaction(seq, firsts[seq].gtid, firsts[seq].committed_at_us, firsts[seq].connection_id, number)
        for seq, number in per_seq.items()
    )
    return UndoSummary(counts[INSERT], counts[UPDATE], counts[DELETE], transactions)


def _warnings(
    state: ArchiveState,
    query: ChangeQuery,
    span: SeqRange,
    info: TableInfo,
    statements: Sequence[UndoStatement],
    selected: int,
) -> Iterator[str]:
    if len(statements) < selected:
        yield f"{selected - len(statements)} updates changed only generated columns; they need no statement."
    for ddl in ddls_on(state, query.table, span.last + 1, state.last_seq):
        yield f"The table may have been changed after the range, by {_one_line(ddl.statement)} (seq {ddl.seq})."
    if not info.known and statements:
        yield (
            "No snapshot holds this table, so generated columns are not known; if it has some, the script fails and "
            "rolls back."
        )
    if info.engine is not None and info.engine.lower() not in ("innodb", "rocksdb", "ndbcluster"):
        yield f"The table's engine {info.engine} has no transactions: a script that fails midway can't be rolled back."
    deletes = any(s.change.op == INSERT for s in statements)
    keys = any(s.change.op == UPDATE and set(s.change.changed).intersection(s.change.table.key) for s in statements)
    for label, action in info.referencing:
        if (deletes and action.startswith("ON DELETE")) or (keys and action.startswith("ON UPDATE")):
            yield f"Rows of {label} that refer to the undone rows change with them ({action})."
