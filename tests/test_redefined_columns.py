"""Columns that were added and then redefined: rows hold what a real server gave them, or the table is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import load_with_client
from rowback import Rowback, wait_settled

from testservers import Server

# Statements on a table with two rows; whether a row comes behind them; why it is refused.
CASES = (
    (("ADD c int NOT NULL DEFAULT 7", "MODIFY c int NULL"), False, "the default of column `c` was changed"),
    (("ADD c int NOT NULL DEFAULT 7", "MODIFY c int NULL"), True, ""),
    (("ADD c smallint NOT NULL DEFAULT 7", "MODIFY c bigint NOT NULL DEFAULT 7"), False, ""),
    (("ADD c int", "MODIFY c bigint DEFAULT NULL"), False, ""),
    (("ADD c int NOT NULL", "MODIFY c bigint NOT NULL"), False, ""),
    (("ADD c decimal(8,1) DEFAULT 1.55", "MODIFY c decimal(12,4) DEFAULT 1.55"), True, ""),
    (("ADD c decimal(8,1) DEFAULT 1.55", "MODIFY c decimal(12,4) DEFAULT 1.55"), False, "the default of column `c`"),
    (("ADD c float DEFAULT 0.1", "MODIFY c double DEFAULT 0.1"), True, ""),
    (("ADD c float DEFAULT 0.1", "MODIFY c double DEFAULT 0.1"), False, "the default of column `c` was changed"),
    (("ADD c char(5) DEFAULT 'x  '", "CHANGE c d varchar(20)", "MODIFY d text"), True, ""),
    (("ADD c datetime NOT NULL DEFAULT '2026-01-02 03:04:05'", "MODIFY c datetime(3) NULL"), True, ""),
    (("ADD c enum('a','b') NOT NULL", "MODIFY c enum('z','a','b') NOT NULL"), True, ""),
    (("ADD c int AS (id + 1) STORED", "MODIFY c int"), True, "which was added before, was generated"),
    (("ADD c datetime DEFAULT CURRENT_TIMESTAMP", "MODIFY c date"), False, "was of type datetime and became date"),
    (("ADD c datetime DEFAULT CURRENT_TIMESTAMP",), False, ""),
    (("ADD c datetime NOT NULL DEFAULT NOW() FIRST", "ALTER c SET DEFAULT '2026-01-01'"), True, ""),
    (("ADD c datetime(6) DEFAULT CURRENT_TIMESTAMP(6)", "CHANGE c d datetime(6) NOT NULL"), False, ""),
    (("ADD c timestamp(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)",), False, ""),
    (("ADD c timestamp DEFAULT LOCALTIME()", "ADD e int DEFAULT 5", "MODIFY c timestamp(2) NULL"), True, ""),
    (
        ("ADD c timestamp DEFAULT LOCALTIMESTAMP", "CHANGE c x timestamp NULL", "ADD c datetime DEFAULT NOW()"),
        False,
        "another column was called `c` before",
    ),
    (("ADD c int", "DROP c", "ADD c datetime DEFAULT now()"), False, "another column was called `c` before"),
    (("ADD c int", "DROP c", "ADD c datetime DEFAULT now()"), True, ""),
    (("ADD x timestamp DEFAULT now()", "ADD c datetime DEFAULT now()", "DROP x"), True, ""),
    (("ADD c datetime DEFAULT CURRENT_TIMESTAMP", "DROP c"), False, ""),
    (("ADD c int AUTO_INCREMENT UNIQUE", "DROP c", "ADD c int"), True, ""),
    (
        ("ADD c int NOT NULL DEFAULT 7, ADD d varchar(9) NOT NULL", "RENAME COLUMN c TO d, RENAME COLUMN d TO c"),
        True,
        "",
    ),
    (
        ("ADD c int DEFAULT 7, ADD d int DEFAULT 8, ADD e int", "CHANGE c d int, CHANGE d e int, CHANGE e c int"),
        True,
        "",
    ),
    (("ADD c int DEFAULT 7, ADD d int DEFAULT 8", "CHANGE c d int, DROP d"), True, ""),
    (("ADD c int DEFAULT 7, ADD d int DEFAULT 8", "CHANGE c x int, CHANGE d c int", "ADD d int DEFAULT 9"), True, ""),
    (("ADD c int DEFAULT 7", "DROP c, ADD c varchar(9) NOT NULL DEFAULT 'new'"), True, ""),
    (("ADD c int DEFAULT 7", "MODIFY c varchar(9)"), True, "was of type int and became varchar"),
    (("ADD c double(5,2) DEFAULT 1.005", "MODIFY c double"), True, ""),
    (("ADD c float(10,2) NOT NULL DEFAULT 1.005", "MODIFY c float(10,2) NOT NULL DEFAULT 1.005"), False, ""),
    (("ADD c double DEFAULT 1.239", "MODIFY c double(6,2)"), True, "got another number of digits"),
    (("ADD c float DEFAULT -0.0", "ADD e double DEFAULT -0.0"), True, ""),
    (("ADD c int", "MODIFY ff float(6,2) NULL COMMENT 'as before'"), True, ""),
    (("MODIFY ff float(6,2) COMMENT 'as before'",), False, ""),
    (("MODIFY dd double(8,4)", "MODIFY dd double", "ADD c int"), True, ""),
    (("MODIFY dd double(8,4)",), False, ""),
    (("ADD c int", "MODIFY s set('c','x','b','a') NOT NULL DEFAULT 'a'"), True, ""),
    (("MODIFY s set('c','b','a')",), False, ""),
    (("ADD c set('a','b') DEFAULT 'a,b'", "MODIFY c set('b','a')"), True, ""),
    (("MODIFY dd double(6,2), ALGORITHM=COPY",), False, "`dd` was given 6 digits, 2 of them behind the point"),
    (("MODIFY dd double(6,2), ALGORITHM=COPY", "MODIFY dd double", "ADD c int"), True, "`dd` was given 6 digits"),
    (("MODIFY ff double(6,2)",), False, "`ff` was given 6 digits"),
)

# In the key, so that a row is found again by the text of its labels.
SET = "s set('a','b','c') NOT NULL DEFAULT 'a', PRIMARY KEY (id, s)"


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_rows_have_what_the_server_gave_them(
    flavor: str, request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]
) -> None:
    source: Server = request.getfixturevalue(f"{flavor}_source")
    wait_settled(source)
    target: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("redefined")
    rowback = Rowback(tmp_path / "rowback", source, extra=f'include = ["{db}.*"]')
    source.execute(f"CREATE DATABASE {db}")
    with source.connect(database=db, autocommit=True) as connection, connection.cursor() as cursor:
        for number in range(len(CASES)):
            cursor.execute(f"CREATE TABLE t{number} (id int, dd double, ff float(6,2), {SET})")
            cursor.execute(f"INSERT INTO t{number} VALUES (1, 1.25, 1.1, 'a,b'), (2, 2.675, 123.45, 'c,a')")
        rowback.catch_up()
        rowback.run("snapshot", "--databases", db)
        for number, (clauses, another, _) in enumerate(CASES):
            for clause in clauses:
                cursor.execute(f"ALTER TABLE t{number} {clause}")
            if another:
                column = "d" if "CHANGE c d" in str(clauses) else "c"
                cursor.execute(f"INSERT INTO t{number} (id, {column}) SELECT 9, {column} FROM t{number} LIMIT 1")
                cursor.execute(f"DELETE FROM t{number} WHERE id = 2")
    rowback.catch_up()
    for number, (_, _, why) in enumerate(CASES):
        out, name = tmp_path / f"out-{number}", f"{db}.t{number}"
        done = rowback.run("restore", "--to", "latest", "--tables", name, "--output", str(out), check=False)
        assert (done.returncode == 0) == (not why), (CASES[number], done.stderr)
        if why:
            assert why in done.stderr
            continue
        load_with_client(target, out)
        for look in (f"SELECT * FROM {name}", f"SHOW CREATE TABLE {name}"):
            assert target.execute(look) == source.execute(look), CASES[number]
