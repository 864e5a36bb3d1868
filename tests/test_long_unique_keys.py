"""MariaDB's unique keys that are too long for an index: the binlog has a column for the hash of each, which nothing else
shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oracle import assert_restored
from rowback import Rowback

from testservers import MariaDBServer

TABLES = """
CREATE DATABASE l; USE l;
CREATE TABLE held (id int PRIMARY KEY, t longtext, n int, UNIQUE (t), UNIQUE (n, t));
CREATE TABLE later (a int PRIMARY KEY, b varchar(9), c int, d int, e int, f int, g int, h varchar(2000), i blob);
CREATE TABLE keyless (a text NOT NULL, UNIQUE (a));
INSERT INTO held VALUES (1, 'a', 5), (2, 'b', 6), (3, NULL, NULL);
INSERT INTO later VALUES (1, 'x', 1, 1, 1, 1, 1, 'h', 'i');
INSERT INTO keyless VALUES ('one'), ('two');
"""
CHANGES = """
USE l;
UPDATE held SET n = n + 1; UPDATE held SET t = 'c' WHERE id = 1; DELETE FROM held WHERE id = 2;
ALTER TABLE held ADD z int DEFAULT 2; INSERT INTO held VALUES (4, 'q', 1, 1);
ALTER TABLE later ADD UNIQUE (h, i); UPDATE later SET b = 'y'; INSERT INTO later VALUES (2, 'x', 1, 1, 1, 1, 1, 'hh', 'ii');
UPDATE later SET i = 'iii' WHERE a = 2;
CREATE TABLE made (v varchar(20), UNIQUE (v) USING HASH); INSERT INTO made VALUES ('x'), (NULL), (NULL);
UPDATE keyless SET a = 'three' WHERE a = 'two';
"""
NAMES = ("held", "later", "keyless", "made")


@pytest.mark.slow
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("metadata", ["FULL", "NO_LOG"])
def test_they_are_captured_and_restored(
    metadata: str, fresh_mariadb: Any, mariadb_target: MariaDBServer, tmp_path: Path
) -> None:
    source: MariaDBServer = fresh_mariadb(name="hashes", options={"binlog_row_metadata": metadata})
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.catch_up()
    source.load(TABLES)
    rowback.catch_up()
    rowback.run("snapshot")
    if metadata == "FULL":
        source.load(CHANGES)
    for statement in CHANGES.split(";")[1:-1] if metadata != "FULL" else ():  # each needs the schema of its moment
        source.load(f"USE l; {statement}")
        if "ALTER" not in statement:
            rowback.catch_up()
    rowback.catch_up()
    shown = rowback.run("changes", "--table", "l.held").stdout
    assert "DB_ROW_HASH" not in shown
    rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "out"))
    assert_restored(source, mariadb_target, tmp_path / "out", "l", NAMES)


def test_a_column_that_a_user_named_like_one_is_refused(fresh_mariadb: Any, tmp_path: Path) -> None:
    source: MariaDBServer = fresh_mariadb(name="hashes")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load("CREATE DATABASE l; CREATE TABLE l.t (a int PRIMARY KEY, DB_ROW_HASH_1 bigint unsigned);")
    rowback.catch_up()
    refused = rowback.run("snapshot", check=False)
    assert refused.returncode == 6, refused.stderr
    assert "`DB_ROW_HASH_1` of table `l.t` has the name of a column that MariaDB makes itself" in refused.stderr
