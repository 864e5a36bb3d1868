"""Views, triggers, routines, events and sequences of a snapshot's databases, by the server's own SHOW CREATE.

mydumper's text isn't used: 0.10 leaves sql_mode and character sets out or writes statements that don't parse. They are
read twice, before LOW and after HIGH. What is the same in both was so all the time and can be folded on from LOW; what isn't
has no known definition until a statement of the binlog gives it one. What can't be read is a warning, no failed snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from recovery.archive.definitions import Definition
from recovery.errors import RowbackError, SourceError
from recovery.grants import read_grants
from recovery.quoting import quote
from recovery.snapshot.rights import account_of
from recovery.source import SYSTEM_SCHEMAS, Connection, Row, ServerInfo, fetch
from recovery.source_tables import show_create_database

_LISTS: Final = (
    "SELECT 'view', TABLE_SCHEMA, TABLE_NAME, '' FROM information_schema.VIEWS ORDER BY TABLE_SCHEMA, TABLE_NAME",
    """SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS
    ORDER BY TRIGGER_SCHEMA, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER""",
    """SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME, '' FROM information_schema.ROUTINES
    ORDER BY ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE""",
    "SELECT 'event', EVENT_SCHEMA, EVENT_NAME, '' FROM information_schema.EVENTS ORDER BY EVENT_SCHEMA, EVENT_NAME",
    """SELECT 'sequence', TABLE_SCHEMA, TABLE_NAME, '' FROM information_schema.TABLES WHERE TABLE_TYPE = 'SEQUENCE'
    ORDER BY TABLE_SCHEMA, TABLE_NAME""",
)
_GONE: Final = ("1305", "1146", "1360", "1539", "1049")  # no such routine, table, trigger, event, database
_SHOWN: Final = 5
_CHANGED: Final = "it changed while the snapshot was taken"


def read_definitions(connection: Connection, databases: Iterable[str]) -> tuple[Definition, ...]:
    """All objects of these databases that the account sees, in a fixed order; without a definition, and with the reason,
    where it may not see that. Raises SourceUnreachable."""
    wanted = frozenset(databases)
    found: list[Definition] = []
    for listing in _LISTS:
        for row in fetch(connection, listing):
            kind, db, name, table = (str(value) for value in row)
            if db in wanted and (one := _read(connection, kind, db, name, table)) is not None:
                found.append(one)
    return tuple(found)


def bare_databases(
    connection: Connection, wants: Callable[[str, str], bool], known: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """(name, CREATE DATABASE statement) of databases without a table of the snapshot: tables made there later take their
    default character set, and some have views, routines or events. wants: whether a (database, name) is in the snapshot's
    scope; known: the databases that it has anyway."""
    empty = [(str(row[0]), "") for row in fetch(connection, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")]
    objects = [(str(row[1]), str(row[2])) for listing in _LISTS for row in fetch(connection, listing)]
    names = {db for db, name in (*empty, *objects) if wants(db, name)} - set(known)
    return tuple((db, show_create_database(connection, db)) for db in sorted(names) if db.lower() not in SYSTEM_SCHEMAS)


def _read(connection: Connection, kind: str, db: str, name: str, table: str) -> Definition | None:
    """None for one that has gone since it was listed."""
    blank = Definition(kind, db, name, table)
    if kind not in _READERS:
        return Definition(kind, db, name, table, problem=f"a {kind} isn't supported")
    try:
        rows = fetch(connection, f"SHOW CREATE {kind.upper()} {quote(db, name)}")
    except SourceError as error:
        if error.retryable:
            raise
        if any(f"error {number}:" in error.message for number in _GONE):
            return None
        return Definition(kind, db, name, table, problem=error.message)
    return _READERS[kind](blank, rows[0]) if rows else None


def _of_view(one: Definition, row: Row) -> Definition:
    _, statement, charset, collation = (str(value) for value in row[:4])
    return Definition(one.type, one.db, one.name, "", statement, "", charset, collation)


def _of_program(one: Definition, row: Row) -> Definition:
    """A trigger or a routine: the server gives NULL for a body that the account may not see."""
    sql_mode, statement = str(row[1]), row[2]
    charset, collation, db_collation = (str(value) for value in row[3:6])
    problem = "the account may not see its definition" if statement is None else ""
    text = None if statement is None else str(statement)
    return Definition(
        one.type, one.db, one.name, one.table, text, sql_mode, charset, collation, db_collation, "", problem
    )


def _of_event(one: Definition, row: Row) -> Definition:
    sql_mode, zone, statement = str(row[1]), str(row[2]), str(row[3])
    charset, collation, db_collation = (str(value) for value in row[4:7])
    return Definition(one.type, one.db, one.name, "", statement, sql_mode, charset, collation, db_collation, zone)


def _of_sequence(one: Definition, row: Row) -> Definition:
    """Without its row, which recovery/snapshot/sequences.py reads between the marks."""
    return Definition(one.type, one.db, one.name, "", str(row[1]))


_READERS: Final[dict[str, Callable[[Definition, Row], Definition]]] = {
    "view": _of_view, "trigger": _of_program, "procedure": _of_program, "function": _of_program, "event": _of_event,
    "package": _of_program, "package body": _of_program, "sequence": _of_sequence,
}  # fmt: skip


def settled(before: Sequence[Definition], after: Sequence[Definition]) -> tuple[Definition, ...]:
    """What is known of the whole time between two readings: what was the same in both, and by name what wasn't."""
    later = {_key(d): d for d in after}
    same = [d if later.get(_key(d)) == d else _unknown(d, _CHANGED) for d in before]
    known = {_key(d) for d in before}
    return (*same, *(_unknown(d, _CHANGED) for d in after if _key(d) not in known))


def _key(one: Definition) -> tuple[str, str, str]:
    return one.type, one.db, one.name


def _unknown(one: Definition, problem: str) -> Definition:
    return Definition(one.type, one.db, one.name, one.table, problem=problem)


def unknown_definitions(connection: Connection, info: ServerInfo, found: Sequence[Definition]) -> Iterator[str]:
    """Warnings for objects that a restore from this snapshot can't bring back."""
    changed = [d for d in found if d.problem == _CHANGED]
    if changed:
        yield f"these changed while the snapshot was taken, and their definitions aren't in it: {_named(changed)}"
    grants = read_grants(connection)
    if not grants.held("SELECT") and not grants.held("SHOW_ROUTINE"):
        privilege = "SHOW_ROUTINE" if info.flavor == "mysql" else "SELECT"
        yield (
            f"procedures and functions that the account may not see are not in it: GRANT {privilege} ON *.* TO "
            f"{_account(connection)};"
        )
    unseen = [d for d in found if d.problem and d.problem != _CHANGED]
    if not unseen:
        return
    missing = "SHOW_ROUTINE" if info.flavor == "mysql" else "SELECT"
    grant = f"GRANT {missing}, SHOW VIEW, TRIGGER, EVENT ON *.* TO {_account(connection)};"
    yield f"the definitions of these can't be read ({unseen[0].problem}), so they are not in it: {_named(unseen)}: {grant}"


def _account(connection: Connection) -> str:
    try:
        return account_of(connection)
    except RowbackError:
        return "the account"


def _named(found: Sequence[Definition]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(f"{d.type} `{d.db}.{d.name}`" for d in found[:_SHOWN]) + more
