"""deploy/grants.sql is enough for what Rowback does, and not enough to change anything."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import PreviousGtidsEvent

from testservers import Server

GRANTS = Path(__file__).parent.parent / "deploy" / "grants.sql"
SETUP = """
CREATE DATABASE g; USE g;
CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT * FROM t;
CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @x = 1;
CREATE PROCEDURE p() SELECT 'routine body';
CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1;
"""


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"fresh_{request.param}")()
    server.load(SETUP)
    server.load(GRANTS.read_bytes())
    return server


@pytest.fixture
def query(server: Server) -> Iterator[Callable[[str], tuple[Any, ...]]]:
    with contextlib.closing(server.connect(user="rowback", password="change-me")) as connection:

        def run(sql: str) -> tuple[Any, ...]:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return tuple(cursor.fetchall())

        yield run


pytestmark = pytest.mark.sockets


def test_coordinates_lock_and_definitions(server: Server, query: Callable[[str], tuple[Any, ...]]) -> None:
    assert query("SHOW BINARY LOG STATUS" if server.flavor == "mysql" else "SHOW MASTER STATUS")
    assert query("SHOW BINARY LOGS")
    query("SET SESSION lock_wait_timeout = 5")
    query("FLUSH TABLES WITH READ LOCK")
    query("UNLOCK TABLES")
    query("SELECT * FROM performance_schema.events_transactions_current")
    query("SELECT * FROM performance_schema.threads")
    query("SELECT * FROM information_schema.INNODB_TRX")
    assert query("SHOW CREATE VIEW g.v")
    assert query("SHOW CREATE TRIGGER g.tr")
    assert query("SHOW CREATE EVENT g.e")
    assert "routine body" in query("SHOW CREATE PROCEDURE g.p")[0][2]


def test_other_accounts_statements_are_visible(server: Server, query: Callable[[str], tuple[Any, ...]]) -> None:
    with contextlib.closing(server.connect()) as other:
        visible = {row[0] for row in query("SELECT ID FROM information_schema.PROCESSLIST")}
        assert other.thread_id() in visible


def test_the_binlog_stream(server: Server) -> None:
    stream = BinLogStreamReader(
        connection_settings={"host": server.host, "port": server.port, "user": "rowback", "passwd": "change-me"},
        server_id=4_000_000_001,
        is_mariadb=server.flavor == "mariadb",
        log_file=server.binlog_files()[0].name,
        log_pos=4,
        resume_stream=True,
        ignored_events=[PreviousGtidsEvent],  # crashes on a fresh 9.7 binlog
    )
    with contextlib.closing(stream):
        assert sum(1 for _ in stream) > 5


@pytest.mark.usefixtures("mydumper")
def test_mydumper_without_its_own_locks(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "dump"
    command = ["mydumper", "--host", server.host, "--port", str(server.port), "--user", "rowback", "--database", "g"]
    command += ["--no-locks", "--triggers", "--events", "--routines", "--outputdir", str(out)]
    env = {**os.environ, "MYSQL_PWD": "change-me"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert {"g.t-schema.sql", "g.t-schema-triggers.sql", "g.v-schema-view.sql", "g-schema-post.sql"} <= names


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO g.t VALUES (2)",
        "UPDATE g.t SET id = 3",
        "DELETE FROM g.t",
        "CREATE TABLE g.u (id INT)",
        "DROP TABLE g.t",
        "ALTER TABLE g.t ADD COLUMN a INT",
        "SET GLOBAL max_connections = 1",
        "CREATE USER x",
    ],
)
def test_nothing_can_be_changed(query: Callable[[str], tuple[Any, ...]], sql: str) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        query(sql)


def test_on_mysql_the_binlog_cannot_be_deleted(fresh_mysql: Callable[..., Server]) -> None:
    server = fresh_mysql()
    server.load(GRANTS.read_bytes())
    with contextlib.closing(server.connect(user="rowback", password="change-me")) as connection:
        for sql in ("RESET BINARY LOGS AND GTIDS", "PURGE BINARY LOGS BEFORE NOW()"):
            with pytest.raises(pymysql.err.OperationalError, match="denied"), connection.cursor() as cursor:
                cursor.execute(sql)
