"""Statements that ran under settings of their own make the same on a target that has others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle import assert_restored
from replaying import scratch_lines
from rowback import Rowback

from recovery.archive.actions import Ddl, Session
from recovery.ddl import classify
from recovery.other_settings import other_settings
from recovery.replayable import why_not
from recovery.retarget import retargeted
from recovery.statement_settings import (
    EXPLICIT,
    SQL_MODE,
    as_statements,
    at_its_moment,
    implicitly,
    settings_of,
    with_settings,
)
from testservers import MariaDBServer, Server

SESSION = Session(0, "utf8mb4", 45, 45, None, None, 0, complete=True)
OFF = replace(SESSION, explicit_timestamps=False)
MODES = replace(SESSION, sql_mode=2 | 1 << 29, collation=255)
LITERAL = "ADD a TIMESTAMP NULL DEFAULT '2026-01-01'"


def ddl(statement: str, session: Session | None) -> Ddl:
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
def test_timestamps_of_mariadb(fresh_mariadb: Any, mariadb_target: MariaDBServer, tmp_path: Path) -> None:
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
    assert "ON UPDATE" in str(source.execute("SHOW CREATE TABLE e.made"))
    assert "ON UPDATE" not in str(source.execute("SHOW CREATE TABLE e.plain"))
    assert_restored(source, mariadb_target, tmp_path / "out", "e", NAMES)

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
    assert_restored(source, mariadb_target, tmp_path / "replayed", "e", ("held",))


@pytest.mark.parametrize(
    ("statement", "session", "why"),
    [
        ("CREATE TABLE t (r REAL)", replace(SESSION, sql_mode=1), "REAL_AS_FLOAT"),
        ('CREATE TABLE "t" (v INT)', replace(SESSION, sql_mode=4), "ANSI_QUOTES"),
        ("CREATE TABLE t (v NUMBER)", replace(SESSION, sql_mode=512), "ORACLE"),
        ("ALTER TABLE t ADD g INT AS (v-1)", replace(SESSION, sql_mode=64), "NO_UNSIGNED_SUBTRACTION"),
        ("CREATE INDEX k ON t ((v-1))", replace(SESSION, sql_mode=64), "NO_UNSIGNED_SUBTRACTION"),
        ("ALTER TABLE t ADD v CHAR(9) DEFAULT 'a\\b'", replace(SESSION, sql_mode=1 << 20), "NO_BACKSLASH_ESCAPES"),
        ("ALTER TABLE t ADD v CHAR(9) DEFAULT ''", replace(SESSION, sql_mode=1 << 32), "EMPTY_STRING_IS_NULL"),
        ("ALTER TABLE t ADD v CHAR(9) DEFAULT 'ä'", replace(SESSION, charset=""), "character set"),
        ("CREATE TABLE t (at TIMESTAMP)", replace(SESSION, complete=False), EXPLICIT),
        ("CREATE TABLE t (v INT) CHARSET utf8mb4", replace(SESSION, complete=False), "default_collation_for_utf8mb4"),
        ("ALTER TABLE t ADD at TIMESTAMP NULL DEFAULT '2026-01-01'", replace(SESSION, time_zone="SYSTEM"), "time zone"),
        ("CREATE TABLE t (at TIMESTAMP DEFAULT '0000-00-00')", replace(SESSION, time_zone="SYSTEM"), None),
        ("ALTER TABLE t ADD d DATETIME DEFAULT '2026-01-01'", SESSION, None),
        ("CREATE TABLE t (v INT NOT NULL COMMENT 'a-b', w INT)", replace(SESSION, sql_mode=4 | 2 | 64 | 1 << 29), None),
        ("CREATE TABLE t (v CHAR DEFAULT 'ä')", replace(SESSION, charset="latin1"), None),
        ("CREATE TABLE t (v INT)", replace(SESSION, complete=False), None),
        ("ALTER TABLE t ADD g INT AS (LENGTH(c))", replace(SESSION, sql_mode=1 << 31), "PAD_CHAR_TO_FULL_LENGTH"),
        ("CREATE TABLE t (c CHAR(9), g INT AS (LENGTH(c)))", replace(SESSION, sql_mode=1 << 31), "PAD_CHAR_TO_FULL"),
        ("CREATE TABLE t (c INT, g INT AS (c + 1))", replace(SESSION, sql_mode=1 << 31), None),
        ("ALTER TABLE t ADD c CHAR(9) DEFAULT 'a'", replace(SESSION, sql_mode=1 << 31), None),
        ("ALTER TABLE t ADD v CHAR DEFAULT _cp1251 'a' 'ä'", replace(SESSION, charset="latin1"), "introducer"),
        ("ALTER TABLE t ADD v CHAR DEFAULT N'ä'", replace(SESSION, charset="latin1"), "introducer"),
        ("ALTER TABLE t ADD v CHAR DEFAULT _cp1251'a' COMMENT 'ä'", replace(SESSION, charset="latin1"), None),
        ("ALTER TABLE t ADD v CHAR DEFAULT _latin1'ä'", SESSION, None),
        ("ALTER TABLE t ADD v VARBINARY(9) DEFAULT 'ä'", replace(SESSION, charset="latin1"), "binary column"),
        ("ALTER TABLE t ALTER v SET DEFAULT 'ä'", replace(SESSION, charset="latin1"), "binary column"),
        (
            "ALTER TABLE t ADD PARTITION (PARTITION p VALUES IN ('ä'))",
            replace(SESSION, charset="latin1"),
            "binary column",
        ),
        ("ALTER TABLE `ä` ADD v BLOB COMMENT = 'ä'", replace(SESSION, charset="latin1"), None),
        ("CREATE TABLE t (v ENUM('ä'))", replace(SESSION, charset="binary"), "character set binary"),
        ("CREATE TABLE `ä` (v INT COMMENT 'ä') COMMENT='ä'", replace(SESSION, charset="binary"), None),
        ('DROP TABLE "t"', replace(SESSION, sql_mode=4), None),
    ],
)
def test_what_can_t_be_made_again(statement: str, session: Session, why: str | None) -> None:
    found = other_settings(ddl(statement, session), "mysql")
    assert found is None if why is None else why in (found or "")
    if why in ("PAD_CHAR_TO_FULL_LENGTH", "NO_UNSIGNED_SUBTRACTION"):
        assert why in (why_not(ddl(statement, session)) or ""), "a replay doesn't help: the file's reader computes"
    assert other_settings(ddl(statement, None), "mysql") is None


@pytest.mark.parametrize(
    ("statement", "session", "flavor", "settings"),
    [
        ("CREATE TABLE t (g INT AS (v || 1))", MODES, "mysql", {"sql_mode": f"'{SQL_MODE},PIPES_AS_CONCAT'"}),
        ("CREATE TABLE t (g INT AS (NOT a))", MODES, "mysql", {"sql_mode": f"'{SQL_MODE},HIGH_NOT_PRECEDENCE'"}),
        ("ALTER TABLE t ADD v INT COMMENT 'a || b - c'", MODES, "mysql", {}),
        ("CREATE TABLE t (v CHAR, CHECK (v <> 'a'))", replace(SESSION, collation=8), "mysql", {"collation_connection": "8"}),
        ("CREATE TABLE t (v CHAR, CHECK (v <> 'a'))", replace(SESSION, collation=255), "mysql", {}),
        ("CREATE TABLE t (v CHAR, CHECK (v <> 'a'))", SESSION, "mariadb", {}),
        (f"ALTER TABLE t {LITERAL}", replace(SESSION, time_zone="+03:00"), "mysql", {"time_zone": "'+03:00'"}),
        (f"ALTER TABLE t {LITERAL}", replace(SESSION, time_zone="Europe/Paris"), "mysql", {"time_zone": "'Europe/Paris'"}),
        ("ALTER TABLE t ADD a TIMESTAMP DEFAULT NOW()", replace(SESSION, time_zone="Europe/Paris"), "mysql", {}),
        (f"ALTER TABLE t {LITERAL}", replace(SESSION, time_zone="SYSTEM", system_zone="+00:00"), "mysql", {}),
        ("CREATE TABLE t (a TIMESTAMP)", OFF, "mariadb", {EXPLICIT: "0"}),
        ("CREATE TABLE t (a TIMESTAMP)", replace(OFF, explicit_timestamps=True), "mariadb", {EXPLICIT: "1"}),
        ("CREATE TABLE t (a TIMESTAMP)", OFF, "mysql", {}),
        ("CREATE TABLE t (a TIMESTAMP)", SESSION, "mariadb", {}),
        ("CREATE TABLE t (a TIMESTAMP)", None, "mariadb", {}),
    ],
)  # fmt: skip
def test_what_a_statement_brings_along(
    statement: str, session: Session | None, flavor: str, settings: dict[str, str]
) -> None:
    text = with_settings(statement, session, flavor)
    assert settings_of(text) == settings
    assert text.endswith(statement)
    body = [s for s in as_statements(text) if not s.startswith("SET ")]
    assert body == [statement]


@pytest.mark.parametrize(
    ("column", "depends"),
    [
        ("a TIMESTAMP", True), ("a timestamp(6)", True), ("a TIMESTAMP DEFAULT 0", True), ("a TIMESTAMP NOT NULL", True),
        ("a TIMESTAMP NULL", False), ("a TIMESTAMP ( 3 ) NULL DEFAULT NULL", False),
        ("a TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP", False), ("`timestamp` INT", False),
        ("a DATETIME DEFAULT CURRENT_TIMESTAMP", False),
    ],
)  # fmt: skip
def test_which_columns_go_by_explicit_defaults(column: str, *, depends: bool) -> None:
    text = f"ALTER TABLE t ADD {column}"
    assert implicitly(ddl(text, OFF)) is depends
    assert not implicitly(ddl(text, replace(OFF, explicit_timestamps=True)))
    unknown = ddl(text, SESSION)
    assert (other_settings(unknown, "mariadb") is not None) is depends
    assert other_settings(unknown, "mysql") is None


def test_settings_go_with_the_text_and_are_taken_back() -> None:
    session = replace(OFF, collation=8, time_zone="-05:30", sql_mode=2, started_at_us=1_700_000_000_000_001)
    text = "CREATE TABLE a (t TIMESTAMP, g CHAR(3) AS ('x' || t)) COMMENT='/*'"
    noted = with_settings(text, session, "mariadb")
    moved = retargeted(noted, ("new db", "b"))
    assert moved is not None
    settings = (
        f"sql_mode = '{SQL_MODE},PIPES_AS_CONCAT', collation_connection = 8, time_zone = '-05:30', {EXPLICIT} = 0"
    )
    assert as_statements(at_its_moment(moved, session)) == (
        f"SET SESSION {settings}, timestamp = 1700000000.000001",
        "CREATE TABLE `new db`.`b` (t TIMESTAMP, g CHAR(3) AS ('x' || t)) COMMENT='/*'",
        "SET NAMES utf8mb4",
        f"SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', {EXPLICIT} = DEFAULT, timestamp = DEFAULT",
    )
    assert with_settings(noted, None, "mariadb") == text


def test_a_comment_that_a_user_wrote_is_no_setting() -> None:
    text = "/*rowback sql_mode=''; DROP TABLE t*/ CREATE TABLE t (a INT)"
    assert as_statements(with_settings(text, SESSION, "mysql")) == (text,)
    assert settings_of("/*rowback time_zone='+01:00', x=(SELECT 1)*/ CREATE TABLE t (a INT)") == {}
    assert as_statements(with_settings("/*rowback sql_mode=''*/ CREATE TABLE t (a INT)", SESSION, "mysql")) == (
        "CREATE TABLE t (a INT)",
    )


ODD = """
SET time_zone = '+03:00'; SET NAMES latin1 COLLATE latin1_german1_ci;
SET sql_mode = 'PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,NO_ENGINE_SUBSTITUTION';
ALTER TABLE o.held ADD at TIMESTAMP NULL DEFAULT '2026-01-01 00:00:00', ADD g VARCHAR(9) AS (v || '-' || n) VIRTUAL,
  ADD h INT AS (NOT n BETWEEN -5 AND 5) VIRTUAL;
CREATE TABLE o.made (id INT PRIMARY KEY, u INT UNSIGNED, s VARCHAR(9) AS (u || '9') VIRTUAL,
  at TIMESTAMP DEFAULT '2026-01-01 00:00:00', v VARCHAR(9), CHECK (v <> 'a' || 'b'));
INSERT INTO o.made (id, u) VALUES (1, 4); INSERT INTO o.held (id, v, n) VALUES (2, 'y', 0);
ALTER TABLE o.clock ADD d DATETIME(1) DEFAULT CURRENT_TIMESTAMP(1), ADD t TIMESTAMP(6) NULL DEFAULT CURRENT_TIMESTAMP(6);
ALTER TABLE o.clock ADD c VARCHAR(40) NOT NULL DEFAULT '/*!40101 SET NAMES utf8 */' COMMENT '/*M! x */';
INSERT INTO o.clock (id) VALUES (2);
"""


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_under_odd_settings(flavor: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fresh: Any = request.getfixturevalue(f"fresh_{flavor}")
    source: Server = fresh(name="odd")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load(
        "CREATE DATABASE o; CREATE TABLE o.held (id INT PRIMARY KEY, v VARCHAR(9), n INT);"
        "CREATE TABLE o.clock (id INT PRIMARY KEY);"
        "INSERT INTO o.held VALUES (1, 'x', 7); INSERT INTO o.clock VALUES (1);"
    )
    rowback.catch_up()
    rowback.run("snapshot")
    source.load(ODD)
    rowback.catch_up()
    for made in ("mydumper", "sql", "synthetic"):
        out = tmp_path / made
        if made == "synthetic":
            rowback.run("roll-forward", "--to", "latest")
        form = "sql" if made == "sql" else "mydumper"
        rowback.run("restore", "--to", "latest", "--format", form, "--output", str(out))
        assert_restored(source, target, out, "o", ("held", "made", "clock"))
