"""What rows get that are there when a column is added: beside a real server's own answer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime

import pytest

from recovery.alter import AddColumn, parse_alter
from recovery.defaults import implicit, stored
from recovery.schema import Column
from recovery.source_tables import read_tables
from testservers import Server

# A column's definition, and whether its value must be known.
DEFINITIONS = (
    ("decimal(8,2) NOT NULL DEFAULT 1.505", True),
    ("decimal(8,2) DEFAULT -0.004", True),
    ("decimal(50,6) DEFAULT 123456789012345678901234567890.5", True),
    ("decimal(50,6) NOT NULL", True),
    ("bigint unsigned DEFAULT 18446744073709551615", True),
    ("int DEFAULT '7'", True),
    ("double DEFAULT -2.5e3", True),
    ("float DEFAULT 0.1", True),
    ("float DEFAULT -0.0", True),
    ("double DEFAULT -0.0", True),
    ("double DEFAULT '-0.0'", False),
    ("double(5,2) DEFAULT 1.005", True),
    ("double(6,2) DEFAULT 2.675", True),
    ("double(6,1) DEFAULT -0.25", True),
    ("double(6,2) DEFAULT '-0.001'", True),
    ("double(30,10) DEFAULT 123456789.12345678915", True),
    ("float(8,3) DEFAULT -1234.5678", True),
    ("float(10,2) unsigned NOT NULL DEFAULT '19.99'", True),
    ("float(6,2) NOT NULL", True),
    ("set('x','y','Z') DEFAULT 'z,x'", True),
    ("set('x','y') DEFAULT ''", True),
    ("enum('a','B') DEFAULT 'b'", True),
    ("enum('a','B') NOT NULL", True),
    ("char(5) DEFAULT 'ab  '", True),
    ("varchar(9) CHARACTER SET latin1 DEFAULT 'ä ß '", True),
    ("varchar(9) CHARACTER SET utf8mb4 DEFAULT '日😀'", True),
    ("varchar(9) CHARACTER SET latin1 DEFAULT '€'", False),
    ("varbinary(5) NOT NULL", True),
    ("year DEFAULT 1999", True),
    ("year NOT NULL", True),
    ("year DEFAULT '99'", False),
    ("date DEFAULT '1999-12-31'", True),
    ("date DEFAULT '1999-1-1'", False),
    ("datetime(3) DEFAULT '2020-01-02 03:04:05.25'", True),
    ("datetime DEFAULT '2020-01-02'", True),
    ("datetime DEFAULT '2020-01-02 03:04:05.6'", False),
    ("time(2) DEFAULT '-10:11:12.5'", True),
    ("time NOT NULL", True),
    ("time DEFAULT '10:11'", False),
    ("timestamp DEFAULT '2020-01-02 03:04:05'", False),
)


def shown(column: Column) -> str:
    """The server's value as the archive writes it, in SQL."""
    if column.type == "time":
        seconds = f"ABS(TRUNCATE(TIME_TO_SEC(`{column.name}`), 0))"
        return f"CAST(IF(`{column.name}` < 0, -1, 1) * ({seconds} * 1000000 + MICROSECOND(`{column.name}`)) AS SIGNED)"
    return f"CAST(`{column.name}` AS CHAR CHARACTER SET utf8mb4)"


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.sockets
def test_defaults_are_what_the_server_stores(
    flavor: str, request: pytest.FixtureRequest, unique_name: Callable[[str], str]
) -> None:
    server: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("defaults")
    server.execute(f"CREATE DATABASE {db} CHARACTER SET utf8mb4")
    server.execute(f"CREATE TABLE {db}.t (id int PRIMARY KEY)")
    server.execute(f"INSERT INTO {db}.t VALUES (1)")
    specs = []
    for number, (definition, _) in enumerate(DEFINITIONS):
        statement = f"ALTER TABLE {db}.t ADD c{number} {definition}"
        server.execute(statement)
        (operation,) = parse_alter(statement, db)
        assert isinstance(operation, AddColumn), statement
        specs.append(operation.spec)
    with closing(server.connect()) as connection:
        columns = read_tables(connection, [(db, "t")])[0].columns[1:]
    for (definition, known), spec, column in zip(DEFINITIONS, specs, columns, strict=True):
        if column.type in ("float", "double"):  # (M,D) is in the statement alone
            column = replace(column, precision=spec.column.precision, scale=spec.column.scale)
        value = implicit(column) if spec.default is None else stored(column, spec.default.text or "")
        assert (value is not None) is known, definition
        if value is None:
            continue
        (same,) = server.execute(f"SELECT {shown(column)} = %s, {shown(column)} FROM {db}.t", [value])
        if column.type in ("float", "double"):
            bits = f"SELECT HEX(REVERSE(SUBSTRING(ST_AsBinary(POINT({column.name}, 0)), 6, 8))) FROM {db}.t"
            assert server.execute(bits) == ((struct.pack(">d", float(value)).hex().upper(),),), definition
        elif column.type in ("time", "year"):
            assert float(value) == float(same[1]), (definition, value, same[1])
        elif column.type == "datetime":
            assert datetime.fromisoformat(value) == datetime.fromisoformat(same[1]), definition
        else:
            assert (same[0], same[1]) == (1, value), definition
