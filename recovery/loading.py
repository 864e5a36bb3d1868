"""A restore's files loaded through a connection, and a logged statement run as it was run on the source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pymysql

from recovery.archive.actions import Ddl
from recovery.errors import RowbackError
from recovery.objects.load import NotLoadable, encoded
from recovery.quoting import quote
from recovery.restore import RestoreResult
from recovery.scratch_server import make_database
from recovery.source import Connection, fetch, source_error

_END: Final = b";\n"  # no literal has a line feed in it (recovery/dump_values.py)
# Settings of the server that would add something to a table, or refuse one.
_OFF: Final = ("sql_generate_invisible_primary_key", "sql_require_primary_key", "innodb_strict_mode")
_EXPLICIT: Final = "explicit_defaults_for_timestamp"  # on, where a Session is complete


class NotLoaded(Exception):
    """Why the server can't be brought to what the source was."""


def load(connection: Connection, restored: RestoreResult) -> None:
    """Tables and rows of a dump directory, without views and what fires on changes. Raises NotLoaded."""
    assert restored.output is not None
    known = dict(restored.plan.databases)
    with _refusals(connection):
        _switch_off(connection)
        for table in restored.tables:
            if not known.get(table.db):
                raise NotLoaded(f"the archive doesn't have the definition of database `{table.db}`")
            make_database(connection, table.db, known[table.db])
            fetch(connection, f"USE {quote(table.db)}")
            for file in (*table.definition, *table.files):
                connection.begin()
                for statement in _statements(restored.output / file.name):
                    connection.query(statement)
                connection.commit()


def run_as_logged(connection: Connection, ddl: Ddl) -> None:
    """Raises NotLoaded."""
    session = ddl.session
    assert session is not None
    increment, offset = session.numbering
    values = {
        "foreign_key_checks": "0",
        "sql_mode": f"{session.sql_mode}",
        "collation_server": f"{session.server_collation}",
        "auto_increment_increment": f"{increment}",
        "auto_increment_offset": f"{offset}",
        "timestamp": f"{session.started_at_us // 1_000_000}.{session.started_at_us % 1_000_000:06}",
        "time_zone": f"'{session.zone or '+00:00'}'",
        "character_set_client": session.charset,
        "collation_connection": f"{session.collation}",
    }
    if session.explicit_timestamps is False:  # on, where it isn't said (_switch_off)
        values[_EXPLICIT] = "0"
    with _refusals(connection):
        body = encoded(ddl.statement, session.charset)
        for db in (ddl.default_db, *(db for db, _ in ddl.tables or ())):
            make_database(connection, db)
        if ddl.default_db:
            fetch(connection, f"USE {quote(ddl.default_db)}")
        fetch(connection, "SET SESSION " + ", ".join(f"{name} = {value}" for name, value in values.items()))
        connection.query(body)
        fetch(connection, "SET NAMES utf8mb4")
        fetch(connection, "SET SESSION time_zone = '+00:00', sql_mode = '', timestamp = DEFAULT")
        if _EXPLICIT in values:
            fetch(connection, f"SET SESSION {_EXPLICIT} = 1")


@contextmanager
def _refusals(connection: Connection) -> Iterator[None]:
    """Whatever the server, the files or the text have against it, as NotLoaded."""
    try:
        yield
    except NotLoadable as error:
        raise NotLoaded(str(error)) from error
    except RowbackError as error:
        raise NotLoaded(error.message) from error
    except (pymysql.MySQLError, OSError) as error:
        raise NotLoaded(source_error(error, connection=connection).message) from error


def _switch_off(connection: Connection) -> None:
    for name in _OFF:
        if fetch(connection, f"SHOW VARIABLES LIKE '{name}'"):
            fetch(connection, f"SET SESSION {name} = OFF")
    if fetch(connection, f"SELECT @@{_EXPLICIT}")[0][0] != 1:
        raise NotLoaded(f"it has {_EXPLICIT} off")


def _statements(path: Path) -> Iterator[bytes]:
    held: list[bytes] = []
    with path.open("rb") as file:
        for line in file:
            held.append(line)
            if line.endswith(_END):
                yield b"".join(held).removesuffix(_END)
                held = []
    if b"".join(held).strip():
        yield b"".join(held)
