"""What ALTER TABLE statements mean for rows, and the statements made to speak of another table's name."""

from __future__ import annotations

import pytest

from recovery.alter import (
    AddColumn,
    ChangeColumn,
    ChangeDefault,
    ChangeKey,
    ConvertCharset,
    DropColumn,
    Harmless,
    Operation,
    RenameColumn,
    RenameTable,
    Unknown,
    parse_alter,
    renamed,
)
from recovery.column_spec import Default
from recovery.generated import after
from recovery.partitions import Partitioning
from recovery.references import parents
from recovery.retarget import retargeted


def brief(operation: Operation) -> tuple[object, ...]:
    if isinstance(operation, AddColumn):
        column = operation.spec.column
        return ("add", column.name, column.type, column.nullable, operation.spec.default)
    if isinstance(operation, ChangeColumn):
        return ("change", operation.old, operation.spec.column.name, operation.spec.column.type)
    if isinstance(operation, Harmless | Unknown | ChangeKey):
        return (type(operation).__name__,)
    return (type(operation).__name__, *vars(operation).values())


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [
        ("ADD c int", [("add", "c", "int", True, None)]),
        (
            "ADD COLUMN c varchar(3) NOT NULL DEFAULT 'it''s' AFTER `b`",
            [("add", "c", "varchar", False, Default("it's"))],
        ),
        (
            "ADD (a int unsigned, b decimal(5,2) DEFAULT -1.5)",
            [("add", "a", "int", True, None), ("add", "b", "decimal", True, Default("-1.5"))],
        ),
        (
            "ADD c datetime(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE NOW(3)",
            [("add", "c", "datetime", True, Default("", known=False, clock=3))],
        ),
        ("ADD c json DEFAULT (json_array())", [("add", "c", "json", True, Default("", known=False))]),
        ("ADD c int AS (a + 1) STORED", [("add", "c", "int", True, None)]),
        (
            "ADD c enum('a,b','c''d') CHARACTER SET latin1 COLLATE latin1_bin COMMENT 'x, y'",
            [("add", "c", "enum", True, None)],
        ),
        ("ADD c double precision UNIQUE", [("add", "c", "double", True, None), ("ChangeKey",)]),
        ("DROP c, DROP COLUMN `d e`", [("DropColumn", "c"), ("DropColumn", "d e")]),
        ("MODIFY c bigint NOT NULL", [("change", "c", "c", "bigint")]),
        ("CHANGE COLUMN `a` `b` text", [("change", "a", "b", "text")]),
        ("RENAME COLUMN a TO b, RENAME INDEX i TO j", [("RenameColumn", "a", "b"), ("Harmless",)]),
        ("ALTER COLUMN c SET DEFAULT 5, ALTER d DROP DEFAULT", [("ChangeDefault", "c"), ("ChangeDefault", "d")]),
        ("CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", [("ConvertCharset", "utf8mb4")]),
        ("DROP PRIMARY KEY, ADD PRIMARY KEY (a, b), ADD KEY (c)", [("ChangeKey",), ("ChangeKey",), ("Harmless",)]),
        ("ADD CONSTRAINT u UNIQUE KEY (a)", [("ChangeKey",)]),
        ("ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES p (id)", [("Harmless",)]),
        ("ENGINE = InnoDB, AUTO_INCREMENT = 7, ALGORITHM = INPLACE, LOCK = NONE", [("Harmless",)] * 4),
        ("RENAME TO `x y`.`z`", [("RenameTable", ("x y", "z"))]),
        ("RENAME z", [("RenameTable", ("d", "z"))]),
        ("TRUNCATE PARTITION p0", [("EmptyPartitions", ("p0",), False, "TRUNCATE PARTITION p0")]),
        ("PARTITION BY HASH (id) PARTITIONS 4", [("Repartition", Partitioning("", (), ()))]),
        ("ADD COLUMN c int PARTITION BY HASH (id)", [("Unknown",)]),
        ("ADD c serial", [("Unknown",)]),
        ("DISCARD TABLESPACE", [("Unknown",)]),
        ("/*!80023 ADD COLUMN c int INVISIBLE */", [("add", "c", "int", True, None)]),
    ],
)
def test_operations(clauses: str, expected: list[tuple[object, ...]]) -> None:
    assert [brief(o) for o in parse_alter(f"ALTER TABLE `a b`.t {clauses}", "d")] == expected


def test_ignore_is_never_passed_over() -> None:
    """It takes rows away, and cuts values."""
    for text in ("ALTER IGNORE TABLE t ADD UNIQUE (v)", "ALTER ONLINE IGNORE TABLE t MODIFY v TINYINT"):
        assert isinstance(parse_alter(text, "d")[-1], Unknown)
    assert not any(isinstance(o, Unknown) for o in parse_alter("ALTER TABLE t ADD `ignore` INT", "d"))


def test_kinds_that_the_table_above_names() -> None:
    assert {ChangeDefault, ConvertCharset, DropColumn, RenameColumn, RenameTable} <= {
        type(o)
        for clause in (
            "ALTER c DROP DEFAULT",
            "CONVERT TO CHARSET ascii",
            "DROP c",
            "RENAME COLUMN a TO b",
            "RENAME AS x",
        )
        for o in parse_alter(f"ALTER TABLE t {clause}", "d")
    }


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "CREATE TABLE `t` (\n  `a` int\n) /*!50100 PARTITION BY HASH (a) */",
            "CREATE TABLE {} (\n  `a` int\n) /*!50100 PARTITION BY HASH (a) */",
        ),
        ("create table if not exists d.t (a int) START TRANSACTION", "create table if not exists {} (a int)"),
        ("CREATE OR REPLACE TABLE t (a int)", "CREATE OR REPLACE TABLE {} (a int)"),
        ("ALTER TABLE `a b`.t ADD x int, RENAME TO z, DROP y", "ALTER TABLE {} ADD x int, DROP y"),
        ("ALTER TABLE t RENAME COLUMN a TO b", "ALTER TABLE {} RENAME COLUMN a TO b"),
        ("ALTER TABLE t RENAME z", None),
        ("CREATE UNIQUE INDEX i USING BTREE ON t (a)", "CREATE UNIQUE INDEX i USING BTREE ON {} (a)"),
        ("DROP INDEX i ON `t`", "DROP INDEX i ON {}"),
    ],
)
def test_statements_for_another_name(statement: str, expected: str | None) -> None:
    name = "`s``h`.`o.p`"
    assert retargeted(statement, ("s`h", "o.p")) == (None if expected is None else expected.format(name))


def test_parents_of_foreign_keys() -> None:
    statement = "CREATE TABLE c (a int REFERENCES p (id), FOREIGN KEY (b) REFERENCES `x`.`y z` (id), d int COMMENT 'x')"
    assert [p.table for p in parents(statement, "d")] == [("d", "p"), ("x", "y z")]


def test_names_that_columns_exchange() -> None:
    operations = parse_alter("ALTER TABLE t RENAME COLUMN G TO h, CHANGE h g int, ADD i int AS (1), DROP j", "d")
    assert renamed(operations) == {"g": "h", "h": "g"}
    assert after(frozenset({"g", "j"}), operations) == {"h", "i"}
    assert after(frozenset({"g"}), parse_alter("ALTER TABLE t DROP g, CHANGE x g int", "d")) == frozenset()
