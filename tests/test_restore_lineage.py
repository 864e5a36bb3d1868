"""Tables that take each other's names, and windows that hold several definitions: whose rows a restore takes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from handmade import UUID, Archive, Image, column, delete, insert, table
from test_restore_synthetic import rows_in, run

from recovery.errors import ArchiveDamaged, DdlInRange
from recovery.generated import declared
from recovery.schema import Column, Table

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


def test_a_damaged_segment_of_another_table_is_no_obstacle(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    start = archive.baseline("s", A, [({"id": 1, "v": "a"}, {})], created("a"))
    archive.snapshot("s", archive.mark(0), archive.mark(0), start, archive.baseline("s", B, [], created("b")))
    adds = [archive.ddl(n, f"ALTER TABLE b ADD KEY k{n} (v)", [NAMES["b"]]) for n in (2, 3)]
    archive.window(insert(B, id=1, v="x"), NOTHING, NOTHING, insert(B, id=2, v="y"), ddls=adds)
    path = tmp_path / "archive" / archive.state.segments[0].path
    path.chmod(0o644)
    path.write_bytes(b"PAR1")
    run(archive, tmp_path / "out", "latest", "shop.a")
    assert rows_in(tmp_path / "out", "shop.a") == ["(1,'a')"]
    with pytest.raises(ArchiveDamaged):
        run(archive, tmp_path / "other", "latest", "shop.b")


@pytest.mark.parametrize("marked", [True, False])
def test_the_statements_say_which_columns_are_generated(tmp_path: Path, marked: bool) -> None:
    """marked: what capture took from a live table that may have been another by then."""
    shown = table("shop", "t", column("id"), column("v", "varchar"), column("g", generated=marked))
    plain = table("shop", "a", column("id"), column("v", "varchar"), column("g", generated=marked))
    archive = Archive(tmp_path / "archive")
    archive.snapshot("s", archive.mark(0), archive.mark(0))
    archive.window(
        NOTHING,
        insert(shown, id=1, v="x", g=2),
        NOTHING,
        insert(plain, id=1, v="x", g=2),
        ddls=[
            archive.ddl(1, "CREATE TABLE t (id int PRIMARY KEY, v varchar(9), g int AS (id + 1) STORED)", [NAMES["t"]]),
            archive.ddl(3, "CREATE TABLE a (id int PRIMARY KEY, v varchar(9), g int)", [NAMES["a"]]),
        ],
    )
    run(archive, tmp_path / "out")
    assert rows_in(tmp_path / "out", "shop.t") == ["(1,'x')"]
    assert rows_in(tmp_path / "out", "shop.a") == ["(1,'x',2)"]


@pytest.mark.parametrize(
    ("create", "names"),
    [
        ("CREATE TABLE t (a int, b int AS (a + 1), `as` int, c int GENERATED ALWAYS AS (a) VIRTUAL)", {"b", "c"}),
        ("CREATE TABLE t (a int CHECK (a > 1), KEY b (a), b int DEFAULT (1)) AS SELECT (1) AS (b)", set()),
        ("CREATE TABLE t AS SELECT a AS b, (SELECT 1 AS (x)) FROM u", set()),
        ("CREATE TABLE t (a int, s timestamp(6) GENERATED ALWAYS AS ROW START)", set()),
        ("CREATE TABLE t (LIKE u)", set()),
    ],
)
def test_generated_columns_of_a_create_table(create: str, names: set[str]) -> None:
    assert declared(create) == names


def test_text_is_converted_only_if_all_of_it_can_be(tmp_path: Path) -> None:
    wide = table("shop", "t", column("id"), column("v", "varchar", octets=36))
    narrow = table("shop", "t", column("id"), column("v", "varchar", octets=27, charset="utf8mb3"))
    for text, exact in (("\u65e5", {}), ("\U0001f600", {}), (None, {"v": "0xff"})):
        archive = Archive(tmp_path / f"archive-{text}")
        archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", wide, [], created("t")))
        statement = "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb3"
        archive.window(
            insert(wide, id=1, v=text, exact=exact),
            NOTHING,
            insert(narrow, id=2, v="y"),
            ddls=[archive.ddl(2, statement, [NAMES["t"]])],
        )
        output = tmp_path / f"out-{text}"
        if text == "\u65e5":
            run(archive, output)
            assert rows_in(output, "shop.t") == ["(1,_utf8mb4 X'E697A5')", "(2,'y')"]
        else:
            why = "above U\\+FFFF" if text else "wasn't valid"
            with pytest.raises(DdlInRange, match=f"column `v` got .*{why}"):
                run(archive, output)


def test_a_wide_decimal_keeps_its_scale_through_stages(tmp_path: Path) -> None:
    """A keyless table, whose deletes name whole rows: text of another form would not be found."""

    def shown(precision: int, scale: int, *more: Column) -> Table:
        return table("shop", "t", column("d", "decimal", precision=precision, scale=scale), *more, key=())

    added = column("e", "decimal", precision=50, scale=6)
    first, second = shown(12, 4), shown(42, 6, added)
    archive = Archive(tmp_path / "archive")
    create = "CREATE TABLE `t` (`d` decimal(12,4))"
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", first, [], create))
    archive.window(
        insert(first, d=Decimal("1.5000")),
        NOTHING,
        delete(second, d="1.500000", e="123456789012345678901234567890.500000"),
        ddls=[
            archive.ddl(
                2,
                "ALTER TABLE t MODIFY d decimal(42,6), ADD e decimal(50,6) DEFAULT 123456789012345678901234567890.5",
                [NAMES["t"]],
            )
        ],
    )
    run(archive, tmp_path / "out")
    assert rows_in(tmp_path / "out", "shop.t") == []


def test_an_expression_with_like_makes_no_copy(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", A, [], created("a")))
    plain = table("shop", "t", column("v", "varchar"), key=())
    statement = "CREATE TABLE t (v varchar(9) CHECK (v LIKE 'a'))"
    archive.window(NOTHING, insert(plain, v="abc"), ddls=[archive.ddl(1, statement, [NAMES["t"]])])
    run(archive, tmp_path / "out")
    assert rows_in(tmp_path / "out", "shop.t") == ["('abc')"]
    assert "CHECK (v LIKE 'a')" in (tmp_path / "out" / "shop.t-schema.sql").read_text()


def test_rows_keep_the_value_of_a_column_that_was_redefined_before_they_changed(tmp_path: Path) -> None:
    """ADD COLUMN gives the rows that are there its DEFAULT, and MODIFY takes that over; a later default isn't theirs."""
    wide = table("shop", "t", column("id"), column("v", "varchar"), column("n", "bigint"), column("x", "text"))
    archive = Archive(tmp_path / "archive")
    before = table("shop", "t", *A.columns)
    archive.snapshot("s", archive.mark(0), archive.mark(0), archive.baseline("s", before, [], created("t")))
    archive.window(
        insert(before, id=1, v="a"),
        NOTHING,
        NOTHING,
        insert(wide, id=2, v="b", n=8, x="y"),
        ddls=[
            archive.ddl(2, "ALTER TABLE t ADD n smallint NOT NULL DEFAULT 7, ADD x char(9) DEFAULT 'd'", [NAMES["t"]]),
            archive.ddl(3, "ALTER TABLE t MODIFY n bigint, MODIFY x text", [NAMES["t"]]),
        ],
    )
    run(archive, tmp_path / "out")
    assert rows_in(tmp_path / "out", "shop.t") == ["(1,'a',7,'d')", "(2,'b',8,'y')"]
    with pytest.raises(DdlInRange, match="the default of column `n` was changed after it was added"):
        run(archive, tmp_path / "early", f"{UUID}:3")
