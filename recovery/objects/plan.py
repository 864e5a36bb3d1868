"""What a restore creates beside tables, in the order in which a server takes it; and what it leaves out, by name.

Order: functions, procedures, packages, triggers (all data is in by then), views after what they read, events at the end.
A view is left out if it reads something that the restore doesn't have, for the server would refuse it, and the loader ends
there; so is one that was made with `SELECT *` from a table that changed afterwards, for nothing says which columns it has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from recovery.archive.actions import Ddl, Segment
from recovery.objects.fold import LiveObject, changed_since
from recovery.objects.load import LoadStatement, NotLoadable, statements
from recovery.objects.references import References, references
from recovery.objects.sequences import LiveSequence

Name = tuple[str, str]

_ORDER: Final = ("function", "procedure", "package", "package body", "trigger", "view", "event")
_SHOWN: Final = 20
_SYSTEM: Final = frozenset({"information_schema", "mysql", "performance_schema", "sys"})


@dataclass(frozen=True)
class PlannedObject:
    """clause: the defaults that its database had when it was made, where they were other ones than at the cut."""

    type: str
    db: str
    name: str
    statements: tuple[LoadStatement, ...]
    clause: str = ""

    @property
    def label(self) -> str:
        return f"{self.type} `{self.db}.{self.name}`"


@dataclass(frozen=True)
class LeftOut:
    """text: its last known definition; "" if there is none."""

    type: str
    db: str
    name: str
    reason: str
    text: str = ""

    @property
    def label(self) -> str:
        return f"{self.type} `{self.db}.{self.name}`"


@dataclass(frozen=True)
class ObjectPlan:
    """objects: in the order in which to create them. clauses: each database's defaults at the cut. crossing: a view reads a
    view or calls a function of another database. sequences: to be made before the tables; shared: a table takes values of
    another database's. passing: sequences that are gone at the cut, but stand in an earlier definition of a table: the load
    makes them and drops them again."""

    objects: tuple[PlannedObject, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    clauses: tuple[tuple[str, str], ...] = ()
    crossing: bool = False
    sequences: tuple[LiveSequence, ...] = ()
    shared: bool = False
    passing: tuple[Name, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """With the sequences' row images, each once."""
        return tuple(dict.fromkeys(s for one in self.sequences for part in one.stretches for s in part.segments))

    def counts(self) -> str:
        """`2 views, 1 trigger`; "" for none."""
        numbers = {"sequence": len(self.sequences)}
        numbers |= {kind: sum(o.type == kind for o in self.objects) for kind in _ORDER}
        plural = {"package body": "package bodies"}
        return ", ".join(f"{n} {kind if n == 1 else plural.get(kind, f'{kind}s')}" for kind, n in numbers.items() if n)

    def listed(self) -> list[dict[str, str]]:
        """What it makes, for a manifest."""
        sequences = [{"type": "sequence", "db": s.db, "name": s.name} for s in self.sequences]
        return sequences + [{"type": o.type, "db": o.db, "name": o.name} for o in self.objects]

    def warnings(self, told: Collection[LeftOut] = ()) -> list[str]:
        """One for each reason, with the names. told: those left out that were warned of before."""
        by_reason: dict[str, list[str]] = {}
        for one in self.left_out:
            if one in told:
                continue
            by_reason.setdefault(one.reason, []).append(one.label)
        return [
            f"not restored: {', '.join(names[:_SHOWN])}{_more(len(names))}: {reason}"
            for reason, names in by_reason.items()
        ]


def plan_objects(
    live: Sequence[LiveObject],
    clauses: Mapping[str, str],
    tables: Collection[Name],
    ddls: Sequence[Ddl],
    cut_seq: int,
    read_at_us: Mapping[str, int],
    *,
    functions: Collection[Name] = (),
    events_disabled: bool = False,
) -> ObjectPlan:
    """live: the objects in scope, triggers in their order. clauses: of the databases in the restore. tables: those in the
    restore. read_at_us: by database, when the snapshot that its objects come from was taken. functions: all that the source
    had at the cut, in scope or not."""
    planned: list[PlannedObject] = []
    left_out: list[LeftOut] = []
    views: dict[Name, LiveObject] = {}
    for one in sorted(live, key=lambda o: _ORDER.index(o.kind) if o.kind in _ORDER else 0):
        try:
            made = statements(one, read_at_us[one.db], events_disabled=events_disabled)
        except NotLoadable as error:
            left_out.append(_left_out(one, str(error)))
            continue
        if one.kind == "view":
            views[one.db, one.name] = one
        made = tuple(s if s.db in clauses else replace(s, db=one.db) for s in made)
        clause = one.clause if one.clause != clauses.get(one.db, "") else ""
        planned.append(PlannedObject(one.kind, one.db, one.name, made, clause))
    told = {name: _references(one) for name, one in views.items()}
    loaded = {folded((o.db, o.name)) for o in planned if o.type == "function"}
    known = {folded(f) for f in functions}
    held = {folded(t) for t in tables}
    while (bad := _first_bad(views, told, held, loaded, known, ddls, cut_seq)) is not None:
        name, reason = bad
        left_out.append(_left_out(views.pop(name), reason))
    order = _by_dependency({name: told[name] for name in views})
    rest = [o for o in planned if o.type != "view"]
    kept = {(o.db, o.name): o for o in planned if o.type == "view"}
    events = [o for o in rest if o.type == "event"]
    objects = [*(o for o in rest if o.type != "event"), *(kept[name] for name in order), *events]
    crossing = any(
        other[0].casefold() != name[0].casefold()
        for name in views
        for other in (*_among(told[name].tables, views), *told[name].functions)
    )
    return ObjectPlan(tuple(objects), tuple(left_out), tuple(sorted(clauses.items())), crossing)


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more, which the manifest names" if count > _SHOWN else ""


def folded(name: Name) -> Name:
    return name[0].casefold(), name[1].casefold()


def _left_out(one: LiveObject, reason: str) -> LeftOut:
    return LeftOut(one.kind, one.db, one.name, reason, ";\n".join(step.text for step in one.steps))


def _references(view: LiveObject) -> References:
    step = view.steps[-1]
    return references(step.parsed.words, step.db)


def _first_bad(
    views: Mapping[Name, LiveObject],
    told: Mapping[Name, References],
    tables: Collection[Name],
    loaded: Collection[Name],
    known: Collection[Name],
    ddls: Sequence[Ddl],
    cut_seq: int,
) -> tuple[Name, str] | None:
    """A view that can't be created, and why."""
    have = {*tables, *(folded(name) for name in views)}
    for name, view in views.items():
        refers = told[name]
        for table in sorted(refers.tables):
            if table[0].casefold() not in _SYSTEM and folded(table) not in have:
                return name, f"it reads `{table[0]}.{table[1]}`, which this restore doesn't have"
        for function in sorted(refers.functions):
            if function[0].casefold() not in _SYSTEM and folded(function) not in loaded:
                return name, f"it calls the function `{function[0]}.{function[1]}`, which this restore doesn't have"
        for function in sorted(refers.called):
            if folded(function) in known and folded(function) not in loaded:
                return name, f"it calls the function `{function[0]}.{function[1]}`, which this restore doesn't have"
        step = view.steps[-1]
        if refers.star and step.seq:
            for ddl in changed_since(ddls, step.seq, cut_seq, refers.tables):
                return name, (
                    f"it was made with `SELECT *`, and `{ddl.verb}` at {ddl.file}:{ddl.position} came later: which columns "
                    "it has isn't known"
                )
    return None


def _among(names: Collection[Name], views: Collection[Name]) -> list[Name]:
    """Those of the views that these names mean, or may mean where the server doesn't tell upper from lower case."""
    wanted = {folded(n) for n in names}
    return sorted(v for v in views if folded(v) in wanted)


def _by_dependency(told: Mapping[Name, References]) -> list[Name]:
    """The views in an order in which each comes after those that it reads; by name where that leaves a choice."""
    order: list[Name] = []
    begun: set[Name] = set()

    def visit(name: Name) -> None:
        if name in begun:
            return
        begun.add(name)
        for other in _among(told[name].tables, told):
            visit(other)
        order.append(name)

    for name in sorted(told):
        visit(name)
    return order
