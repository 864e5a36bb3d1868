"""The objects of a restore: of each database by the newest snapshot that holds it, those in the user's scope.

A trigger comes with its table. A view, routine or event comes with its database, if it isn't left out by a pattern: with
`--tables shop.orders` none does, with `--tables 'shop.*'` all of shop's do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from recovery.archive.actions import Ddl, SchemaObject, Snapshot, Writer
from recovery.archive.definitions import Definition
from recovery.config import wanted as captured
from recovery.database_defaults import clause_of
from recovery.objects.fold import Catalog, LiveObject, fold
from recovery.objects.plan import ObjectPlan, plan_objects
from recovery.quoting import quote
from recovery.scope import Pattern, in_scope

Name = tuple[str, str]
_EARLIER: Final = "the snapshot was taken by an earlier version, which kept no definitions"
# Of a snapshot: its definitions, or why they can't be had.
Known: TypeAlias = tuple[Definition, ...] | str


@dataclass(frozen=True)
class Scope:
    """tables, sequences: those in the restore. Patterns: see recovery/scope.py. writer: with the capture filter. stored: a
    name as the patterns have it (`ArchiveState.stored_name`)."""

    tables: Collection[Name]
    patterns: Sequence[Pattern]
    exclude: Sequence[Pattern]
    writer: Writer | None = None
    stored: Callable[[str], str] = str
    sequences: Collection[Name] = ()

    def has(self, one: LiveObject) -> bool:
        if one.kind == "trigger":
            return (one.db, one.table) in self.tables
        return in_scope((one.db, self.stored(one.name)), self.patterns, self.exclude)

    def databases(self, usable: Sequence[tuple[Snapshot, int]], newest: Catalog) -> list[str]:
        """Those of the tables; in a restore of everything also those without a table, as far as capture wants them."""
        found = {db for db, _ in (*self.tables, *self.sequences)}
        if not self.patterns:
            bare = {db for db, _ in usable[0][0].databases if db in newest.clauses}
            made = {o.db for o in newest.objects.values() if o.db in newest.created and self._captured(o)}
            objects = {o.db for o in newest.objects.values() if self.has(o)}
            found |= (bare | made) & objects
        return sorted(found)

    def _captured(self, one: LiveObject) -> bool:
        return self.writer is None or captured(self.writer.include, self.writer.exclude, one.db, self.stored(one.name))


@dataclass(frozen=True)
class Chosen:
    """databases: the CREATE DATABASE statement of each as it was at the cut; notes: warnings."""

    plan: ObjectPlan
    databases: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def choose_objects(
    usable: Sequence[tuple[Snapshot, int]],
    definitions: Mapping[str, Known],
    ddls: Sequence[Ddl],
    cut_seq: int,
    scope: Scope,
    *,
    events_disabled: bool = False,
) -> Chosen:
    """usable: the snapshots that serve the cut with their low_seq, newest first. definitions: by snapshot_id."""
    catalogs: dict[str, Catalog] = {}

    def catalog(snapshot: Snapshot, low_seq: int) -> Catalog:
        if snapshot.snapshot_id not in catalogs:
            known = definitions_of(snapshot, definitions.get(snapshot.snapshot_id))
            catalogs[snapshot.snapshot_id] = catalog_at(snapshot, known, ddls, low_seq, cut_seq)
        return catalogs[snapshot.snapshot_id]

    notes: list[str] = []
    live: list[LiveObject] = []
    functions: list[Name] = []
    clauses: dict[str, str] = {}
    creates: dict[str, str] = {}
    read_at_us: dict[str, int] = {}
    for db in scope.databases(usable, catalog(*usable[0])):
        snapshot, low_seq = next((u for u in usable if db in dict(u[0].databases)), usable[0])
        found = catalog(snapshot, low_seq)
        create = dict(snapshot.databases).get(db, "")
        if not create and db not in found.created:
            notes.append(f"views, triggers, routines and events of database `{db}` are not known: no snapshot holds it")
        clauses[db] = found.clauses.get(db, "")
        creates[db] = create if clause_of(create) == clauses[db] and create else _create(db, clauses[db])
        read_at_us[db] = read_at(snapshot)
        own = [o for o in found.objects.values() if o.db == db]
        functions += [(o.db, o.name) for o in own if o.kind == "function"]
        live += [o for o in own if scope.has(o)]
    plan = plan_objects(
        live,
        clauses,
        {*scope.tables, *scope.sequences},
        ddls,
        cut_seq,
        read_at_us,
        functions=functions,
        events_disabled=events_disabled,
    )
    doubts = {d.seq: d for found in catalogs.values() for d in found.doubts}
    notes += [
        f"`{d.verb}` at {d.file}:{d.position} isn't understood: views, triggers, routines and events may differ by it"
        for _, d in sorted(doubts.items())
    ]
    return Chosen(plan, tuple(sorted(creates.items())), (*notes, *plan.warnings()))


def _create(db: str, clause: str) -> str:
    return f"CREATE DATABASE {quote(db)} {clause}".rstrip()


def catalog_at(
    snapshot: Snapshot, known: Sequence[Definition], ddls: Sequence[Ddl], low_seq: int, cut_seq: int
) -> Catalog:
    """The objects at the cut, from a snapshot's definitions. A synthetic one has what another snapshot's server said, and
    the statements since."""
    made, databases = snapshot.synthetic, dict(snapshot.databases)
    if made is None:
        return fold(known, databases, ddls, low_seq, cut_seq)
    return fold(known, databases, (*made.ddls, *(d for d in ddls if d.seq > low_seq)), -1, cut_seq)


def read_at(snapshot: Snapshot) -> int:
    """When the server said what the definitions hold, in microseconds."""
    return snapshot.synthetic.definitions_read_at_us if snapshot.synthetic else snapshot.low.read_at_us


def definitions_of(snapshot: Snapshot, known: Known | None) -> tuple[Definition, ...]:
    """The names alone where the definitions can't be had."""
    if isinstance(known, tuple):
        held = {(d.db, d.name) for d in known if d.type == "sequence"}
        names = [o for o in snapshot.objects if o.type == "sequence" and (o.db, o.name) not in held]
        why = "the snapshot has no definition of it: an earlier version took it, or it changed meanwhile"
        return (*known, *_unknown(snapshot, names, why))
    return _unknown(snapshot, snapshot.objects, known or _EARLIER)


def _unknown(snapshot: Snapshot, names: Sequence[SchemaObject], why: str) -> tuple[Definition, ...]:
    if snapshot.path:
        why = f"{why}; as far as mydumper writes them, they are in the dump directory `{snapshot.path}` of the archive"
    return tuple(Definition(o.type, o.db, o.name, o.table, problem=why) for o in names)
