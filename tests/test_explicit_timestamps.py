"""MariaDB's explicit_defaults_for_timestamp: a TIMESTAMP column is what it was on the source, whatever the target has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle import load_with_client
from replaying import scratch_lines
from rowback import Rowback

from recovery.archive.actions import Ddl, Session
from recovery.ddl import classify
from recovery.other_settings import implicit_timestamps, other_settings, with_settings
from testservers import MariaDBServer

SESSION = Session(0, "utf8mb4", 45, 45, None, None, 0, complete=True)
OFF = replace(SESSION, explicit_timestamps=False)


def ddl(statement: str, session: Session) -> Ddl:
    found = classify(statement, "d")
    return Ddl(5, None, "binlog.000001", 4, 0, "d", statement, found.verb, found.tables, session)


TABLES = """
CREATE DATABASE e; USE e;
CREATE TABLE held (id int PRIMARY KEY, a timestamp, b timestamp);
INSERT INTO held VALUES (1, '2026-01-02 03:04:05', '2026-01-02 03:04:06');
"""
CHANGES = """
USE e;
ALTER TABLE held ADD n int DEFAULT 7;
CREATE TABLE parent (id int PRIMARY KEY, at timestamp, `timestamp` timestamp(3));
SET STATEMENT max_statement_time = 100 FOR ALTER TABLE parent ADD n int;
CREATE TABLE child (id int, p int, REFERENCES_ timestamp, FOREIGN KEY (p) REFERENCES parent (id));
SET STATEMENT max_statement_time = 100 FOR ALTER TABLE child ADD z int FIRST;
SET STATEMENT max_statement_time = 100 FOR
  CREATE TABLE made (id int PRIMARY KEY, a timestamp, b timestamp NULL, c timestamp DEFAULT 0);
INSERT INTO parent (id) VALUES (1), (2); INSERT INTO child (id, p) VALUES (1, 1); INSERT INTO made (id) VALUES (1);
SET explicit_defaults_for_timestamp = ON;
CREATE TABLE plain (id int PRIMARY KEY, a timestamp, b timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP);
INSERT INTO plain (id) VALUES (1);
"""
NAMES = ("held", "parent", "child", "made", "plain")


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_on_a_real_server(fresh_mariadb: Any, mariadb_target: MariaDBServer, tmp_path: Path) -> None:
    source: MariaDBServer = fresh_mariadb(name="off", options={"explicit_defaults_for_timestamp": "OFF"})
    scratch: MariaDBServer = fresh_mariadb(name="scratch", binlog=False)
    assert mariadb_target.execute("SELECT @@explicit_defaults_for_timestamp")[0][0] == 1
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.catch_up()
    source.load(TABLES)
    rowback.catch_up()
    rowback.run("snapshot")
    source.load(CHANGES)
    rowback.catch_up()
    rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "out"))
    try:
        load_with_client(mariadb_target, tmp_path / "out")
        for name in NAMES:
            for query in (f"SHOW CREATE TABLE e.{name}", f"SELECT * FROM e.{name} ORDER BY 1"):
                assert mariadb_target.execute(query) == source.execute(query), query
        assert "ON UPDATE" in str(source.execute("SHOW CREATE TABLE e.made"))
        assert "ON UPDATE" not in str(source.execute("SHOW CREATE TABLE e.plain"))
    finally:
        mariadb_target.execute("DROP DATABASE IF EXISTS e")

    source.load("USE e; ALTER TABLE held ADD x timestamp; UPDATE held SET n = 8; INSERT INTO held (id) VALUES (2);")
    rowback.catch_up()
    command = ("restore", "--to", "latest", "--tables", "e.held", "--output")
    refused = rowback.run(*command, str(tmp_path / "refused"), check=False)
    assert refused.returncode != 0
    assert "`ALTER TABLE held ADD x timestamp` at " in refused.stderr
    assert "under explicit_defaults_for_timestamp = OFF" in refused.stderr
    assert "scratch_host" in refused.stderr
    rowback = Rowback(tmp_path / "rowback", source, extra=scratch_lines(scratch))
    rowback.run(*command, str(tmp_path / "replayed"))
    try:
        load_with_client(mariadb_target, tmp_path / "replayed")
        for query in ("SHOW CREATE TABLE e.held", "SELECT * FROM e.held ORDER BY 1"):
            assert mariadb_target.execute(query) == source.execute(query), query
    finally:
        mariadb_target.execute("DROP DATABASE IF EXISTS e")


@pytest.mark.parametrize(
    ("column", "depends"),
    [
        ("a TIMESTAMP", True), ("a timestamp(6)", True), ("a TIMESTAMP DEFAULT 0", True), ("a TIMESTAMP NOT NULL", True),
        ("a TIMESTAMP NULL", False), ("a TIMESTAMP ( 3 ) NULL DEFAULT NULL", False),
        ("a TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP", False), ("`timestamp` INT", False),
        ("a DATETIME DEFAULT CURRENT_TIMESTAMP", False),
    ],
)  # fmt: skip
def test_which_columns_go_by_it(column: str, *, depends: bool) -> None:
    text = f"ALTER TABLE t ADD {column}"
    assert implicit_timestamps(ddl(text, OFF)) is depends
    assert not implicit_timestamps(ddl(text, replace(OFF, explicit_timestamps=True)))
    unknown = ddl(text, SESSION)
    assert (other_settings(unknown, "mariadb") is not None) is depends
    assert other_settings(unknown, "mysql") is None
    expected = f"SET STATEMENT explicit_defaults_for_timestamp=0 FOR {text}" if depends else text
    assert with_settings(text, OFF, "mariadb") == expected
    assert with_settings(text, OFF, "mysql") == text
    assert with_settings(text, SESSION, "mariadb") == text


def test_a_statement_with_settings_of_its_own_keeps_them() -> None:
    text = "SET STATEMENT max_statement_time=1 FOR CREATE TABLE t (a TIMESTAMP)"
    found = with_settings(text, replace(OFF, explicit_timestamps=True), "mariadb")
    assert found == (
        "SET STATEMENT explicit_defaults_for_timestamp=1, max_statement_time=1 FOR CREATE TABLE t (a TIMESTAMP)"
    )
