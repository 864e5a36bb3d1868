"""Which tables a snapshot holds, how each is read, and what speaks against reading it without a lock.

Planning only reads information_schema and SHOW CREATE. Promises: what can't be held exactly (a column type, a storage
engine without transactions, history by transaction numbers, a name that nothing can carry) is refused by name before
anything starts, unless the request excludes it; what isn't a table with rows of its own (views, sequences) is listed as
skipped.

A table is read by our own connection instead of from the dump where mydumper bends or leaves out its data: FLOAT columns
(six digits), INVISIBLE and generated columns (not dumped; the binlog's images hold them on both servers), the history of
system-versioned tables (MariaDB), columns with an expression default (left out by 0.10), an ENUM with an empty label (the
invalid value prints alike), and names that mydumper's SQL or file names can't carry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from recovery.archive.actions import Cascade, SchemaObject
from recovery.config import ServerSettings, wanted
from recovery.errors import SnapshotError, UnknownTable
from recovery.grants import Grants, read_grants
from recovery.schema import Table, check_supported
from recovery.snapshot.request import SnapshotRequest
from recovery.snapshot.rights import check_readable, events_shown, look_at_rights, missing_select
from recovery.source import Connection, ServerInfo, fetch
from recovery.source_tables import TABLE_TYPES, list_tables, read_tables, show_create_database, show_create_table
from recovery.tableinfo import system_versioned

Pair = tuple[str, str]

# mydumper 0.10 builds file names and some statements from bare names: quotes break its SQL, `/` its paths; `.` and
# endings like `-schema` make `db.table.00001.sql` ambiguous.
_UNCARRIED: Final = re.compile(r"[\x00-\x1f\x7f/\\.`'\",]|-schema(-\w+)?$|^\s|\s$")
# Sets with characters beyond U+FFFF; of binary's labels, MariaDB shows the bytes above 7F as `?`.
_BEYOND_PLANE: Final = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030", "binary"})
_BY_TRANSACTION: Final = re.compile(r"bigint\(\d+\) unsigned[^\n]* AS ROW START\b", re.IGNORECASE)
_AUTO_INCREMENT: Final = re.compile(r" AUTO_INCREMENT=\d+")


@dataclass(frozen=True)
class PlannedTable:
    """own_reason: why our own connection reads it ("": its rows come from the dump). dumped: mydumper dumps it, too.
    lock_reason: why it is exact only under the lock ("": it isn't). size_bytes: the server's estimate."""

    table: Table
    create_statement: str
    size_bytes: int
    own_reason: str
    dumped: bool
    lock_reason: str

    @property
    def pair(self) -> Pair:
        return (self.table.db, self.table.name)

    @property
    def versioned(self) -> bool:
        """Whether the table keeps its history."""
        return system_versioned(self.create_statement)


@dataclass(frozen=True)
class Plan:
    """omitted: the names that mydumper is told to leave out, in the databases that it dumps. cascades, objects: see
    `recovery.archive.actions.Snapshot`. events: mydumper is asked for them. separate: one mydumper per database.
    warnings: what the dump directory lacks, and what a definition may hide."""

    databases: tuple[tuple[str, str], ...]
    tables: tuple[PlannedTable, ...]
    skipped: tuple[tuple[str, str, str], ...]
    omitted: tuple[Pair, ...]
    cascades: tuple[Cascade, ...] = ()
    objects: tuple[SchemaObject, ...] = ()
    events: bool = True
    separate: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(t.size_bytes for t in self.tables)

    @property
    def dumped_databases(self) -> tuple[str, ...]:
        return tuple(sorted({t.table.db for t in self.tables if t.dumped}))

    def without(self, left_out: Iterable[PlannedTable]) -> Plan:
        """The same plan without tables that need a lock."""
        gone = {t.pair: t for t in left_out}
        return replace(
            self,
            tables=tuple(t for t in self.tables if t.pair not in gone),
            skipped=self.skipped + tuple((db, name, t.lock_reason) for (db, name), t in gone.items()),
            omitted=self.omitted + tuple(gone),
        )


def make_plan(connection: Connection, info: ServerInfo, server: ServerSettings, request: SnapshotRequest) -> Plan:
    """Raises UnknownTable, PrivilegeMissing, UnsupportedColumn or SnapshotError, each naming what it is about."""
    everything = list_tables(connection)
    grants = read_grants(connection)
    chosen = _choose_readable(connection, grants, everything, server, request)
    skipped = tuple((db, name, kind.lower()) for db, name, kind in chosen if kind in ("VIEW", "SEQUENCE"))
    for db, name, kind in chosen:
        if kind not in TABLE_TYPES | {"VIEW", "SEQUENCE"}:
            raise _refused(f"`{db}.{name}` is a {kind.lower()} table")
        if "\n" in name or "\n" in db:
            raise _refused(f"the name `{db}.{name}` has a line feed")
    pairs = [(db, name) for db, name, kind in chosen if kind in TABLE_TYPES]
    check_readable(connection, grants, pairs)
    sizes = _engines(connection, pairs)
    tables = {(t.db, t.name): t for t in read_tables(connection, pairs)}
    cascades = unlogged_cascades(connection, info)
    children = frozenset((c.db, c.table) for c in cascades)
    left_out = _taken_for_generated(connection)
    planned = [_plan_table(connection, tables, pair, sizes, children, left_out) for pair in pairs]
    dumped = tuple(sorted({t.table.db for t in planned if t.dumped}))
    views = [(db, name) for db, name, kind in chosen if kind == "VIEW" and db in dumped and carried(name)]
    rights = look_at_rights(connection, grants, dumped, views)
    names = {t.pair for t in planned if t.dumped} | {(db, name) for db, name, kind in chosen if kind not in TABLE_TYPES}
    names -= rights.hidden_views
    omitted = tuple((db, n) for db, n, _ in everything if db in dumped and ((db, n) not in names or not carried(n)))
    databases = tuple((db, show_create_database(connection, db)) for db in sorted({db for db, _ in pairs}))
    objects = _objects(connection, frozenset(db for db, _ in databases), frozenset(pairs))
    return Plan(
        databases,
        tuple(planned),
        skipped,
        omitted,
        cascades,
        objects,
        events=rights.events,
        separate=len(dumped) > 1 and _has_odd_neighbour(connection, dumped, rights.events),
        warnings=(*rights.warnings, *_hidden_labels(planned)),
    )


def _hidden_labels(planned: Sequence[PlannedTable]) -> Iterator[str]:
    """Labels that may not be what they look like: SHOW CREATE TABLE, too, prints `?` for what it can't show."""
    for column, table in ((c, t.table) for t in planned for c in t.table.columns):
        if column.charset in _BEYOND_PLANE and "?" in "".join(column.labels):
            yield (
                f"Labels of column {column.name} of {table.label} have a `?`, which servers also print for characters "
                "beyond U+FFFF: look at the definition after a restore."
            )


def _has_odd_neighbour(connection: Connection, dumped: Sequence[str], events: bool) -> bool:
    """Whether mydumper would fail at a database that isn't to be dumped: without a single name of its own to dump, it
    enters each one that it sees, and asks each for events."""
    for (name,) in fetch(connection, "SHOW DATABASES"):
        db = str(name)
        if db in dumped or db.lower() in ("information_schema", "performance_schema"):
            continue
        if not carried_database(db) or (events and not events_shown(connection, db)):
            return True
    return False


def carried(name: str) -> bool:
    """Whether mydumper's SQL and file names can carry this database's or table's name."""
    return _UNCARRIED.search(name) is None


def carried_database(name: str) -> bool:
    """The same for a database: mydumper 0.10 says USE in the character set `binary`, which MySQL takes for latin1, and
    reads its arguments in the locale of C."""
    return carried(name) and name.isascii()


def unsafe_without_lock(plan: Plan) -> tuple[PlannedTable, ...]:
    return tuple(t for t in plan.tables if t.lock_reason)


def fingerprint(connection: Connection, pairs: Sequence[Pair]) -> dict[Pair, tuple[object, ...]]:
    """What changes when a table is altered or recreated: its definition, CREATE statement and creation time. TRUNCATE
    changes none of these; a reader with an older snapshot gets error 1412 for such a table on both servers."""
    tables = {(t.db, t.name): t for t in read_tables(connection, pairs)}
    created = {
        (str(db), str(name)): str(at)
        for db, name, at in fetch(
            connection, "SELECT TABLE_SCHEMA, TABLE_NAME, CREATE_TIME FROM information_schema.TABLES"
        )
    }
    return {
        pair: (table, _AUTO_INCREMENT.sub("", show_create_table(connection, *pair)), created.get(pair))
        for pair, table in tables.items()
    }


def _choose_readable(
    connection: Connection,
    grants: Grants,
    everything: Sequence[tuple[str, str, str]],
    server: ServerSettings,
    request: SnapshotRequest,
) -> list[tuple[str, str, str]]:
    """The same as `_choose`, but what isn't found because the account may not see it is PrivilegeMissing."""
    try:
        return _choose(everything, server, request)
    except UnknownTable as error:
        for db in request.databases:
            if not grants.held("SELECT", db) and not any(row[0] == db for row in everything):
                raise missing_select(connection, f"database `{db}`", db) from error
        for pattern in request.tables:
            if not grants.held("SELECT", pattern.partition(".")[0]) and not _any_fits(everything, pattern):
                raise missing_select(connection, f"table `{pattern}`", None) from error
        if not everything and not grants.held("SELECT"):
            raise missing_select(connection, "any table", None) from error
        raise


def _choose(
    everything: Sequence[tuple[str, str, str]], server: ServerSettings, request: SnapshotRequest
) -> list[tuple[str, str, str]]:
    """The requested entries, less the excluded ones. Each pattern and database that was asked for must exist."""
    captured = [row for row in everything if server.wants(row[0], row[1])]
    for db in request.databases:
        if not any(row[0] == db for row in captured):
            raise _unknown(f"database `{db}`")
    for pattern in request.tables:
        if not _any_fits(captured, pattern):
            raise _unknown(f"table `{pattern}`")
    chosen = [row for row in captured if request.scope.covers(row[0], row[1])]
    if not any(kind in TABLE_TYPES for _, _, kind in chosen):
        raise _unknown("any table to snapshot")
    return chosen


def _any_fits(rows: Iterable[tuple[str, str, str]], pattern: str) -> bool:
    return any(wanted((pattern,), (), db, name) for db, name, _ in rows)


def _unknown(what: str) -> UnknownTable:
    return UnknownTable(
        f"the server doesn't show {what}",
        hint="Check the spelling (names are compared exactly), rowback.toml's include and exclude, and SELECT on it.",
    )


def _refused(what: str) -> SnapshotError:
    return SnapshotError(
        f"{what}, which this version can't back up exactly", hint="Leave it out with --exclude or in rowback.toml."
    )


def _engines(connection: Connection, pairs: Sequence[Pair]) -> dict[Pair, int]:
    """The estimated bytes of each table. Raises SnapshotError for one whose engine has no transactions."""
    rows = fetch(
        connection,
        "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.ENGINE, e.TRANSACTIONS, t.DATA_LENGTH FROM information_schema.TABLES t"
        " LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE WHERE t.TABLE_TYPE <> 'VIEW'",
    )
    wanted = set(pairs)
    sizes: dict[Pair, int] = {}
    for db, name, engine, transactions, size in rows:
        if (db, name) in wanted:
            if transactions != "YES":
                raise _refused(f"table `{db}.{name}` uses the engine {engine}, which has no transactions")
            sizes[(db, name)] = int(size or 0)
    return sizes


def _plan_table(
    connection: Connection,
    tables: dict[Pair, Table],
    pair: Pair,
    sizes: dict[Pair, int],
    cascades: frozenset[Pair],
    left_out: dict[Pair, str],
) -> PlannedTable:
    if pair not in tables or pair not in sizes:
        raise _unknown(f"the columns of table `{pair[0]}.{pair[1]}`")
    table = tables[pair]
    check_supported(table)
    dumped = carried_database(table.db) and carried(table.name)
    lock_reason = "it has no primary or unique NOT NULL key over whole columns" if not table.key else ""
    if pair in cascades:
        lock_reason = "foreign keys change its rows without a trace in the binlog"
    own = _own_reason(table) or left_out.get(pair, "") or ("" if dumped else "mydumper can't carry its name")
    create_statement = show_create_table(connection, *pair)
    if system_versioned(create_statement):
        if _BY_TRANSACTION.search(create_statement):
            raise _refused(f"table `{table.label}` keeps its history by transaction numbers")
        own = "mydumper leaves out the history of system-versioned tables"
    return PlannedTable(table, create_statement, sizes[pair], own, dumped, lock_reason)


def _own_reason(table: Table) -> str:
    for column in table.columns:
        if column.type == "float":
            return f"mydumper rounds the FLOAT column {column.name}"
        if column.generated:
            return f"mydumper leaves out the generated column {column.name}"
        if column.invisible:
            return f"mydumper leaves out the invisible column {column.name}"
        if column.type == "enum" and "" in column.labels:
            return f"the ENUM column {column.name} has an empty label"
    return ""


def _taken_for_generated(connection: Connection) -> dict[Pair, str]:
    """Tables with a column that mydumper 0.10 leaves out of its INSERTs though it isn't generated: it looks for GENERATED
    anywhere in EXTRA, and MySQL writes DEFAULT_GENERATED there for DEFAULT CURRENT_TIMESTAMP and expression defaults."""
    rows = fetch(
        connection,
        "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS"
        " WHERE EXTRA LIKE '%DEFAULT_GENERATED%'",
    )
    return {
        (str(db), str(name)): f"mydumper may take the default of column {column} for generated"
        for db, name, column in rows
    }


def unlogged_cascades(connection: Connection, info: ServerInfo) -> tuple[Cascade, ...]:
    """Foreign keys that may delete or change rows without row events: all on MariaDB, and on MySQL before 9.6 or with
    innodb_native_foreign_keys=ON (MySQL 9.6 release notes, "Foreign keys in the SQL layer")."""
    if info.flavor == "mysql" and info.version_tuple >= (9, 6):
        rows = fetch(connection, "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'")
        if rows and str(rows[0][1]) == "OFF":
            return ()
    found = fetch(
        connection,
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, DELETE_RULE, UPDATE_RULE"
        " FROM information_schema.REFERENTIAL_CONSTRAINTS"
        " WHERE UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT')"
        " OR DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT')",
    )
    return tuple(Cascade(*row) for row in sorted({tuple(str(value) for value in row) for row in found}))


_OBJECTS: Final = (
    "SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS",
    "SELECT 'view', TABLE_SCHEMA, TABLE_NAME, '' FROM information_schema.TABLES WHERE TABLE_TYPE = 'VIEW'",
    "SELECT 'sequence', TABLE_SCHEMA, TABLE_NAME, '' FROM information_schema.TABLES WHERE TABLE_TYPE = 'SEQUENCE'",
    "SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME, '' FROM information_schema.ROUTINES",
    "SELECT 'event', EVENT_SCHEMA, EVENT_NAME, '' FROM information_schema.EVENTS",
)


def _objects(connection: Connection, databases: frozenset[str], pairs: frozenset[Pair]) -> tuple[SchemaObject, ...]:
    """What these databases hold beside tables, triggers only of these tables; what the account may not see is missing."""
    found = {SchemaObject(*(str(value) for value in row)) for sql in _OBJECTS for row in fetch(connection, sql)}
    ours = (o for o in found if o.db in databases and (not o.table or (o.db, o.table) in pairs))
    return tuple(sorted(ours, key=lambda o: (o.db, o.type, o.name)))
