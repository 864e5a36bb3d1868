"""Views, triggers, routines and events of a restore under other names (recovery/rename.py).

An object goes along with its renamed database if its text, apart from its own name, its table's and its definer's, has
none of the old names: unqualified names then mean the new database. Any other mention, be it in a string or a comment,
leaves the object out by name: whether it is the database or a column's qualifier isn't read. So does a mention of a
renamed table. A view that names an object left out is left out as well, for the server would refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from recovery.objects.load import LoadStatement, NotLoadable
from recovery.objects.plan import LeftOut, Name, ObjectPlan, PlannedObject, folded
from recovery.objects.statement import Span, edited, parse
from recovery.quoting import quote
from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES


@dataclass(frozen=True)
class Names:
    """Old -> new."""

    databases: Mapping[str, str]
    tables: Mapping[Name, Name]

    def mentioned(self, text: str) -> str | None:
        """An old name that stands in the text as a word, whatever its case."""
        for name in (*self.databases, *(table for _, table in self.tables)):
            if says(text, name):
                return name
        return None


def says(text: str, name: str) -> bool:
    written = re.escape(name.replace("`", "``"))
    return re.search(rf"(?<![\w$]){written}(?![\w$])", text, re.IGNORECASE) is not None


def objects_renamed(plan: ObjectPlan, names: Names) -> ObjectPlan:
    """The objects that can go along, in their order; the others are added to those left out."""
    kept: list[PlannedObject] = []
    lost: list[LeftOut] = []
    for one in plan.objects:
        try:
            new = _renamed(one, names)
            if any((k.type, *folded((k.db, k.name))) == (new.type, *folded((new.db, new.name))) for k in kept):
                raise NotLoadable(f"database `{new.db}` has another {new.type} of this name after `--rename`")
            kept.append(new)
        except NotLoadable as error:
            lost.append(_left_out(one, str(error)))
    while (bad := next((o for o in kept if o.type == "view" and _reads(o, lost)), None)) is not None:
        kept.remove(bad)
        lost.append(_left_out(bad, "it names an object that `--rename` leaves out"))
    clauses = {names.databases.get(db, db): clause for db, clause in plan.clauses}
    left_out = (*plan.left_out, *lost)
    return replace(plan, objects=tuple(kept), left_out=left_out, clauses=tuple(sorted(clauses.items())))


def _left_out(one: PlannedObject, reason: str) -> LeftOut:
    return LeftOut(one.type, one.db, one.name, reason, ";\n".join(s.text for s in one.statements))


def _reads(view: PlannedObject, lost: Iterable[LeftOut]) -> bool:
    return any(says(s.text, one.name) for one in lost if one.type in ("view", "function") for s in view.statements)


def _renamed(one: PlannedObject, names: Names) -> PlannedObject:
    statements = tuple(_statement(one, s, names) for s in one.statements)
    return replace(one, db=names.databases.get(one.db, one.db), statements=statements)


def _statement(one: PlannedObject, statement: LoadStatement, names: Names) -> LoadStatement:
    """Raises NotLoadable with the reason why it can't be."""
    parsed = parse(statement.text, statement.db, _bits(statement.sql_mode))
    if parsed is None:
        raise NotLoadable("`--rename` can't read its text")
    changes: list[tuple[Span, str]] = []
    if one.db in names.databases:
        changes.append((parsed.named, _full(names.databases[one.db], parsed.name[1])))
    if parsed.on is not None and parsed.table is not None:
        if parsed.table in names.tables:
            raise NotLoadable("its table has another name, and the original still has a trigger of this one")
        if parsed.table[0] in names.databases:
            changes.append((parsed.on, _full(names.databases[parsed.table[0]], parsed.table[1])))
    hidden = [span for span, _ in changes] + ([parsed.definer] if parsed.definer else [])
    found = names.mentioned(edited(statement.text, [(span, " ") for span in hidden]))
    if found is not None:
        raise NotLoadable(f"its text names `{found}`, which `--rename` gives another name")
    db = names.databases.get(statement.db, statement.db)
    made = replace(statement, db=db, text=edited(statement.text, changes))
    _ = made.body  # the new name, too, has to be written in the object's character set
    return made


def _full(db: str, name: str) -> str:
    return quote(db, name)


def _bits(sql_mode: str) -> int:
    """Of a number or a list of names, as SET takes them."""
    if sql_mode.isdigit():
        return int(sql_mode)
    names = sql_mode.upper()
    return ("ANSI_QUOTES" in names) * ANSI_QUOTES | ("NO_BACKSLASH_ESCAPES" in names) * NO_BACKSLASH_ESCAPES
