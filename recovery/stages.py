"""The rows of a table through its definitions: which changes are folded under which one, and how rows pass to the next.

`build` turns a lineage into stages. Each has one definition and its change segments; between two stages every column of the
new definition is made of one of the old, or of the default with which it was added (recovery/defaults.py). What can't be
made exactly is refused with the statement (DdlInRange). Pure; what only the rows tell is left to the executor as a Check.

Conversions that change no value: integers and DECIMALs that grow, CHAR and VARCHAR that grow or become TEXT, VARBINARY and
BLOB likewise, more fractional digits, more ENUM and SET labels, text to another character set of the Unicode family,
FLOAT to DOUBLE, NOT NULL taken away; with a Check NOT NULL added, and text to a smaller Unicode set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from recovery.alter import (
    AddColumn,
    ChangeColumn,
    ChangeDefault,
    ConvertCharset,
    DropColumn,
    Operation,
    RemoveRows,
    RenameColumn,
)
from recovery.archive.actions import Ddl, Segment
from recovery.column_spec import ColumnSpec
from recovery.ddl import TableName
from recovery.defaults import implicit, stored
from recovery.errors import DdlInRange, NotComputable
from recovery.generated import generated_at
from recovery.lineage import Lineage, Span, Step
from recovery.removed_rows import Removal, why_not
from recovery.schema import INTEGER_BITS, Column, Table
from recovery.scope import spelled
from recovery.straddling import Seqs, has_rows
from recovery.target import format_us

_TEXTS: Final = ("char", "varchar", "text")
_BYTES: Final = ("varbinary", "blob")
# Character sets with characters above U+FFFF, which the 3-byte Unicode sets don't have (SHOW CHARACTER SET).
_BEYOND_BMP: Final = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030", "binary"})
_FRACTIONAL: Final = frozenset({"time", "datetime", "timestamp"})
UNICODE: Final = frozenset({"utf8mb4", "utf8mb3", "utf8", "utf16", "utf16le", "utf32", "ucs2"})


Check: TypeAlias = Literal["not null", "valid text", "three bytes"]
"""What only the rows tell: none is NULL; none is text that isn't valid in its character set (its bytes would mean something
else in the next one); none has a character above U+FFFF."""


@dataclass(frozen=True)
class Source:
    """What a column is made of. index: of the column in the definition before; None for one that was added, whose value is
    then `added`: as recovery/defaults.py writes it, None for NULL. checks: what must hold for every row; ddl: the statement
    that says so."""

    index: int | None
    added: str | None = None
    checks: tuple[Check, ...] = ()
    ddl: Ddl | None = None


@dataclass(frozen=True)
class Stage:
    """definition: of the rows here. sources: a Source per column, from the stage before; empty for the first, whose rows are
    the baseline's. removed: which of the rows before go away first. segments: changes of (low_seq, high_seq]; they may hold
    rows outside it."""

    definition: Table
    low_seq: int
    high_seq: int
    segments: tuple[Segment, ...]
    sources: tuple[Source, ...] = ()
    removed: tuple[Removal, ...] = ()


@dataclass(frozen=True)
class Staged:
    """stages: empty for a table that surely has no rows. final: for each column of the last stage its name at the cut, None
    if it was dropped. checks: of those columns, (index, check, statement). pending: the statements behind the last stage."""

    stages: tuple[Stage, ...]
    final: tuple[str | None, ...]
    checks: tuple[tuple[int, Check, Ddl], ...] = ()
    pending: tuple[Step, ...] = ()


def build(
    lineage: Lineage,
    schemas: Mapping[str, Table],
    segments: Mapping[TableName, Sequence[Segment]],
    seqs: Seqs = MappingProxyType({}),
) -> Staged:
    """seqs: see recovery/straddling.py. Raises DdlInRange, naming the statement in the way; NotComputable for changes that
    no statement explains."""
    if lineage.obstacle is not None:
        raise refused(lineage.name, lineage.obstacle.ddl, lineage.obstacle.why)
    stages: list[Stage] = []
    pending: list[Step] = []
    name: TableName | None = None  # of the span that gave the last stage its segments
    if lineage.baseline is not None:
        first = lineage.spans[0].low_seq if lineage.spans else 0
        stages.append(Stage(lineage.baseline.definition, first, first, ()))
    for span in lineage.spans:
        for step in span.steps:
            pending.append(step)
            if stages and any(isinstance(o, RemoveRows) for o in step.operations):
                stages.append(_removing(lineage.name, stages[-1].definition, pending))
                name = None
        found = [s for s in segments.get(span.name, ()) if has_rows(s, seqs, span.low_seq, span.high_seq)]
        if not found:
            continue
        found = _with_rows(found, span, schemas)
        definition = _with_generated(_definition(lineage.name, found, schemas, pending), lineage, span.low_seq)
        now = Stage(definition, span.low_seq, span.high_seq, tuple(found))
        if not stages:
            stages.append(now)
        else:
            sources = _sources(lineage.name, stages[-1].definition, definition, pending)
            if _alike(definition, stages[-1].definition) and all(
                s.index == i and not s.checks for i, s in enumerate(sources)
            ):
                stages[-1:] = _joined(stages[-1], name, now, span.name, sources)
            else:
                stages.append(replace(now, sources=sources))
        pending, name = [], span.name
    if not stages:
        return Staged((), ())
    final, checks = _final(lineage.name, stages[-1].definition, pending)
    return Staged(tuple(stages), final, checks, tuple(pending))


def _with_generated(definition: Table, lineage: Lineage, seq: int) -> Table:
    names = generated_at(lineage, seq)
    if names is None:
        return definition
    return definition.with_generated(frozenset(c.name for c in definition.columns if c.name.casefold() in names))


def _alike(a: Table, b: Table) -> bool:
    return a.storage == b.storage and [c.generated for c in a.columns] == [c.generated for c in b.columns]


def _joined(
    last: Stage, name: TableName | None, now: Stage, now_name: TableName, sources: tuple[Source, ...]
) -> tuple[Stage, ...]:
    """Two stages with one definition folded as one, where that is right: a segment may reach over a statement to rows of
    another table that had this name, and those must not come in with a longer range."""
    if not last.segments:
        return (replace(now, sources=last.sources, removed=last.removed),)
    if name == now_name and now.low_seq <= last.high_seq + 1:  # nothing but the statement stands between
        joined = replace(now, low_seq=last.low_seq, segments=(*last.segments, *now.segments))
        return (replace(joined, sources=last.sources, removed=last.removed),)
    return last, replace(now, sources=sources)


def _removing(name: TableName, before: Table, steps: Sequence[Step]) -> Stage:
    """The stage in which the rows go away that the last of these statements takes: the same definition, no changes."""
    ddl = steps[-1].ddl
    cells = {c.name.casefold(): c for c in _play(name, before, steps)}
    removed = []
    for operation in steps[-1].operations:
        if isinstance(operation, RemoveRows):
            found = [cells.get(c.casefold()) for c in operation.test.columns]
            indexes = tuple(c.index for c in found if c is not None and c.index is not None and c.spec is None)
            if len(indexes) < len(found):
                raise refused(name, ddl, "the columns of its partitions were changed before it")
            columns = [before.columns[i] for i in indexes]
            if any(c.generated and c.name not in before.key for c in columns):
                raise refused(name, ddl, "its partitions are by a generated column")
            why = why_not(operation.test, columns)
            if why:
                raise refused(name, ddl, why)
            removed.append(Removal(operation.test, indexes, ddl))
    same = tuple(Source(i) for i in range(len(before.columns)))
    return Stage(before, ddl.seq, ddl.seq, (), same, tuple(removed))


def _with_rows(found: Sequence[Segment], span: Span, schemas: Mapping[str, Table]) -> list[Segment]:
    """Without the segments that surely have no row in the span: a definition that came back (a key dropped and added again)
    has one segment around it. One that begins or ends inside has a row there, and all rows of a span have one definition."""
    inside = range(span.low_seq + 1, span.high_seq + 1)
    ends = [s for s in found if s.first_seq in inside or s.last_seq in inside]
    sure = {schemas[s.schema_id].storage for s in ends if s.schema_id in schemas}
    if len(sure) != 1:
        return list(found)
    return [s for s in found if s.schema_id not in schemas or schemas[s.schema_id].storage in sure]


def refused(name: TableName, ddl: Ddl, why: str) -> DdlInRange:
    shown = _shown(ddl)
    return DdlInRange(
        f"table `{name[0]}.{name[1]}` can't be restored across `{shown}` at {ddl.file}:{ddl.position}: {why}",
        hint=f"Restore to just before it with `{just_before(ddl)}` (transaction {ddl.seq}, {format_us(ddl.cut_at_us)}), "
        f"take a snapshot after it, or leave the table out with `--exclude '{spelled(name)}'`.",
    )


def _shown(ddl: Ddl) -> str:
    statement = " ".join(ddl.statement.split())
    return statement if len(statement) <= 200 else statement[:197] + "..."


def just_before(ddl: Ddl) -> str:
    """The option that means the state in front of a statement."""
    return f"--before {ddl.gtid}" if ddl.gtid else f"--to {ddl.file}:{ddl.position}"


def _definition(
    name: TableName, segments: Sequence[Segment], schemas: Mapping[str, Table], steps: Sequence[Step]
) -> Table:
    found = [schemas[s.schema_id] for s in segments if s.schema_id in schemas]
    if len(found) < len(segments) or len({t.storage for t in found}) > 1:
        raise NotComputable(
            f"changes to table `{name[0]}.{name[1]}` in transactions {min(s.first_seq for s in segments)} to "
            f"{max(s.last_seq for s in segments)} have several definitions without a statement between them{_behind(steps)}",
            hint="Take a new snapshot: targets at or after it can be restored. Or leave the table out with "
            f"`--exclude '{spelled(name)}'`.",
        )
    return found[-1]


# Types of one kind: a server takes a value of one over into another as it is, or not at all.
_FAMILIES: Final = (frozenset(INTEGER_BITS), frozenset({"char", "varchar", "text"}), frozenset({"varbinary", "blob"}))


@dataclass
class _Cell:
    """A column while operations are played: what it is made of, and the statement that changed it last."""

    name: str
    index: int | None
    spec: ColumnSpec | None = None
    ddl: Ddl | None = None
    redefaulted: bool = False


def _play(name: TableName, before: Table, steps: Iterable[Step]) -> list[_Cell]:
    cells = [_Cell(c.name, i) for i, c in enumerate(before.columns)]

    def find(column: str) -> _Cell | None:
        return next((c for c in cells if c.name.casefold() == column.casefold()), None)

    for step in steps:
        for operation in step.operations:
            if isinstance(operation, AddColumn):
                _check_added(name, operation.spec, step.ddl)
                if find(operation.spec.column.name) is None:
                    cells.append(_Cell(operation.spec.column.name, None, operation.spec, step.ddl))
                continue
            column = _named(operation)
            cell = find(column) if column is not None else None
            if isinstance(operation, ConvertCharset):
                _check_charset(name, before, cells, operation.charset, step.ddl)
            if cell is None:
                continue  # IF EXISTS, or nothing that concerns a column
            if isinstance(operation, DropColumn):
                cells.remove(cell)
            elif isinstance(operation, RenameColumn):
                cell.name = operation.new
            elif isinstance(operation, ChangeColumn):
                if cell.index is None and cell.spec is not None:
                    _check_respecified(name, cell.spec, operation.spec, step.ddl)
                    cell.redefaulted |= _given(cell.spec) != _given(operation.spec)
                else:
                    cell.spec = operation.spec
                cell.name, cell.ddl = operation.spec.column.name, step.ddl
            elif isinstance(operation, ChangeDefault):
                cell.redefaulted = True
    return cells


def _named(operation: Operation) -> str | None:
    if isinstance(operation, DropColumn | ChangeDefault):
        return operation.name
    return operation.old if isinstance(operation, RenameColumn | ChangeColumn) else None


def _check_added(name: TableName, spec: ColumnSpec, ddl: Ddl) -> None:
    if spec.column.generated:
        return
    if spec.auto_increment:
        raise refused(name, ddl, f"column `{spec.column.name}` numbered the rows that were there")
    if spec.default is not None and not spec.default.known:
        raise refused(name, ddl, f"the default of column `{spec.column.name}` isn't a literal")


def _check_charset(name: TableName, before: Table, cells: Sequence[_Cell], charset: str, ddl: Ddl) -> None:
    used = {before.columns[c.index].charset for c in cells if c.index is not None} - {None, charset}
    if used and charset not in UNICODE:
        raise refused(name, ddl, f"not every text fits into {charset}")


def _given(spec: ColumnSpec) -> tuple[bool, str | None]:
    """What rows get that don't name the column: (whether that is no literal but the type's own default or an expression, the
    literal or None for NULL)."""
    if spec.default is None:
        return not spec.column.nullable, None
    return (False, spec.default.text) if spec.default.known else (True, spec.column.name)


def _check_respecified(name: TableName, old: ColumnSpec, new: ColumnSpec, ddl: Ddl) -> None:
    """The value that rows got when the column was added is told from its last type: right if that took it over as it was."""
    types = old.column.type, new.column.type
    spaces = types[0] == "char" and old.default is not None and (old.default.text or "").endswith(" ")
    kin = types[0] == types[1] or any(set(types) <= family for family in _FAMILIES)
    if not kin or (spaces and types[0] != types[1]) or not _same_digits(old, new):
        raise refused(name, ddl, f"column `{old.column.name}` was added with another type before")


def _same_digits(old: ColumnSpec, new: ColumnSpec) -> bool:
    """Whether the default has no digits that the column rounded away when it was added and would keep now."""
    text = old.default.text if old.default is not None else None
    if text is None or old.column.type not in ("decimal", *_FRACTIONAL):
        return True
    before, after = stored(old.column, text), stored(new.column, text)
    if before is None or after is None:
        return False
    return Decimal(before) == Decimal(after) if old.column.type == "decimal" else before == after


def _sources(name: TableName, before: Table, after: Table, steps: Sequence[Step]) -> tuple[Source, ...]:
    cells = {c.name.casefold(): c for c in _play(name, before, steps)}
    last = steps[-1].ddl if steps else None
    sources = []
    for column in after.columns:
        cell = cells.get(column.name.casefold())
        if cell is None:
            raise _misfit(name, column, last)
        if column.generated:
            sources.append(Source(cell.index))
        elif cell.index is None:
            sources.append(Source(None, _added_value(name, cell, column), ddl=cell.ddl))
        else:
            old = before.columns[cell.index]
            why = loss(old, column)
            if why and (cell.ddl or last) is not None:
                raise refused(name, cell.ddl or last, f"column `{column.name}` {why}")  # type: ignore[arg-type]
            if why:
                raise _misfit(name, column, last)
            sources.append(Source(cell.index, checks=_checks(old, column), ddl=cell.ddl or last))
    return tuple(sources)


def _misfit(name: TableName, column: Column, last: Ddl | None) -> NotComputable:
    where = f" after `{_shown(last)}` at {last.file}:{last.position}" if last else ""
    return NotComputable(
        f"changes to table `{name[0]}.{name[1]}`{where} have a column `{column.name}` that nothing before them explains",
        hint="Take a new snapshot: targets at or after it can be restored. Or leave the table out with "
        f"`--exclude '{spelled(name)}'`.",
    )


def _behind(steps: Sequence[Step]) -> str:
    if not steps:
        return ""
    ddl = steps[-1].ddl
    return f", behind `{_shown(ddl)}` at {ddl.file}:{ddl.position}"


def _added_value(name: TableName, cell: _Cell, column: Column) -> str | None:
    """The value that rows got which were there when the column was added."""
    spec = cell.spec
    assert spec is not None
    assert cell.ddl is not None
    if spec.default is not None and spec.default.text is None:
        return None
    if spec.default is None and spec.column.nullable:
        return None
    value = implicit(column) if spec.default is None else stored(column, spec.default.text or "")
    if value is None and column.type in (*_FRACTIONAL, "date", "year"):
        raise refused(name, cell.ddl, f"the default of column `{column.name}` depends on the session")
    if value is None:
        raise refused(name, cell.ddl, f"the default of column `{column.name}` can't be computed")
    return value


def _final(
    name: TableName, last: Table, steps: Sequence[Step]
) -> tuple[tuple[str | None, ...], tuple[tuple[int, Check, Ddl], ...]]:
    """Names at the cut of the last definition's columns. Columns added behind it are left out of the INSERTs: the server
    gives them their default."""
    names: list[str | None] = [None] * len(last.columns)
    checks: list[tuple[int, Check, Ddl]] = []
    for cell in _play(name, last, steps):
        if cell.index is None:
            if cell.redefaulted and cell.ddl is not None:
                raise refused(name, cell.ddl, f"the default of column `{cell.name}` was changed after it was added")
            continue
        generated = cell.spec is not None and cell.spec.column.generated
        names[cell.index] = None if generated else cell.name
        if cell.spec is None or cell.ddl is None:
            continue
        old, new = last.columns[cell.index], _as_column(last.columns[cell.index], cell.spec.column)
        why = loss(old, new)
        if why:
            raise refused(name, cell.ddl, f"column `{cell.name}` {why}")
        checks += [(cell.index, check, cell.ddl) for check in _checks(old, new)]
    return tuple(names), tuple(checks)


def _checks(old: Column, new: Column) -> tuple[Check, ...]:
    found: list[Check] = []
    if old.nullable and not new.nullable:
        found.append("not null")
    before, after = (c.replace("utf8mb3", "utf8") if c else None for c in (old.charset, new.charset))
    if before != after and old.type in _TEXTS:
        found.append("valid text")
        if after in ("utf8", "ucs2") and before in _BEYOND_BMP:
            found.append("three bytes")
    return tuple(found)


def _as_column(old: Column, spec: Column) -> Column:
    """A statement's definition in the terms of the binlog's: lengths in bytes; the charset of old where none is named."""
    charset = spec.charset or (old.charset if spec.type in (*_TEXTS, "enum", "set") else None)
    octets = spec.octets
    if octets is not None and spec.type in ("char", "varchar"):
        octets *= widest(charset)
    return replace(spec, charset=charset, octets=octets)


def widest(charset: str | None) -> int:
    """Bytes of a character at most (SHOW CHARACTER SET, Maxlen)."""
    wide = {
        "utf8mb4": 4,
        "utf16": 4,
        "utf16le": 4,
        "utf32": 4,
        "gb18030": 4,
        "utf8mb3": 3,
        "utf8": 3,
        "ujis": 3,
        "eucjpms": 3,
    }
    double = {"ucs2", "big5", "gbk", "gb2312", "sjis", "cp932", "euckr"}
    return wide.get(charset or "", 2 if charset in double else 1)


def loss(old: Column, new: Column) -> str | None:
    """Why values of `old` can't simply be values of `new`; None if they can."""
    if new.generated:
        return None
    if old.generated:
        return "was generated"
    if old.type in INTEGER_BITS and new.type in INTEGER_BITS:
        if old.unsigned and not new.unsigned:
            return None if INTEGER_BITS[new.type] > INTEGER_BITS[old.type] else "became signed"
        if new.unsigned and not old.unsigned:
            return "became unsigned"
        return None if INTEGER_BITS[new.type] >= INTEGER_BITS[old.type] else "became narrower"
    if old.type in _TEXTS and new.type in _TEXTS:
        return _text_loss(old, new)
    if old.type in _BYTES and new.type in _BYTES:
        shrunk = new.type == "varbinary" and (old.type == "blob" or (new.octets or 0) < (old.octets or 0))
        return "became shorter" if shrunk else None
    if (old.type, new.type) == ("float", "double"):
        return None
    if old.type != new.type:
        return f"was of type {old.type} and became {new.type}"
    if old.type == "decimal":
        whole, more = _digits(new)[0] >= _digits(old)[0], _digits(new)[1] >= _digits(old)[1]
        return None if whole and more and old.unsigned <= new.unsigned == old.unsigned else "lost digits"
    if old.type in _FRACTIONAL:
        return None if (new.fsp or 0) >= (old.fsp or 0) else "lost fractional digits"
    if old.type in ("enum", "set"):
        kept = set(old.labels) <= set(new.labels) and _charset_fits(old.charset, new.charset)
        return None if kept else "lost labels"
    if old.type in ("binary", "bit") and (old.octets, old.precision) != (new.octets, new.precision):
        return "got another length"
    return None


def _digits(column: Column) -> tuple[int, int]:
    scale = column.scale or 0
    return (column.precision or 0) - scale, scale


def _text_loss(old: Column, new: Column) -> str | None:
    if not _charset_fits(old.charset, new.charset):
        return f"was converted from {old.charset} to {new.charset}"
    if old.type == "text" and new.type != "text":
        return "became shorter"
    if new.type == "char" and old.type == "varchar":
        return "became CHAR, which drops trailing spaces"
    if new.type == "text" or old == new:
        return None
    if old.octets is None or new.octets is None:
        return "may have become shorter"
    shorter = new.octets // widest(new.charset) < old.octets // widest(old.charset)
    return "became shorter" if shorter else None


def _charset_fits(old: str | None, new: str | None) -> bool:
    same = (old or "").replace("utf8mb3", "utf8") == (new or "").replace("utf8mb3", "utf8")
    if new in ("utf8mb3", "utf8", "ucs2"):
        return same or (old is not None and old != "binary")
    return same or new in ("utf8mb4", "utf16", "utf16le", "utf32") or old == "ascii"
