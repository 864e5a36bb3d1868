"""The change history of one table: which rows changed, how, when and in which transaction, with whole images.

The log's state chooses the segments (table, transaction range, key bounds); each is read verified, filtered in Arrow
and only then turned into objects, newest segment first where a limit allows to stop early. Nothing is written anywhere.

A key is compared by value and bytes, never by collation: `--key abc` doesn't find `ABC`.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import compute

from recovery.archive.actions import Segment
from recovery.archive.lookup import key_rows
from recovery.archive.segments import UPDATE_AFTER, UPDATE_BEFORE, read_segment
from recovery.archive.state import ArchiveState
from recovery.archive.store import Store
from recovery.errors import ConfigError, UnknownTable
from recovery.images import OPERATIONS, UPDATE, Change, materialise, pair
from recovery.literals import parse_value, text_of
from recovery.schema import TEXT_TYPES, Column, Table, arrow_type, table_of
from recovery.scope import uncaptured
from recovery.seqrange import (
    SeqRange,
    TableName,
    ddl_text,
    ddls_on,
    gaps_in,
    known_to,
    moment_text,
    parse_bound,
    refuse_unknown,
    replaces_rows,
    resolve,
    seqs_of,
    unlogged_parents,
)

pc: Any = compute  # the stubs miss most of what a kernel accepts


@dataclass(frozen=True)
class ChangeQuery:
    """Which changes of one table. All conditions hold together.

    key: values of the first key columns as text, in the key's order; a string is split at commas (CSV quoting) if
    the key has several columns. since, until: `parse_bound` texts, both inclusive. ops: of OPERATIONS; empty for all.
    transactions: GTIDs or seqs; empty for all. limit: at most this many, counted from the end that comes first.
    asked_at_us: the time now, to say how far behind the archive is; None: not said.
    """

    table: TableName
    key: tuple[str, ...] | str | None = None
    since: str | None = None
    until: str | None = None
    ops: tuple[str, ...] = ()
    transactions: tuple[str | int, ...] = ()
    limit: int | None = None
    newest_first: bool = True
    asked_at_us: int | None = None


@dataclass(frozen=True)
class ChangesResult:
    """changes: in the asked order. truncated: there are more than the limit. covered_from_us, known_to_us: what the
    archive covers (None: nothing yet). span: the transactions that were looked at. warnings: whole sentences."""

    query: ChangeQuery
    changes: tuple[Change, ...]
    truncated: bool
    span: SeqRange
    covered_from_us: int | None
    known_to_us: int | None
    warnings: tuple[str, ...] = ()


def changes(store: Store, state: ArchiveState, query: ChangeQuery) -> ChangesResult:
    """The changes that a query asks for.

    Raises UnknownTable with near matches, ConfigError for a key or bound that doesn't fit, TargetOutsideCoverage for an
    unknown transaction and a range that begins after all that is known, ArchiveDamaged for a segment that isn't what the
    log recorded.
    """
    check_query(state, query)
    span = span_of(store, state, query)
    refuse_unknown(state, span.since_us, "begins", query.asked_at_us)
    found: list[Change] = []
    truncated = False
    for change in _walk(store, state, query, span):
        if query.limit is not None and len(found) >= query.limit:
            truncated = True
            break
        found.append(change)
    return ChangesResult(
        query=query,
        changes=tuple(found),
        truncated=truncated,
        span=span,
        covered_from_us=state.start.covered_to_us if state.start else None,
        known_to_us=known_to(state),
        warnings=tuple(_warnings(state, query.table, span)),
    )


def check_query(state: ArchiveState, query: ChangeQuery) -> None:
    """Raises UnknownTable or ConfigError."""
    known = known_tables(state)
    if query.table not in known:
        labels = {f"{db}.{name}" for db, name in known}
        near = difflib.get_close_matches(".".join(query.table), sorted(labels), n=3, cutoff=0.5)
        hint = (
            f"Did you mean {' or '.join(f'`{n}`' for n in near)}?"
            if near
            else ("The archive holds no table of a name like that; names are case-sensitive.")
        )
        raise UnknownTable(f"table `{'.'.join(query.table)}` is not in the archive", hint=hint)
    if unknown := [op for op in query.ops if op not in OPERATIONS]:
        raise ConfigError(f"operation `{unknown[0]}` is unknown", hint=f"Use {', '.join(OPERATIONS)}.")
    if query.limit is not None and query.limit < 1:
        raise ConfigError(f"a limit of `{query.limit}` shows nothing", hint="Use 1 or more, or none.")
    if query.key is not None:
        definition = definition_of(state, query.table)
        canonical_key(definition, key_parts(query.key, definition))


def definition_of(state: ArchiveState, table: TableName) -> Table:
    """The newest definition that the archive has of a known table."""
    segments = [s for s in state.segments if (s.db, s.table) == table]
    if segments:
        return state.schemas[max(segments, key=lambda s: s.last_seq).schema_id]
    baselines = [b for snapshot in state.newest_first for b in snapshot.baselines if (b.db, b.table) == table]
    known = [b.definition for b in baselines if b.definition.columns]
    if known:
        return known[0]
    return [t for t in state.schemas.values() if (t.db, t.name) == table][-1]


def known_tables(state: ArchiveState) -> set[TableName]:
    """Every table with changes, a definition or a baseline in the archive."""
    tables = {(t.db, t.name) for t in state.schemas.values()} | {(s.db, s.table) for s in state.segments}
    return tables | {(b.db, b.table) for snapshot in state.snapshots for b in snapshot.baselines}


def span_of(store: Store, state: ArchiveState, query: ChangeQuery) -> SeqRange:
    since = None if query.since is None else parse_bound(query.since)
    until = None if query.until is None else parse_bound(query.until)
    return resolve(store, state, since, until)


def select(store: Store, state: ArchiveState, query: ChangeQuery, span: SeqRange) -> Iterator[Change]:
    """All changes of the query in the range, in its order, without its limit; one segment in memory at a time."""
    yield from _walk(store, state, query, span)


def _walk(store: Store, state: ArchiveState, query: ChangeQuery, span: SeqRange) -> Iterator[Change]:
    seqs = seqs_of(store, state, query.transactions) if query.transactions else None
    chosen = [s for s in segments_of(state, query.table, span.first, span.last) if _may_hold(state, s, query, seqs)]
    for group in _groups(chosen, newest_first=query.newest_first):
        found: list[Change] = []
        for segment in group:
            found += _in_segment(store, state, segment, query, span, seqs)
        found.sort(key=lambda c: c.place, reverse=query.newest_first)
        yield from found


def segments_of(state: ArchiveState, table: TableName, first: int, last: int) -> list[Segment]:
    """A table's change segments that may hold transactions first..last, ascending."""
    found = [s for s in state.segments if (s.db, s.table) == table and s.first_seq <= last and s.last_seq >= first]
    return sorted(found, key=lambda s: (s.first_seq, s.last_seq))


def _groups(segments: Sequence[Segment], *, newest_first: bool) -> Iterator[list[Segment]]:
    """Segments whose transactions overlap stand together (a definition that changed within a window, a transaction in
    parts); between groups seq only grows."""
    groups: list[list[Segment]] = []
    highest = 0
    for segment in segments:
        if groups and segment.first_seq <= highest:
            groups[-1].append(segment)
        else:
            groups.append([segment])
        highest = max(highest, segment.last_seq)
    yield from (reversed(groups) if newest_first else groups)


def _may_hold(state: ArchiveState, segment: Segment, query: ChangeQuery, seqs: frozenset[int] | None) -> bool:
    """Whether what the log says of the segment leaves it possible that it holds such a change."""
    if seqs is not None and not any(segment.first_seq <= s <= segment.last_seq for s in seqs):
        return False
    table = state.schemas.get(segment.schema_id)
    if query.key is None or table is None or segment.key_min is None or segment.key_max is None:
        return True
    column, text = table.column(table.key[0]), key_parts(query.key, table)[0]
    value, exact = _parsed(column, text)
    if exact is not None:
        value = text if column.type in TEXT_TYPES else None
    if isinstance(value, int):
        return int(segment.key_min) <= value <= int(segment.key_max)
    # Arrow orders text by its UTF-8 bytes.
    return not isinstance(value, str) or segment.key_min.encode() <= value.encode() <= segment.key_max.encode()


def _in_segment(
    store: Store,
    state: ArchiveState,
    segment: Segment,
    query: ChangeQuery,
    span: SeqRange,
    seqs: frozenset[int] | None,
) -> list[Change]:
    data = _rows_of_key(store, state, segment, query)
    if data is not None and not data.num_rows:
        return []  # most segments, when one key of many is asked for
    if data is None:
        data = read_segment(store, segment)
    table = table_of(data.schema)  # the definition that the values were decoded with
    mask = pc.and_(pc.greater_equal(data["_rb_seq"], span.first), pc.less_equal(data["_rb_seq"], span.last))
    if seqs is not None:
        mask = pc.and_(mask, pc.is_in(data["_rb_seq"], pa.array(sorted(seqs), pa.int64())))
    if query.ops:
        wanted = [op for op in query.ops if op != UPDATE]
        wanted += [UPDATE_BEFORE, UPDATE_AFTER] if UPDATE in query.ops else []
        mask = pc.and_(mask, pc.is_in(data["_rb_op"], pa.array(wanted, pa.string())))
    pairs = pair(data.filter(mask), table, segment.path)
    if query.key is None:
        return list(materialise(pairs, table))
    key = key_parts(query.key, table)
    wanted_key = canonical_key(table, key)
    found = materialise(pairs.filter(_key_mask(pairs, table, key)), table)
    return [c for c in found if any(k[: len(wanted_key)] == wanted_key for k in c.keys)]


def _rows_of_key(store: Store, state: ArchiveState, segment: Segment, query: ChangeQuery) -> pa.Table | None:
    """The segment's rows that may be of the query's key; None to read it whole: no key, or one that no single value
    stands for (exact values)."""
    table = state.schemas.get(segment.schema_id)
    if query.key is None or table is None:
        return None
    wanted: dict[str, pa.Scalar[Any]] = {}
    for name, text in zip(table.key, key_parts(query.key, table), strict=False):
        column = table.column(name)
        value, exact = _parsed(column, text)
        if value is not None and exact is None:
            wanted[column.archive_name] = pa.scalar(value, arrow_type(column, ""))
    return key_rows(store, segment, wanted) if wanted else None


def key_parts(key: tuple[str, ...] | str, table: Table) -> tuple[str, ...]:
    """The texts of the first key columns. Raises ConfigError if the table has no key or fewer columns in it."""
    if not table.key:
        raise ConfigError(
            f"table `{table.label}` has no primary key",
            hint="Leave the key out; narrow the range by time or transaction instead.",
        )
    if isinstance(key, str):
        key = (key,) if len(table.key) == 1 else tuple(next(csv.reader([key]), [key]))
    if not 0 < len(key) <= len(table.key):
        raise ConfigError(
            f"the key has {len(key)} values, the key of `{table.label}` has the columns {', '.join(table.key)}",
            hint="Give the first of them or all, separated by commas; put a value with a comma in double quotes.",
        )
    return key


def _parsed(column: Column, text: str) -> tuple[object, str | None]:
    try:
        value, exact = parse_value(column, text)
        if value is not None:
            pa.scalar(value, arrow_type(column, ""))
    except (ValueError, ArithmeticError, pa.ArrowInvalid) as error:
        raise ConfigError(
            f"`{text}` can't be a value of the key column `{column.name}` ({column.type})",
            hint="Write the value as SELECT prints it; binary as 0x and hex digits.",
        ) from error
    # The text of an ENUM's invalid value, '', may be a label; the archive has its index for it.
    return value, "0" if column.type == "enum" and exact is not None else exact


def canonical_key(table: Table, key: Sequence[str]) -> tuple[str | None, ...]:
    columns = [table.column(name) for name in table.key]
    return tuple(text_of(c, *_parsed(c, text)) for c, text in zip(columns, key, strict=False))


def _key_mask(pairs: pa.Table, table: Table, key: Sequence[str]) -> Any:
    """Rows of `images.pair` whose key may begin so, before or after: exact values are left to the caller."""
    masks = []
    for side in "ba":
        mask: Any = pc.greater_equal(pairs["_rb_seq"], 0)
        for name, text in zip(table.key, key, strict=False):
            at = [c.name for c in table.columns].index(name)
            column = table.columns[at]
            value, _ = _parsed(column, text)
            cells = pairs[f"{side}{at}"]
            same = pc.is_null(cells) if value is None else pc.equal(cells, pa.scalar(value, arrow_type(column, "")))
            if value is None and column.type in TEXT_TYPES:  # stored bytes, or a text that looks like them
                same = pc.or_(same, pc.fill_null(pc.equal(cells, text), False))
            mask = pc.and_(mask, pc.fill_null(same, False))
        masks.append(mask)
    return pc.or_(masks[0], masks[1])


def _warnings(state: ArchiveState, table: TableName, span: SeqRange) -> Iterator[str]:
    start, newest = state.start, state.checkpoint
    if start is None or newest is None:
        yield "The archive holds no changes yet."
        return
    if span.since_us is not None and span.since_us <= start.covered_to_us:
        yield f"The history begins after {moment_text(start.covered_to_us)} UTC."
    if span.until_us is not None and span.until_us > newest.covered_to_us:
        yield f"The history is known to {moment_text(newest.covered_to_us)} UTC so far."
    if uncaptured(state, table, span.first, span.last):
        yield "The capture filter left this table out for a part of the range: those changes are not known."
    for gap in gaps_in(state, span):
        yield f"Changes after transaction seq {gap.after_seq} were not captured: {gap.reason}."
    for ddl in ddls_on(state, table, span.first, span.last):
        if replaces_rows(ddl):
            yield f"Rows also came or went by {ddl_text(ddl)}, which logs no row changes."
    yield from cascade_warnings(state, table, span)


def cascade_warnings(state: ArchiveState, table: TableName, span: SeqRange) -> Iterator[str]:
    parents = unlogged_parents(state, table, span.first, span.last)
    if parents:
        names = ", ".join(".".join(parent) for parent in parents)
        yield (
            f"Foreign keys change or delete rows of this table with those of {names}, which has deletes or updates in the "
            "range, and the server doesn't log such changes: they are not known."
        )
