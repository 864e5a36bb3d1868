"""The scratch server: an empty one of the source's kind on which statements are replayed.

Promises: one user at a time; a server that holds a table of anyone else is refused; only databases made by `make_database`
are dropped: after each use, and before the next one if a use was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

from recovery.config import ServerSettings
from recovery.errors import RowbackError, SourceMisconfigured, SourceUnreachable
from recovery.quoting import quote
from recovery.source import Connection, connect, fetch
from recovery.source_tables import list_tables

_LOCK_S: Final = 120  # how long another user may take
_STATEMENT_S: Final = 86_400  # how long a statement may say nothing: a large table is rewritten in one
_OURS: Final = "rowback_scratch"  # a database with the names of those that were made
# Settings that decide what a statement makes, and that no binlog event has.
DECISIVE: Final = (
    "lower_case_table_names",
    "explicit_defaults_for_timestamp",
    "innodb_default_row_format",
    "default_storage_engine",
)
_EMPTY: Final = "Give `scratch_host` a server that holds nothing: what is made there is dropped after each use."
_MADE: Final = quote(_OURS, "made")


@contextmanager
def scratch_server(settings: ServerSettings) -> Iterator[Connection]:
    """A connection to it, for its only user, without foreign key checks. Raises SourceMisconfigured, and SourceUnreachable
    if it stays in use."""
    with closing(connect(settings, read_timeout=_STATEMENT_S, write_timeout=_STATEMENT_S)) as connection:
        if fetch(connection, f"SELECT GET_LOCK('rowback_scratch', {_LOCK_S})")[0][0] != 1:
            raise SourceUnreachable(
                "the scratch server is in use", hint="Try again; or give captures and restores one each."
            )
        fetch(connection, "SET SESSION foreign_key_checks = 0")
        held = {name for db, name, _ in list_tables(connection) if db == _OURS}
        if (_OURS,) in fetch(connection, "SHOW DATABASES") and held <= {"made"}:  # a use that was killed
            _wipe(connection)
        if tables := list_tables(connection):
            raise SourceMisconfigured(
                f"the scratch server `{settings.host}:{settings.port}` is not empty: it has the table "
                f"`{tables[0][0]}.{tables[0][1]}`",
                hint=_EMPTY,
            )
        fetch(connection, f"CREATE DATABASE {quote(_OURS)}")
        fetch(
            connection, f"CREATE TABLE {_MADE} (name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY)"
        )
        try:
            yield connection
        finally:
            with suppress(RowbackError):  # the next use tries again
                _wipe(connection)


def make_database(connection: Connection, name: str, statement: str = "") -> None:
    """A database, unless it was made before. statement: the source's SHOW CREATE DATABASE; a plain one without it."""
    if not name or fetch(connection, f"SELECT name FROM {_MADE} WHERE name = %s", (name,)):
        return
    if name in {str(row[0]) for row in fetch(connection, "SHOW DATABASES")}:
        raise SourceMisconfigured(f"the scratch server has a database `{name}` of its own", hint=_EMPTY)
    fetch(connection, f"INSERT INTO {_MADE} VALUES (%s)", (name,))
    fetch(connection, statement or f"CREATE DATABASE {quote(name)}")


def kind_of(flavor: str, version: str) -> tuple[str, str]:
    """(flavor, series): what must be the source's, such as ("mysql", "9.7")."""
    return flavor, ".".join(version.split(".")[:2])


def made_tables(connection: Connection) -> list[tuple[str, str]]:
    """The tables that there are now, as (database, name)."""
    return [(db, name) for db, name, _ in list_tables(connection) if db != _OURS]


def _wipe(connection: Connection) -> None:
    """The names go last: what is left by a wipe that failed is still known for ours."""
    there = (_OURS, "made") in [(db, name) for db, name, _ in list_tables(connection)]
    for (name,) in fetch(connection, f"SELECT name FROM {_MADE}") if there else ():
        fetch(connection, f"DROP DATABASE IF EXISTS {quote(str(name))}")
    fetch(connection, f"DROP DATABASE {quote(_OURS)}")
