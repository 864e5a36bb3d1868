"""What a table demands of its rows, read from its statements; texts that may be equal; expressions that DuckDB computes."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from handmade import column
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.alike import loose, loose_sql, may_equal, may_equal_sql, register
from recovery.archive.actions import Ddl
from recovery.constraints import Definition
from recovery.numeric import condition_sql, number_sql

CREATE = (
    "CREATE TABLE `t` (`a` int COMMENT 'UNIQUE KEY (`no`)', `b` text, `c` varchar(9) COLLATE utf8mb4_bin NOT NULL "
    "CHECK (`c` <> ''), `g` int GENERATED ALWAYS AS ((`a` + 1)) VIRTUAL, `h` int AS (`g` * 2) STORED, PRIMARY KEY (`a`), "
    "UNIQUE KEY `x` (`a`,`c`), UNIQUE KEY `y` (`b`(10)), UNIQUE KEY `z` ((`a` + length(`b`))), "
    "UNIQUE KEY `unique` (`h` DESC) USING BTREE, KEY `k` (`b`(9)), "
    "CONSTRAINT `ck` CHECK ((`a` < 5)) /*!80016 NOT ENFORCED */, CONSTRAINT `fk` FOREIGN KEY (`a`) REFERENCES `p` (`id`)"
    ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci"
)


def ddl(statement: str, seq: int = 7) -> Ddl:
    verb = {"ALTER": "ALTER TABLE", "CREATE": "CREATE INDEX", "DROP": "DROP INDEX"}[statement.split()[0]]
    return Ddl(seq, None, "binlog.000001", 100 * seq, 0, "shop", statement, verb, (("shop", "t"),))


def after(*statements: str) -> list[tuple[str, tuple[str, ...], int | None]]:
    """(text, columns that it reads, seq of the statement since which it holds)."""
    found = Definition()
    found.create(CREATE, None)
    for seq, statement in enumerate(statements, 1):
        found.run(ddl(statement, seq))
    return [(c.text, tuple(sorted(c.reads)), c.since.seq if c.since else None) for c in found.finished()]


def test_of_a_definition() -> None:
    assert after() == [
        ("check constraint `c` (`c` <> '')", ("c",), None),
        ("primary key (a)", ("a",), None),
        ("unique key `x` (a, c)", ("a", "c"), None),
        ("unique key `y` (b)", ("b",), None),
        ("unique key `z` (`a` + length(`b`))", ("a", "b"), None),
        ("unique key `unique` (h)", ("a",), None),
    ]
    found = Definition()
    found.create(CREATE, None)
    assert [found.collation_of(n) for n in "abc"] == ["utf8mb4_0900_ai_ci", "utf8mb4_0900_ai_ci", "utf8mb4_bin"]


# statements; texts that appear, texts that disappear
@pytest.mark.parametrize(
    ("statements", "more", "less"),
    [
        (["ALTER TABLE t ADD UNIQUE (b(3), a)"], {("unique key `b` (b, a)", 1)}, set()),
        (["ALTER TABLE t ADD CONSTRAINT u UNIQUE KEY (a)"], {("unique key `u` (a)", 1)}, set()),
        (["CREATE UNIQUE INDEX i USING BTREE ON t (c)"], {("unique key `i` (c)", 1)}, set()),
        (["CREATE INDEX i ON t (c)"], set(), set()),
        (["ALTER TABLE t ADD d int UNIQUE CHECK (d > 1)"],
         {("unique key `d` (d)", 1), ("check constraint `d` (d > 1)", 1)}, set()),
        (["ALTER TABLE t ADD (d int, UNIQUE KEY q (d))"], {("unique key `q` (d)", 1)}, set()),
        (["ALTER TABLE t DROP INDEX X"], set(), {("unique key `x` (a, c)", None)}),
        (["DROP INDEX y ON t"], set(), {("unique key `y` (b)", None)}),
        (["ALTER TABLE t DROP CONSTRAINT z, DROP KEY k"], set(), {("unique key `z` (`a` + length(`b`))", None)}),
        (["ALTER TABLE t DROP COLUMN a"], {("unique key `x` (c)", 1)},
         {("primary key (a)", None), ("unique key `x` (a, c)", None)}),
        (["ALTER TABLE t RENAME INDEX x TO w"], {("unique key `w` (a, c)", None)}, {("unique key `x` (a, c)", None)}),
        (["ALTER TABLE t RENAME COLUMN b TO d"],
         {("unique key `y` (d)", None), ("unique key `z` (`a` + length(`d`))", None)},
         {("unique key `y` (b)", None), ("unique key `z` (`a` + length(`b`))", None)}),
        (["ALTER TABLE t MODIFY c varchar(20)"], {("unique key `x` (a, c)", 1), ("check constraint `c` (`c` <> '')", 1)},
         {("unique key `x` (a, c)", None), ("check constraint `c` (`c` <> '')", None)}),
        (["ALTER TABLE t ALTER CHECK ck ENFORCED"], {("check constraint `ck` ((`a` < 5))", 1)}, set()),
        (["ALTER TABLE t ADD PARTITION (PARTITION p VALUES IN (1))", "ALTER TABLE t DROP PARTITION p"], set(), set()),
    ],
)  # fmt: skip
def test_behind_statements(
    statements: list[str], more: set[tuple[str, int | None]], less: set[tuple[str, int | None]]
) -> None:
    before, now = ({(text, seq) for text, _, seq in found} for found in (after(), after(*statements)))
    assert (now - before, before - now) == (more, less)


def test_a_renamed_column_of_a_generated_one() -> None:
    assert ("unique key `unique` (h)", ("d",), 1) in after("ALTER TABLE t CHANGE COLUMN a d int")


def test_columns_that_exchange_their_names() -> None:
    found = {
        text: reads
        for text, reads, _ in after("ALTER TABLE t CHANGE a b int, RENAME COLUMN b TO c, CHANGE c a varchar(9)")
    }
    assert found["primary key (b)"] == ("b",)
    assert found["unique key `x` (b, a)"] == ("a", "b")
    assert found["unique key `y` (c)"] == ("c",)
    assert found["unique key `z` (`b` + length(`c`))"] == ("b", "c")
    replaced = [text for text, _, _ in after("ALTER TABLE t CHANGE a b int, DROP b")]
    assert "primary key (b)" in replaced
    assert not any("`y`" in text for text in replaced)


def test_converted_collations() -> None:
    found = Definition()
    found.create(CREATE, None)
    found.run(ddl("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"))
    assert found.collation_of("c") == "utf8mb4_general_ci"
    assert all(c.since is not None for c in found.finished())


@pytest.mark.parametrize(
    ("columns", "options", "key"),
    [
        ("", "", "primary key (a)"),
        ("", " WITH SYSTEM VERSIONING", "primary key (a, row_end)"),
        (", e timestamp(6) GENERATED ALWAYS AS ROW END", " WITH SYSTEM VERSIONING", "primary key (a, e)"),
    ],
)
def test_keys_of_a_table_with_its_history(columns: str, options: str, key: str) -> None:
    found = Definition()
    found.create(f"CREATE TABLE t (a int PRIMARY KEY{columns}) ENGINE=InnoDB{options}", None)
    assert [c.text for c in found.finished()] == [key]


ALIKE = [
    ("STRASSE ", "straße", "utf8mb4_general_ci", True),
    ("STRASSE ", "straße", None, None),
    ("strasze", "straße", "utf8mb4_unicode_ci", False),
    ("müller", "MUELLER", "latin1_german2_ci", None),
    ("Ød", "od", "utf8mb4_0900_ai_ci", True),
    ("か", "カ", "utf8mb4_unicode_ci", None),
    ("😀", "😁", "utf8mb4_general_ci", True),
    ("é", "e", "utf8mb4_bin", False),
    ("a", "a ", "utf8mb4_bin", True),
    ("a", "A", "utf8mb4_bin", False),
    ("a", "A", "utf8mb4_0900_as_cs", False),
    ("a", "A", "utf8mb4_0900_as_ci", True),
    ("w", "v", "utf8mb4_0900_ai_ci", False),  # they are in Swedish
    ("w", "v", "utf8mb4_swedish_ci", True),
    ("w", "v", None, True),
    ("i", "j", "latin1_danish_ci", False),
    ("i", "j", "utf8mb4_roman_ci", None),  # and this takes one for the other
    ("blue", "blu", None, False),
    ("x", "y", None, False),
    ("á", "a", "utf8mb4_unicode_520_ci", True),
]


@pytest.mark.parametrize(("a", "b", "collation", "same"), ALIKE)
def test_texts_that_may_be_equal(
    a: str, b: str, collation: str | None, same: bool | None, engine: duckdb.DuckDBPyConnection
) -> None:
    """None where a text has no loose form."""
    forms = loose(a, collation), loose(b, collation)
    assert (None if None in forms else forms[0] == forms[1] and may_equal(a, b, collation)) is same
    both = f"{loose_sql('$1', collation)} = {loose_sql('$2', collation)} AND {may_equal_sql('$1', '$2', collation)}"
    (found,) = engine.execute(f"SELECT {both}", [a, b]).fetchall()
    assert found == (same,)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        register(connection)
        yield connection


@settings(deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("aAsSwWyYé `")),
    collation=st.sampled_from((None, "utf8mb4_bin", "utf8mb4_0900_ai_ci", "latin1_german2_ci", "big5_chinese_ci")),
)
def test_duckdb_says_what_python_does(engine: duckdb.DuckDBPyConnection, text: str, collation: str | None) -> None:
    found = engine.execute(f"SELECT {loose_sql('$1', collation)}", [text]).fetchall()
    assert found == [(loose(text, collation),)]


@given(st.text(st.characters(max_codepoint=127)))
def test_case_and_spaces_at_the_end(text: str) -> None:
    other, collation = text.upper() + " ", "utf8mb4_0900_ai_ci"
    assert loose(text, collation) == loose(other, collation)
    assert may_equal(text, other, collation)


def test_expressions() -> None:
    columns = {
        "n": (column("n"), "7"),
        "d": (column("d", "decimal", precision=8, scale=2), "1.50"),
        "s": (column("s", "varchar"), "'x'"),
    }
    with duckdb.connect(":memory:") as engine:

        def value(text: str | None) -> object:
            return None if text is None else engine.execute(f"SELECT {text}").fetchall()[0][0]

        assert value(condition_sql("`n` between 1 and 9 AND NOT d >= 1.51 OR n IN (1, 2)", columns)) is True
        assert value(condition_sql("((`N` * -2 + 1) < -13)", columns)) is False
        assert value(number_sql("(n - 1) * n", columns)) == 42
    for text in ("s = 'x'", "n / 2 > 1", "n > '5'", "abs(n) > 1", "m = 1", "n MOD 2 = 1", "d * 2 > 1", "n ="):
        assert condition_sql(text, columns) is None
    for text in ("d", "n / 2", "u - n", "concat(n, 1)", "n > 1"):
        assert number_sql(text, columns) is None
