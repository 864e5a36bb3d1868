"""What a synthetic snapshot says: another snapshot's words moved to a later transaction, with the DDL in between.

Pure. Nothing that only a server can say is made up: a table keeps the statement that created it and the DDL behind it, and
views, triggers, routines and events keep what the server said of them with the statements since. Sequences alone are
resolved: their definitions are those of the later transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from recovery.archive.actions import Baseline, Cascade, DataObject, Ddl, SchemaObject, Snapshot
from recovery.archive.definitions import Definition
from recovery.archive.state import ArchiveState
from recovery.objects.choose import catalog_at
from recovery.objects.sequences import BETWEEN, KIND, LiveSequence, Made
from recovery.program import written
from recovery.restore_plan import TablePlan
from recovery.schema import Table
from recovery.target import Cut

_OBJECTS: Final = ("VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE", "DATABASE")
_OR_REPLACE: Final = re.compile(r"\s*(?:/\*.*?\*/\s*)*CREATE\s+OR\s+REPLACE\b", re.IGNORECASE | re.DOTALL)


def baseline_of(
    state: ArchiveState,
    table: TablePlan,
    cut: Cut,
    definition: Table | None,
    objects: Sequence[DataObject],
    counter: Iterable[str],
) -> Baseline:
    """A table's baseline at the cut. definition: of its rows, None if it has none and their form was never seen. counter:
    statements that set its AUTO_INCREMENT. Raises DdlInRange and NotComputable as the plan did."""
    assert table.lineage is not None
    name = (table.db, table.table)
    pending = {id(step) for step in table.staged.pending} if definition is not None else set[int]()
    create = ""
    program: list[Ddl] = []
    applied = 0
    for step, text in written(state, table.low_seq, cut.seq, table.lineage):
        if step is None:
            create = text
            continue
        program.append(replace(step.ddl, default_db=table.db, statement=text, tables=(name,), session=None))
        if id(step) not in pending:
            applied = len(program)
    assert create, "a table is created by a statement"
    where = (cut.seq, cut.gtid, cut.file, cut.position, cut.cut_at_us, table.db)
    program += [Ddl(*where, text, "ALTER TABLE", (name,)) for text in counter]
    held = replace(definition, db=table.db, name=table.table) if definition else Table(table.db, table.table, ())
    return Baseline(
        db=table.db,
        table=table.table,
        schema_id=held.schema_id,
        definition=held,
        create_statement=create,
        rows=sum(o.rows for o in objects),
        objects=tuple(objects),
        program=tuple(program),
        applied=applied,
    )


def object_ddls(base: Snapshot, low_seq: int, ddls: Iterable[Ddl], cut_seq: int) -> tuple[Ddl, ...]:
    """The statements behind the base's definitions that may have changed what they say, up to the cut."""
    before = base.synthetic.ddls if base.synthetic else ()
    return (*before, *(d for d in ddls if low_seq < d.seq <= cut_seq and _matters(d)))


def _matters(ddl: Ddl) -> bool:
    """Whether it may have made, changed or taken away an object (recovery/objects/fold.py plays it)."""
    verb, _, kind = ddl.verb.partition(" ")
    if kind == "TABLE":
        renames = verb == "ALTER" and len(ddl.tables or ()) > 1
        replaces = verb == "CREATE" and _OR_REPLACE.match(ddl.statement) is not None
        return ddl.tables is None or verb in ("DROP", "RENAME") or renames or replaces
    return ddl.tables is None or any(kind.startswith(each) for each in _OBJECTS) or not kind


def objects_at(
    base: Snapshot, known: Sequence[Definition], ddls: Sequence[Ddl], low_seq: int, cut_seq: int
) -> tuple[SchemaObject, ...]:
    """The names of what the base's databases hold at the cut. known: the base's definitions, with sequences as they are at
    the cut."""
    sequences = [SchemaObject(d.type, d.db, d.name) for d in known if d.type == KIND]
    found = catalog_at(base, known, ddls, low_seq, cut_seq).objects.values()
    return (*sequences, *(SchemaObject(o.kind, o.db, o.name, o.table) for o in found))


def sequences_at(made: Iterable[tuple[LiveSequence, Made]]) -> tuple[Definition, ...]:
    """Definitions of sequences that hold what statements and row images made of them up to the cut."""
    return tuple(
        Definition(KIND, one.db, one.name, problem=one.problem or how.doubt)
        if one.problem or how.doubt
        else Definition(KIND, one.db, one.name, statement=BETWEEN.join(how.statements))
        for one, how in made
    )


def cascades_at(cascades: Iterable[Cascade], ddls: Iterable[Ddl], low_seq: int, cut_seq: int) -> tuple[Cascade, ...]:
    """Unlogged foreign keys of transaction `low_seq` under the names of the cut. One that was dropped on its own stays: that
    errs on the safe side. One that a statement added isn't here: its child is refused (recovery/program.py)."""
    now = list(cascades)
    for ddl in ddls:
        if not low_seq < ddl.seq <= cut_seq or not ddl.tables:
            continue
        if ddl.verb in ("DROP TABLE", "DROP DATABASE"):
            gone = {_fold(t) for t in ddl.tables}
            now = [c for c in now if _fold((c.db, c.table)) not in gone and (c.db.casefold(), "") not in gone]
        elif ddl.verb in ("RENAME TABLE", "ALTER TABLE"):
            for old, new in _moves(ddl):
                now = [_moved(c, old, new) for c in now]
    return tuple(now)


def _moves(ddl: Ddl) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    names = ddl.tables or ()
    if ddl.verb == "RENAME TABLE":
        yield from zip(names[::2], names[1::2], strict=False)
    elif len(names) == 2 and re.search(r"\bRENAME\b(?!\s+(?:COLUMN|INDEX|KEY)\b)", ddl.statement, re.IGNORECASE):
        yield from pairwise(names)


def _moved(cascade: Cascade, old: tuple[str, str], new: tuple[str, str]) -> Cascade:
    if _fold((cascade.db, cascade.table)) == _fold(old):
        cascade = replace(cascade, db=new[0], table=new[1])
    if _fold((cascade.parent_db, cascade.parent_table)) == _fold(old):
        cascade = replace(cascade, parent_db=new[0], parent_table=new[1])
    return cascade


def _fold(name: tuple[str, str]) -> tuple[str, str]:
    return name[0].casefold(), name[1].casefold()
