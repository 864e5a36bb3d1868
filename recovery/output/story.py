"""The plan of a restore as a story: each table as it was at its snapshot, and what happened to it up to the cut.

Pure. A table is created under its name at the cut from the beginning: statements that rename it fall away, so that each
table's story stands alone and swapped names need no rule. Its rows at the snapshot's HIGH mark come first (a snapshot
without a lock is exact only there), then its changes and the statements that changed its definition, in the order of
transactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot.errors import SqlglotError

from recovery.alter import AddColumn, Operation
from recovery.archive.actions import Ddl, Segment
from recovery.archive.state import ArchiveState
from recovery.errors import NotComputable
from recovery.lineage import Lineage, Span, Step
from recovery.moments import reads_the_clock, settled
from recovery.plan import segments_by_table
from recovery.program import in_place, program
from recovery.refused import shown
from recovery.rename import Renames, rewritten
from recovery.restore_plan import RestorePlan, TablePlan
from recovery.retarget import NotRewritten
from recovery.scope import TableName
from recovery.stages import Stage, build
from recovery.statement_settings import at_its_moment
from recovery.straddling import Seqs
from recovery.tableinfo import system_versioned
from recovery.target import flavor_of


@dataclass(frozen=True)
class Story:
    """base: the table as it was at `base_seq`; its schema is empty if it wasn't there yet. statements: what changed its
    definition after that, each for its name at the cut. stages: the definitions and segments of its changes, of which those
    in (base_seq, cut] count."""

    table: TablePlan
    base: TablePlan
    base_seq: int
    statements: tuple[tuple[Ddl, str], ...]
    stages: tuple[Stage, ...]


def stories(state: ArchiveState, plan: RestorePlan, seqs: Seqs, renames: Renames) -> dict[TableName, Story]:
    """By table. renames: those of the plan. Raises NotComputable for what no statements can tell: a system-versioned table's
    history, changes that foreign keys made below the binlog, and what others would have been without a transaction that is
    left out; DdlInRange as a plan does."""
    segments = segments_by_table(state, plan.cut)
    found = {}
    for table in plan.tables:
        if any(map(system_versioned, table.schema)):
            raise _untold(table, "it is system-versioned, and no statement writes its history")
        if any(d.snapshot_id == table.snapshot_id and table.origin in d.children for d in plan.derivations):
            raise _untold(table, "foreign keys changed its rows without the server logging it")
        if plan.exclusion is not None:
            raise _untold(table, "transactions are left out of the restore")
        story = _story(state, table, segments, seqs, plan.cut.seq)
        found[table.db, table.table] = _renamed(story, table.lineage.name if table.lineage else ("", ""), renames)
    schemas = in_place({name: s.base.schema for name, s in found.items()}, flavor_of(state))
    return {name: replace(s, base=replace(s.base, schema=schemas[name])) for name, s in found.items()}


def _story(
    state: ArchiveState,
    table: TablePlan,
    segments: Mapping[TableName, Sequence[Segment]],
    seqs: Seqs,
    cut_seq: int,
) -> Story:
    lineage, base_seq = table.lineage, table.high_seq
    assert lineage is not None
    early = tuple(step for step in lineage.program if step.ddl.seq <= base_seq)
    late = [step for step in lineage.program if step.ddl.seq > base_seq]
    created = lineage.create.ddl
    for step in late:
        if any(_of_unknown_time(o, step.ddl) for o in step.operations):
            raise _untold(table, f"`{shown(step.ddl)}` gave its rows the time at which it ran, which isn't known")
    statements: list[tuple[Ddl, str]] = []
    schema: tuple[str, ...] = ()
    if created is not None and created.seq > base_seq:
        statements += [(created, text) for text in program(state, table.low_seq, cut_seq, replace(lineage, program=()))]
    else:
        schema = tuple(program(state, table.low_seq, cut_seq, replace(lineage, program=early)))
    for step in late:
        one = list(program(state, table.low_seq, cut_seq, replace(lineage, program=(step,))))
        statements += [(step.ddl, _timed(text, step)) for text in one[1:]]
    staged = build(_until(lineage, base_seq), state.schemas, segments, seqs)
    base = replace(table, schema=schema, staged=staged)
    return Story(table, base, base_seq, tuple(statements), table.staged.stages)


def _of_unknown_time(operation: Operation, ddl: Ddl) -> bool:
    if not isinstance(operation, AddColumn) or not reads_the_clock(operation.spec):
        return False
    default = settled(operation.spec, ddl).default
    return default is None or not default.moment


def _timed(text: str, step: Step) -> str:
    """To be run on rows, which get the moment of a default."""
    clock = any(isinstance(o, AddColumn) and reads_the_clock(o.spec) for o in step.operations)
    return at_its_moment(text, step.ddl.session) if clock and step.ddl.session is not None else text


def _renamed(story: Story, name: TableName, renames: Renames) -> Story:
    """With the statements under the table's new name; its rows' names are the plan's already."""
    unnamed = name in renames.tables

    def text(statement: str) -> str:
        return rewritten(statement, name, renames, unnamed=unnamed)

    try:
        schema = tuple(map(text, story.base.schema))
        statements = [(ddl, text(statement)) for ddl, statement in story.statements]
    except (NotRewritten, SqlglotError) as error:
        raise _untold(story.table, f"a statement can't be written under its new name ({error})") from error
    kept = tuple((ddl, statement) for ddl, statement in statements if statement)
    return replace(story, base=replace(story.base, schema=schema), statements=kept)


def _until(lineage: Lineage, seq: int) -> Lineage:
    """The lineage as it was at the end of transaction `seq`."""
    spans: list[Span] = []
    for span in lineage.spans:
        steps = tuple(s for s in span.steps if s.ddl.seq <= seq)
        if steps or span.low_seq < seq:
            spans.append(replace(span, high_seq=min(span.high_seq, seq), steps=steps))
    return replace(lineage, spans=tuple(spans), program=tuple(s for s in lineage.program if s.ddl.seq <= seq))


def _untold(table: TablePlan, why: str) -> NotComputable:
    return NotComputable(
        f"table `{table.label}` can't be told as SQL statements: {why}",
        hint="Use another --format, or leave the table out with `--exclude`.",
    )
