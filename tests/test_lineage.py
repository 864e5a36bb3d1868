"""How a table came to be: which statements a scratch server is given, and what it is refused for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import handmade as hm
import pytest
from pydantic import SecretStr

from dataflow.definitions import Name
from dataflow.lineage import Lineage, Scratch, charsets_proved
from recovery.archive.actions import Ddl
from recovery.config import ServerSettings
from recovery.errors import ConfigError, SourceMisconfigured
from recovery.schema import Column, Table
from testservers import MySQLServer, Server

T, U, X = ("d", "t"), ("d", "u"), ("d", "x")


def ddl(position: int, statement: str, *tables: Name) -> Ddl:
    verb = " ".join(statement.split()[:2])
    return Ddl(1, None, "binlog.000001", position, 0, "d", statement, verb, tables)


def statements(lineage: Lineage, name: Name) -> list[str]:
    return [statement for _, _, statement in lineage.steps(name)]


def test_a_table_is_its_create_statement_and_the_ddl_since() -> None:
    lineage = Lineage()
    lineage.cross(ddl(10, "ALTER TABLE t ADD z INT", T))
    lineage.read(T, "CREATE TABLE t (a INT)", (1, 20))
    lineage.cross(ddl(30, "ALTER TABLE u ADD b INT", U))
    lineage.cross(ddl(40, "ALTER TABLE t ADD b INT", T))
    assert statements(lineage, T) == ["CREATE TABLE t (a INT)", "ALTER TABLE t ADD b INT"]
    assert lineage.spelt_out(T)
    assert statements(lineage, X) == []


def test_a_create_table_begins_it_anew() -> None:
    lineage = Lineage()
    lineage.read(T, "CREATE TABLE t (old INT)", (1, 20))
    for position, statement in ((30, "DROP TABLE t"), (40, "CREATE TABLE t (a INT)"), (50, "ALTER TABLE t ADD b INT")):
        lineage.cross(ddl(position, statement, T))
    assert statements(lineage, T) == ["CREATE TABLE t (a INT)", "ALTER TABLE t ADD b INT"]
    assert not lineage.spelt_out(T)


def test_a_renamed_table_brings_its_past_along() -> None:
    """Two tables that change places: each is what the other was."""
    lineage = Lineage()
    lineage.read(T, "CREATE TABLE t (a INT)", (1, 10))
    lineage.read(U, "CREATE TABLE u (b INT)", (1, 20))
    swap = "RENAME TABLE t TO x, u TO t, x TO u"
    lineage.cross(ddl(30, swap, T, X, U))
    for name in (T, U):
        assert statements(lineage, name) == ["CREATE TABLE t (a INT)", "CREATE TABLE u (b INT)", swap]


def test_an_archive_tells_a_lineage_back_to_its_snapshots(tmp_path: Path) -> None:
    archive = hm.Archive(tmp_path)
    archive.window(hm.insert(hm.ORDERS, id=1, v="x"))
    create = "CREATE TABLE `orders` (`id` int)"
    archive.snapshot("s", archive.mark(1), archive.mark(1), archive.baseline("s", hm.ORDERS, [], create))
    archive.window([], ddls=[archive.ddl(2, "ALTER TABLE orders ADD n INT", [("shop", "orders")])])
    lineage = Lineage.archived(archive.state)
    assert statements(lineage, ("shop", "orders")) == [create, "ALTER TABLE orders ADD n INT"]
    archive.commit(archive.gap(2, 9000))
    assert statements(Lineage.archived(archive.state), ("shop", "orders")) == []


@pytest.mark.parametrize(
    ("logged", "built", "proved"),
    [
        (Column("@1", "varchar", charset="latin1"), Column("a", "varchar", charset="latin1"), True),
        (Column("@1", "varchar"), Column("a", "varchar", charset="latin1"), False),
        (Column("@1", "enum"), Column("a", "enum", charset="latin1"), False),
        (Column("@1", "int"), Column("a", "int"), True),
    ],
)
def test_character_sets_left_to_a_default_must_be_in_the_binlog(logged: Column, built: Column, proved: bool) -> None:
    assert charsets_proved(Table("d", "t", (logged,)), Table("d", "t", (built,))) is proved


def settings(server: Server) -> ServerSettings:
    return ServerSettings(name="s", host=server.host, port=server.port, user="root", password=SecretStr(""))


@pytest.mark.sockets
def test_a_scratch_server_builds_and_is_left_empty(fresh_mysql: Callable[..., MySQLServer]) -> None:
    scratch = fresh_mysql(name="scratch", binlog=False)
    steps = [
        ((1, 10), "scratched", "CREATE TABLE t (a INT, b VARCHAR(9) CHARACTER SET latin1, KEY k (b))"),
        ((1, 20), "other", "ALTER TABLE scratched.t DROP INDEX k, MODIFY a BIGINT UNSIGNED AFTER b"),
    ]
    table = Scratch(settings(scratch)).build(("scratched", "t"), steps)
    assert [(c.name, c.type, c.unsigned, c.charset) for c in table.columns] == [
        ("b", "varchar", False, "latin1"), ("a", "bigint", True, None),
    ]  # fmt: skip
    left = {name for (name,) in scratch.execute("SHOW DATABASES")}
    assert not left & {"scratched", "other"}
    with pytest.raises(SourceMisconfigured, match=r"position 30, can't be replayed"):
        Scratch(settings(scratch)).build(("scratched", "t"), [((1, 30), "scratched", "ALTER TABLE t ADD x INT")])
    assert "scratched" not in {name for (name,) in scratch.execute("SHOW DATABASES")}


@pytest.mark.sockets
def test_a_server_that_holds_a_table_is_not_touched(fresh_mysql: Callable[..., MySQLServer]) -> None:
    server = fresh_mysql(binlog=False)
    server.execute("CREATE DATABASE d")
    server.execute("CREATE TABLE d.precious (a INT)")
    with pytest.raises(SourceMisconfigured, match=r"not empty.*`d\.precious`"):
        Scratch(settings(server)).build(T, [((1, 10), "d", "CREATE TABLE t (a INT)")])
    assert server.execute("SELECT COUNT(*) FROM d.precious") == ((0,),)


def test_the_source_is_never_the_scratch_server() -> None:
    with pytest.raises(ConfigError, match="is the source itself"):
        ServerSettings(name="s", host="db", port=3306, scratch_host="db").scratch()
    assert ServerSettings(name="s").scratch() is None
