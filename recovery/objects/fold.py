"""Which views, triggers, routines and events there are at a cut: a snapshot's, with the binlog's DDL folded in.

Pure, and it never guesses: an object that a statement touches without saying all has no known definition from there on, and
says why. Objects keep the statements that made them, CREATE and what altered it; the target server runs them itself.
A trigger goes where its table goes: RENAME TABLE takes it along, DROP TABLE and CREATE OR REPLACE TABLE take it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from recovery.archive.actions import Ddl, Session
from recovery.archive.definitions import Definition
from recovery.database_defaults import clause_made, clause_of, database_of
from recovery.objects.sequences import KIND
from recovery.objects.statement import ObjectStatement, dropped, event_clauses, parse
from recovery.sqlscan import mode_bits, scan

Name = tuple[str, str]
Key = tuple[str, str, str]  # kind, db, name

_NO_SESSION: Final = "the log of an earlier version doesn't hold the settings under which it was made"
# Names of routines and events are the same in any case (MySQL manual, "Identifier Case Sensitivity").
_ANY_CASE: Final = ("procedure", "function", "event", "package", "package body")


@dataclass(frozen=True)
class Step:
    """A statement that made or altered an object. db: the default database it runs with. session: the settings; None for a
    snapshot's own text, whose settings stand in its definition. seq: of its transaction, 0 for a snapshot's."""

    text: str
    db: str
    parsed: ObjectStatement
    session: Session | None = None
    seq: int = 0
    sql_mode_bits: int = 0


@dataclass(frozen=True)
class LiveObject:
    """definition: the snapshot's; None if a statement made it. steps: CREATE, then ALTERs; empty if the definition isn't
    known, for the reason in `problem`. table: a trigger's, as it is named now; moved: its table or the view itself was
    renamed since, so the text has an old name. clause: the database's defaults when it was made."""

    kind: str
    db: str
    name: str
    definition: Definition | None
    steps: tuple[Step, ...]
    problem: str = ""
    table: str = ""
    moved: bool = False
    clause: str = ""

    @property
    def key(self) -> Key:
        return self.kind, self.db, self.name

    @property
    def label(self) -> str:
        return f"{self.kind} `{self.db}.{self.name}`"


@dataclass
class Catalog:
    """objects: triggers in the order in which they have to be created. clauses: each database's defaults, such as
    `CHARACTER SET latin1`; created: databases whose CREATE was seen. doubts: statements that may have changed anything."""

    objects: dict[Key, LiveObject] = field(default_factory=dict)
    clauses: dict[str, str] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    doubts: list[Ddl] = field(default_factory=list)

    def find(self, kind: str, name: Name) -> Key | None:
        """The object's key; in another spelling if there is none in this one."""
        key = (kind, *name)
        if key in self.objects:
            return key
        folded = (kind, name[0].casefold(), name[1].casefold())
        return next((k for k in self.objects if (k[0], k[1].casefold(), k[2].casefold()) == folded), None)

    def triggers_of(self, table: Name, ddl: Ddl) -> list[LiveObject]:
        """A table's triggers. Those of a table whose name is spelt another way are in doubt: only the server's
        lower_case_table_names tells whether it is the same table."""
        folded = (table[0].casefold(), table[1].casefold())
        found = []
        for one in list(self.objects.values()):
            if one.kind == "trigger" and (one.db, one.table) == table:
                found.append(one)
            elif one.kind == "trigger" and (one.db.casefold(), one.table.casefold()) == folded:
                self.doubt(one.key, ddl)
        return found

    def doubt(self, key: Key, ddl: Ddl) -> None:
        why = f"`{ddl.verb}` at {ddl.file}:{ddl.position} may mean it, and spells a name another way"
        self.objects[key] = replace(self.objects[key], steps=(), problem=why)


def fold(
    definitions: Iterable[Definition],
    databases: Mapping[str, str],
    ddls: Iterable[Ddl],
    low_seq: int,
    cut_seq: int,
) -> Catalog:
    """The objects at the cut. definitions: a snapshot's, of its LOW mark (transaction `low_seq`); databases: its CREATE
    DATABASE statements. ddls: in order; those in (low_seq, cut_seq] are played."""
    catalog = Catalog(clauses={db: clause_of(text) for db, text in databases.items()})
    for one in definitions:
        if one.type == KIND:
            continue  # recovery/objects/sequences.py folds them
        live = _of_snapshot(one, catalog.clauses.get(one.db, ""))
        catalog.objects[live.key] = live
    for ddl in ddls:
        if low_seq < ddl.seq <= cut_seq:
            _play(catalog, ddl)
    return catalog


def _of_snapshot(one: Definition, clause: str) -> LiveObject:
    steps: tuple[Step, ...] = ()
    problem, moved = one.problem, False
    if one.statement is not None:
        parsed = parse(one.statement, one.db, mode_bits(one.sql_mode))
        if parsed is None:
            problem = "its definition can't be read"
        else:
            steps = (Step(one.statement, one.db, parsed, sql_mode_bits=mode_bits(one.sql_mode)),)
            # MariaDB shows a trigger with its table's name as it was typed, also where it has names in lower case.
            moved = parsed.table not in (None, (one.db, one.table))
    return LiveObject(one.type, one.db, one.name, one, steps, problem, one.table, moved, clause)


# --- statements -------------------------------------------------------------------------------------------------------


def _play(catalog: Catalog, ddl: Ddl) -> None:
    player = _PLAYERS.get(ddl.verb)
    verb, _, kind = ddl.verb.partition(" ")
    if kind in ("VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE") and ddl.tables == ():
        _object(catalog, ddl)
    elif player is not None:
        player(catalog, ddl)
    elif ddl.tables is None or (verb in ("CREATE", "ALTER", "DROP") and not kind):
        catalog.doubts.append(ddl)


def _object(catalog: Catalog, ddl: Ddl) -> None:
    mode = ddl.session.sql_mode if ddl.session else 0
    parsed = parse(ddl.statement, ddl.default_db, mode)
    if parsed is None:
        if not any(w.says("SONAME") for w in scan(ddl.statement, mode)):
            catalog.doubts.append(ddl)
        return
    if parsed.verb == "DROP":
        for name in dropped(ddl.statement, ddl.default_db, mode):
            _drop(catalog, ddl, parsed, name)
        return
    key = catalog.find(parsed.kind, parsed.name)
    if key is not None and _spelt_otherwise(key, parsed.name) and parsed.verb == "CREATE":
        if parsed.or_replace is not None or parsed.conditional:
            catalog.doubt(key, ddl)
        key = None  # a plain CREATE would have failed if it were the same
    if parsed.verb == "CREATE" or parsed.kind == "view":  # ALTER VIEW says all that CREATE does
        if key is None or not parsed.conditional:
            _create(catalog, ddl, parsed, key)
    elif key is None:
        _unknown(catalog, ddl, parsed)
    else:
        _alter(catalog, ddl, parsed, key)


def _spelt_otherwise(key: Key, name: Name) -> bool:
    return key[0] not in _ANY_CASE and key[1:] != name


def _drop(catalog: Catalog, ddl: Ddl, parsed: ObjectStatement, name: Name) -> None:
    key = catalog.find(parsed.kind, name)
    if key is not None and parsed.conditional and _spelt_otherwise(key, name):
        catalog.doubt(key, ddl)  # without IF EXISTS it would have failed if it were another one
    else:
        _remove(catalog, parsed.kind, name)


def _remove(catalog: Catalog, kind: str, name: Name) -> None:
    key = catalog.find(kind, name)
    if key is not None:
        del catalog.objects[key]
    if kind == "package":
        _remove(catalog, "package body", name)


def _create(catalog: Catalog, ddl: Ddl, parsed: ObjectStatement, key: Key | None) -> None:
    if key is not None:
        del catalog.objects[key]
    db, name = parsed.name
    problem = "" if ddl.session else _NO_SESSION
    steps = (_step(ddl, parsed, ddl.session),) if ddl.session else ()
    table = parsed.table[1] if parsed.table else ""
    live = LiveObject(parsed.kind, db, name, None, steps, problem, table, clause=catalog.clauses.get(db, ""))
    if parsed.order is None:
        catalog.objects[live.key] = live
        return
    word, other = parsed.order
    beside = catalog.find("trigger", (db, other))
    placed: dict[Key, LiveObject] = {}
    for each, value in catalog.objects.items():
        if each == beside and word == "PRECEDES":
            placed[live.key] = live
        placed[each] = value
        if each == beside and word == "FOLLOWS":
            placed[live.key] = live
    placed.setdefault(live.key, live)
    catalog.objects = placed


def _step(ddl: Ddl, parsed: ObjectStatement, session: Session) -> Step:
    return Step(ddl.statement, ddl.default_db, parsed, session, ddl.seq, session.sql_mode)


def _unknown(catalog: Catalog, ddl: Ddl, parsed: ObjectStatement) -> None:
    """ALTER of an object that no snapshot and no statement told of."""
    db, name = parsed.name
    problem = f"only a statement that alters it is known, at {ddl.file}:{ddl.position}"
    live = LiveObject(parsed.kind, db, name, None, (), problem)
    catalog.objects[live.key] = live


def _alter(catalog: Catalog, ddl: Ddl, parsed: ObjectStatement, key: Key) -> None:
    live = catalog.objects[key]
    if ddl.session is None:
        live = replace(live, steps=(), problem=live.problem or _NO_SESSION)
    elif live.steps:
        live = replace(live, steps=(*live.steps, _step(ddl, parsed, ddl.session)))
    if parsed.kind == "event":
        renamed = event_clauses(parsed, ddl.statement).rename
        if renamed is not None:
            db = renamed[0] if _qualified(ddl, parsed) else ddl.default_db
            del catalog.objects[key]
            live = replace(live, db=db, name=renamed[1])
    catalog.objects[live.key] = live


def _qualified(ddl: Ddl, parsed: ObjectStatement) -> bool:
    """Whether RENAME TO names a database; else it is the default one, not that of the event."""
    clauses = event_clauses(parsed, ddl.statement)
    assert clauses.rename_at is not None
    mode = ddl.session.sql_mode if ddl.session else 0
    return any(w.says(".") for w in scan(ddl.statement[slice(*clauses.rename_at)], mode))


# --- tables and databases ---------------------------------------------------------------------------------------------


def _drop_table(catalog: Catalog, ddl: Ddl) -> None:
    for table in ddl.tables or ():
        for trigger in catalog.triggers_of(table, ddl):
            del catalog.objects[trigger.key]


def _create_table(catalog: Catalog, ddl: Ddl) -> None:
    words = list(scan(ddl.statement, ddl.session.sql_mode if ddl.session else 0))
    if len(words) > 2 and words[1].says("OR") and words[2].says("REPLACE"):
        _drop_table(catalog, ddl)


def _rename(catalog: Catalog, ddl: Ddl) -> None:
    names = list(ddl.tables or ())
    for old, new in zip(names[::2], names[1::2], strict=False):
        _move(catalog, ddl, old, new)


def _alter_table(catalog: Catalog, ddl: Ddl) -> None:
    """ALTER TABLE a RENAME TO b has both names; one that exchanges partitions has them, too, but moves no trigger."""
    names = ddl.tables or ()
    words = list(scan(ddl.statement, ddl.session.sql_mode if ddl.session else 0))
    renames = any(w.says("RENAME") and not following.says("COLUMN", "INDEX", "KEY") for w, following in pairwise(words))
    if len(names) == 2 and renames:
        _move(catalog, ddl, names[0], names[1])


def _move(catalog: Catalog, ddl: Ddl, old: Name, new: Name) -> None:
    view = catalog.find("view", old)
    if view is not None and view[1:] != old:
        catalog.doubt(view, ddl)
        view = None
    moved: dict[Key, LiveObject] = {}
    triggers = {t.key for t in catalog.triggers_of(old, ddl)}
    for key, live in catalog.objects.items():
        if key == view:
            live = replace(live, db=new[0], name=new[1], moved=True)
        elif key in triggers:
            live = replace(live, db=new[0], table=new[1], moved=True)
        moved[live.key] = live
    catalog.objects = moved


def _create_database(catalog: Catalog, ddl: Ddl) -> None:
    db = database_of(ddl)
    words = list(scan(ddl.statement))
    if db in catalog.clauses and any(w.says("EXISTS") for w in words[:5]):
        return
    catalog.clauses[db] = clause_made(ddl) or ""
    catalog.created.add(db)


def _alter_database(catalog: Catalog, ddl: Ddl) -> None:
    clause = clause_of(ddl.statement)
    if clause:
        catalog.clauses[database_of(ddl)] = clause


def _drop_database(catalog: Catalog, ddl: Ddl) -> None:
    gone = {db for db, _ in ddl.tables or ()}
    catalog.objects = {k: o for k, o in catalog.objects.items() if o.db not in gone}
    catalog.clauses = {db: text for db, text in catalog.clauses.items() if db not in gone}
    for key in [k for k in catalog.objects if k[1].casefold() in {db.casefold() for db in gone}]:
        catalog.doubt(key, ddl)
    if next(scan(ddl.statement)).says("CREATE"):  # MariaDB's CREATE OR REPLACE DATABASE
        _create_database(catalog, ddl)


_PLAYERS: Final = {
    "DROP TABLE": _drop_table, "CREATE TABLE": _create_table, "RENAME TABLE": _rename, "ALTER TABLE": _alter_table,
    "DROP DATABASE": _drop_database, "CREATE DATABASE": _create_database, "ALTER DATABASE": _alter_database,
}  # fmt: skip


def made_names(ddls: Iterable[Ddl]) -> set[Name]:
    """The names of all views, triggers, routines and events that statements made."""
    parsed = (
        parse(d.statement, d.default_db, d.session.sql_mode if d.session else 0)
        for d in ddls
        if d.tables == () and d.verb.startswith("CREATE ")
    )
    return {p.name for p in parsed if p is not None}


def changed_since(ddls: Sequence[Ddl], seq: int, cut_seq: int, tables: Iterable[Name]) -> Iterator[Ddl]:
    """Statements behind transaction `seq` that may have changed one of these tables or views."""
    wanted = {(db.casefold(), name.casefold()) for db, name in tables}
    for ddl in ddls:
        if not seq < ddl.seq <= cut_seq:
            continue
        touched = {(db.casefold(), name.casefold()) for db, name in ddl.tables or ()}
        if ddl.verb.endswith(" VIEW") and ddl.tables == ():
            mode = ddl.session.sql_mode if ddl.session else 0
            parsed = parse(ddl.statement, ddl.default_db, mode)
            touched = {(parsed.name[0].casefold(), parsed.name[1].casefold())} if parsed else set()
        if ddl.tables is None or touched & wanted:
            yield ddl
