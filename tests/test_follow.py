"""Statements that were followed wrongly once: tables that were there before, quoted keywords, what can't be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import ORDERS, Archive, insert
from rowback import Rowback

from recovery.archive.actions import Ddl, Session
from recovery.archive.snapshot_scope import SnapshotScope
from recovery.ddl import classify
from recovery.errors import RowbackError
from recovery.lineage import follow
from recovery.planning import plan_for
from testservers import MySQLServer

SESSION = Session(0, "utf8mb4", 45, 45, None, None, 0, complete=True)


def ddl(statement: str, seq: int = 5, sql_mode: int = 0) -> Ddl:
    found = classify(statement, "d", sql_mode)
    return Ddl(seq, None, "binlog.000001", 4, 0, "d", statement, found.verb, found.tables, SESSION)


@pytest.mark.parametrize(
    ("statement", "verb", "tables"),
    [
        ("TRUNCATE `table`.`a`", "TRUNCATE TABLE", (("table", "a"),)),
        ("TRUNCATE `table`", "TRUNCATE TABLE", (("d", "table"),)),
        ("CREATE UNIQUE INDEX `on` ON a (n)", "CREATE INDEX", (("d", "a"),)),
        ("ALTER TABLE a ADD `rename` INT, ADD b INT COMMENT 'rename'", "ALTER TABLE", (("d", "a"),)),
        ("ALTER TABLE `rename` RENAME `to`", "ALTER TABLE", (("d", "rename"), ("d", "to"))),
        ("CREATE DEFINER=`table`@`%` VIEW v AS SELECT 1", "CREATE VIEW", ()),
        ("CREATE TABLESPACE s ADD DATAFILE 's.ibd'", "CREATE TABLESPACE", ()),
        ("CREATE SPATIAL REFERENCE SYSTEM 4120 NAME 'x' DEFINITION 'y'", "CREATE REFERENCE", ()),
        ("RENAME TABLE a WAIT 5 TO b, c NOWAIT TO e", "RENAME TABLE", tuple(("d", n) for n in "abce")),
        ("CREATE OR REPLACE SEQUENCE IF NOT EXISTS s START WITH 5", "CREATE SEQUENCE", (("d", "s"),)),
        ("CREATE SEQUENCE s", "CREATE SEQUENCE", (("d", "s"),)),
    ],
)
def test_what_is_quoted_is_no_keyword(statement: str, verb: str, tables: tuple[tuple[str, str], ...]) -> None:
    found = classify(statement, "d")
    assert (found.verb, found.tables) == (verb, tables)


def test_a_table_that_may_have_been_there_is_not_taken_for_a_new_one() -> None:
    maybe, surely = ddl("CREATE TABLE IF NOT EXISTS b (id INT)"), ddl("CREATE TABLE b (id INT)")
    there = follow({}, 0, [maybe], 9, lambda name, seq: (name, seq) == (("d", "b"), 5))["d", "b"]
    assert there.obstacle is not None
    assert "was there before" in there.obstacle.why
    for statement, existed in ((maybe, False), (surely, True)):
        assert follow({}, 0, [statement], 9, lambda name, seq, e=existed: e)["d", "b"].obstacle is None  # type: ignore[misc]
    gone = [ddl("CREATE TABLE b (id INT)", 3), ddl("DROP TABLE b", 4), maybe]
    assert follow({}, 0, gone, 9, lambda name, seq: True)["d", "b"].obstacle is None  # followed all along


@pytest.mark.parametrize(
    ("scope", "known"),
    [
        (None, True),  # of an earlier version: taken for one of everything
        (SnapshotScope(), True),
        (SnapshotScope(databases=("shop",)), True),
        (SnapshotScope(tables=("shop.*",), exclude=("shop.old",)), True),
        (SnapshotScope(tables=("shop.orders",)), False),
        (SnapshotScope(databases=("crm",)), False),
        (SnapshotScope(exclude=("shop.b*",)), False),
    ],
)
def test_only_a_snapshot_that_would_hold_it_says_that_a_table_was_not_there(
    scope: SnapshotScope | None, known: bool, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "archive")
    archive.window(insert(ORDERS, id=1, v="x"))
    orders = archive.baseline("s", ORDERS, [], "CREATE TABLE `orders` (`id` int) CHARSET=utf8mb4")
    archive.snapshot("s", archive.mark(1), archive.mark(1), orders, scope=scope)
    made = archive.ddl(2, "CREATE TABLE IF NOT EXISTS bag (id INT PRIMARY KEY)", [("shop", "bag")])
    archive.window([], ddls=[made])
    if known:
        assert plan_for(archive.store, archive.state, "latest", ("shop.bag",), ()).tables
    else:
        with pytest.raises(RowbackError, match="whether the table was there before"):
            plan_for(archive.store, archive.state, "latest", ("shop.bag",), ())


def test_a_replacement_behind_set_statement_is_one() -> None:
    statements = [
        ddl("CREATE TABLE a (old INT)", 3),
        ddl("SET STATEMENT max_statement_time=9 FOR CREATE OR REPLACE TABLE a (new INT)"),
    ]
    found = follow({}, 0, statements, 9)["d", "a"]
    assert found.create.ddl is statements[1]
    assert [s.low_seq for s in found.spans] == [4]


def test_what_can_t_be_read_is_refused_and_not_missing() -> None:
    odd = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20) DEFAULT 'a\\b') COMMENT='c\\'"
    (found,) = follow({}, 0, [ddl(odd, sql_mode=1 << 20)], 9).values()
    assert found.obstacle is not None
    assert follow({}, 0, [ddl("CREATE SEQUENCE s")], 9) == {}


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_on_a_real_server(fresh_mysql: Any, tmp_path: Path) -> None:
    """A partial snapshot and a statement that did nothing; a database whose character set was changed behind a CREATE; a
    name that another table got behind the target, in the same window."""
    source: MySQLServer = fresh_mysql(name="source")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load(
        "CREATE DATABASE f CHARACTER SET utf8mb4; USE f; CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b LIKE a;"
        "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1), (2); CREATE TABLE g LIKE a;"
    )
    rowback.catch_up()
    rowback.run("snapshot")
    rowback.run("snapshot", "--tables", "f.a")
    source.load("USE f; INSERT INTO g VALUES (7); RENAME TABLE g TO h;")
    renamed = source.execute("SELECT @@gtid_executed")[0][0]
    source.load("USE f; CREATE TABLE g (id INT PRIMARY KEY); INSERT INTO g VALUES (8)")
    source.load(
        "USE f; CREATE TABLE IF NOT EXISTS b (id INT PRIMARY KEY); INSERT INTO b VALUES (3);"
        "CREATE TABLE c (id INT, w CHAR(1) CHARACTER SET latin1, d DECIMAL(8,2), v VARCHAR(9), PRIMARY KEY (id));"
        "INSERT INTO c VALUES (1, 'w', 1, '日本');"
        "CREATE TABLE e (id INT PRIMARY KEY, v VARCHAR(9)) CHARSET utf8mb4;"
        "ALTER DATABASE f CHARACTER SET latin1;"
    )
    rowback.catch_up()
    rowback.run("restore", "--to", "latest", "--tables", "f.b", "--format", "csv", "--output", str(tmp_path / "b"))
    gtid = f"{renamed.partition(':')[0]}:{renamed.rpartition('-')[2]}"
    rowback.run("restore", "--to", gtid, "--tables", "f.[gh]", "--format", "csv", "--output", str(tmp_path / "h"))
    assert [p.name.split(".")[1] for p in (tmp_path / "h").glob("**/f.?.*csv")] == ["h"]
    (rows,) = (tmp_path / "b").glob("**/f.b*.csv")
    assert sorted(rows.read_text().replace('"', "").split()[-3:]) == ["1", "2", "3"]
    done = rowback.run("restore", "--to", "latest", "--tables", "f.c", "--output", str(tmp_path / "c"), check=False)
    assert done.returncode == 7
    assert "it took the default character set of database `f`" in done.stderr
    rowback.run("restore", "--to", "latest", "--tables", "f.e", "--output", str(tmp_path / "e"))
