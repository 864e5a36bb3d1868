"""mydumper and myloader 1.x, where MYDUMPER_1X and MYLOADER_1X point to them: restores load with `myloader -d DIR`, and
snapshots that mydumper took are restored whole. The source at the cut is the oracle.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from objectstory import objects_of, run
from oracle import load_with_client, load_with_myloader, program_1x
from rowback import Rowback

from testservers import Server

DATABASES = ("shop", "odd.dé")  # of those that tests/objectstory.py looks at

BEFORE = [
    "SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'",
    "CREATE DATABASE shop CHARACTER SET latin1",
    "CREATE DATABASE `odd.dé` CHARACTER SET utf8mb4",
    "USE shop",
    (
        "CREATE TABLE parent (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) CHARACTER SET utf8mb4, price FLOAT,"
        " UNIQUE KEY `by name` (name))"
    ),
    (
        "CREATE TABLE child (id INT PRIMARY KEY, parent INT, n INT, KEY by_n (n), KEY (parent),"
        " CONSTRAINT `its parent` FOREIGN KEY (parent) REFERENCES parent (id), CONSTRAINT positive CHECK (n > 0))"
    ),
    (
        "CREATE TABLE calc (id INT PRIMARY KEY, a INT, twofold INT AS (a * 2) STORED, next INT AS (a + 1) VIRTUAL,"
        " t TEXT CHARACTER SET utf8mb4, KEY (next), FULLTEXT KEY `words` (t), KEY (t(5)) COMMENT 'a key,\\n)')"
    ),
    (
        "CREATE TABLE parts (id INT, a INT, v VARCHAR(9), PRIMARY KEY (id, a), KEY (v)) PARTITION BY RANGE (a)"
        " (PARTITION low VALUES LESS THAN (10), PARTITION mid VALUES LESS THAN (20),"
        " PARTITION top VALUES LESS THAN MAXVALUE)"
    ),
    "CREATE TABLE bag (`VALUES` INT, v VARCHAR(40) CHARACTER SET utf8mb4)",
    "CREATE TABLE days (id INT PRIMARY KEY, d DATE NOT NULL DEFAULT '0000-00-00', v VARCHAR(9) DEFAULT 'é', KEY (v))",
    "CREATE TABLE ` lead` (id INT PRIMARY KEY, v INT, KEY (v))",
    "CREATE TABLE `lead` (id INT PRIMARY KEY, v INT, KEY (v))",
    'CREATE TABLE `q``t; "it\'s"` (id INT PRIMARY KEY, `c``d` INT, KEY (`c``d`))',
    "CREATE TABLE mydumper_0 (id INT AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 500",
    "CREATE TABLE `odd.dé`.many (id INT PRIMARY KEY, v VARCHAR(200), KEY (v))",
    "CREATE TABLE `odd.dé`.`grüße\\` (id INT PRIMARY KEY, v INT, KEY (v))",
    "INSERT INTO parent (name, price) VALUES ('grüße', 0.1), ('b', 2.5), ('line\nend;\n', NULL)",
    "INSERT INTO child VALUES (1, 1, 5), (2, 1, 6), (3, 2, 7), (4, NULL, NULL)",
    "INSERT INTO calc (id, a, t) VALUES (1, 1, 'one; two'), (2, NULL, 'VALUES\n(1),'), (3, 3, NULL)",
    "INSERT INTO parts VALUES (1, 1, 'x'), (2, 11, 'y'), (3, 99, 'z')",
    "INSERT INTO bag VALUES (1, 'x'), (1, 'x'), (NULL, '\\\\')",
    "INSERT INTO days VALUES (1, '0000-00-00', 'é'), (2, '2026-02-31', 'b')",
    "INSERT INTO ` lead` VALUES (1, 1)",
    "INSERT INTO `lead` VALUES (1, 2), (2, 3)",
    'INSERT INTO `q``t; "it\'s"` VALUES (0, 1)',
    "INSERT INTO mydumper_0 VALUES (0), (NULL)",
    "INSERT INTO `odd.dé`.`grüße\\` VALUES (1, 1)",
    *(
        "INSERT INTO `odd.dé`.many VALUES " + ", ".join(f"({i}, REPEAT('{i} ', 30))" for i in range(start, start + 500))
        for start in range(0, 3000, 500)
    ),
    "CREATE FUNCTION twice(x INT) RETURNS INT DETERMINISTIC RETURN x * 2",
    "CREATE PROCEDURE fill() BEGIN\n  INSERT INTO bag VALUES (1, 'f');\n  SELECT 1;\nEND",
    "CREATE TRIGGER counted BEFORE INSERT ON parent FOR EACH ROW BEGIN\n  SET NEW.name = CONCAT(NEW.name, ';\n');\nEND",
    "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DISABLE DO BEGIN\n  SET @a = 1;\nEND",
    "CREATE VIEW a_view AS SELECT id, twice(id) AS d FROM parent",
    "CREATE VIEW `odd.dé`.`v w` AS SELECT d FROM shop.a_view",
]
AFTER = [
    "SET sql_mode = 'ALLOW_INVALID_DATES'",
    "USE shop",
    "UPDATE parent SET price = 1.25 WHERE id = 2",
    "INSERT INTO parent (name) VALUES ('later')",
    "ALTER TABLE child ADD COLUMN note VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT 'ü', ADD KEY (note), DROP KEY by_n",
    "INSERT INTO child VALUES (5, 4, 9, 'z')",
    "ALTER TABLE days ADD KEY by_day (d)",
    "ALTER TABLE parts TRUNCATE PARTITION mid",
    "RENAME TABLE bag TO `bag of x`",
    "DELETE FROM calc WHERE id = 3",
    "UPDATE `odd.dé`.many SET v = 'changed' WHERE id % 7 = 0",
    "CREATE TABLE late (id INT AUTO_INCREMENT PRIMARY KEY, v INT, KEY (v))",
    "INSERT INTO late (v) VALUES (1), (2)",
]  # fmt: skip


def state_of(server: Server) -> dict[Any, Any]:
    """Definitions, rows and the server's own checksums, of databases, tables and everything else."""
    found: dict[Any, Any] = {key: value for key, value in objects_of(server).items() if key[1] in DATABASES}
    for db in DATABASES:
        found[db] = server.execute(f"SHOW CREATE DATABASE `{db}`")
        for name, kind in server.execute(f"SHOW FULL TABLES FROM `{db}`"):
            if kind != "VIEW":
                table = f"`{db}`.`" + name.replace("`", "``") + "`"
                rows = sorted(server.execute(f"SELECT * FROM {table}"), key=repr)
                found[table] = (
                    server.execute(f"SHOW CREATE TABLE {table}")[0][1], rows, server.execute(f"CHECKSUM TABLE {table}"),
                )  # fmt: skip
    return found


def same(found: dict[Any, Any], wanted: dict[Any, Any], *, spaced: bool) -> None:
    """spaced: as documented, myloader gets a space behind a semicolon that ends a line of an object's body."""
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
    for key, value in wanted.items():
        if spaced and isinstance(key, tuple):
            value = tuple(re.sub(r";(?=\n)", "; ", v) if isinstance(v, str) else v for v in value)
        assert found[key] == value, key


def clear(server: Server) -> None:
    for db in DATABASES:
        server.execute(f"DROP DATABASE IF EXISTS `{db}`")


@contextlib.contextmanager
def lived(source: Server, folder: Path, programs: str = "") -> Iterator[Rowback]:
    """A captured source, changed since its snapshot. programs: a folder to find mydumper in before others."""
    clear(source)
    rowback = Rowback(folder, source, extra=f"include = {[f'{db}.*' for db in DATABASES]}")
    rowback.environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}" if programs else os.environ["PATH"]
    try:
        run(source, BEFORE)
        rowback.run("capture", "--until-caught-up")
        rowback.run("snapshot")
        run(source, AFTER)
        rowback.run("capture", "--until-caught-up")
        yield rowback
    finally:
        clear(source)


@pytest.fixture
def myloader() -> str:
    return program_1x("myloader")


@pytest.fixture
def mydumper_1x(tmp_path: Path) -> str:
    """A folder with it under its usual name."""
    program = program_1x("mydumper")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mydumper").symlink_to(program)
    return str(tmp_path / "bin")


@pytest.fixture(params=["mysql", "mariadb"])
def servers(request: pytest.FixtureRequest, mydumper: None) -> tuple[Server, Server]:
    """Source and target."""
    return request.getfixturevalue(f"{request.param}_source"), request.getfixturevalue(f"{request.param}_target")


SHAPES = (  # options of the restore and of myloader
    ((), ()),
    (("--compress", "gzip", "--rows-per-file", "50", "--statement-size", "1KiB"), ("-o", "-t", "8")),
)


@pytest.mark.sockets
def test_myloader_loads_restores(myloader: str, servers: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = servers
    with lived(source, tmp_path / "rowback") as rowback:
        wanted = state_of(source)
        for number, (shape, options) in enumerate(SHAPES):
            output = tmp_path / f"out{number}"
            rowback.run("restore", "--to", "latest", "--output", str(output), *shape)
            clear(target)
            load_with_myloader(target, output, myloader, options)
            same(state_of(target), wanted, spaced=True)
        clear(target)


@pytest.mark.sockets
def test_snapshots_by_mydumper_are_restored(mydumper_1x: str, servers: tuple[Server, Server], tmp_path: Path) -> None:
    source, target = servers
    with lived(source, tmp_path / "rowback", mydumper_1x) as rowback:
        (path,) = (tmp_path / "rowback" / "archive").glob("backups/*/*/*/*/manifest.json")
        manifest = json.loads(path.read_bytes())
        assert manifest["dumper"]["version"].startswith("1.")
        assert {t["table"] for t in manifest["tables"] if t["baseline_from"] == "dump"} >= {"child", "parts", "bag"}
        rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "out"))
        clear(target)
        load_with_client(target, tmp_path / "out")
        same(state_of(target), state_of(source), spaced=False)
        clear(target)
