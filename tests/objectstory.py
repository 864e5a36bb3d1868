"""A source with every kind of view, trigger, routine and event, and what became of them until a mark: SQL, and how a server
shows them. The server's own SHOW CREATE at the mark is the oracle."""

from __future__ import annotations

from typing import Any

from testservers import Server

DATABASES = ("shop", "odd.dé", "later", "reports", "bare late")  # the last two have no tables

# Each entry is one statement; several sessions with other settings.
BEFORE = [
    "CREATE DATABASE shop CHARACTER SET latin1",
    "CREATE DATABASE `odd.dé`",
    "USE shop",
    "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, a INT, note VARCHAR(60) CHARACTER SET utf8mb4)",
    "CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(100) CHARACTER SET utf8mb4)",
    "CREATE TABLE moved (id INT PRIMARY KEY, a INT)",
    "CREATE TABLE dropped (id INT PRIMARY KEY)",
    "CREATE TABLE `odd.dé`.`t``x` (id INT PRIMARY KEY, b INT)",
    """CREATE TRIGGER `tr it's` AFTER INSERT ON orders FOR EACH ROW
BEGIN
  -- it's a comment; with a semicolon
  INSERT INTO audit (what) VALUES (CONCAT('ins;', NEW.id));
  IF NEW.a > 5 THEN
    INSERT INTO audit (what) VALUES ("big 'one'");
  END IF;
END""",
    "CREATE TRIGGER first BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = CONCAT(COALESCE(NEW.note, ''), '1')",
    "CREATE TRIGGER zero BEFORE INSERT ON orders FOR EACH ROW PRECEDES first SET NEW.note = CONCAT('0', NEW.note)",
    "CREATE TRIGGER on_moved BEFORE UPDATE ON shop.moved FOR EACH ROW SET NEW.a = NEW.a + 1",
    "CREATE TRIGGER goes BEFORE INSERT ON dropped FOR EACH ROW SET NEW.id = NEW.id + 1",
    "CREATE TRIGGER also_goes AFTER DELETE ON orders FOR EACH ROW SET @x = 1",
    "CREATE FUNCTION twice(x INT) RETURNS INT DETERMINISTIC RETURN x * 2",
    "CREATE FUNCTION `odd.dé`.`f``n`(s VARCHAR(20)) RETURNS VARCHAR(20) DETERMINISTIC RETURN CONCAT(s, 'ü')",
    """CREATE DEFINER=`no'body`@`10.%` PROCEDURE fill(IN n INT) COMMENT 'it''s' BEGIN
  DECLARE i INT DEFAULT 0;
  WHILE i < n DO
    INSERT INTO orders (a) VALUES (twice(i));
    SET i = i + 1;
  END WHILE;
END""",
    "CREATE PROCEDURE gone() SELECT 1",
    "CREATE VIEW z_view AS SELECT id, twice(a) AS double_a, EXTRACT(YEAR FROM NOW()) AS y FROM orders",
    "CREATE VIEW a_view AS SELECT z.id, `o`.`b` FROM z_view z, `odd.dé`.`t``x` AS o WHERE z.id = o.id",
    "CREATE VIEW `odd.dé`.`v w` AS SELECT id, `odd.dé`.`f``n`('x') AS f FROM shop.a_view",
    "CREATE VIEW all_of AS SELECT * FROM orders",
    "CREATE VIEW renamed AS SELECT a FROM orders",
    "CREATE SQL SECURITY INVOKER VIEW altered AS SELECT a FROM orders",
    "CREATE EVENT daily ON SCHEDULE EVERY 1 DAY DO BEGIN\n  INSERT INTO shop.audit (what) VALUES ('daily');\nEND",
    "CREATE EVENT often ON SCHEDULE EVERY 1 SECOND DISABLE COMMENT 'it''s often' DO INSERT INTO audit (what) VALUES ('o')",
    "CREATE EVENT once ON SCHEDULE AT '2037-01-01 00:00:00' ON COMPLETION PRESERVE DO SET @a = 1",
    "CREATE EVENT was ON SCHEDULE EVERY 2 HOUR STARTS '2030-01-01 00:00:00' DISABLE DO SET @a = 1",
    "CREATE DATABASE reports CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE VIEW reports.busy AS SELECT id, shop.twice(a) AS a FROM shop.orders WHERE a > 1",
    "CREATE EVENT reports.nightly ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
    # other settings
    "SET NAMES latin1",
    "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone = '+03:00'",
    """CREATE PROCEDURE "said so"() COMMENT 'a\\' SELECT 'é\\', "a" FROM orders""",
    """CREATE EVENT "in zone" ON SCHEDULE EVERY 1 WEEK DISABLE DO SET @a = 'é'""",
    """CREATE TRIGGER "q" BEFORE DELETE ON "orders" FOR EACH ROW SET @a = 'é\\'""",
    "SET NAMES utf8mb4",
    "SET sql_mode = DEFAULT, time_zone = DEFAULT",
    "INSERT INTO orders (a, note) VALUES (1, 'x'), (9, 'y')",
    "INSERT INTO moved VALUES (1, 1)",
    "INSERT INTO `odd.dé`.`t``x` VALUES (1, 2)",
]

AFTER = [
    "USE shop",
    "INSERT INTO orders (a) VALUES (3), (4), (5)",
    "DELETE FROM orders WHERE a = 5",
    "ALTER EVENT often ON SCHEDULE EVERY 5 SECOND ENABLE",
    "ALTER EVENT often DISABLE",
    "ALTER EVENT was RENAME TO `is`",
    "CREATE EVENT was ON SCHEDULE EVERY 3 DAY STARTS '2031-01-01 00:00:00' DISABLE DO SET @a = 2",
    "ALTER DEFINER=`x y`@`%` EVENT daily COMMENT 'now with one; and `ticks`'",
    "DROP EVENT IF EXISTS nothing",
    "ALTER PROCEDURE fill SQL SECURITY INVOKER COMMENT 'changed'",
    "DROP PROCEDURE IF EXISTS gone",
    "CREATE OR REPLACE VIEW z_view AS SELECT id, twice(a) + 1 AS double_a FROM orders",
    "ALTER VIEW altered AS SELECT id, a FROM orders WHERE note <> ';'",
    "RENAME TABLE renamed TO other_name",
    "CREATE VIEW made_later AS WITH c AS (SELECT a FROM orders) SELECT c.a FROM c JOIN (orders o JOIN z_view z USING (id))",
    "CREATE VIEW star AS SELECT * FROM audit",
    "CREATE VIEW lost AS SELECT * FROM moved",
    "DROP TRIGGER also_goes",
    "DROP TRIGGER first",
    "CREATE TRIGGER second BEFORE INSERT ON orders FOR EACH ROW PRECEDES zero SET NEW.a = COALESCE(NEW.a, 0)",
    "CREATE TRIGGER third BEFORE INSERT ON orders FOR EACH ROW FOLLOWS zero SET NEW.a = NEW.a + 100",
    "RENAME TABLE moved TO `moved now`",
    "ALTER TABLE `moved now` ADD COLUMN extra INT",
    "DROP TABLE dropped",
    "CREATE TABLE dropped (id INT PRIMARY KEY) CHARSET latin1",
    "ALTER DATABASE shop CHARACTER SET utf8mb4",
    """CREATE FUNCTION later_made(s VARCHAR(10)) RETURNS VARCHAR(10) DETERMINISTIC
BEGIN
  DECLARE t VARCHAR(5);
  RETURN s;
END""",
    "CREATE DATABASE later CHARACTER SET utf8mb3 COLLATE utf8mb3_bin",
    "CREATE TABLE later.t (id INT PRIMARY KEY)",
    "CREATE TRIGGER later.tl BEFORE INSERT ON later.t FOR EACH ROW SET NEW.id = NEW.id + 1",
    "CREATE PROCEDURE later.p() BEGIN SELECT 1; END",
    "CREATE DATABASE `bare late`",
    "CREATE PROCEDURE `bare late`.q() BEGIN SELECT 1; END",
    "CREATE VIEW later.v AS SELECT id FROM orders",
    "SET NAMES latin1",
    "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    """CREATE FUNCTION "acc"() RETURNS VARCHAR(9) DETERMINISTIC RETURN 'é\\'""",
    """CREATE VIEW "quoted view" AS SELECT "a", 'é\\' AS "l" FROM "orders" """,
    "SET NAMES utf8mb4",
    "SET sql_mode = DEFAULT",
]

BEHIND = [
    "USE shop",
    "DROP VIEW z_view, a_view",
    "DROP PROCEDURE fill",
    "DROP EVENT daily",
    "ALTER EVENT often ENABLE",
    "DROP FUNCTION later_made",
    "CREATE PROCEDURE too_late() SELECT 1",
    "DROP DATABASE later",
    "INSERT INTO orders (a) VALUES (77)",
]


def run(server: Server, statements: list[str]) -> None:
    with server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement.encode("latin1") if _latin1(cursor, statement) else statement)


def _latin1(cursor: Any, statement: str) -> bool:
    cursor.execute("SELECT @@character_set_client")
    return not statement.isascii() and cursor.fetchone()[0] == "latin1"


def objects_of(server: Server) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """What the server says of each object, as it says it: everything but the time at which a trigger was made. Triggers with
    their table and place in its order."""
    found: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    named = ", ".join(f"'{db}'" for db in DATABASES)
    listed = [
        row
        for kind, prefix, view in (
            ("'VIEW'", "TABLE", "VIEWS"),
            ("ROUTINE_TYPE", "ROUTINE", "ROUTINES"),
            ("'EVENT'", "EVENT", "EVENTS"),
            ("'TRIGGER'", "TRIGGER", "TRIGGERS"),
        )
        for row in server.execute(
            f"SELECT {kind}, {prefix}_SCHEMA, {prefix}_NAME FROM information_schema.{view}"
            f" WHERE {prefix}_SCHEMA IN ({named})"
        )
    ]
    for kind, db, name in listed:
        quoted = "`" + name.replace("`", "``") + "`"
        row = server.execute(f"SHOW CREATE {kind} `{db}`.{quoted}")[0]
        found[kind, db, name] = row[:6] if kind == "TRIGGER" else row
    places = server.execute(
        "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER"
        f" FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN ({named})"
    )
    for db, name, *place in places:
        found["TRIGGER", db, name] += tuple(place)
    return found
