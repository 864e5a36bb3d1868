"""Tables that take their database's default character set, restored where the target's own default is another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle import load_with_client
from rowback import Rowback

from recovery.archive.actions import Ddl, Mark, Session, Snapshot
from recovery.archive.state import EMPTY
from recovery.database_defaults import default_at
from recovery.ddl import classify
from testservers import Server

LATIN1 = Session(0, "utf8mb4", 45, 8, None, None, 0, complete=True)
BIN = "CHARACTER SET cp1251 COLLATE cp1251_bin"


def default(*statements: str, told: str | None = None, seq: int = 99, number: int = 8, at: int = 0) -> str | None:
    """Of database x. statements: transactions 1, 2, ..; told: what a snapshot at position `at` says of it."""
    ddls = []
    for n, text in enumerate(statements, 1):
        found = classify(text, "x")
        session = replace(LATIN1, server_collation=number)
        ddls.append(Ddl(n, None, "binlog.000002", 1000 * n, 0, "x", text, found.verb, found.tables, session))
    mark = Mark("", "binlog.000002", at, 0)
    databases = () if told is None else (("x", f"CREATE DATABASE `x` /*!40100 DEFAULT {told} */"),)
    snapshot = Snapshot("s", "brief", mark, mark, 0, 0, "", 0, databases, ())
    return default_at(replace(EMPTY, ddls=tuple(ddls), snapshots=(snapshot,)), "x", seq)


def test_what_a_database_s_default_is() -> None:
    swedish, latin2 = (
        f"CHARACTER SET {c}" for c in ("latin1 COLLATE latin1_swedish_ci", "latin2 COLLATE latin2_general_ci")
    )
    assert default() is None
    assert default(told=BIN) == BIN
    assert default("CREATE DATABASE x") == swedish
    assert default("CREATE DATABASE x", number=9999) is None
    assert default("CREATE DATABASE x CHARSET utf8mb4") == "CHARACTER SET utf8mb4"
    assert default(f"CREATE SCHEMA `x` DEFAULT {BIN}", "CREATE DATABASE y") == BIN
    assert default(f"CREATE DATABASE x {BIN}", "ALTER DATABASE CHARSET = latin2", seq=1) == BIN
    assert default(f"CREATE DATABASE x {BIN}", "ALTER DATABASE CHARSET = latin2") == latin2
    assert default(f"CREATE DATABASE x {BIN}", "ALTER DATABASE x READ ONLY = 1") == BIN
    assert default(f"CREATE DATABASE x {BIN}", "DROP DATABASE x") is None
    assert default(f"CREATE DATABASE x {BIN}", "DROP DATABASE x", "CREATE DATABASE IF NOT EXISTS x") == swedish
    assert default(f"CREATE DATABASE x {BIN}", "CREATE DATABASE IF NOT EXISTS x CHARSET latin2") == BIN
    assert default(f"CREATE OR REPLACE DATABASE x {BIN}", "CREATE OR REPLACE DATABASE x") == swedish


def test_what_a_snapshot_says_is_so_only_before_a_statement() -> None:
    assert default("ALTER DATABASE x CHARSET latin2", told=BIN, seq=0) == BIN
    assert default("ALTER DATABASE x COLLATE latin2_bin", told=BIN) == "CHARACTER SET latin2 COLLATE latin2_bin"
    assert default("ALTER DATABASE x CHARSET latin2", told="CHARACTER SET latin2", seq=0, at=5000) is None
    assert default("CREATE DATABASE IF NOT EXISTS x", told=BIN) == BIN


SETUP = """
CREATE DATABASE was CHARACTER SET cp1250; CREATE DATABASE bare CHARACTER SET latin2; CREATE TABLE was.a (id int PRIMARY KEY);
"""
T = "(id int PRIMARY KEY, v varchar(20), e enum('x', 'y'), tx text)"
CHANGES = f"""
SET character_set_server = latin1; CREATE DATABASE made; CREATE DATABASE IF NOT EXISTS was CHARACTER SET greek;
CREATE TABLE made.t {T}; CREATE TABLE was.t {T}; CREATE TABLE bare.t {T};
CREATE TABLE was.moved {T}; RENAME TABLE was.moved TO made.moved;
CREATE TABLE made.copy LIKE was.t;
CREATE DATABASE same CHARACTER SET cp1250; CREATE TABLE was.same {T}; RENAME TABLE was.same TO same.same;
CREATE TABLE was.named (v varchar(20)) COLLATE cp1250_czech_cs; RENAME TABLE was.named TO made.named;
INSERT INTO made.t VALUES (1, 'é', 'x', 'é'); INSERT INTO same.same VALUES (2, 'ő', 'y', 'ő');
CREATE TABLE was.back (id int PRIMARY KEY, v varchar(9)) CHARSET koi8r;
ALTER TABLE was.back CONVERT TO CHARACTER SET DEFAULT; RENAME TABLE was.back TO bare.back;
"""
REFUSED = {"made.moved": "was`", "made.copy": "was`", "bare.back": "was`"}


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_on_real_servers(flavor: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source: Server = request.getfixturevalue(f"fresh_{flavor}")(name="charsets")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    rowback = Rowback(tmp_path / "rowback", source)
    source.load(SETUP)
    rowback.catch_up()
    rowback.run("snapshot")
    source.load(CHANGES)
    rowback.catch_up()
    for table, home in REFUSED.items():
        refused = rowback.run(
            "restore", "--to", "latest", "--tables", table, "--output", str(tmp_path / "no"), check=False
        )
        assert refused.returncode == 7
        assert f"default character set of database `{home}" in refused.stderr
    exclude = [part for table in REFUSED for part in ("--exclude", table)]
    out = tmp_path / "out"
    rowback.run("restore", "--to", "latest", *exclude, "--output", str(out))
    databases = ("was", "bare", "made", "same")
    try:
        load_with_client(target, out)
        assert described(target, databases) == {
            name: text for name, text in described(source, databases).items() if name not in REFUSED
        }
    finally:
        for db in databases:
            target.execute(f"DROP DATABASE IF EXISTS {db}")


def described(server: Server, databases: tuple[str, ...]) -> dict[str, Any]:
    found = {db: server.execute(f"SHOW CREATE DATABASE {db}")[0][1] for db in databases}
    for db in databases:
        for (name,) in server.execute(f"SHOW TABLES IN {db}"):
            rows = server.execute(f"SELECT * FROM {db}.{name}")
            found[f"{db}.{name}"] = (server.execute(f"SHOW CREATE TABLE {db}.{name}")[0][1], rows)
    return found
