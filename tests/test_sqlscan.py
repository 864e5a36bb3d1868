"""recovery/sqlscan.py: which comments are a part of a statement, and what only looks like one."""

from __future__ import annotations

import pytest

from recovery.ddl import classify
from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES, bare


@pytest.mark.parametrize(
    ("statement", "sql_mode", "expected"),
    [
        ("ALTER TABLE t ADD c INT", 0, None),
        ("ALTER TABLE t /*!80023 ADD c INT */, ADD d INT", 0, "ALTER TABLE t   ADD c INT  , ADD d INT"),
        ("/*M!100100 ALTER TABLE*/ t/*!ADD c INT*/", 0, "  ALTER TABLE  t ADD c INT "),
        ("c INT /*!8 DEFAULT '*/' /* plain */ COMMENT 'x'*/", 0, "c INT   DEFAULT '*/' /* plain */ COMMENT 'x' "),
        ("ADD c INT COMMENT '/*!40101 SET NAMES utf8 */'", 0, None),
        ("ADD `/*!c*/` INT, ADD d CHAR(9) DEFAULT \"/*M!x*/\"", 0, None),
        ("ADD c INT /* it's /*!40101 plain */, ADD d INT", 0, None),
        ("ADD c INT -- it's /*! a */\n, ADD d INT", 0, None),
        ("ADD c CHAR(9) DEFAULT '\\'/*!x*/'", 0, None),
        ("ADD c CHAR(9) DEFAULT '\\' /*!COMMENT 'x'*/", NO_BACKSLASH_ESCAPES, "ADD c CHAR(9) DEFAULT '\\'  COMMENT 'x' "),
        ('ADD "\\" INT /*!COMMENT \'x\'*/', ANSI_QUOTES, 'ADD "\\" INT  COMMENT \'x\' '),
    ],
)  # fmt: skip
def test_what_is_a_part_of_the_statement(statement: str, sql_mode: int, expected: str | None) -> None:
    assert bare(statement, sql_mode) == (statement if expected is None else expected)


def test_a_name_that_looks_like_a_comment() -> None:
    assert classify("ALTER TABLE `/*!t*/` RENAME `b /*!c*/`", "d").tables == (("d", "/*!t*/"), ("d", "b /*!c*/"))
