"""The rows of a table through its definitions: which changes are folded under which one, and how rows pass to the next.

`build` turns a lineage into stages. Each has one definition and its change segments; between two stages every column of the
new definition is made of one of the old, or of the default with which it was added (recovery/cells.py). What can't be
made exactly is refused with the statement (DdlInRange). Pure; what only the rows tell is left to the executor as a Check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from recovery.alter import ConvertCharset, RemoveRows
from recovery.archive.actions import Ddl, Segment
from recovery.cells import added_value, check_known, has_moment, play, refilled
from recovery.conversions import Check, checks_of, defined, loss, redefined
from recovery.ddl import TableName
from recovery.errors import NotComputable
from recovery.generated import generated_at
from recovery.lineage import Lineage, Span, Step
from recovery.refused import refused, shown
from recovery.removed_rows import Removal, why_not
from recovery.schema import TEXT_TYPES, Column, Table
from recovery.scope import spelled
from recovery.straddling import Seqs, has_rows


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
    if it was dropped; redefined: as what it was defined behind the last stage, under its old name (see
    recovery/conversions.py); recoded: the indexes of those whose character set may be another one since. checks: of those
    columns, (index, check, statement). pending: the statements behind the last stage."""

    stages: tuple[Stage, ...]
    final: tuple[str | None, ...]
    redefined: tuple[Column, ...] = ()
    recoded: frozenset[int] = frozenset()
    checks: tuple[tuple[int, Check, Ddl], ...] = ()
    pending: tuple[Step, ...] = ()

    def indexes(self, name: str | None) -> tuple[int | None, ...]:
        """For each stage the index of the column that has this name at the cut; None where it wasn't there."""
        names = [n.casefold() if n is not None else None for n in self.final]
        index = names.index(name.casefold()) if name is not None and name.casefold() in names else None
        found = [index]
        for stage in reversed(self.stages[1:]):
            index = stage.sources[index].index if index is not None else None
            found.insert(0, index)
        return tuple(found)


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
    stages += _with_moments(lineage.name, stages[-1].definition, pending)
    last = stages[-1].definition
    final, checks = _final(lineage.name, last, pending)
    return Staged(tuple(stages), final, *_at_the_cut(lineage.name, last, pending), checks, tuple(pending))


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
    cells = {c.name.casefold(): c for c in play(name, before, steps)}
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


def _with_moments(name: TableName, before: Table, steps: Sequence[Step]) -> list[Stage]:
    """The stage in which the rows get columns that were added with the time of the statement, if there are any: their
    default would give another one."""
    cells = [c for c in play(name, before, steps) if has_moment(c)]
    if not cells:
        return []
    columns = [defined(c.added.column, None) for c in cells if c.added is not None]
    after = replace(before, columns=(*before.columns, *columns))
    # The statements come behind these rows: none of them may take the new columns for others.
    kept = {c.index for c in play(name, after, steps)}
    sources = [Source(i) for i in range(len(before.columns))]
    for cell, column in zip(cells, columns, strict=True):
        assert cell.ddl is not None
        if [c.name.casefold() for c in after.columns].count(column.name.casefold()) > 1 or len(sources) not in kept:
            raise refused(name, cell.ddl, f"another column was called `{column.name}` before")
        sources.append(Source(None, added_value(name, cell, column), ddl=cell.ddl))
    seq = steps[-1].ddl.seq
    return [Stage(after, seq, seq, (), tuple(sources))]


def _with_rows(found: Sequence[Segment], span: Span, schemas: Mapping[str, Table]) -> list[Segment]:
    """Without the segments that surely have no row in the span: a definition that came back (a key dropped and added again)
    has one segment around it. One that begins or ends inside has a row there, and all rows of a span have one definition."""
    inside = range(span.low_seq + 1, span.high_seq + 1)
    ends = [s for s in found if s.first_seq in inside or s.last_seq in inside]
    sure = {schemas[s.schema_id].storage for s in ends if s.schema_id in schemas}
    if len(sure) != 1:
        return list(found)
    return [s for s in found if s.schema_id not in schemas or schemas[s.schema_id].storage in sure]


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


def _sources(name: TableName, before: Table, after: Table, steps: Sequence[Step]) -> tuple[Source, ...]:
    cells = {c.name.casefold(): c for c in play(name, before, steps)}
    last = steps[-1].ddl if steps else None
    sources = []
    for column in after.columns:
        cell = cells.get(column.name.casefold())
        if cell is None:
            raise _misfit(name, column, last)
        if column.generated:
            sources.append(Source(cell.index))
        elif cell.index is None:
            sources.append(Source(None, added_value(name, cell, column), ddl=cell.ddl))
        else:
            old = before.columns[cell.index]
            why = loss(old, column)
            if why and (cell.ddl or last) is not None:
                raise refused(name, cell.ddl or last, f"column `{column.name}` {why}")  # type: ignore[arg-type]
            if why:
                raise _misfit(name, column, last)
            checks = tuple(dict.fromkeys((*checks_of(old, column), *cell.checks)))
            sources.append(Source(cell.index, checks=checks, ddl=cell.ddl or last))
    return tuple(sources)


def _misfit(name: TableName, column: Column, last: Ddl | None) -> NotComputable:
    where = f" after `{shown(last)}` at {last.file}:{last.position}" if last else ""
    return NotComputable(
        f"changes to table `{name[0]}.{name[1]}`{where} have a column `{column.name}` that nothing before them explains",
        hint="Take a new snapshot: targets at or after it can be restored. Or leave the table out with "
        f"`--exclude '{spelled(name)}'`.",
    )


def _behind(steps: Sequence[Step]) -> str:
    if not steps:
        return ""
    ddl = steps[-1].ddl
    return f", behind `{shown(ddl)}` at {ddl.file}:{ddl.position}"


def _final(
    name: TableName, last: Table, steps: Sequence[Step]
) -> tuple[tuple[str | None, ...], tuple[tuple[int, Check, Ddl], ...]]:
    """Names at the cut of the last definition's columns. Columns added behind it are left out of the INSERTs: the server
    gives them their default."""
    names: list[str | None] = [None] * len(last.columns)
    checks: list[tuple[int, Check, Ddl]] = []
    for cell in play(name, last, steps):
        if cell.index is None:
            check_known(name, cell)
            if cell.ddl is not None and not refilled(cell):
                raise refused(name, cell.ddl, f"the default of column `{cell.name}` was changed after it was added")
            continue
        generated = cell.spec is not None and cell.spec.column.generated
        names[cell.index] = None if generated else cell.name
        if cell.spec is None or cell.ddl is None:
            continue
        old, new = last.columns[cell.index], defined(cell.spec.column, last.columns[cell.index].charset)
        why = loss(old, new)
        if why:
            raise refused(name, cell.ddl, f"column `{cell.name}` {why}")
        found = dict.fromkeys((*checks_of(old, new), *cell.checks))
        checks += [(cell.index, check, cell.ddl) for check in found]
    return tuple(names), tuple(checks)


def _at_the_cut(name: TableName, last: Table, steps: Sequence[Step]) -> tuple[tuple[Column, ...], frozenset[int]]:
    """The last definition's columns as these statements redefine them, and which texts may be in another character set."""
    columns, recoded = list(last.columns), set[int]()
    converted = any(isinstance(o, ConvertCharset) for step in steps for o in step.operations)
    for cell in play(name, last, steps):
        if cell.index is None:
            continue
        if cell.spec is not None and not cell.spec.column.generated:
            columns[cell.index] = redefined(columns[cell.index], cell.spec.column)
        if columns[cell.index].type in TEXT_TYPES and (converted or cell.spec is not None):
            recoded.add(cell.index)
    return tuple(columns), frozenset(recoded)
