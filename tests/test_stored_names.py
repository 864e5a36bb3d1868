"""Statements as a server with lower_case_table_names=1 means them: which names change, and that nothing else does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dataflow import resume
from recovery.config import ServerSettings
from recovery.ddl import classify
from recovery.errors import ConfigError, SourceMisconfigured
from recovery.lowercase import LOWER, certain, lowered
from recovery.rename import parse_renames
from recovery.source import ServerInfo, check_filter, check_names
from recovery.sqlscan import ANSI_QUOTES, NO_BACKSLASH_ESCAPES
from recovery.stored_names import in_lower_case

SAME = None
SIGMA = "\u03c3"


def folded(statement: str, sql_mode: int = 0) -> str:
    return in_lower_case(statement, "Shop", classify(statement, "Shop", sql_mode), sql_mode)[0]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE TABLE Bar (Id INT)", "CREATE TABLE bar (Id INT)"),
        ("create table if not exists `Bar`.`B``Az` (Id INT)", "create table if not exists `bar`.`b``az` (Id INT)"),
        ("CREATE TABLE A LIKE Other.B", "CREATE TABLE a LIKE other.b"),
        ("CREATE TABLE A (LIKE B)", "CREATE TABLE a (LIKE b)"),
        ("CREATE TABLE A (B INT CHECK (B LIKE 'X' OR A.B > 1))", "CREATE TABLE a (B INT CHECK (B LIKE 'X' OR a.B > 1))"),
        (
            "CREATE TABLE A (B INT COMMENT 'A.B', C INT DEFAULT 1.5, CONSTRAINT A_Fk FOREIGN KEY (B) REFERENCES P (Id))",
            "CREATE TABLE a (B INT COMMENT 'A.B', C INT DEFAULT 1.5, CONSTRAINT A_Fk FOREIGN KEY (B) REFERENCES p (Id))",
        ),
        ("CREATE TABLE A (B INT REFERENCES `P Q`.R (Id))", "CREATE TABLE a (B INT REFERENCES `p q`.r (Id))"),
        ("CREATE OR REPLACE TABLE A (B INT)", "CREATE OR REPLACE TABLE a (B INT)"),
        ("ALTER TABLE A ADD COLUMN B INT, RENAME TO Other.C", "ALTER TABLE a ADD COLUMN B INT, RENAME TO other.c"),
        ("ALTER TABLE A RENAME COLUMN B TO C, RENAME KEY D TO E", "ALTER TABLE a RENAME COLUMN B TO C, RENAME KEY D TO E"),
        ("ALTER TABLE A EXCHANGE PARTITION P0 WITH TABLE B", "ALTER TABLE a EXCHANGE PARTITION P0 WITH TABLE b"),
        ("ALTER TABLE A CONVERT TO CHARACTER SET Latin1", "ALTER TABLE a CONVERT TO CHARACTER SET Latin1"),
        ("RENAME TABLE A TO B, `C` TO D.E", "RENAME TABLE a TO b, `c` TO d.e"),
        ("TRUNCATE A", "TRUNCATE a"),
        ("DROP TABLE IF EXISTS A, B.C /* A */", "DROP TABLE IF EXISTS a, b.c /* A */"),
        ("CREATE UNIQUE INDEX Ix ON A (B)", "CREATE UNIQUE INDEX Ix ON a (B)"),
        ("DROP INDEX Ix ON A", "DROP INDEX Ix ON a"),
        ("CREATE DATABASE IF NOT EXISTS Shop", "CREATE DATABASE IF NOT EXISTS shop"),
        ("ALTER DATABASE Shop CHARACTER SET utf8mb4", "ALTER DATABASE shop CHARACTER SET utf8mb4"),
        ("DROP SCHEMA Shop", "DROP SCHEMA shop"),
        ("SET STATEMENT max_statement_time=1 FOR DROP TABLE A", "SET STATEMENT max_statement_time=1 FOR DROP TABLE a"),
        ("ALTER TABLE A /*!50100 ADD FOREIGN KEY (B) REFERENCES C (D) */",
         "ALTER TABLE a /*!50100 ADD FOREIGN KEY (B) REFERENCES c (D) */"),
        ("CREATE TRIGGER Db.Tr AFTER INSERT ON T FOR EACH ROW INSERT INTO U VALUES (NEW.A)",
         "CREATE TRIGGER db.Tr AFTER INSERT ON t FOR EACH ROW INSERT INTO U VALUES (NEW.A)"),
        ("DROP TRIGGER IF EXISTS Db.Tr", "DROP TRIGGER IF EXISTS db.Tr"),
        ("CREATE PROCEDURE Db.P() SELECT * FROM Db.T", "CREATE PROCEDURE db.P() SELECT * FROM Db.T"),
        ("CREATE FUNCTION F(X INT) RETURNS INT RETURN (SELECT A FROM T)", SAME),
        ("ALTER EVENT Db.E RENAME TO Db.F", "ALTER EVENT db.E RENAME TO db.F"),
        ("GRANT SELECT ON Shop.Orders TO Joe", SAME),
        (
            "CREATE VIEW V (C1, C2) AS SELECT A.Id, Orders.Total AS Sum FROM Orders A JOIN Db.Lines AS `L` ON A.Id = L.Id",
            "CREATE VIEW v (C1, C2) AS SELECT a.Id, orders.Total AS Sum FROM orders a JOIN db.lines AS `l` ON a.Id = l.Id",
        ),
        (
            "CREATE VIEW V AS WITH Cte (Col) AS (SELECT Id FROM T) SELECT Col, X.Col FROM Cte, (SELECT Id AS Col FROM U) X",
            "CREATE VIEW v AS WITH cte (Col) AS (SELECT Id FROM t) SELECT Col, x.Col FROM cte, (SELECT Id AS Col FROM u) x",
        ),
        (
            "ALTER VIEW V AS SELECT Id FROM (A JOIN B USING (Id)) WHERE 'A.B' = Db.Fn(A.Id) AND Id IN (SELECT C.Id FROM C)",
            "ALTER VIEW v AS SELECT Id FROM (a JOIN b USING (Id)) WHERE 'A.B' = db.Fn(a.Id) AND Id IN (SELECT c.Id FROM c)",
        ),
        ("CREATE VIEW V AS SELECT EXTRACT(YEAR FROM D) AS Y, CAST(N AS CHAR) FROM T WHERE N LIKE 'T'",
         "CREATE VIEW v AS SELECT EXTRACT(YEAR FROM D) AS Y, CAST(N AS CHAR) FROM t WHERE N LIKE 'T'"),
        ("DROP VIEW IF EXISTS V, Db.W CASCADE", "DROP VIEW IF EXISTS v, db.w CASCADE"),
        ("RENAME TABLE `ÉCOLE` TO `ΣÉΣ`, `İl` TO `ẞ`", SAME),  # a capital sharp s isn't certain
        ("RENAME TABLE `ÉCOLE` TO `ΣÉΣ`, `İl` TO `straße`", f"RENAME TABLE `école` TO `{SIGMA}é{SIGMA}`, `il` TO `straße`"),
    ],
)  # fmt: skip
def test_names_are_put_in_lower_case_and_nothing_else(statement: str, expected: str | None) -> None:
    assert folded(statement) == (expected or statement)
    assert folded(folded(statement)) == folded(statement)


def test_quotes_are_read_as_the_server_read_them() -> None:
    assert folded('CREATE TABLE "A" ("B" INT)', ANSI_QUOTES) == 'CREATE TABLE "a" ("B" INT)'
    statement = r"CREATE TABLE A (B CHAR(9) DEFAULT 'x\', C INT REFERENCES D (E))"
    assert folded(statement, NO_BACKSLASH_ESCAPES) == statement.replace(" A ", " a ").replace(" D ", " d ")


def test_tables_are_those_of_the_statement() -> None:
    statement = "RENAME TABLE A TO Other.B"
    _, db, found = in_lower_case(statement, "Shop", classify(statement, "Shop"))
    assert (db, found.tables) == ("shop", (("shop", "a"), ("other", "b")))


@pytest.mark.parametrize("name", ["ẞ", "Ა", "Ꙁ", "Ⱥ"])
def test_a_letter_that_servers_may_not_agree_on_may_mean_any_table(name: str) -> None:
    for statement in (f"DROP TABLE `{name}`", f"CREATE VIEW V AS SELECT 1 FROM `{name}`"):
        text, _, found = in_lower_case(statement, "d", classify(statement, "d"))
        assert (text, found.tables) == (statement, None)
    assert not certain(name)
    # Not where it is no name.
    assert folded(f"CREATE TABLE T (A INT COMMENT '{name}')") == f"CREATE TABLE t (A INT COMMENT '{name}')"


def test_letters() -> None:
    assert len(LOWER) == 26 + 670
    assert lowered("ÀÉÎÕÜ ŸŽ ЖЯ ΦΣ İI ǅ Å K Ⅷ Ⓐ") == f"àéîõü ÿž жя φ{SIGMA} ii ǆ å k ⅷ ⓐ"  # no final sigma
    assert lowered("ß \u0131 \u017f ẞ Ა Ꙁ") == "ß \u0131 \u017f ẞ Ა Ꙁ"
    assert all(certain(chr(letter)) for letter in LOWER)


def test_new_names_of_a_restore_stay_as_they_are_typed() -> None:
    renames = parse_renames(["Shop=Shop_Old", "Shop.Orders=Shop.Orders_Old"], lowered)
    assert renames.databases == {"shop": "Shop_Old"}
    assert renames.tables == {("shop", "orders"): ("Shop", "Orders_Old")}


# --- what capture refuses -----------------------------------------------------------------------------------------------


def info(case: int) -> ServerInfo:
    return ServerInfo("mysql", "9.7.4", (9, 7, 4), "u", 1, True, case)


def test_names_that_are_stored_as_typed_and_compared_without_case(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("log_bin", "ON"), ("binlog_format", "ROW"), ("binlog_row_image", "FULL")]
    monkeypatch.setattr(resume, "fetch", lambda *_: rows)
    connection: Any = SimpleNamespace()
    resume.check_settings(connection, info(0))
    resume.check_settings(connection, info(1))
    with pytest.raises(SourceMisconfigured, match="lower_case_table_names = `2`, and capture needs `0` or `1`"):
        resume.check_settings(connection, info(2))


def test_another_setting_than_the_archives() -> None:
    check_names(None, info(1))  # an earlier version captured
    check_names(1, info(1))
    with pytest.raises(SourceMisconfigured, match="= `0`, and the archive was captured with `1`") as caught:
        check_names(1, info(0))
    assert "Start the server with 1 again" in caught.value.hint


def test_a_filter_that_fits_no_name() -> None:
    server = ServerSettings(name="shop", host="h", user="u", include=("shop.*",), exclude=("shop.Log*",))
    check_filter(server, 0)
    with pytest.raises(ConfigError, match=r"`shop.Log\*` of server `shop` fits no table") as caught:
        check_filter(server, 1)
    assert "`shop.log*`" in caught.value.hint
