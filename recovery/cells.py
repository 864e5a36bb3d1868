"""Columns while statements on a table are played: which are made of which, and what rows hold in those that were added.

ADD COLUMN gives the rows that are there its DEFAULT; a later MODIFY takes that value over as it takes any other, and a later
DEFAULT isn't theirs. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from recovery.alter import (
    AddColumn,
    ChangeColumn,
    ChangeDefault,
    ConvertCharset,
    DropColumn,
    Operation,
    RenameColumn,
    renamed,
)
from recovery.archive.actions import Ddl
from recovery.column_spec import ColumnSpec
from recovery.conversions import FRACTIONAL, UNICODE, Check, checks_of, defined, loss
from recovery.ddl import TableName
from recovery.defaults import implicit, stored
from recovery.fixed_digits import fixed_digits
from recovery.lineage import Step
from recovery.moments import settled
from recovery.refused import refused
from recovery.schema import Column, Table


@dataclass
class Cell:
    """A column while statements are played: its index in the definition before them, or what it was added as. spec: the
    last statement's definition, None if none has one; ddl: that statement. redefaulted: its default was set on its own.
    unknown: why what rows got when it was added can't be told, and the statement: no matter if it is dropped again.
    checks: what must have held for every row on the way, besides what the first and the last definition say."""

    name: str
    index: int | None
    added: ColumnSpec | None = None
    spec: ColumnSpec | None = None
    ddl: Ddl | None = None
    redefaulted: bool = False
    unknown: tuple[str, Ddl] | None = None
    checks: tuple[Check, ...] = ()


def play(name: TableName, before: Table, steps: Iterable[Step]) -> list[Cell]:
    """The columns behind the statements. Raises DdlInRange for one that gives rows values which can't be told."""
    cells = [Cell(c.name, i) for i, c in enumerate(before.columns)]

    for step in steps:
        then = {c.name.casefold(): c for c in cells}  # by which all clauses name them
        leaving = {o.name.casefold() for o in step.operations if isinstance(o, DropColumn)}
        leaving |= {old for old, new in renamed(step.operations).items() if old != new.casefold()}
        for operation in step.operations:
            if isinstance(operation, AddColumn):
                spec = operation.spec
                if spec.column.name.casefold() not in then or spec.column.name.casefold() in leaving:
                    added = settled(spec, step.ddl)
                    why = _why_unknown(added)
                    unknown = (why, step.ddl) if why else None
                    cells.append(Cell(spec.column.name, None, added, spec, step.ddl, unknown=unknown))
                continue
            column = _named(operation)
            cell = then.get(column.casefold()) if column is not None else None
            if isinstance(operation, ConvertCharset):
                _check_charset(name, before, cells, operation.charset, step.ddl)
            if cell is None:
                continue  # IF EXISTS, or nothing that concerns a column
            if isinstance(operation, DropColumn):
                cells = [c for c in cells if c is not cell]
            elif isinstance(operation, RenameColumn):
                cell.name = operation.new
            elif isinstance(operation, ChangeColumn):
                if cell.added is not None and cell.spec is not None and cell.unknown is None:
                    _check_redefined(name, cell.spec, operation.spec, step.ddl)
                if cell.index is not None:
                    _pass(name, before.columns[cell.index], cell, operation.spec, step.ddl)
                cell.name, cell.spec, cell.ddl = operation.spec.column.name, operation.spec, step.ddl
            elif isinstance(operation, ChangeDefault):
                cell.redefaulted = True
    return cells


def _named(operation: Operation) -> str | None:
    if isinstance(operation, DropColumn | ChangeDefault):
        return operation.name
    return operation.old if isinstance(operation, RenameColumn | ChangeColumn) else None


def _pass(name: TableName, first: Column, cell: Cell, spec: ColumnSpec, ddl: Ddl) -> None:
    """Of several definitions each one counts: a value that the second bent isn't what the third could hold."""
    if cell.spec is not None and cell.ddl is not None:
        was = defined(cell.spec.column, first.charset)
        now = defined(spec.column, was.charset)
        for one, other, by in ((first, was, cell.ddl), (was, now, ddl)):
            why = loss(one, other)
            if why:
                raise refused(name, by, f"column `{cell.name}` {why}")
            cell.checks += checks_of(one, other)
    if spec.auto_increment:
        cell.checks += ("no zero", "not null") if first.nullable else ("no zero",)
    digits = fixed_digits(spec.column)
    if digits is not None and not spec.column.generated:
        cell.checks += (digits,)


def _why_unknown(spec: ColumnSpec) -> str | None:
    if spec.column.generated:
        return None
    if spec.auto_increment:
        return f"column `{spec.column.name}` numbered the rows that were there"
    if spec.default is not None and spec.default.clock is not None:
        return f"the default of column `{spec.column.name}` is a time that the binlog doesn't have"
    if spec.default is not None and not spec.default.known:
        return f"the default of column `{spec.column.name}` isn't a literal"
    return None


def check_known(name: TableName, cell: Cell) -> None:
    """Raises DdlInRange if what rows have in the column can't be told."""
    if cell.unknown is not None:
        why, ddl = cell.unknown
        raise refused(name, ddl, why)


def _check_charset(name: TableName, before: Table, cells: Sequence[Cell], charset: str, ddl: Ddl) -> None:
    used = {before.columns[c.index].charset for c in cells if c.index is not None} - {None, charset}
    if used and charset not in UNICODE:
        raise refused(name, ddl, f"not every text fits into {charset}")


def _check_redefined(name: TableName, old: ColumnSpec, new: ColumnSpec, ddl: Ddl) -> None:
    why = loss(defined(old.column, None), defined(new.column, None))
    if fixed_digits(new.column) not in (None, fixed_digits(old.column)):
        why = why or "got another number of digits"
    if why:
        raise refused(name, ddl, f"column `{old.column.name}`, which was added before, {why}")


def added_value(name: TableName, cell: Cell, column: Column) -> str | None:
    """The value that rows got which were there when the column was added, and have kept. column: as it is now."""
    assert cell.added is not None
    assert cell.ddl is not None
    check_known(name, cell)
    then = (
        column
        if cell.spec is not None and cell.spec.column is cell.added.column
        else defined(cell.added.column, column.charset)
    )
    if fixed_digits(cell.added.column) is not None:  # which only the statement has
        then = replace(then, precision=cell.added.column.precision, scale=cell.added.column.scale)
    if _is_null(cell.added):
        return None
    value = _given(cell.added, then)
    if value is not None and column.type == "set":  # its labels may stand in another order since
        value = stored(column, value)
    if value is None and then.type in (*FRACTIONAL, "date", "year"):
        raise refused(name, cell.ddl, f"the default of column `{column.name}` depends on the session")
    if value is None:
        raise refused(name, cell.ddl, f"the default of column `{column.name}` can't be computed")
    return value


def refilled(cell: Cell) -> bool:
    """Whether an INSERT that doesn't name the added column gives what the rows that were there have in it."""
    if cell.added is None or cell.spec is None or cell.redefaulted:
        return False
    if cell.spec.column.generated or _is_same(cell.added, cell.spec):
        return True
    if _is_null(cell.added) or _is_null(cell.spec):
        return _is_null(cell.added) and _is_null(cell.spec)
    now = defined(cell.spec.column, None)
    held, given = _given(cell.added, defined(cell.added.column, None)), _given(cell.spec, now)
    return held is not None and given is not None and stored(now, held) == given


def has_moment(cell: Cell) -> bool:
    """Whether it was added with the time of the statement, which no INSERT gives again."""
    return cell.added is not None and cell.added.default is not None and cell.added.default.moment


def _is_same(one: ColumnSpec, other: ColumnSpec) -> bool:
    return replace(one.column, name="") == replace(other.column, name="") and one.default == other.default


def _is_null(spec: ColumnSpec) -> bool:
    return spec.column.nullable if spec.default is None else spec.default.known and spec.default.text is None


def _given(spec: ColumnSpec, column: Column) -> str | None:
    """What rows get in a column of this type that don't name it, as recovery/defaults.py writes it; None if that isn't
    known."""
    if spec.default is None:
        return implicit(column)
    if spec.default.moment:
        return spec.default.text
    return stored(column, spec.default.text or "") if spec.default.known else None
