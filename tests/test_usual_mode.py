"""recovery/usual_mode.py: statements that were run under another sql_mode say the same under the usual one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oracle import assert_restored
from rowback import Rowback

from recovery.archive.actions import Session
from recovery.ddl import classify
from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES
from recovery.usual_mode import REAL_AS_FLOAT, in_usual_mode
from testservers import Server

PIPES_AS_CONCAT, ORACLE = 2, 512
BOTH = ANSI_QUOTES | NO_BACKSLASH_ESCAPES


def session(mode: int) -> Session:
    return Session(mode, "utf8mb4", 45, 45, None, None, 0, complete=True)


@pytest.mark.parametrize(
    ("statement", "mode", "text", "left"),
    [
        ('CREATE TABLE "a""`b" ("c\\" INT)', ANSI_QUOTES, 'CREATE TABLE `a"``b` (`c\\` INT)', 0),
        ("CREATE TABLE t (v CHAR(9) DEFAULT 'a\\')", NO_BACKSLASH_ESCAPES, "CREATE TABLE t (v CHAR(9) DEFAULT 'a\\\\')", 0),
        ("ALTER TABLE t COMMENT \"it's \\\"", NO_BACKSLASH_ESCAPES, "ALTER TABLE t COMMENT \"it's \\\\\"", 0),
        ("ALTER TABLE t ADD `\\` INT COMMENT '\\'''", BOTH, "ALTER TABLE t ADD `\\` INT COMMENT '\\\\'''", 0),
        (
            "CREATE TABLE t (r REAL, `REAL` REAL(5,2)) -- REAL", REAL_AS_FLOAT,
            "CREATE TABLE t (r FLOAT, `REAL` FLOAT(5,2)) -- REAL", 0,
        ),
        ('CREATE TABLE "t" (g CHAR AS ("a" || \'b\'))', ANSI_QUOTES | 2, "CREATE TABLE `t` (g CHAR AS (`a` || 'b'))", 2),
        (
            'ALTER TABLE "t" /*!80000 ADD "x" INT */ /* "y" */', ANSI_QUOTES,
            'ALTER TABLE `t` /*!80000 ADD `x` INT */ /* "y" */', 0,
        ),
        ("CREATE TABLE t (v CHAR(9), CHECK (v LIKE 'a\\%'))", NO_BACKSLASH_ESCAPES, None, NO_BACKSLASH_ESCAPES),
        ("ALTER TABLE t ADD g CHAR(9) AS (CONCAT(v,'\\')) STORED", NO_BACKSLASH_ESCAPES, None, NO_BACKSLASH_ESCAPES),
        ("ALTER TABLE t ADD v CHAR(9) DEFAULT (TRIM('\\'))", NO_BACKSLASH_ESCAPES, None, NO_BACKSLASH_ESCAPES),
        ("CREATE INDEX i ON t ((CONCAT(v, '\\')))", NO_BACKSLASH_ESCAPES, None, NO_BACKSLASH_ESCAPES),
        ('CREATE TABLE "t" (g INT AS (v + 1))', BOTH, "CREATE TABLE `t` (g INT AS (v + 1))", 0),
        ('CREATE TABLE "t" (v NUMBER)', ANSI_QUOTES | ORACLE, None, ANSI_QUOTES | ORACLE),
        ('CREATE VIEW "v" AS SELECT 1', ANSI_QUOTES, None, ANSI_QUOTES),
        ("CREATE TABLE t (v CHAR(9) DEFAULT \"a\\b\")", 0, None, 0),
    ],
)  # fmt: skip
def test_texts(statement: str, mode: int, text: str | None, left: int) -> None:
    found, after = in_usual_mode(statement, classify(statement, "d", mode).verb, session(mode))
    assert (found, after.sql_mode) == (text or statement, left)


STORY = (
    "CREATE DATABASE u; USE u; SET sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES';"
    'CREATE TABLE "order" ("id""`" INT PRIMARY KEY, "r" REAL DEFAULT 1.1, v VARCHAR(9) DEFAULT \'a\\n\' COMMENT \'\\\');'
    "INSERT INTO \"order\" VALUES (1, 2.2, 'x\\'), (2, 3, DEFAULT);"
    'ALTER TABLE "held" ADD "a\\" VARCHAR(9) DEFAULT \'\\t\', ADD r REAL; INSERT INTO held (id) VALUES (2);'
    'CREATE INDEX "of v" ON "order" ("v"); RENAME TABLE "held" TO "kept"; '
)


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_on_a_real_server(flavor: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fresh: Any = request.getfixturevalue(f"fresh_{flavor}")
    source: Server = fresh(name="modes")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load("CREATE DATABASE u; CREATE TABLE u.held (id INT PRIMARY KEY); INSERT INTO u.held VALUES (1)")
    rowback.catch_up()
    rowback.run("snapshot")
    source.load(STORY.replace("CREATE DATABASE u; ", ""))
    rowback.catch_up()
    rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "out"))
    assert_restored(source, target, tmp_path / "out", "u", ("order", "kept"))
