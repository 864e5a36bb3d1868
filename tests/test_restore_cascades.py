"""Foreign-key actions that the server carries out below its binlog: what they may have changed is refused, not restored
wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handmade import UUID, Archive, column, delete, insert, table, update
from rowback import Rowback

from recovery.archive.actions import Cascade
from recovery.cascades import unlogged_cascade_parents
from recovery.errors import NotComputable
from recovery.planning import plan_for
from recovery.restore_plan import RestorePlan
from testservers import Server

PAR, CHILD, GRAND, OTHER = (table("shop", name, column("id"), column("p")) for name in ("par", "ch", "gr", "other"))
CREATE = "CREATE TABLE `x` (`id` int)"
DELETES = Cascade("shop", "ch", "shop", "par", "CASCADE", "NO ACTION")
NULLS = Cascade("shop", "gr", "shop", "ch", "SET NULL", "RESTRICT")


def snap(archive: Archive, name: str, seq: int, *cascades: Cascade) -> None:
    baselines = [archive.baseline(name, t, [], CREATE) for t in (PAR, CHILD, GRAND, OTHER)]
    archive.snapshot(name, archive.mark(seq), archive.mark(seq), *baselines, cascades=cascades)


def planned(archive: Archive, to: str, *tables: str, exclude: tuple[str, ...] = ()) -> RestorePlan:
    return plan_for(archive.store, archive.state, to, tables, exclude)


def labels(plan: RestorePlan) -> list[str]:
    return [t.label for t in plan.tables]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """One window: an update of the parent, an insert into it, a delete from it."""
    archive = Archive(tmp_path)
    snap(archive, "a", 0, DELETES, NULLS)
    archive.window(update(PAR, {"id": 1, "p": 1}, {"id": 1, "p": 2}), insert(PAR, id=2, p=0), delete(PAR, id=1, p=2))
    return archive


def test_a_deleted_parent_refuses_child_and_grandchild(archive: Archive) -> None:
    with pytest.raises(
        NotComputable, match=r"`shop\.ch` can't be restored: rows were deleted from `shop\.par`"
    ) as caught:
        planned(archive, "latest")
    assert "the same holds for `shop.gr`" in caught.value.message
    assert "--exclude 'shop.ch,shop.gr'" in caught.value.hint
    assert "Restore to before that" in caught.value.hint
    with pytest.raises(NotComputable, match=r"`shop\.gr`.*through `shop\.ch`"):
        planned(archive, "latest", "shop.gr")
    assert labels(planned(archive, "latest", exclude=("shop.ch", "shop.gr"))) == ["shop.other", "shop.par"]
    assert labels(planned(archive, "latest", "shop.par")) == ["shop.par"]


def test_up_to_the_delete_in_the_same_segment_everything_is_known(archive: Archive) -> None:
    """The update before it fires no ON DELETE action."""
    assert len(planned(archive, f"{UUID}:2").tables) == 4


def test_a_snapshot_after_the_delete_serves_again(archive: Archive) -> None:
    snap(archive, "b", 3, DELETES, NULLS)
    assert len(planned(archive, "latest").tables) == 4


def test_a_snapshot_in_the_middle_of_a_segment(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.window(delete(PAR, id=1, p=2), insert(PAR, id=2, p=0))
    snap(archive, "b", 1, DELETES)
    assert len(planned(archive, "latest").tables) == 4


def test_logged_cascades_are_no_obstacle(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    snap(archive, "a", 0)
    archive.window(delete(PAR, id=1, p=2))
    assert len(planned(archive, "latest").tables) == 4


def test_native_foreign_keys_that_only_a_later_snapshot_knows_of(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    snap(archive, "a", 0)
    archive.window(delete(PAR, id=1, p=2))
    archive.window(insert(OTHER, id=1, p=1))
    snap(archive, "b", 2, DELETES)
    with pytest.raises(NotComputable, match=r"shop\.par"):
        planned(archive, f"{UUID}:1")
    assert len(planned(archive, f"{UUID}:2").tables) == 4


@pytest.mark.parametrize(
    ("edge", "change", "refused"),
    [
        (Cascade("shop", "ch", "shop", "par", "NO ACTION", "CASCADE"), update(PAR, {"id": 1}, {"id": 2}), True),
        (Cascade("shop", "ch", "shop", "par", "NO ACTION", "CASCADE"), delete(PAR, id=1), False),
        (Cascade("shop", "ch", "shop", "par", "RESTRICT", "RESTRICT"), delete(PAR, id=1), False),
        (Cascade("shop", "ch", "shop", "par", "CASCADE", "CASCADE"), insert(PAR, id=1), False),
        (Cascade("SHOP", "Ch", "SHOP", "Par", "SET DEFAULT", "RESTRICT"), delete(PAR, id=1), True),
        (Cascade("shop", "ch", "shop", "ch", "CASCADE", "RESTRICT"), delete(CHILD, id=1), True),
    ],
)
def test_which_change_fires_which_action(tmp_path: Path, edge: Cascade, change: list[Any], refused: bool) -> None:
    archive = Archive(tmp_path)
    snap(archive, "a", 0, edge)
    archive.window(change)
    if refused:
        with pytest.raises(NotComputable, match=r"shop\.ch"):
            planned(archive, "latest", "shop.ch")
    assert labels(planned(archive, "latest", exclude=("shop.ch",))) == ["shop.gr", "shop.other", "shop.par"]
    if not refused:
        assert labels(planned(archive, "latest", "shop.ch")) == ["shop.ch"]


def test_a_circle_of_foreign_keys_ends(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    back = Cascade("shop", "par", "shop", "gr", "CASCADE", "RESTRICT")
    down = Cascade("shop", "gr", "shop", "ch", "CASCADE", "RESTRICT")
    snap(archive, "a", 0, DELETES, down, back)
    archive.window(delete(CHILD, id=1, p=1))
    with pytest.raises(NotComputable):
        planned(archive, "latest")
    assert labels(planned(archive, "latest", exclude=("shop.gr", "shop.par", "shop.ch"))) == ["shop.other"]
    everyone = (("shop", "ch"), ("shop", "gr"), ("shop", "par"))
    assert unlogged_cascade_parents(archive.state, ("shop", "ch")) == everyone


def test_a_renamed_parent_is_followed(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    snap(archive, "a", 0, DELETES)
    moved = table("shop", "moved", column("id"), column("p"))
    names = [("shop", "par"), ("shop", "moved")]
    archive.window(insert(OTHER, id=1, p=1), ddls=[archive.ddl(1, "RENAME TABLE par TO moved", names)])
    archive.window(delete(moved, id=1, p=1))
    with pytest.raises(NotComputable, match=r"`shop\.ch`.*`shop\.par`"):
        planned(archive, "latest", "shop.ch")
    assert labels(planned(archive, f"{UUID}:1", "shop.ch")) == ["shop.ch"]


def test_a_foreign_key_made_since_the_snapshot_counts_for_those_behind_it(tmp_path: Path) -> None:
    """The child itself is refused by its statement; what its own children lost, nothing else says."""
    archive = Archive(tmp_path)
    snap(archive, "a", 0, NULLS)
    added = "ALTER TABLE ch ADD FOREIGN KEY (p) REFERENCES par (id) ON DELETE SET NULL"
    archive.window(insert(OTHER, id=1, p=1), ddls=[archive.ddl(1, added, [("shop", "ch")])])
    archive.window(delete(PAR, id=1, p=1))
    with pytest.raises(NotComputable, match=r"`shop\.gr` can't be restored: rows were deleted from `shop\.par`"):
        planned(archive, "latest", "shop.gr")
    assert labels(planned(archive, f"{UUID}:1", "shop.gr")) == ["shop.gr"]
    assert labels(planned(archive, "latest", "shop.par", "shop.other")) == ["shop.other", "shop.par"]


def test_parents_for_a_warning(archive: Archive) -> None:
    state = archive.state
    assert unlogged_cascade_parents(state, ("shop", "gr")) == (("shop", "ch"), ("shop", "par"))
    assert unlogged_cascade_parents(state, ("shop", "par")) == ()


# --- a real server ----------------------------------------------------------------------------------------------------

TABLES = """
CREATE DATABASE shop;
CREATE DATABASE `p.ar`;
CREATE TABLE `p.ar`.`pa``r` (id INT PRIMARY KEY);
CREATE TABLE shop.ch (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES `p.ar`.`pa``r` (id) ON DELETE CASCADE);
CREATE TABLE shop.gr (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES ch (id) ON DELETE SET NULL);
CREATE TABLE shop.kept (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES `p.ar`.`pa``r` (id));
CREATE TABLE shop.log (id INT AUTO_INCREMENT PRIMARY KEY, what TEXT);
CREATE TRIGGER shop.tr AFTER INSERT ON shop.kept FOR EACH ROW INSERT INTO shop.log (what) VALUES ('x');
CREATE VIEW shop.v AS SELECT 1 AS one;
INSERT INTO `p.ar`.`pa``r` VALUES (1), (2), (3);
INSERT INTO shop.ch VALUES (1, 1), (2, 2);
INSERT INTO shop.gr VALUES (1, 1), (2, 2);
INSERT INTO shop.kept VALUES (3, 3)
"""


@pytest.mark.sockets
def test_mariadb(fresh_mariadb: Callable[..., Server], tmp_path: Path, mydumper: Any) -> None:
    source = fresh_mariadb(name="source")
    for statement in TABLES.split(";\n"):
        source.execute(statement)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot")
    source.execute("INSERT INTO shop.ch VALUES (7, 3)")
    source.execute("DELETE FROM `p.ar`.`pa``r` WHERE id = 1")
    source.execute("INSERT INTO shop.kept VALUES (8, 2)")
    rowback.run("capture", "--until-caught-up")
    plan = rowback.json("restore", "--to", "latest", "--tables", "shop.gr", "--dry-run")["plan"]
    (derived,) = plan["derived"]
    assert derived["children"] == ["shop.ch", "shop.gr"]
    assert any("/p%2Ear.pa%60r/" in name for name in derived["objects"])
    rowback.run("restore", "--to", "latest", "--tables", "shop.gr", "--output", "derived")
    restored = (tmp_path / "rowback/derived/shop.gr.00000.sql").read_text()
    assert restored.count("(1,NULL)") == restored.count("(2,2)") == 1

    source.execute("ALTER TABLE shop.ch COMMENT 'a statement in between'")
    source.execute("DELETE FROM `p.ar`.`pa``r` WHERE id = 1")
    source.execute("INSERT INTO `p.ar`.`pa``r` VALUES (9)")
    source.execute("DELETE FROM `p.ar`.`pa``r` WHERE id = 9")
    rowback.run("capture", "--until-caught-up")
    done = rowback.run("restore", "--to", "latest", "--output", "out", check=False)
    assert done.returncode == 7
    assert "ERROR [target_not_computable] table `shop.ch` can't be restored: rows were deleted from" in done.stderr
    assert "`shop.gr`" in done.stderr
    assert "can't be derived: `ALTER TABLE shop.ch COMMENT 'a statement in between'` at binlog.0" in done.stderr
    assert not (tmp_path / "rowback" / "out").exists()
    option = re.search(r"--exclude '([^']*)'", done.stderr)
    assert option is not None
    result = rowback.json("restore", "--to", "latest", "--exclude", option[1], "--output", "out")
    restored = {(t["db"], t["table"]): t["rows"] for t in result["tables"]}
    assert restored == {("p.ar", "pa`r"): 2, ("shop", "kept"): 2, ("shop", "log"): 2}
    assert {(o["type"], o["name"]) for o in result["plan"]["objects"]} == {("trigger", "tr"), ("view", "v")}

    before = rowback.json("changes", "--table", "`p.ar`.`pa``r`", "--op", "delete")["changes"][-1]["gtid"]
    arguments = ("restore", "--before", before, "--tables", "shop.ch,`p.ar`.`pa``r`", "--output", "then")
    assert {t["table"]: t["rows"] for t in rowback.json(*arguments)["tables"]} == {"ch": 3, "pa`r": 3}
    rowback.run("snapshot")
    rowback.run("capture", "--until-caught-up")
    assert rowback.json("restore", "--to", "latest", "--output", "after")["rows"] == 2 + 2 + 2 + 2 + 2


@pytest.mark.sockets
def test_mysql_says_by_itself_whether_it_logs_cascades(
    fresh_mysql: Callable[..., Server], tmp_path: Path, mydumper: Any
) -> None:
    """MySQL 9.6 and newer log them unless innodb_native_foreign_keys is on; older ones never do."""
    source = fresh_mysql(name="source")
    for statement in TABLES.split(";\n"):
        source.execute(statement)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot")
    native = source.execute("SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'")
    source.execute("DELETE FROM `p.ar`.`pa``r` WHERE id = 1")
    rowback.run("capture", "--until-caught-up")
    done = rowback.run("restore", "--to", "latest", "--output", "out", check=False)
    if native and native[0][1] == "OFF":
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "rowback/out/shop.gr.00000.sql").read_text().count("(1,NULL)") == 1
    else:
        assert "target_not_computable" in done.stderr
