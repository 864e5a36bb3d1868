"""Settings of MariaDB that let rows and definitions in which others refuse: what they let in is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oracle import assert_restored
from rowback import Rowback

from testservers import MariaDBServer

BEFORE = """
CREATE DATABASE m; USE m; SET check_constraint_checks = 0;
CREATE TABLE checked (id INT PRIMARY KEY, n INT CHECK (n > 0)); INSERT INTO checked VALUES (1, -1);
CREATE TABLE versioned (id INT PRIMARY KEY, n INT) WITH SYSTEM VERSIONING; INSERT INTO versioned VALUES (1, 1);
UPDATE versioned SET n = 2;
CREATE TABLE plain (id INT PRIMARY KEY); INSERT INTO plain VALUES (1);
CREATE TABLE parted (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (9),
  PARTITION p1 VALUES LESS THAN MAXVALUE); INSERT INTO parted VALUES (1), (10);
"""
AFTER = """
USE m; SET check_constraint_checks = 0, system_versioning_alter_history = KEEP, sql_mode = '';
INSERT INTO checked VALUES (2, -2); ALTER TABLE versioned ADD z INT DEFAULT 4; ALTER TABLE plain ADD j JSON NOT NULL;
"""


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_what_they_let_in(fresh_mariadb: Any, mariadb_target: MariaDBServer, tmp_path: Path) -> None:
    source: MariaDBServer = fresh_mariadb(name="lax")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load(BEFORE)
    rowback.catch_up()
    rowback.run("snapshot")
    source.load(AFTER)
    rowback.catch_up()
    rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "out"))
    history = "SELECT id, n, z, ROW_START, ROW_END FROM m.versioned FOR SYSTEM_TIME ALL ORDER BY ROW_START"
    assert_restored(source, mariadb_target, tmp_path / "out", "m", ("checked", "versioned", "plain"), history)

    source.load("ALTER TABLE m.parted CONVERT PARTITION p0 TO TABLE m.taken")
    rowback.catch_up()
    command = ("restore", "--to", "latest", "--exclude", "m.parted", "--output", str(tmp_path / "refused"))
    refused = rowback.run(*command, check=False)
    assert refused.returncode == 7
    assert "table `m.taken` can't be restored across `ALTER TABLE m.parted CONVERT PARTITION p0 TO" in refused.stderr
