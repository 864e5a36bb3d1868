"""undo.py: golden scripts, and scripts applied by the servers' own clients to real tables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import SECOND_US, START_US, Archive, Del, Exact, Ins, Row, Upd
from test_changes import KEYLESS, ORDERS, order
from typecases import cases, exact_cells

from recovery.changes import ChangeQuery
from recovery.ddl import classify
from recovery.errors import DdlInRange, TargetOutsideCoverage, UnknownTable
from recovery.quoting import quote
from recovery.schema import Column, Table
from recovery.undo import UndoScript, undo
from recovery.undo_script import comment, script_sql

GOLDEN = Path(__file__).parent / "golden" / "undo"
CREATE_ORDERS = """CREATE TABLE `orders` (
  `id` int NOT NULL,
  `status` varchar(20) DEFAULT NULL COMMENT 'not GENERATED ALWAYS AS x',
  `note` varchar(20) DEFAULT NULL,
  `total` decimal(10,2) GENERATED ALWAYS AS (`id` * 1.5) STORED,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"""
CREATE_ITEMS = """CREATE TABLE `items` (
  `id` int NOT NULL,
  CONSTRAINT `x` FOREIGN KEY (`id`) REFERENCES `orders` (`id`) ON DELETE CASCADE ON UPDATE SET NULL
) ENGINE=InnoDB"""


def undo_of(archive: Archive, table: tuple[str, str] = ("shop", "orders"), **conditions: Any) -> UndoScript:
    return undo(archive.store, archive.state, ChangeQuery(table=table, **conditions))


def check_golden(name: str, text: str) -> None:
    """Compare with the golden file; ROWBACK_GOLDEN=write writes it, to be reviewed as a diff."""
    path = GOLDEN / f"{name}.sql"
    if os.environ.get("ROWBACK_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


# --- without a server -------------------------------------------------------------------------------------------------


def test_golden_insert_update_delete(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit(
        [Ins(ORDERS, order(1, note="it's")), Ins(ORDERS, order(2))],
        [Upd(ORDERS, order(1, note="it's"), order(1, status="paid", note=None, weight=1.1))],
        [Del(ORDERS, order(2, raw=b"\0", due=Exact("0000-00-00")))],
    )
    check_golden("insert_update_delete", script_sql(undo_of(archive)))


def test_golden_keyless(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    one = {"n": 1, "t": None}
    archive.commit([Ins(KEYLESS, one), Ins(KEYLESS, one), Upd(KEYLESS, one, {"n": 2, "t": "x"}), Del(KEYLESS, one)])
    check_golden("keyless", script_sql(undo_of(archive, ("shop", "log"))))


def test_golden_snapshot_knowledge_and_conflicts(tmp_path: Path) -> None:
    """Generated columns are left out, foreign keys are named, later changes are listed with who made them."""
    archive = Archive(tmp_path)
    archive.snapshot((ORDERS, CREATE_ORDERS), (Table("shop", "items", (Column("id", "int"),), ("id",)), CREATE_ITEMS))
    before, after, later = order(1), order(1, status="bad", total="3.00"), order(1, status="worse", total="3.00")
    archive.commit([Ins(ORDERS, order(7)), Upd(ORDERS, before, after)])
    archive.commit([Upd(ORDERS, after, later)], [Upd(ORDERS, later, {**later, "note": "n"})], [Del(ORDERS, order(9))])
    script = undo_of(archive, transactions=(1,))
    assert [(c.key, c.change.seq, c.blocking) for c in script.conflicts] == [(("1",), 2, True), (("1",), 3, False)]
    check_golden("snapshot_knowledge_and_conflicts", script_sql(script))


def test_golden_key_change_and_enum(tmp_path: Path) -> None:
    table = Table(
        "we`ird\n-- x", "ta;ble", (Column("k", "varchar", octets=9, charset="latin1"), Column("e", "enum", labels=("a",),
        charset="utf8mb4"), Column("at", "timestamp", fsp=0)), ("k",)
    )  # fmt: skip
    archive = Archive(tmp_path)
    row: Row = {"k": "A", "e": Exact(""), "at": None}
    archive.commit([Upd(table, row, {**row, "k": "é"})], [Upd(table, {**row, "k": "é"}, {**row, "k": "é", "e": "a"})])
    check_golden("key_change_and_enum", script_sql(undo_of(archive, (table.db, table.name))))


def test_nothing_to_undo(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(ORDERS, order(1))])
    script = undo_of(archive, key="2")
    assert script.summary.changes == 0
    assert all(line.startswith("-- ") for line in script_sql(script).splitlines())


def test_ddl_in_range_is_refused_by_name(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(ORDERS, order(1))])
    archive.ddl("ALTER TABLE orders\n ADD x INT", (("shop", "orders"),))
    archive.ddl("DROP TABLE other", (("shop", "other"),))
    archive.commit([Ins(ORDERS, order(2))])
    with pytest.raises(DdlInRange, match="ALTER TABLE orders ADD x INT"):
        undo_of(archive)
    assert undo_of(archive, since="2026-05-02 10:00:03").summary.inserts == 1
    before = undo_of(archive, until="2026-05-02 10:00:01")
    assert any("ALTER TABLE orders ADD x INT" in w for w in before.warnings)
    archive.ddl("DO something()", None)
    assert any("something" in w for w in undo_of(archive, since="2026-05-02 10:00:03").warnings)
    archive.commit([Ins(ORDERS, order(3))])
    with pytest.raises(DdlInRange, match="something"):
        undo_of(archive, since="2026-05-02 10:00:03")


def happened(archive: Archive, statement: str) -> None:
    """A DDL statement, classified as capture does."""
    classified = classify(statement, "shop")
    archive.ddl(statement, classified.tables)
    archive.state = replace(
        archive.state,
        ddls=(*archive.state.ddls[:-1], replace(archive.state.ddls[-1], verb=classified.verb)),
    )


def test_ddl_counts_from_the_oldest_selected_change_on(tmp_path: Path) -> None:
    """A table that was created and altered during coverage; everything asked of its newest changes works."""
    archive = Archive(tmp_path)
    happened(archive, "CREATE TABLE orders (id INT)")
    archive.commit([Ins(ORDERS, order(1)), Ins(ORDERS, order(2))])
    happened(archive, "ALTER TABLE orders ADD x INT")
    archive.commit([Upd(ORDERS, order(1), order(1, status="bad"))], [Del(ORDERS, order(2))])
    for conditions in ({"limit": 1}, {"ops": ("delete",)}, {"transactions": (5,)}, {"key": "2", "limit": 1}):
        script = undo_of(archive, **conditions)
        assert [s.change.place for s in script.statements] == [(5, 0)], conditions
        assert not any("ALTER" in w for w in script.warnings)
    assert undo_of(archive, limit=2).summary.changes == 2
    with pytest.raises(DdlInRange, match="ADD x INT"):
        undo_of(archive, limit=3)
    explicit = undo_of(archive, since="2026-05-02 10:00:03")
    assert any("isn't taken back" in w for w in explicit.warnings)
    assert any("ALTER TABLE orders" in w and "fails" in w for w in undo_of(archive, ops=("insert",)).warnings)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE orders", "TRUNCATE orders", "RENAME TABLE orders TO old, shadow TO orders", "DROP DATABASE shop",
        "ALTER TABLE orders RENAME TO old", "CREATE OR REPLACE TABLE orders (id INT)",
    ],
)  # fmt: skip
def test_other_rows_under_the_name_refuse(tmp_path: Path, statement: str) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(ORDERS, order(1))])
    happened(archive, statement)
    with pytest.raises(DdlInRange, match="other rows"):
        undo_of(archive, transactions=(1,))
    for nothing in ({"since": "2026-05-02 10:00:02"}, {"transactions": (2,)}):
        with pytest.raises(DdlInRange, match="logs no row changes"):
            undo_of(archive, **nothing)
    archive.commit([Ins(ORDERS, order(2))])
    assert undo_of(archive, transactions=(3,)).summary.inserts == 1


def test_rows_of_create_table_select_are_undone(tmp_path: Path) -> None:
    """The statement and the rows are one transaction."""
    archive = Archive(tmp_path)
    happened(archive, "CREATE TABLE orders AS SELECT 1")
    archive.state = replace(archive.state, ddls=(replace(archive.state.ddls[0], seq=2),))
    archive.commit([Ins(ORDERS, order(1))])
    assert undo_of(archive, transactions=(2,)).summary.inserts == 1


def test_what_is_not_known_yet_is_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(ORDERS, order(1))])
    asked = START_US + 601 * SECOND_US
    for conditions in ({"since": "2026-05-02 10:00:01.000001"}, {"until": "2026-05-02 10:05"}):
        with pytest.raises(TargetOutsideCoverage) as caught:
            undo_of(archive, asked_at_us=asked, **conditions)
        assert "known up to 2026-05-02 10:00:01 UTC; capture is 10 min behind" in caught.value.message
        assert "rowback capture --until-caught-up" in caught.value.hint
    known = undo_of(archive, since="2026-05-02 10:00:01", asked_at_us=asked)
    assert known.summary.changes == 1
    assert known.known_to_us == START_US + SECOND_US
    assert "-- Known up to 2026-05-02 10:00:01 UTC;" in script_sql(known)
    nothing = script_sql(undo_of(archive, ops=("delete",)))
    assert "known up to 2026-05-02 10:00:01 UTC only" in nothing
    assert "There is nothing to undo." in nothing


def test_a_gap_counts_only_where_it_matters(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(ORDERS, order(1))])
    archive.gap()
    archive.state = replace(
        archive.state, gaps=(replace(archive.state.gaps[0], to_file="binlog.000003", to_position=4),)
    )
    archive.commit([Ins(ORDERS, order(2)), Ins(ORDERS, order(3))])
    assert undo_of(archive, limit=2).summary.changes == 2
    assert undo_of(archive, transactions=(1,)).summary.changes == 1
    for conditions in ({"limit": 3}, {"ops": ("insert",)}, {"transactions": (1, 2)}):
        with pytest.raises(TargetOutsideCoverage, match="not captured"):
            undo_of(archive, **conditions)


def test_a_snapshot_older_than_ddl_says_nothing_of_columns(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.snapshot((ORDERS, CREATE_ORDERS))
    happened(archive, "ALTER TABLE orders MODIFY total DECIMAL(10, 2)")
    archive.commit([Del(ORDERS, order(1))])
    script = undo_of(archive, limit=1)
    assert "`total`" in script_sql(script)
    assert any("after its newest snapshot" in w for w in script.warnings)


@pytest.mark.parametrize(
    "conditions", [{}, {"since": "2026-05-02 10:00:01"}, {"since": "2020-01-01", "until": "2026-05-02 10:00:01"},
                   {"until": "2030-01-01"}]
)  # fmt: skip
def test_incomplete_ranges_are_refused(tmp_path: Path, conditions: dict[str, str]) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(ORDERS, order(1))])
    archive.gap()
    with pytest.raises(TargetOutsideCoverage):
        undo_of(archive, **conditions)
    assert undo_of(archive, until="2026-05-02 10:00:01").summary.changes == 1


def test_unknown_table(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit([Ins(ORDERS, order(1))])
    with pytest.raises(UnknownTable):
        undo_of(archive, ("shop", "nope"))


def test_comments_cannot_be_left() -> None:
    assert comment("a\n; DROP TABLE x\r\0\u2028\x85b") == "-- a?; DROP TABLE x????b"


# --- on servers -------------------------------------------------------------------------------------------------------


@dataclass
class Live:
    """A server, a database of the test's own, and an archive that describes what the test did there."""

    server: Any
    db: str
    archive: Archive

    def sql(self, *statements: str, mode: str = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO") -> None:
        with self.server.connect(autocommit=True) as conn, conn.cursor() as cur:
            cur.execute(f"SET sql_mode = '{mode}', time_zone = '+00:00'")
            cur.execute(f"USE `{self.db}`")
            for statement in statements:
                cur.execute(statement)

    def rows(self, table: Table) -> list[tuple[Any, ...]]:
        """Every cell, exactly: its bytes, its number and its text."""
        cells = exact_cells(table.columns)
        with self.server.connect(autocommit=True) as conn, conn.cursor() as cur:
            cur.execute("SET time_zone = '+00:00'")
            cur.execute(f"SELECT {cells} FROM {quote(table.db, table.name)}")
            return sorted(cur.fetchall(), key=repr)

    def apply(self, script: UndoScript | str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        text = script if isinstance(script, str) else script_sql(script)
        command = self.server.client_command(*arguments)
        return subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=60)

    def undo(self, table: Table, **conditions: Any) -> UndoScript:
        return undo_of(self.archive, (table.db, table.name), **conditions)


@pytest.fixture(params=["mysql", "mariadb"])
def live(request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]) -> Any:
    server = request.getfixturevalue(f"{request.param}_source")
    db = unique_name("undo")
    server.execute(f"CREATE DATABASE {db} CHARACTER SET utf8mb4")
    yield Live(server, db, Archive(tmp_path / "archive"))
    server.execute(f"DROP DATABASE {db}")


def everything(live: Live, keyed: bool) -> tuple[Table, list[Row], list[list[str]]]:
    """A table with every type: its definition, rows of archive values, and the same rows as SQL."""
    found = cases(live.server.flavor)
    ident = Column("id", "int", nullable=False)
    table = Table(live.db, "ev`ery", (ident, *(c.column for c in found)), ("id",) if keyed else ())
    columns = ", ".join(f"{c.column.name} {c.ddl} {'NULL' if 'TIMESTAMP' in c.ddl else ''}" for c in found)
    live.sql(f"CREATE TABLE `ev``ery` (id INT NOT NULL, {columns}{', PRIMARY KEY (id)' if keyed else ''})")
    rows, texts = [], []
    for i in range(14):
        values = [c.values[i % len(c.values)] if i < 13 else ("NULL", None) for c in found]
        rows.append({"id": i, **{c.column.name: v for c, (_, v) in zip(found, values, strict=True)}})
        texts.append([str(i), *(sql for sql, _ in values)])
    return table, rows, texts


def play(live: Live, table: Table, rows: list[Row], texts: list[list[str]]) -> None:
    """Insert, delete, update to another row's values, swap two keys: on the server and in the archive."""
    name = "`ev``ery`"
    names = [c.name for c in table.columns]
    values = [", ".join(t) for t in texts]
    sets = [", ".join(f"{n} = {v}" for n, v in zip(names[1:], t[1:], strict=True)) for t in texts]
    live.sql(f"DELETE FROM {name} WHERE id IN (0, 2, 4, 13)", f"INSERT INTO {name} VALUES ({values[12]})")
    live.sql(*(f"UPDATE {name} SET {sets[(i + 3) % 14]} WHERE id = {i}" for i in (1, 3, 5, 6, 7)))
    live.sql(*(f"UPDATE {name} SET id = {new} WHERE id = {old}" for old, new in ((8, 99), (9, 8), (99, 9))))
    live.archive.commit([Del(table, rows[i]) for i in (0, 2, 4, 13)], [Ins(table, rows[12])])
    live.archive.commit([Upd(table, rows[i], {**rows[(i + 3) % 14], "id": i}) for i in (1, 3, 5, 6, 7)])
    moves = ((8, 8, 99), (9, 9, 8), (8, 99, 9))
    live.archive.commit([Upd(table, {**rows[r], "id": old}, {**rows[r], "id": new}) for r, old, new in moves])


@pytest.mark.sockets
@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "keyless"])
@pytest.mark.parametrize("mode", ["", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "NO_ZERO_DATE,TRADITIONAL"])
def test_undo_gives_back_the_rows_from_before(live: Live, keyed: bool, mode: str) -> None:
    table, rows, texts = everything(live, keyed)
    live.sql(*(f"INSERT INTO `ev``ery` VALUES ({', '.join(t)})" for i, t in enumerate(texts) if i != 12))
    before = live.rows(table)
    play(live, table, rows, texts)
    assert live.rows(table) != before
    script = live.undo(table)
    assert script.summary.changes == 13
    old = live.server.execute("SELECT @@GLOBAL.sql_mode")[0][0]
    live.server.execute(f"SET GLOBAL sql_mode = '{mode}'")
    try:
        done = live.apply(script, "--default-character-set=latin1")
    finally:
        live.server.execute(f"SET GLOBAL sql_mode = '{old}'")
    assert done.returncode == 0, done.stderr
    assert b"committed, 13 changes undone" in done.stdout
    assert live.rows(table) == before


@pytest.mark.sockets
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE `ev``ery` SET c1 = 5 WHERE id = 5",  # a cell that an update is to set back
        "DELETE FROM `ev``ery` WHERE id = 12",  # a row to delete is gone
        "INSERT INTO `ev``ery` (id) VALUES (2)",  # an insert meets a duplicate key: an error
        "UPDATE `ev``ery` SET c9 = 'Plain' WHERE id = 6 AND c9 = 'PLAIN'",  # only the case of letters
        "ALTER TABLE `ev``ery` RENAME COLUMN c3 TO gone",
        "DROP TABLE `ev``ery`",
    ],
)
def test_whole_script_or_nothing(live: Live, damage: str, force: tuple[str, ...]) -> None:
    table, rows, texts = everything(live, keyed=True)
    live.sql(*(f"INSERT INTO `ev``ery` VALUES ({', '.join(t)})" for i, t in enumerate(texts) if i != 12))
    play(live, table, rows, texts)
    live.sql(damage)
    look = replace(table, columns=table.columns[:1])
    gone = damage.startswith("DROP")
    before = None if gone else live.rows(table if "RENAME" not in damage else look)
    done = live.apply(live.undo(table), *force)
    assert b"committed" not in done.stdout
    assert force or done.returncode == 1
    if force:
        assert b"rolled back, nothing was changed" in done.stdout
    if not gone:
        assert live.rows(table if "RENAME" not in damage else look) == before


@pytest.mark.sockets
@pytest.mark.parametrize("at", range(0, 8, 2))
def test_a_lost_connection_changes_nothing(live: Live, at: int) -> None:
    """The connection dies between two statements; the client reconnects by itself and goes on."""
    table = Table(live.db, "t", (Column("id", "int"), Column("v", "int")), ("id",))
    live.sql("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 2), (2, 3), (3, 4), (4, 5)")
    live.archive.commit([Upd(table, {"id": i, "v": i}, {"id": i, "v": i + 1}) for i in (1, 2, 3, 4)])
    before = live.rows(table)
    parts = script_sql(live.undo(table)).split("\nUPDATE ")
    assert len(parts) == 5
    head, rest = "\nUPDATE ".join(parts[: at // 2 + 1]), "\nUPDATE " + "\nUPDATE ".join(parts[at // 2 + 1 :])
    outcomes: list[object] = []
    with live.server.connect(autocommit=True) as first, live.server.connect(autocommit=True) as second:
        for conn, text in ((first, head), (second, rest)):
            with conn.cursor() as cur:
                for statement in text.split(";\n"):
                    body = "\n".join(line for line in statement.splitlines() if not line.startswith("--"))
                    try:
                        if body.strip():
                            cur.execute(body)
                            outcomes.append(cur.fetchall())
                    except Exception as error:  # noqa: BLE001 - as --force does
                        outcomes.append(str(error))
            if conn is first:
                live.server.execute(f"KILL {first.thread_id()}")
    assert "not committed" in str(outcomes)
    assert "changes undone" not in str(outcomes)
    assert live.rows(table) == before


@pytest.mark.sockets
def test_generated_and_self_updating_columns(live: Live) -> None:
    columns = (
        Column("id", "int"), Column("v", "int"), Column("double_v", "int"), Column("at", "timestamp", fsp=0),
    )  # fmt: skip
    table = Table(live.db, "g", columns, ("id",))
    live.sql(
        "CREATE TABLE g (id INT PRIMARY KEY, v INT, double_v INT AS (v * 2) STORED, "
        "at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)",
        "INSERT INTO g (id, v, at) VALUES (1, 1, '2020-01-01 00:00:00'), (2, 2, '2020-01-01 00:00:00')",
    )
    before = live.rows(table)
    live.sql("UPDATE g SET v = 5, at = at WHERE id = 1", "DELETE FROM g WHERE id = 2")
    from datetime import UTC, datetime

    at = datetime(2020, 1, 1, tzinfo=UTC)
    one, two = ({"id": i, "v": i, "double_v": 2 * i, "at": at} for i in (1, 2))
    live.archive.commit([Upd(table, one, {**one, "v": 5, "double_v": 10}), Del(table, two)])
    assert live.apply(live.undo(table)).returncode == 1  # nothing says that double_v is generated
    create = live.server.execute(f"SHOW CREATE TABLE {live.db}.g")[0][1]
    live.archive.snapshot((table, create))
    script = live.undo(table)
    done = live.apply(script)
    assert done.returncode == 0, done.stderr
    assert live.rows(table) == before
    assert script.warnings == ()


@pytest.mark.sockets
@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "keyless"])
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize(
    "accident",
    ["DELETE FROM g WHERE id = 2", "UPDATE g SET v = 9, d = 9 WHERE id = 2", "UPDATE g SET d = 9 WHERE id = 2"],
)
def test_columns_that_are_no_longer_generated(live: Live, accident: str, force: tuple[str, ...], keyed: bool) -> None:
    """Capture and snapshot took d for generated, but it has become an ordinary column: the script must not leave it NULL."""
    columns = (Column("id", "int"), Column("v", "int"), Column("d", "int", generated=True))
    table = Table(live.db, "g", columns, ("id",) if keyed else ())
    live.sql(
        f"CREATE TABLE g (id INT{' PRIMARY KEY' if keyed else ''}, v INT, d INT)",
        "INSERT INTO g VALUES (1, 1, 2), (2, 2, 777)",
    )
    before = live.rows(table)
    live.sql(accident)
    after = live.rows(table)
    old = {"id": 2, "v": 2, "d": 777}
    new = {"id": 2, "v": 9 if "v = 9" in accident else 2, "d": 9}
    live.archive.commit([Del(table, old) if "DELETE" in accident else Upd(table, old, new)])
    done = live.apply(live.undo(table), *force)
    if "SET d" in accident:  # nothing but d changed, so it can't be generated
        assert done.returncode == 0, done.stderr
        assert live.rows(table) == before
        return
    assert b"committed, " not in done.stdout
    assert force or done.returncode == 1
    assert live.rows(table) == after


@pytest.mark.sockets
@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_rows_with_twins_and_generated_columns(live: Live, kind: str) -> None:
    columns = (
        Column("v", "int"),
        Column("d", "int", generated=True),
        Column("t", "varchar", octets=40, charset="utf8mb4"),
    )
    table = Table(live.db, "g", columns)
    live.sql(
        f"CREATE TABLE g (v INT, d INT AS (v * 2) {kind}, t VARCHAR(10)) CHARACTER SET utf8mb4",
        "INSERT INTO g (v, t) VALUES (1, 'a'), (1, 'a'), (1, 'a'), (2, NULL)",
    )
    before = live.rows(table)
    one, two = {"v": 1, "d": 2, "t": "a"}, {"v": 2, "d": 4, "t": None}
    live.sql("UPDATE g SET v = 2, t = NULL WHERE v = 1 LIMIT 2", "DELETE FROM g WHERE v = 2 LIMIT 2")
    live.sql("INSERT INTO g (v) VALUES (5)")
    live.archive.commit(
        [Upd(table, one, two), Upd(table, one, two)], [Del(table, two)] * 2, [Ins(table, {"v": 5, "d": 10, "t": None})]
    )
    done = live.apply(live.undo(table))
    assert done.returncode == 0, done.stderr
    assert live.rows(table) == before


@pytest.mark.sockets
def test_the_session_gets_its_settings_back(live: Live) -> None:
    table = Table(live.db, "t", (Column("id", "int"),), ("id",))
    live.sql("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    live.archive.commit([Ins(table, {"id": 1})])
    show = (
        "SELECT @@sql_mode, @@time_zone, @@foreign_key_checks, @@unique_checks, @@sql_safe_updates, "
        "@@character_set_client, @@character_set_results, @@collation_connection;\n"
    )
    own = "SET sql_mode = 'ANSI_QUOTES', time_zone = '+05:00', foreign_key_checks = 0; SET NAMES latin1;\n"
    done = live.apply(own + show + script_sql(live.undo(table)) + show, "--skip-column-names")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == lines[2]
    assert lines[0].startswith(b"ANSI_QUOTES\t+05:00\t0")
    assert live.rows(table) == []
