"""Partitions that are dropped, emptied, added and reorganized: restores equal what the source held, on real servers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from handmade import Archive, column, insert, table
from oracle import load_with_client
from rowback import Rowback
from test_restore_synthetic import rows_in

from recovery.alter import EmptyPartitions, Harmless, Unknown, parse_alter
from recovery.context import open_context
from recovery.errors import DdlInRange
from recovery.partitions import NotFolded, Partition, partitioning_of, rows_of
from recovery.restore import RestoreRequest, restore
from testservers import Server

FOLDED = """
CREATE TABLE num (id INT, a INT, v VARCHAR(9), PRIMARY KEY (id, a)) PARTITION BY RANGE (a)
  (PARTITION low VALUES LESS THAN (-5), PARTITION p0 VALUES LESS THAN (10), PARTITION `p,1` VALUES LESS THAN (20),
   PARTITION rest VALUES LESS THAN MAXVALUE);
CREATE TABLE nokey (a BIGINT UNSIGNED, v INT) PARTITION BY RANGE (a)
  (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (18446744073709551615));
CREATE TABLE days (id INT, d DATE, PRIMARY KEY (id, d)) PARTITION BY RANGE COLUMNS (d)
  (PARTITION p24 VALUES LESS THAN ('2025-01-01'), PARTITION p25 VALUES LESS THAN ('2026-01-01'),
   PARTITION rest VALUES LESS THAN (MAXVALUE));
CREATE TABLE moments (id INT, at DATETIME(3), PRIMARY KEY (id, at)) PARTITION BY RANGE COLUMNS (at)
  (PARTITION p0 VALUES LESS THAN ('2025-01-01'), PARTITION p1 VALUES LESS THAN ('2025-01-01 00:00:00.5'),
   PARTITION p2 VALUES LESS THAN ('2026-01-01 12:00:00'));
CREATE TABLE pairs (a INT, b INT, KEY (a)) PARTITION BY RANGE COLUMNS (a, b)
  (PARTITION p0 VALUES LESS THAN (5, 5), PARTITION p1 VALUES LESS THAN (5, MAXVALUE),
   PARTITION p2 VALUES LESS THAN (MAXVALUE, MAXVALUE));
CREATE TABLE listed (id INT, a INT, KEY (id)) PARTITION BY LIST (a)
  (PARTITION odd VALUES IN (1, 3, NULL), PARTITION even VALUES IN (2, -4));
CREATE TABLE texts (id INT, code VARCHAR(9), n INT) PARTITION BY LIST COLUMNS (code, n)
  (PARTITION eu VALUES IN (('de', 1), ('it''s', 1)), PARTITION us VALUES IN (('us', 1), ('us', 2), (NULL, 3)));
CREATE TABLE sub (id INT, a INT, PRIMARY KEY (id, a)) PARTITION BY RANGE (a) SUBPARTITION BY HASH (id) SUBPARTITIONS 2
  (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))
"""
ROWS = """
INSERT INTO num VALUES (1,-9,'a'),(2,-5,'b'),(3,0,'c'),(4,9,'d'),(5,10,'e'),(6,19,'f'),(7,20,'g'),(8,2000000000,'h');
INSERT INTO nokey VALUES (NULL,1),(NULL,1),(0,2),(9,3),(10,4),(18446744073709551614,5);
INSERT INTO days VALUES (1,'0000-00-00'),(2,'2024-12-31'),(3,'2025-01-01'),(4,'2025-12-31'),(5,'2026-01-01'),
  (6,'2025-00-00');
INSERT INTO moments VALUES (1,'2024-12-31 23:59:59.999'),(2,'2025-01-01'),(3,'2025-01-01 00:00:00.499'),
  (4,'2025-01-01 00:00:00.5'),(5,'2026-01-01 11:59:59.999'),(6,'0000-00-00');
INSERT INTO pairs VALUES (NULL,NULL),(4,9),(5,4),(5,5),(5,NULL),(5,99),(6,1);
INSERT INTO listed VALUES (1,1),(2,2),(3,3),(4,-4),(5,NULL),(5,NULL);
INSERT INTO texts VALUES (1,'de',1),(2,'it''s',1),(3,'us',1),(4,'us',2),(5,NULL,3);
INSERT INTO sub VALUES (1,1),(2,2),(3,11),(4,12)
"""
STEPS = """
ALTER TABLE num TRUNCATE PARTITION p0;
ALTER TABLE nokey TRUNCATE PARTITION p0;
ALTER TABLE days DROP PARTITION p24;
ALTER TABLE moments TRUNCATE PARTITION p1;
ALTER TABLE pairs TRUNCATE PARTITION p1;
ALTER TABLE texts DROP PARTITION eu;
ALTER TABLE listed TRUNCATE PARTITION odd;
ALTER TABLE sub TRUNCATE PARTITION p1
--
INSERT INTO num VALUES (3, 0, 'again');
INSERT INTO days VALUES (7, '2023-01-01');
UPDATE pairs SET b = 7 WHERE a = 4;
INSERT INTO moments VALUES (3, '2025-01-01 00:00:00.1');
INSERT INTO listed VALUES (7, 3);
UPDATE num SET a = 11 WHERE id = 8
--
ALTER TABLE num REORGANIZE PARTITION `p,1`, rest INTO (PARTITION p1 VALUES LESS THAN (15),
  PARTITION p2 VALUES LESS THAN (30), PARTITION p3 VALUES LESS THAN MAXVALUE);
ALTER TABLE num ADD COLUMN w INT DEFAULT 4;
ALTER TABLE num DROP PARTITION low, p1;
ALTER TABLE days ADD COLUMN w INT NOT NULL DEFAULT 5;
ALTER TABLE days TRUNCATE PARTITION p25;
ALTER TABLE moments ADD PARTITION (PARTITION p3 VALUES LESS THAN ('2030-01-01'));
ALTER TABLE listed DROP PARTITION even;
ALTER TABLE listed ADD PARTITION (PARTITION more VALUES IN (8, 9), PARTITION even VALUES IN (2))
--
INSERT INTO num VALUES (9, 14, 'new', 1);
INSERT INTO listed VALUES (8, 8), (2, 2);
INSERT INTO moments VALUES (9, '2029-01-01');
INSERT INTO days VALUES (8, '2025-05-05', 6);
INSERT INTO sub VALUES (5, 13);
ALTER TABLE moments REORGANIZE PARTITION p2, p3 INTO (PARTITION p4 VALUES LESS THAN (MAXVALUE));
ALTER TABLE texts TRUNCATE PARTITION ALL;
ALTER TABLE moments TRUNCATE PARTITION p4;
ALTER TABLE pairs REMOVE PARTITIONING;
ALTER TABLE num RENAME TO named;
ALTER TABLE named TRUNCATE PARTITION p0;
ALTER TABLE nokey PARTITION BY RANGE (v) (PARTITION q VALUES LESS THAN (5), PARTITION r VALUES LESS THAN (9));
ALTER TABLE nokey DROP PARTITION q
--
INSERT INTO texts VALUES (6, 'us', 2);
INSERT INTO named VALUES (1, 0, 'last', 1);
DELETE FROM nokey;
DELETE FROM pairs WHERE a = 6
"""
REFUSED = {
    "hashed": ("(id INT PRIMARY KEY) PARTITION BY KEY (id) PARTITIONS 2", "TRUNCATE PARTITION p0", "by HASH or KEY"),
    "years": (
        "(d DATE) PARTITION BY RANGE (YEAR(d)) (PARTITION p0 VALUES LESS THAN (2025))", "TRUNCATE PARTITION p0",
        "by an expression",
    ),
    "ranges": (
        "(t VARCHAR(9)) PARTITION BY RANGE COLUMNS (t) (PARTITION p0 VALUES LESS THAN ('m'))", "TRUNCATE PARTITION p0",
        "only a collation orders",
    ),
    "cases": (
        "(t VARCHAR(9)) PARTITION BY LIST COLUMNS (t) (PARTITION p0 VALUES IN ('a'), PARTITION p1 VALUES IN ('b'))",
        "DROP PARTITION p1", "a collation decides",
    ),
    "swapped": (
        "(a INT) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (9))", "EXCHANGE PARTITION p0 WITH TABLE spare",
        "exchanges rows with another table",
    ),
    "subs": (
        "(a INT) PARTITION BY RANGE (a) SUBPARTITION BY HASH (a) (PARTITION p0 VALUES LESS THAN (9) (SUBPARTITION s0))",
        "TRUNCATE PARTITION s0", "`s0` isn't known",
    ),
}  # fmt: skip


def state_of(server: Server) -> dict[str, tuple[str, list[Any]]]:
    found = {}
    for (name,) in server.execute("SHOW TABLES FROM parts"):
        rows = server.execute(f"SELECT * FROM parts.`{name}`")
        found[name] = (server.execute(f"SHOW CREATE TABLE parts.`{name}`")[0][1], sorted(rows, key=repr))
    return found


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_partitions(request: pytest.FixtureRequest, flavor: str, tmp_path: Path, mydumper: Any) -> None:
    fresh = request.getfixturevalue(f"fresh_{flavor}")
    source: Server = fresh(name="source", options={"sql_mode": ""})
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    connection = source.connect(autocommit=True)
    cursor = connection.cursor()

    def run(*statements: str) -> None:
        for statement in statements:
            cursor.execute(statement)

    refused = {name: given for name, given in REFUSED.items() if flavor == "mysql" or name != "subs"}
    run("CREATE DATABASE parts", "USE parts", *FOLDED.split(";\n"), *ROWS.split(";\n"))
    run(*(f"CREATE TABLE {name} {text}" for name, (text, _, _) in refused.items()), "CREATE TABLE spare (a INT)")
    if flavor == "mariadb":
        run("CREATE TABLE others (a INT) PARTITION BY LIST (a) (PARTITION p VALUES IN (1, 2), PARTITION d DEFAULT)")
        run("INSERT INTO others VALUES (1), (7), (NULL)")
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot")
    run("INSERT INTO cases VALUES ('A'), ('b')")
    status = "SHOW BINARY LOG STATUS" if flavor == "mysql" else "SHOW MASTER STATUS"
    moments = []
    for number, step in enumerate(STEPS.split("--\n")):
        run(*step.split(";\n"))
        if flavor == "mariadb" and number == 2:
            run("ALTER TABLE others DROP PARTITION d")
        if number % 2 == 0:
            file, position = source.execute(status)[0][:2]
            moments.append((f"{file}:{position}", state_of(source)))
    run(*(f"ALTER TABLE {name} {text}" for name, (_, text, _) in refused.items()))
    rowback.run("capture", "--until-caught-up")

    target: Server = fresh(name="target", binlog=False, options={"sql_mode": ""})
    context = open_context(rowback.config)
    state = context.log.read()
    for number, (to, held) in enumerate(moments):
        output = tmp_path / f"restored-{number}"
        restore(context.store, state, RestoreRequest(to=to, output=output, tables=("parts.*",)))
        target.execute("DROP DATABASE IF EXISTS parts")
        load_with_client(target, output)
        assert state_of(target) == held, number
    for name, (_, text, why) in refused.items():
        with pytest.raises(DdlInRange) as caught:
            request = RestoreRequest(to="latest", output=tmp_path / name, tables=(f"parts.{name}",))
            restore(context.store, state, request)
        assert why in caught.value.message
        assert re.search(rf"`ALTER TABLE {name} {re.escape(text)}` at \S+:\d+", caught.value.message)
        assert "take a snapshot after it" in caught.value.hint


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("DROP PARTITION IF EXISTS a, `b,`", EmptyPartitions(("a", "b,"), True, "DROP PARTITION IF EXISTS a , b,")),
        ("TRUNCATE PARTITION ALL", EmptyPartitions(None, False, "TRUNCATE PARTITION ALL")),
        ("COALESCE PARTITION 2", Harmless("COALESCE PARTITION 2")),
        ("ADD PARTITION PARTITIONS 3", Harmless("ADD PARTITION PARTITIONS 3")),
        ("CONVERT PARTITION p TO TABLE t", Unknown("CONVERT PARTITION p TO TABLE t")),
        ("DISCARD PARTITION p TABLESPACE", Unknown("DISCARD PARTITION p TABLESPACE")),
    ],
)
def test_operations(clause: str, expected: object) -> None:
    assert parse_alter(f"ALTER TABLE t {clause}", "shop") == (expected,)


def test_bounds_that_are_no_literals_matter_only_where_they_bound() -> None:
    from recovery.tokens import tokens_of

    text = (
        "CREATE TABLE t (a INT COMMENT 'PARTITION BY KEY ()') PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (1), "
        "PARTITION p1 VALUES LESS THAN (1 + 1), PARTITION p2 VALUES LESS THAN (9))"
    )
    found = partitioning_of(tokens_of(text))
    assert found is not None
    assert found.parts[1] == Partition("p1", ((None,),))
    assert rows_of(found, ["P0"]).ranges == ((None, (("number", "1"),)),)
    for name in ("p1", "p2"):
        with pytest.raises(NotFolded, match="aren't literals"):
            rows_of(found, [name])


def test_a_transaction_before_the_statement_cant_be_left_out(tmp_path: Path) -> None:
    """Whether its rows were among those that went away depends on what they would be without it."""
    of = table("shop", "orders", column("id"), column("a"), key=("id", "a"))
    create = "CREATE TABLE `orders` (`id` int, `a` int) PARTITION BY RANGE (`a`) (PARTITION p VALUES LESS THAN (5))"
    archive = Archive(tmp_path)
    archive.snapshot(
        "s", archive.mark(0), archive.mark(0), archive.baseline("s", of, [({"id": 1, "a": 9}, {})], create)
    )
    archive.window(insert(of, id=2, a=1), insert(of, id=3, a=7))
    archive.window([], ddls=[archive.ddl(3, "ALTER TABLE orders TRUNCATE PARTITION p", [("shop", "orders")])])
    restore(archive.store, archive.state, RestoreRequest("latest", output=tmp_path / "all"))
    assert rows_in(tmp_path / "all") == ["(1,9)", "(3,7)"]
    request = RestoreRequest("latest", output=tmp_path / "less", leave_out=("2",))
    with pytest.raises(DdlInRange, match=r"`ALTER TABLE orders TRUNCATE PARTITION p`.*behind a transaction"):
        restore(archive.store, archive.state, request)
