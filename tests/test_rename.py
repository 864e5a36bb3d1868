"""`--rename`: other names for databases and tables, in files, definitions and foreign keys, loaded beside the originals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import provide
from handmade import ITEMS, ORDERS, Archive, insert
from oracle import load_with_client, load_with_myloader
from rowback import Rowback

from recovery.errors import ConfigError, RowbackError, UnknownTable
from recovery.rename import parse_renames, rewritten
from recovery.restore import RestoreRequest, RestoreResult, restore
from recovery.retarget import NotRewritten
from testservers import MySQLServer, Server

CREATE = """CREATE TABLE `orders` (
  `id` int NOT NULL COMMENT 'REFERENCES `shop`.`x` ', `p` int, `references` int,
  CONSTRAINT `fk_p` FOREIGN KEY (`p`) REFERENCES `people` (`id`),
  CONSTRAINT `fk_x` FOREIGN KEY (`p`) REFERENCES `other`.`things` (`id`) ON DELETE CASCADE,
  CONSTRAINT `c` CHECK ((`id` > 0))
) /*!50100 PARTITION BY HASH (`id`) */"""


@pytest.mark.parametrize(
    ("rules", "unnamed", "head", "references"),
    [
        (
            ["shop=new"],
            False,
            "CREATE TABLE `new`.`orders` (",
            ["CONSTRAINT `fk_p`", "`new`.`people`", "`other`.`things`"],
        ),
        (["shop.orders=shop.old"], True, "CREATE TABLE `shop`.`old` (", ["FOREIGN KEY (`p`) REFERENCES `people`"]),
        (["shop.orders=a.b"], True, "CREATE TABLE `a`.`b` (", ["REFERENCES `shop`.`people`", "`other`.`things`"]),
        (["shop.people=shop.`pe.ople`"], False, "CREATE TABLE `orders` (", ["REFERENCES `shop`.`pe.ople` (`id`)"]),
        (["other=x", "shop.people=y.z"], False, "CREATE TABLE `orders` (", ["`y`.`z`", "`x`.`things`"]),
        (["shop=s``1"], False, "CREATE TABLE `s````1`.`orders` (", ["REFERENCES `s````1`.`people`"]),
    ],
)
def test_definitions(rules: list[str], unnamed: bool, head: str, references: list[str]) -> None:
    if rules == ["shop=s``1"]:
        rules = ["shop=`s````1`"]
    text = rewritten(CREATE, ("shop", "orders"), parse_renames(rules), unnamed=unnamed)
    assert text.startswith(head)
    assert all(part in text for part in references), text
    assert ("CONSTRAINT" not in text) == unnamed
    assert "COMMENT 'REFERENCES `shop`.`x` '" in text
    assert text.endswith("/*!50100 PARTITION BY HASH (`id`) */")


def test_a_definition_that_names_the_old_database() -> None:
    with pytest.raises(NotRewritten, match="something of database `shop`"):
        rewritten("CREATE TABLE `t` (`id` int DEFAULT (`shop`.`f`()))", ("shop", "t"), parse_renames(["shop=new"]))


def test_sequences_in_a_definition() -> None:
    text = "CREATE TABLE `t` (`id` int DEFAULT nextval(`shop`.`s`), `n` int DEFAULT (1 + lastval(`crm`.`s`)))"
    found = rewritten(text, ("shop", "t"), parse_renames(["shop=new", "crm.s=crm.z"]))
    assert (
        found
        == "CREATE TABLE `new`.`t` (`id` int DEFAULT nextval(`new`.`s`), `n` int DEFAULT (1 + lastval(`crm`.`z`)))"
    )


def run(tmp_path: Path, *rules: str, **given: Any) -> RestoreResult:
    archive = Archive(tmp_path / "archive")
    baselines = [archive.baseline("s", of, [], f"CREATE TABLE `{of.name}` (`id` int)") for of in (ORDERS, ITEMS)]
    archive.snapshot("s", archive.mark(0), archive.mark(0), *baselines)
    archive.window(insert(ORDERS, id=1, v="x"))
    return restore(
        archive.store, archive.state, RestoreRequest("latest", output=tmp_path / "out", rename=rules, **given)
    )


@pytest.mark.parametrize(
    ("rules", "kind", "message", "hint"),
    [
        (("shop.orders=shop.items",), ConfigError, "would both be named `shop.items`", "another `--rename`"),
        (("shop.orders=shop.ITEMS",), ConfigError, "`shop.items` and `shop.orders` would both be named", "another"),
        (("shop.order=shop.x",), UnknownTable, "the restore holds no table `shop.order`", "`shop.orders`"),
        (("shopp=x",), UnknownTable, "the restore holds no database `shopp`", "`shop`"),
        (("shop.orders=x",), ConfigError, "is no pair of names", "db.old=db.new"),
        (("shop=a=b",), ConfigError, "is no pair of names", "backticks"),
        (("shop=x", "shop=y"), ConfigError, "is renamed twice", "one `--rename`"),
        ((f"shop={'x' * 65}",), ConfigError, "can't be a name", "64"),
    ],
)
def test_what_is_refused(
    rules: tuple[str, ...], kind: type[RowbackError], message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        run(tmp_path, *rules)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_files_and_plan(tmp_path: Path) -> None:
    result = run(tmp_path, "shop=`sh.op`", "shop.items=shop.stuff")
    assert [t.label for t in result.plan.tables] == ["shop.stuff", "sh.op.orders"]
    assert any("there `shop.orders`" in line for line in result.plan.explain())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "shop.stuff-schema.sql" in names
    assert "shop-schema-create.sql" in names
    text = (tmp_path / "out" / "load.mysql").read_text()
    assert "USE `sh.op`;" in text
    swapped = run(tmp_path / "b", "shop.items=shop.orders", "shop.orders=shop.items")
    assert (tmp_path / "b" / "out" / "shop.items.00000.sql").read_text().count("(1,'x')") == 1
    assert swapped.rows == 1


# --- a real server ----------------------------------------------------------------------------------------------------

SCHEMA = """
CREATE DATABASE shop CHARACTER SET latin1;
CREATE TABLE shop.people (id INT PRIMARY KEY, boss INT, CONSTRAINT fk_boss FOREIGN KEY (boss) REFERENCES people (id));
CREATE TABLE shop.orders (id INT PRIMARY KEY, p INT, t TEXT, CONSTRAINT fk_p FOREIGN KEY (p) REFERENCES people (id),
  CONSTRAINT positive CHECK (id > 0));
CREATE TABLE shop.`it``e.ms` (id INT PRIMARY KEY, o INT, FOREIGN KEY (o) REFERENCES orders (id) ON DELETE CASCADE);
CREATE TABLE shop.audit (n INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40));
CREATE TRIGGER shop.tr AFTER INSERT ON shop.orders FOR EACH ROW INSERT INTO audit (what) VALUES (NEW.t);
CREATE FUNCTION shop.twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
CREATE VIEW shop.big AS SELECT id, shop.twice(id) AS d FROM shop.orders WHERE id > 1;
CREATE PROCEDURE shop.says() SELECT 'shop is open';
CREATE EVENT shop.nightly ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM audit;
INSERT INTO shop.people VALUES (1, NULL), (2, 1);
INSERT INTO shop.orders VALUES (1, 1, 'a'), (2, 2, 'b')
"""


@dataclass
class Captured:
    server: Server
    rowback: Rowback


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    provide("mysql")
    provide("mydumper")
    folder = tmp_path_factory.mktemp("rename")
    with MySQLServer(folder / "source", name="source", binlog=True) as server:
        rowback = Rowback(folder / "rowback", server)
        for statement in SCHEMA.split(";\n"):
            server.execute(statement)
        rowback.catch_up()
        rowback.run("snapshot")
        server.execute("ALTER TABLE shop.orders ADD COLUMN n INT DEFAULT 7")
        server.execute("CREATE VIEW shop.qualified AS SELECT o.id FROM shop.orders o")
        server.execute("CREATE DEFINER = shop@'%' VIEW shop.lean AS SELECT 1 AS one")
        server.execute("INSERT INTO shop.orders VALUES (3, 2, 'é', 8)")
        server.execute("INSERT INTO shop.`it``e.ms` VALUES (1, 1), (2, 3)")
        rowback.catch_up()
        yield Captured(server, rowback)


def checksum(server: Server, *names: str) -> list[Any]:
    return [server.execute(f"CHECKSUM TABLE {name}")[0][1] for name in names]


@pytest.mark.sockets
def test_a_database_beside_the_original(shop: Captured) -> None:
    server = shop.server
    arguments = ("--database", "shop", "--rename", "shop=shop_restored", "--output", "db", "--report", "json")
    plan = json.loads(shop.rowback.run("restore", "--to", "latest", *arguments).stdout)["plan"]
    kept = {(o["type"], o["db"], o["name"]) for o in plan["objects"]}
    left_out = {o["name"]: o["reason"] for o in plan["left_out"]}
    load_with_client(server, shop.rowback.folder / "db")
    tables = ("people", "orders", "`it``e.ms`", "audit")
    originals = checksum(server, *(f"shop.{t}" for t in tables))
    assert checksum(server, *(f"shop_restored.{t}" for t in tables)) == originals
    keys = server.execute(
        "SELECT table_name, referenced_table_schema, referenced_table_name FROM information_schema.key_column_usage "
        "WHERE table_schema = 'shop_restored' AND referenced_table_name IS NOT NULL ORDER BY 1"
    )
    assert keys == (
        ("it`e.ms", "shop_restored", "orders"),
        ("orders", "shop_restored", "people"),
        ("people", "shop_restored", "people"),
    )
    assert "DEFAULT CHARACTER SET latin1" in server.execute("SHOW CREATE DATABASE shop_restored")[0][1]
    check = shop.rowback.folder / "db" / "check.mysql"
    outcome = server.run(server.client_command("--skip-column-names"), check.read_bytes()).decode()
    assert re.findall(r"^(\w+)\t(\S+)", outcome, re.M) == [
        ("same", "shop_restored.audit"),
        ("same", "shop_restored.it`e.ms"),
        ("same", "shop_restored.orders"),
        ("same", "shop_restored.people"),
    ]
    named = {(kind, name) for kind, db, name in kept if db == "shop_restored"}
    assert len(named) == len(kept)
    assert named >= {("trigger", "tr"), ("function", "twice"), ("event", "nightly"), ("view", "lean")}
    assert set(left_out) >= {"qualified", "says"}  # by the name in a FROM, and in a string
    assert all("names `shop`" in reason or "it names an object" in reason for reason in left_out.values()), left_out
    before = server.execute("SELECT COUNT(*) FROM shop.audit")
    server.execute("INSERT INTO shop_restored.orders VALUES (9, 1, 'new', 1)")
    assert server.execute("SELECT what FROM shop_restored.audit ORDER BY n DESC LIMIT 1") == (("new",),)
    assert server.execute("SELECT COUNT(*) FROM shop.audit") == before
    assert server.execute("SELECT shop_restored.twice(4)") == ((8,),)
    views = server.execute(
        "SELECT table_name, definer FROM information_schema.views WHERE table_schema = 'shop_restored'"
    )
    assert ("lean", "shop@%") in views
    server.execute("DROP DATABASE shop_restored")


@pytest.mark.sockets
def test_a_table_beside_the_original(shop: Captured) -> None:
    """In the same database, where the names of constraints are taken; with myloader."""
    arguments = ("--tables", "shop.orders,shop.people", "--rename", "shop.orders=shop.orders_old")
    shop.rowback.run(
        "restore", "--to", "latest", *arguments, "--rename", "shop.people=shop.people_old", "--output", "table"
    )
    load_with_myloader(shop.server, shop.rowback.folder / "table")
    originals = checksum(shop.server, "shop.people", "shop.orders")
    assert checksum(shop.server, "shop.people_old", "shop.orders_old") == originals
    create = shop.server.execute("SHOW CREATE TABLE shop.orders_old")[0][1]
    assert "REFERENCES `people_old` (`id`)" in create
    shop.server.execute("DROP TABLE shop.orders_old, shop.people_old")
