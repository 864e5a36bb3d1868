"""The forward script: every change between the snapshots and the cut as one SQL statement, in the order in which it
happened.

Promises: transactions stand in the order of seq, each between START TRANSACTION and COMMIT with its GTID and time as a
comment, its statements in the order of ordinals; a DDL statement stands in its place. An UPDATE sets the changed columns
and a DELETE takes one row, found by its exact key, or by all columns with LIMIT 1 in a table without one. Literals and
conditions are recovery/literals.py's: the same under every sql_mode. Columns that the server would set by itself are
named.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa
from pyarrow import compute
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from recovery.archive.actions import Ddl, Segment
from recovery.archive.segments import DELETE, INSERT, read_segment
from recovery.archive.store import Store
from recovery.errors import NotComputable
from recovery.images import Change, Image, materialise, pair
from recovery.literals import DIALECT, column_ref, guard, identifier, literal, table_ref
from recovery.output.story import Story
from recovery.quoting import quote
from recovery.schema import Column, table_of
from recovery.scope import TableName
from recovery.seqrange import moment_text
from recovery.statement_settings import as_statements
from recovery.undo_script import comment

pc: Any = compute
_DDL: Final = -1  # stands before the rows of its transaction (CREATE TABLE .. SELECT)


@dataclass(frozen=True)
class Event:
    """A change or a DDL statement (then text), at its place."""

    seq: int
    ordinal: int
    table: TableName
    change: Change | None = None
    ddl: Ddl | None = None
    text: str = ""
    generated: frozenset[str] = frozenset()


def events(store: Store, stories: Mapping[TableName, Story]) -> Iterator[Event]:
    """In the order of (seq, ordinal). Memory holds the segments that overlap. Raises ArchiveDamaged."""
    waiting = sorted(_segments(stories), key=lambda w: w.first_seq)
    heap: list[tuple[tuple[int, int], int, Event, Iterator[Event]]] = []
    opened = count = 0
    statements = _statements(stories)
    for number, ddl_events in enumerate(statements):
        _push(heap, -1 - number, ddl_events)
    while heap or opened < len(waiting):
        if opened < len(waiting) and (not heap or waiting[opened].first_seq <= heap[0][0][0]):
            count += 1
            _push(heap, count, _changes(store, waiting[opened]))
            opened += 1
            continue
        _, number, event, rest = heapq.heappop(heap)
        yield event
        _push(heap, number, rest)


def _push(heap: list[tuple[tuple[int, int], int, Event, Iterator[Event]]], number: int, rest: Iterator[Event]) -> None:
    event = next(rest, None)
    if event is not None:
        heapq.heappush(heap, ((event.seq, event.ordinal), number, event, rest))


@dataclass(frozen=True)
class _Waiting:
    """A segment to open once the story comes to it: rows in (low_seq, high_seq] count."""

    first_seq: int
    table: TableName
    segment: Segment
    low_seq: int
    high_seq: int
    generated: frozenset[str]


def _segments(stories: Mapping[TableName, Story]) -> Iterator[_Waiting]:
    for name, story in stories.items():
        for stage in story.stages:
            low = max(stage.low_seq, story.base_seq)
            generated = frozenset(c.name for c in stage.definition.columns if c.generated)
            for segment in dict.fromkeys(stage.segments):
                if segment.last_seq > low and segment.first_seq <= stage.high_seq:
                    yield _Waiting(max(segment.first_seq, low + 1), name, segment, low, stage.high_seq, generated)


def _statements(stories: Mapping[TableName, Story]) -> list[Iterator[Event]]:
    return [
        iter([Event(ddl.seq, _DDL, name, ddl=ddl, text=text) for ddl, text in story.statements])
        for name, story in stories.items()
    ]


def _changes(store: Store, of: _Waiting) -> Iterator[Event]:
    data = read_segment(store, of.segment)
    mask = pc.and_(pc.greater(data["_rb_seq"], of.low_seq), pc.less_equal(data["_rb_seq"], of.high_seq))
    table = table_of(data.schema)
    pairs: pa.Table = pair(data.filter(mask), table, of.segment.path)
    generated = of.generated | {c.name for c in table.columns if c.generated}
    for change in materialise(pairs, table):
        yield Event(change.seq, change.ordinal, of.table, change, generated=generated)


# --- statements -------------------------------------------------------------------------------------------------------


def statement(event: Event, flavor: str | None) -> exp.Expression | None:
    """The change again, on the table's name at the cut; None for one that changed nothing that can be written. Raises
    NotComputable for bytes that no statement can store."""
    change = event.change
    assert change is not None
    columns = [c for c in change.table.columns if c.name not in event.generated]
    target = table_ref(*event.table)
    if change.op == INSERT:
        assert change.after is not None
        values = [literal(c, *change.after.cell(c.name), flavor=flavor) for c in columns]
        into = exp.Schema(this=target, expressions=[identifier(c.name) for c in columns])
        return exp.Insert(this=into, expression=exp.Values(expressions=[exp.Tuple(expressions=values)]))
    assert change.before is not None
    where = _where(change.before, event.generated)
    if change.op == DELETE:
        return _limited(exp.Delete(this=target, where=where), change)
    assert change.after is not None
    sets = [
        _assign(c.name, literal(c, *change.after.cell(c.name), flavor=flavor))
        for c in columns
        if c.name in change.changed
    ]
    if not sets:
        return None
    # A column that sets itself at each UPDATE keeps its value only if it is named (MySQL manual, "Automatic
    # Initialization and Updating for TIMESTAMP and DATETIME").
    sets += [
        _assign(c.name, column_ref(c.name))
        for c in columns
        if c.type in ("timestamp", "datetime") and c.name not in change.changed
    ]
    return _limited(exp.Update(this=target, expressions=sets, where=where), change)


def _where(before: Image, generated: frozenset[str]) -> exp.Where:
    """The row by its key, or by all columns without one. Generated columns are as the server computes them."""
    table = before.table
    wanted = [table.column(name) for name in table.key] or [c for c in table.columns if c.name not in generated]
    return exp.Where(this=exp.and_(*(c for column in wanted for c in _conditions(column, before)), copy=False))


def _conditions(column: Column, before: Image) -> Iterator[exp.Expression]:
    value, exact = before.cell(column.name)
    condition = guard(column, value, exact)
    if exact is None and value is not None:
        plain = exp.NullSafeEQ(this=column_ref(column.name), expression=literal(column, value))
        if condition != plain and column.name in before.table.key:
            yield plain  # for the index; the guard is stricter
    yield condition


def _assign(name: str, value: exp.Expression) -> exp.Expression:
    return exp.EQ(this=column_ref(name), expression=value)


def _limited(statement: exp.Expression, change: Change) -> exp.Expression:
    """A row without a key may have equal twins; one of them is meant."""
    if not change.table.key:
        statement.set("limit", exp.Limit(expression=exp.Literal(this="1", is_string=False)))
    return statement


# --- text -------------------------------------------------------------------------------------------------------------


def blocks(found: Iterable[Event], flavor: str | None) -> Iterator[tuple[str, int]]:
    """(text, number of changes) of each transaction and each DDL statement. Raises NotComputable."""
    # One generator, and no copies: the trees are only read.
    sql = partial(Dialect.get_or_raise(DIALECT).generator().generate, copy=False)
    lines: list[str] = []
    seq, changes = None, 0
    for event in found:
        if event.seq != seq or event.ddl is not None:
            if lines:
                yield _transaction(lines), changes
            lines, changes = [], 0
            seq = event.seq
        if event.ddl is not None:
            yield _ddl(event), 0
            continue
        assert event.change is not None
        if not lines:
            lines = [_head(event.change)]
        lines.append(_text(event, flavor, sql))
        changes += 1
    if lines:
        yield _transaction(lines), changes


def _text(event: Event, flavor: str | None, sql: Callable[[exp.Expression], str]) -> str:
    try:
        found = statement(event, flavor)
    except NotComputable as error:
        raise NotComputable(f"table `{'.'.join(event.table)}`: {error.message}", hint=error.hint) from error
    if found is None:
        return comment(f"an update of {quote(*event.table)} that changed no stored column")
    return f"{sql(found)};"


def _transaction(lines: Sequence[str]) -> str:
    head, *rest = lines
    return "\n".join([head, "START TRANSACTION;", *rest, "COMMIT;", "", ""])


def _head(change: Change) -> str:
    gtid = f", GTID {change.gtid}" if change.gtid else ""
    return comment(f"transaction seq {change.seq}{gtid}, committed {moment_text(change.committed_at_us)} UTC")


def _ddl(event: Event) -> str:
    ddl = event.ddl
    assert ddl is not None
    gtid = f", GTID {ddl.gtid}" if ddl.gtid else ""
    head = comment(
        f"DDL of transaction seq {ddl.seq}{gtid}, {moment_text(ddl.cut_at_us)} UTC, at {ddl.file}:{ddl.position}"
    )
    body = "".join(f"{text};\n" for text in as_statements(event.text))
    return f"{head}\nUSE {quote(event.table[0])};\n{body}\n"
