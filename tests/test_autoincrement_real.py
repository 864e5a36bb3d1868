"""Tables go on counting where the source does, whatever came behind the snapshot: beside real servers' definitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import load_with_client
from rowback import Rowback

from testservers import Server

CREATE = "CREATE TABLE {t} (id INT PRIMARY KEY AUTO_INCREMENT, n INT)"
# Statements on a table with rows 1, 2 and 3; {t} is its name, {u} another one.
CASES = (
    ("INSERT INTO {t} (n) VALUES (4), (5)", "DELETE FROM {t} WHERE id > 2", "ALTER TABLE {t} RENAME COLUMN ID TO pk"),
    (
        "INSERT INTO {t} (n) VALUES (4), (5)",
        "DELETE FROM {t} WHERE id > 2",
        "ALTER TABLE {t} CHANGE id pk BIGINT AUTO_INCREMENT",
    ),
    (
        "INSERT INTO {t} (n) VALUES (4), (5)",
        "DELETE FROM {t} WHERE id > 2",
        "ALTER TABLE {t} CHANGE id pk BIGINT AUTO_INCREMENT",
        "UPDATE {t} SET n = 9",
        "ALTER TABLE {t} RENAME COLUMN pk TO id, RENAME COLUMN n TO pk",
    ),
    ("TRUNCATE {t}",),
    ("TRUNCATE {t}", "INSERT INTO {t} (n) VALUES (7)"),
    (
        "ALTER TABLE {t} AUTO_INCREMENT = 100",
        "TRUNCATE {t}",
        "INSERT INTO {t} (n) VALUES (7)",
        "ALTER TABLE {t} ADD x INT",
    ),
    ("TRUNCATE {t}", "ALTER TABLE {t} AUTO_INCREMENT = 100", "RENAME TABLE {t} TO {u}", "CREATE TABLE {t} LIKE {u}"),
    (
        "CREATE TABLE {u} (id INT PRIMARY KEY AUTO_INCREMENT, n INT) AUTO_INCREMENT = 1000",
        "INSERT INTO {u} (n) VALUES (1)",
        "TRUNCATE {u}",
        "INSERT INTO {u} (n) VALUES (7)",
    ),
    ("ALTER TABLE {t} AUTO_INCREMENT = 100", "CREATE TABLE {u} LIKE {t}", "INSERT INTO {u} (n) VALUES (7)"),
    ("CREATE TABLE {u} LIKE {t}", "ALTER TABLE {u} AUTO_INCREMENT = 50"),
    ("CREATE TABLE {u} (id INT PRIMARY KEY AUTO_INCREMENT) AUTO_INCREMENT = 9", "CREATE TABLE {u}2 LIKE {u}"),
)


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_a_restored_table_counts_on(
    flavor: str, request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]
) -> None:
    source: Server = request.getfixturevalue(f"{flavor}_source")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    db = unique_name("counters")
    rowback = Rowback(tmp_path / "rowback", source, extra=f'include = ["{db}.*"]')
    source.execute(f"CREATE DATABASE {db}")
    with source.connect(database=db, autocommit=True) as connection, connection.cursor() as cursor:
        for number in range(len(CASES)):
            cursor.execute(CREATE.format(t=f"t{number}"))
            cursor.execute(f"INSERT INTO t{number} (n) VALUES (1), (2), (3)")
        rowback.catch_up()
        rowback.run("snapshot", "--databases", db)
        for number, statements in enumerate(CASES):
            for statement in statements:
                cursor.execute(statement.format(t=f"t{number}", u=f"u{number}"))
    rowback.catch_up()
    tables = [table for (table,) in source.execute(f"SHOW TABLES IN {db}")]
    for way in ("from the snapshot", "from a synthetic one"):
        if way == "from a synthetic one":
            rowback.run("roll-forward", "--to", "latest")
        out = tmp_path / way
        rowback.run("restore", "--to", "latest", "--output", str(out))
        target.execute(f"DROP DATABASE IF EXISTS {db}")
        load_with_client(target, out)
        assert [table for (table,) in target.execute(f"SHOW TABLES IN {db}")] == tables
        for table in tables:
            shown = f"SHOW CREATE TABLE {db}.{table}"
            assert target.execute(shown) == source.execute(shown), way
            assert target.execute(f"SELECT * FROM {db}.{table}") == source.execute(f"SELECT * FROM {db}.{table}"), way
