"""Sources with lower_case_table_names=1: statements spell names as they like, and restores are what the source has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from oracle import load_with_client
from replaying import scratch_lines
from rowback import Rowback

from recovery.lowercase import LOWER, lowered
from testservers import Server

ALPHA, SMALL = "\u0391", "\u03c3\u03b1\u03c3"
DATABASES = ("shop", "depot", "école")
BEFORE = [
    "CREATE DATABASE Shop",
    "CREATE DATABASE `École`",
    "USE SHOP",
    "CREATE TABLE Parent (Id INT PRIMARY KEY, N INT)",
    "CREATE TABLE Child (Id INT PRIMARY KEY, P INT, FOREIGN KEY (P) REFERENCES PARENT (Id))",
    "CREATE TABLE Old (Id INT PRIMARY KEY)",
    "CREATE TABLE Emptied (Id INT PRIMARY KEY)",
    "CREATE TABLE Gone (Id INT PRIMARY KEY)",
    "CREATE VIEW Held AS SELECT Pa.Id AS TheId, PARENT.n FROM Parent Pa JOIN PARENT ON pA.Id = parent.ID",
    "CREATE VIEW Dropped AS SELECT 1 AS One",
    "CREATE TRIGGER Before_Insert BEFORE INSERT ON PARENT FOR EACH ROW SET NEW.N = COALESCE(NEW.N, 0) + 1",
    "CREATE TRIGGER Goes BEFORE INSERT ON Gone FOR EACH ROW SET @x = 1",
    "CREATE PROCEDURE Shop.Proc() SELECT COUNT(*) FROM PARENT",
    "INSERT INTO PARENT VALUES (1, 1), (2, 2)",
    "INSERT INTO Child VALUES (1, 1)",
    "INSERT INTO old VALUES (1)",
    "INSERT INTO Emptied VALUES (1)",
]
AFTER = [
    "CREATE DATABASE Depot",
    "USE shop",
    "CREATE TABLE Bar (Id INT PRIMARY KEY, M INT, CHECK (M > 0))",
    "INSERT INTO BAR VALUES (1, 5), (2, 6)",
    "CREATE TABLE Copy LIKE BAR",
    "INSERT INTO copy SELECT * FROM Bar",
    "CREATE TABLE Selected SELECT B.Id, B.M FROM BAR B",
    "ALTER TABLE CHILD ADD Q INT, ADD FOREIGN KEY (Q) REFERENCES Shop.Parent (Id)",
    "UPDATE child SET q = 2",
    "ALTER TABLE Child DROP FOREIGN KEY Child_ibfk_1",
    "RENAME TABLE OLD TO Renamed, SELECTED TO Depot.Moved",
    "INSERT INTO RENAMED VALUES (2)",
    "INSERT INTO DEPOT.Moved VALUES (9, 9)",
    "ALTER TABLE Renamed ADD Z INT DEFAULT 3, RENAME Again",
    "CREATE INDEX Ix ON AGAIN (Z)",
    "INSERT INTO again VALUES (3, 4)",
    "TRUNCATE EMPTIED",
    "INSERT INTO Emptied VALUES (7)",
    "DROP TABLE GONE",
    "CREATE TABLE gonE (Id INT PRIMARY KEY, Other INT, CHECK (GonE.Other > 0))",
    "INSERT INTO Gone VALUES (1, 1)",
    "CREATE TRIGGER On_Bar AFTER INSERT ON shop.BAR FOR EACH ROW SET @x = 1",
    "CREATE OR REPLACE VIEW HELD AS SELECT Id AS TheId FROM Bar WHERE BAR.Id < 3",
    """CREATE VIEW Made (First_Col) AS WITH Cte AS (SELECT Id FROM BAR) SELECT C.Id FROM cte c, (SELECT N FROM Parent) Sub
WHERE SUB.n = C.id AND EXISTS (SELECT 1 FROM DEPOT.Moved WHERE MOVED.Id = c.Id)""",
    "RENAME TABLE MADE TO `Made Later`",
    "CREATE VIEW Over_It AS SELECT H.TheId FROM held H",
    "DROP VIEW IF EXISTS DROPPED",
    "CREATE FUNCTION SHOP.Fn() RETURNS INT DETERMINISTIC RETURN 7",
    "CREATE EVENT Shop.Ev ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM BAR",
    "USE ÉCOLE",
    "CREATE TABLE `ΣΑΣ İ` (Id INT PRIMARY KEY)",
    "INSERT INTO `ΣaΣ İ` VALUES (1)".replace("a", ALPHA),
    "ALTER TABLE École.`ΣΑΣ İ` ADD K INT",
    f"INSERT INTO `{SMALL} i` VALUES (2, 2)",
    "CREATE TABLE `straße` (Id INT PRIMARY KEY)",
    "INSERT INTO STRAßE VALUES (1)",
]


def execute(server: Server, statements: list[str]) -> None:
    with server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = DEFAULT")
        for statement in statements:
            cursor.execute(statement)


def state_of(server: Server) -> dict[Any, Any]:
    """Tables with their rows, views, triggers, routines and events. MariaDB shows two names as they were typed, that of a
    trigger's table and those behind WITH; a restore has them in lower case, so that any server takes them."""
    found: dict[Any, Any] = {}
    for db in DATABASES:
        found[db] = server.execute(f"SHOW CREATE DATABASE `{db}`")[0][1]
        for name, kind in server.execute(
            "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s", (db,)
        ):
            create = server.execute(f"SHOW CREATE TABLE `{db}`.`{name}`")[0][1].replace("with Cte as", "with cte as")
            rows = sorted(server.execute(f"SELECT * FROM `{db}`.`{name}`"))
            found[db, name] = create, rows
            if "VIEW" in kind:
                found[db, name, "columns"] = server.execute(f"SHOW COLUMNS FROM `{db}`.`{name}`")
        for name, table in server.execute(
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = %s", (db,)
        ):
            text = str(server.execute(f"SHOW CREATE TRIGGER `{db}`.`{name}`")[0][2])
            found[db, name, "trigger"] = table, re.sub(r" ON \S+ FOR", " ON it FOR", text)
        for kind, name in server.execute(
            "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = %s", (db,)
        ):
            found[db, name, kind] = server.execute(f"SHOW CREATE {kind} `{db}`.`{name}`")[0][2]
        for (name,) in server.execute(
            "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = %s", (db,)
        ):
            found[db, name, "event"] = server.execute(f"SHOW CREATE EVENT `{db}`.`{name}`")[0][3]
    return found


@dataclass
class Story:
    """told: what the source said when all was captured."""

    rowback: Rowback
    source: Server
    start: Callable[..., Server]
    told: dict[Any, Any]


@pytest.fixture(params=["mysql", "mariadb"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    start: Callable[..., Server] = request.getfixturevalue(f"fresh_{request.param}")
    source = start(options={"lower_case_table_names": 1}, name="source")
    rowback = Rowback(tmp_path / "rowback", source)
    execute(source, BEFORE)
    rowback.catch_up()
    rowback.run("snapshot")
    execute(source, AFTER)
    rowback.catch_up()
    return Story(rowback, source, start, state_of(source))


@pytest.mark.slow
@pytest.mark.sockets
def test_restored_as_the_source_has_it(story: Story, tmp_path: Path) -> None:
    """Into a server of the same kind, and into one that takes names as they are typed; then from a baseline that the
    archive alone gave."""
    options = {"log_bin_trust_function_creators": "ON"}
    for folder, case in (("first", 1), ("first", 0), ("second", 0)):
        name = f"target-{folder}-{case}"
        target = story.start(options={**options, "lower_case_table_names": case}, name=name, binlog=False)
        if not (tmp_path / folder).exists():
            done = story.rowback.run("restore", "--to", "latest", "--output", str(tmp_path / folder))
            assert "not restored" not in done.stdout + done.stderr
        load_with_client(target, tmp_path / folder)
        assert state_of(target) == story.told
        checked = target.run(target.client_command(), (tmp_path / folder / "check.mysql").read_bytes())
        assert b"DIFFERENT" not in checked
        target.close()
        if case == 0 and folder == "first":
            story.rowback.run("roll-forward", "--to", "latest")


@pytest.mark.slow
@pytest.mark.sockets
def test_names_that_a_user_types(story: Story, tmp_path: Path) -> None:
    rowback = story.rowback
    shown = rowback.json("changes", "--table", "SHOP.Bar")
    assert len(shown["changes"]) == 2
    assert "`shop`.`bar`" in rowback.run("undo", "--table", "Shop.BAR", "--op", "insert").stdout
    output = tmp_path / "renamed"
    rowback.run(
        "restore", "--to", "latest", "--tables", "Shop.PARENT", "--rename", "SHOP=Shop_New", "--output", str(output)
    )
    assert any(file.name.startswith("Shop_New.parent.") for file in output.iterdir())
    done = rowback.run("restore", "--to", "latest", "--tables", "SHOP.*", "--exclude", "Shop.Child", "--dry-run")
    assert "shop.child" not in done.stdout
    chosen = ("--tables", "Shop.*", "--exclude", "SHOP.FN")
    rowback.run("restore", "--to", "latest", *chosen, "--output", str(tmp_path / "fn"))
    made = (tmp_path / "fn" / "shop-schema-post.sql").read_text()
    assert "PROCEDURE" in made
    assert "Fn" not in made
    assert "shop.parent" in done.stdout


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(("flavor", "metadata"), [("mysql", "MINIMAL"), ("mariadb", "NO_LOG")])
def test_without_columns_names_in_the_binlog(
    flavor: str, metadata: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What can't be read any more is built on a scratch server, one that takes names as they are typed."""
    start: Callable[..., Server] = request.getfixturevalue(f"fresh_{flavor}")
    source = start(options={"lower_case_table_names": 1, "binlog_row_metadata": metadata}, name="source")
    scratch = start(name="scratch", binlog=False)
    rowback = Rowback(tmp_path / "rowback", source, extra=scratch_lines(scratch))
    execute(source, [*(f"CREATE DATABASE `{db}`" for db in DATABASES), "CREATE TABLE SHOP.Held (Id INT PRIMARY KEY)"])
    rowback.catch_up()
    rowback.run("snapshot")
    statements = [
        "CREATE TABLE SHOP.Orders (A INT PRIMARY KEY, B INT)",
        "INSERT INTO Shop.ORDERS VALUES (1, 2)",
        "ALTER TABLE shop.ORDERS MODIFY B INT FIRST",
        "INSERT INTO SHOP.ORDERS VALUES (3, 4)",
        "RENAME TABLE shop.orders TO DEPOT.Stored",
        "INSERT INTO Depot.Stored VALUES (5, 6)",
        "CREATE TABLE Shop.Orders LIKE DEPOT.STORED",
        "ALTER TABLE shop.Orders ADD COLUMN C INT",
        "INSERT INTO Shop.Orders VALUES (7, 8, 9)",
    ]
    execute(source, statements)
    rowback.catch_up()
    assert "schema rebuilt table=shop.orders" in rowback.capture_log()
    rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "restored"))
    load_with_client(scratch, tmp_path / "restored")
    expected = {key: value for key, value in state_of(source).items() if isinstance(key, tuple)}
    assert len(expected) == 3
    for (db, name), (create, rows) in expected.items():
        assert scratch.execute(f"SHOW CREATE TABLE `{db}`.`{name}`")[0][1] == create
        assert sorted(scratch.execute(f"SELECT * FROM `{db}`.`{name}`")) == rows


@pytest.mark.slow
@pytest.mark.sockets
def test_a_server_that_compares_names_in_another_way_is_refused(
    fresh_mariadb: Callable[..., Server], tmp_path: Path
) -> None:
    source = fresh_mariadb(options={"lower_case_table_names": 1})
    rowback = Rowback(tmp_path, source)
    rowback.catch_up()
    source.restart(options={"lower_case_table_names": 0})
    for command in (("capture", "--until-caught-up"), ("snapshot",)):
        done = rowback.run(*command, check=False)
        assert done.returncode == 3
        assert "lower_case_table_names = `0`, and the archive was captured with `1`" in done.stderr
    source.restart(options={"lower_case_table_names": 1})
    rowback.catch_up()
    rowback.config.write_text(rowback.config.read_text() + 'exclude = ["Shop.Log*"]\n')
    assert rowback.run("capture", "--until-caught-up", check=False).returncode == 2
    checks = json.loads(rowback.run("doctor", "--format", "json", check=False).stdout)["report"]["checks"]
    (found,) = [check for check in checks if check["name"] == "filter"]
    assert "Write `shop.log*`" in found["fix"]


@pytest.mark.slow
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.sockets
def test_every_letter(flavor: str, request: pytest.FixtureRequest) -> None:
    """Of recovery/lowercase.py, and those of which only later versions of Unicode know a lower case: they stay."""
    server: Server = request.getfixturevalue(f"fresh_{flavor}")(options={"lower_case_table_names": 1})
    later = [c for c in map(chr, range(0x80, 0xD800)) if c.lower() != c and ord(c) not in LOWER]
    letters = [*map(chr, LOWER), *later]
    names = ["t" + "".join(letters[at : at + 40]) for at in range(0, len(letters), 40)]
    server.execute("CREATE DATABASE d")
    for name in names:
        server.execute(f"CREATE TABLE d.`{name}` (id INT)")
    stored = server.execute("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd'")
    assert {name for (name,) in stored} == {lowered(name) for name in names}
