"""Tables that take each other's names, and windows that hold several definitions: whose rows a restore takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from handmade import UUID, Archive, Image, column, insert, table
from test_restore_synthetic import rows_in, run

A, B = (table("shop", name, column("id"), column("v", "varchar")) for name in ("a", "b"))
NAMES = {name: ("shop", name) for name in ("a", "b", "c", "t")}
NOTHING: list[Image] = []


def created(name: str) -> str:
    return f"CREATE TABLE `{name}` (`id` int NOT NULL, `v` varchar(9), PRIMARY KEY (`id`))"


@pytest.mark.parametrize("changed", [True, False])
def test_rows_of_the_table_that_had_the_name_before_stay_away(tmp_path: Path, changed: bool) -> None:
    """`a` becomes `b` in the window in which another `b`, of the same columns, was filled, emptied and dropped."""
    archive = Archive(tmp_path / "archive")
    start = archive.baseline("s", A, [({"id": 1, "v": "old"}, {})], created("a"))
    archive.snapshot("s", archive.mark(0), archive.mark(0), start, archive.baseline("s", B, [], created("b")))
    archive.window(
        insert(A, id=2, v="mine") if changed else NOTHING,
        insert(B, id=7, v="other"),
        NOTHING,
        NOTHING,
        insert(B, id=3, v="mine"),
        ddls=[
            archive.ddl(3, "DROP TABLE b", [NAMES["b"]]),
            archive.ddl(4, "RENAME TABLE a TO b", [NAMES["a"], NAMES["b"]]),
        ],
    )
    run(archive, tmp_path / "out")
    mine = ["(2,'mine')"] if changed else []
    assert rows_in(tmp_path / "out", "shop.b") == ["(1,'old')", *mine, "(3,'mine')"]


def test_a_segment_around_a_stretch_without_rows_says_nothing_about_it(tmp_path: Path) -> None:
    """A column comes and goes between two rows of one window, and nothing was written while it was there."""
    plain = table("shop", "t", column("id"), column("v", "varchar"))
    archive = Archive(tmp_path / "archive")
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", plain, [], created("t")))
    archive.window(
        insert(plain, id=1, v="x"),
        NOTHING,
        NOTHING,
        NOTHING,
        insert(plain, id=2, v="y"),
        ddls=[
            archive.ddl(2, "ALTER TABLE t RENAME COLUMN v TO w", [NAMES["t"]]),
            archive.ddl(4, "ALTER TABLE t RENAME COLUMN w TO v", [NAMES["t"]]),
        ],
    )
    run(archive, tmp_path / "between", f"{UUID}:3")
    assert rows_in(tmp_path / "between", "shop.t") == ["(1,'x')"]
    assert "(`id`, `w`)" in (tmp_path / "between" / "shop.t.00000.sql").read_text()
    run(archive, tmp_path / "out")
    assert rows_in(tmp_path / "out", "shop.t") == ["(1,'x')", "(2,'y')"]
