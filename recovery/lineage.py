"""Where the tables at a cut come from: the DDL statements after a snapshot, played through on names and definitions.

A table at the cut has a lineage: the baseline whose rows it starts with (or none, if it was created or truncated since), the
names under which its changes were logged one after the other, and the statements that lead from its CREATE to its
definition at the cut. `follow` is pure and never guesses: a statement that it can't follow is recorded on the tables that it
may touch, and whoever needs one of them refuses it with that statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile
from typing import Final

from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from recovery.alter import (
    AddPartitions,
    EmptyPartitions,
    Operation,
    RemoveRows,
    RenameTable,
    ReorganizePartitions,
    Repartition,
    Unknown,
    parse_alter,
    renamed,
)
from recovery.archive.actions import Baseline, Ddl
from recovery.autoincrement import declared
from recovery.ddl import TableName
from recovery.partitions import NotFolded, Partitioning, dropped, partitioning_of, reorganized, rows_of
from recovery.quoting import quote
from recovery.sqlscan import bare, scan
from recovery.statement_settings import implicitly
from recovery.tokens import keyword, says, tokens_of


@dataclass(frozen=True)
class Step:
    """A statement that changed the table's definition, and what it does to rows. It is run again on the restored table.
    held: it comes with the baseline, written for the table's name there; applied: the baseline's rows have passed it."""

    ddl: Ddl
    operations: tuple[Operation, ...]
    held: bool = False
    applied: bool = False


@dataclass(frozen=True)
class Span:
    """Changes in (low_seq, high_seq] were logged under this name; steps: what had changed the definition since the span
    before."""

    name: TableName
    low_seq: int
    high_seq: int
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Create:
    """How a table came into being: its CREATE TABLE statement, run with this default database. ddl: None if it is the
    server's own text in a snapshot. copied: each CREATE TABLE .. LIKE that copied the definition as it was then."""

    statement: str
    default_db: str
    ddl: Ddl | None = None
    copied: tuple[Ddl, ...] = ()


@dataclass(frozen=True)
class Obstacle:
    """A statement that can't be followed, and why."""

    ddl: Ddl
    why: str


@dataclass(frozen=True)
class Lineage:
    """Of one table at the cut. baseline: whose rows come first; None if it began empty. program: the statements behind
    CREATE, in order. obstacle: the first one that can't be followed."""

    name: TableName
    create: Create
    baseline: Baseline | None
    spans: tuple[Span, ...]
    program: tuple[Step, ...]
    obstacle: Obstacle | None = None


@dataclass
class _Live:
    """A table while the statements are played through. `since`: the seq behind which its current span begins."""

    create: Create
    baseline: Baseline | None
    since: int
    spans: list[Span] = field(default_factory=list)
    program: list[Step] = field(default_factory=list)
    waiting: list[Step] = field(default_factory=list)  # since the last span
    obstacle: Obstacle | None = None

    def close(self, name: TableName, seq: int) -> None:
        """End the current span in front of transaction `seq`."""
        self.spans.append(Span(name, self.since, seq - 1, tuple(self.waiting)))
        self.waiting = []
        self.since = seq


def follow(
    baselines: Mapping[TableName, Baseline],
    low_seq: int,
    ddls: Iterable[Ddl],
    cut_seq: int,
    existed: Callable[[TableName, int], bool] = lambda name, seq: False,
) -> dict[TableName, Lineage]:
    """The tables that exist at the cut, with their lineages.

    baselines: of one snapshot, whose state is that after transaction `low_seq`. ddls: in order; those in
    (low_seq, cut_seq] are played. existed: whether a table may have been there in front of a transaction though the snapshot
    doesn't have it: MySQL logs a CREATE TABLE IF NOT EXISTS that did nothing.
    """
    catalog = {name: _begun(b, low_seq) for name, b in baselines.items()}
    seen = set(catalog)  # whether they are there is known from here on
    for ddl in ddls:
        if low_seq < ddl.seq <= cut_seq and ddl.tables != ():
            _play(catalog, ddl)
            for name in {*(ddl.tables or ())} - seen:
                seen.add(name)
                if _made_if_absent(catalog, name, ddl) and existed(name, ddl.seq):
                    _block(catalog[name], ddl, "whether the table was there before it isn't known")
    result = {}
    for name, live in catalog.items():
        live.close(name, cut_seq + 1)
        result[name] = Lineage(
            name=name,
            create=live.create,
            baseline=live.baseline,
            spans=tuple(s for s in live.spans if s.low_seq < s.high_seq or s.steps),
            program=tuple(live.program),
            obstacle=live.obstacle,
        )
    return result


def _begun(baseline: Baseline, low_seq: int) -> _Live:
    """A table as its snapshot has it. One without columns has no rows, and was never seen with any: it begins empty."""
    steps = [
        Step(
            ddl,
            parse_alter(ddl.statement, ddl.default_db) if ddl.verb == "ALTER TABLE" else (),
            held=True,
            applied=number < baseline.applied,
        )
        for number, ddl in enumerate(baseline.program)
    ]
    return _Live(
        Create(baseline.create_statement, baseline.db),
        baseline if baseline.definition.columns else None,
        low_seq,
        program=steps,
        waiting=[s for s in steps if not s.applied],
    )


def _play(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    if ddl.tables is None:
        for live in catalog.values():
            _block(live, ddl, "which tables it touches isn't known")
        return
    try:
        _check_spelling(catalog, ddl)
        _PLAYERS.get(ddl.verb, _unknown)(catalog, ddl)
    except (SqlglotError, IndexError, ValueError, _NotFollowed) as error:
        # A table may be this statement's: not to be missing without a word.
        if ddl.verb == "CREATE TABLE" or _CONVERT.search(ddl.statement):
            for name in ddl.tables:
                catalog.setdefault(name, _Live(Create(ddl.statement, ddl.default_db, ddl), None, ddl.seq - 1))
        for name in _touched(catalog, ddl):
            _block(catalog[name], ddl, str(error) if isinstance(error, _NotFollowed) else "it can't be parsed")


_CONVERT: Final = re.compile(r"\bCONVERT\s+PARTITION\b", re.IGNORECASE)  # MariaDB makes a table of one


_SEQUENCE: Final = re.compile(r"\bSEQUENCE\b", re.IGNORECASE)  # MariaDB's table option


class _NotFollowed(Exception):
    pass


def _block(live: _Live, ddl: Ddl, why: str) -> None:
    live.obstacle = live.obstacle or Obstacle(ddl, why)


def _check_spelling(catalog: Mapping[TableName, _Live], ddl: Ddl) -> None:
    """A name in another spelling is another table or the same one: only the server's lower_case_table_names tells."""
    for name in ddl.tables or ():
        if not name[1]:
            if ddl.verb != "DROP DATABASE" or any(
                n[0] != name[0] and n[0].casefold() == name[0].casefold() for n in catalog
            ):
                raise _NotFollowed("which tables it touches isn't known")
        elif any(n != name and _fold(n) == _fold(name) for n in catalog):
            raise _NotFollowed("it spells the table's name in another way")


def _touched(catalog: Mapping[TableName, _Live], ddl: Ddl) -> list[TableName]:
    wanted = {_fold(t) for t in ddl.tables or ()}
    return [n for n in catalog if _fold(n) in wanted or (n[0].casefold(), "") in wanted]


def _fold(name: TableName) -> TableName:
    return name[0].casefold(), name[1].casefold()


# --- statements -------------------------------------------------------------------------------------------------------


def _create(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    (name,) = ddl.tables or ()
    text = bare(ddl.statement)
    if name in catalog:
        if not says(_head(text), "OR", "REPLACE"):
            return  # IF NOT EXISTS
        del catalog[name]
    if makes_sequence(text):
        return
    like = model_of(text, ddl.default_db)
    if like is None:
        catalog[name] = _Live(Create(ddl.statement, ddl.default_db, ddl), None, ddl.seq - 1)
        return
    if like not in catalog:
        catalog[name] = _Live(Create(ddl.statement, ddl.default_db, ddl), None, ddl.seq - 1)
        _block(catalog[name], ddl, f"the definition of `{like[0]}.{like[1]}` at that time isn't known")
        return
    source = catalog[like]
    catalog[name] = replace(
        source,
        create=replace(source.create, copied=(*source.create.copied, ddl)),
        baseline=None,
        since=ddl.seq - 1,
        spans=[],
        program=[*source.program, *_counting_anew(source, name, ddl)],
        waiting=[*source.program],
    )


def _head(text: str) -> list[str]:
    """The keywords of a CREATE TABLE in front of its parenthesis. Raises SqlglotError."""
    return [keyword(t) for t in takewhile(lambda t: t.token_type is not TokenType.L_PAREN, tokens_of(text))]


def makes_sequence(create_table: str) -> bool:
    """Whether a CREATE TABLE makes a sequence, as SHOW CREATE TABLE prints it."""
    if _SEQUENCE.search(create_table) is None:
        return False
    depth, words = 0, []
    for word in scan(create_table):
        depth += word.says("(") - word.says(")")
        if depth == 0 and not word.says("="):
            words.append(word)
    return any(a.says("SEQUENCE") and b.says("1") for a, b in pairwise(words))


def _made_if_absent(catalog: Mapping[TableName, _Live], name: TableName, ddl: Ddl) -> bool:
    """Whether this is a CREATE TABLE IF NOT EXISTS that was followed."""
    followed = ddl.verb == "CREATE TABLE" and name in catalog and catalog[name].obstacle is None
    return followed and says(_head(bare(ddl.statement)), "IF", "NOT", "EXISTS")


def _no_table(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    """A sequence."""


def _counting_anew(live: _Live, name: TableName, ddl: Ddl) -> Iterator[Step]:
    """What sets the next AUTO_INCREMENT value back, where a statement before set it: neither a copy nor an emptied table has
    it."""
    texts = [live.create.statement, *(step.ddl.statement for step in live.program)]
    if declared(texts) > 1:
        text = f"ALTER TABLE {quote(*name)} AUTO_INCREMENT = 1"
        yield Step(replace(ddl, statement=text, verb="ALTER TABLE", tables=(name,), session=None, logged=None), ())


def model_of(text: str, default_db: str) -> TableName | None:
    """The model in CREATE TABLE t LIKE m, or CREATE TABLE t (LIKE m)."""
    tokens = [t for t in tokens_of(text) if t.token_type is not TokenType.L_PAREN]
    words = [keyword(t) for t in tokens]
    at = words.index("TABLE") + 1
    if words[at : at + 3] == ["IF", "NOT", "EXISTS"]:
        at += 3
    at += 3 if at + 1 < len(tokens) and tokens[at + 1].token_type is TokenType.DOT else 1
    if words[at : at + 1] != ["LIKE"]:  # a LIKE further on is of an expression
        return None
    at += 1
    if at + 2 < len(tokens) and tokens[at + 1].token_type is TokenType.DOT:
        return tokens[at].text, tokens[at + 2].text
    return default_db, tokens[at].text


def _drop(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    for name in ddl.tables or ():
        catalog.pop(name, None)


def _drop_database(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    for name in _touched(catalog, ddl):
        del catalog[name]


def _truncate(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    for name in _touched(catalog, ddl):
        live = catalog[name]
        live.baseline = None
        live.program += _counting_anew(live, name, ddl)
        live.spans = []
        live.waiting = []
        live.since = ddl.seq


def _rename(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    names = list(ddl.tables or ())
    for old, new in zip(names[::2], names[1::2], strict=True):
        if old not in catalog:
            continue  # a table that no snapshot holds: under its new name it is as unknown
        live = catalog.pop(old)
        live.close(old, ddl.seq)
        catalog[new] = live


def _alter(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    name = (ddl.tables or (("", ""),))[0]
    operations = parse_alter(ddl.statement, ddl.default_db)
    if len({_fold(t) for t in ddl.tables or ()}) > 1 and not any(isinstance(o, RenameTable) for o in operations):
        raise _NotFollowed("it exchanges rows with another table")
    if name not in catalog:
        return
    live = catalog[name]
    if any(isinstance(o, EmptyPartitions) for o in operations):
        operations = tuple(_resolved(live, o) for o in operations)
    unknown = next((o for o in operations if isinstance(o, Unknown)), None)
    if unknown is not None:
        _block(live, ddl, f"`{unknown.text}` can't be computed from the archive")
    elif implicitly(ddl):
        _block(live, ddl, "it makes a TIMESTAMP without NULL or DEFAULT under explicit_defaults_for_timestamp = OFF")
    step = Step(ddl, operations)
    live.close(name, ddl.seq)
    live.program.append(step)
    live.waiting.append(step)
    moved = next((o.name for o in operations if isinstance(o, RenameTable)), None)
    if moved is not None and moved != name:
        del catalog[name]
        catalog[moved] = live


def _resolved(live: _Live, operation: Operation) -> Operation:
    """With the rows that go away. Raises _NotFollowed."""
    if not isinstance(operation, EmptyPartitions):
        return operation
    try:
        now = partitioning_at(live.create, live.program)
        names = operation.names
        if names is None:
            names = tuple(p.name for p in now.parts) if now is not None else ()
        return RemoveRows(rows_of(now, names))
    except NotFolded as error:
        raise _NotFollowed(str(error)) from error


def partitioning_at(create: Create, program: Iterable[Step]) -> Partitioning | None:
    """A table's partitions after these statements. Raises NotFolded."""
    now = partitioning_of(tokens_of(bare(create.statement)))
    for step in program:
        operations = parse_alter(step.ddl.statement, step.ddl.default_db) if step.operations else ()
        if now is not None:
            now = _with_names(now, renamed(operations))
        for operation in operations:
            if isinstance(operation, Repartition):
                if isinstance(operation.by, str):
                    raise NotFolded(operation.by)
                now = operation.by
            elif now is not None:
                now = _changed(now, operation)
    return now


def _changed(now: Partitioning, operation: Operation) -> Partitioning:
    if isinstance(operation, AddPartitions):
        return replace(now, parts=(*now.parts, *operation.parts))
    if isinstance(operation, EmptyPartitions) and operation.dropped:
        return dropped(now, operation.names or ())
    if isinstance(operation, ReorganizePartitions):
        return reorganized(now, operation.names, operation.parts)
    return now


def _with_names(now: Partitioning, new: Mapping[str, str]) -> Partitioning:
    columns, mentioned = (tuple(new.get(c.casefold(), c) for c in names) for names in (now.columns, now.mentioned))
    return replace(now, columns=columns, mentioned=mentioned)


def _index(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    for name in _touched(catalog, ddl):
        live = catalog[name]
        step = Step(ddl, ())
        live.close(name, ddl.seq)
        live.program.append(step)
        live.waiting.append(step)


def _unknown(catalog: dict[TableName, _Live], ddl: Ddl) -> None:
    raise _NotFollowed("this kind of statement isn't followed")


_PLAYERS = {
    "CREATE TABLE": _create, "DROP TABLE": _drop, "DROP DATABASE": _drop_database, "TRUNCATE TABLE": _truncate,
    "CREATE SEQUENCE": _no_table, "ALTER SEQUENCE": _no_table, "DROP SEQUENCE": _no_table, "RENAME TABLE": _rename,
    "ALTER TABLE": _alter, "CREATE INDEX": _index, "DROP INDEX": _index,
}  # fmt: skip


def touching(ddls: Iterable[Ddl], first_seq: int, last_seq: int, name: TableName) -> Iterator[Ddl]:
    """The statements of transactions first_seq to last_seq that may touch the table under this name."""
    for ddl in ddls:
        if first_seq <= ddl.seq <= last_seq:
            wanted = None if ddl.tables is None else {_fold(t) for t in ddl.tables}
            if wanted is None or _fold(name) in wanted or (name[0].casefold(), "") in wanted:
                yield ddl
