"""Several servers in one capture: one process, several workers, several processes; one server's end isn't the others'."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rowback import COMMAND, Rowback, drain, wait_for

from recovery.archive.state import ArchiveState
from recovery.context import open_context
from testservers import MariaDBServer, MySQLServer, Server, free_port


def second(server: Server, name: str = "crm") -> str:
    return (
        f'[servers.{name}]\nhost = "{server.host}"\nport = {server.port}\nuser = "{server.user}"\n'
        'password_env = "ROWBACK_TEST_PASSWORD"\n'
    )


def archived(rowback: Rowback, server: str) -> ArchiveState:
    return open_context(rowback.config, server).log.read()


def inserts(rowback: Rowback, server: str, db: str) -> int:
    return sum(s.inserts for s in archived(rowback, server).segments if s.db == db)


@pytest.fixture
def both(
    tmp_path: Path, mysql_source: MySQLServer, mariadb_source: MariaDBServer, unique_name: Any
) -> tuple[Rowback, str, MySQLServer, MariaDBServer]:
    """Configured as `shop` (MySQL) and `crm` (MariaDB), each with an archive that has begun and a new database."""
    rowback = Rowback(tmp_path / "rowback", mysql_source, extra=second(mariadb_source))
    rowback.run("capture", "--all", "--until-caught-up")
    db = unique_name("many")
    for server in (mysql_source, mariadb_source):
        server.load(f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY);")
    return rowback, db, mysql_source, mariadb_source


@pytest.mark.parametrize("arguments", [("--all",), ("--server", "crm", "--server", "shop", "--workers", "2")])
def test_one_process_captures_mysql_and_mariadb(both: Any, arguments: tuple[str, ...]) -> None:
    rowback, db, mysql, mariadb = both
    process = rowback.start_capture("--window-seconds", "0.5", *arguments)
    rowback.wait_started(process, 2)
    for number in range(50):
        mysql.execute(f"INSERT INTO {db}.t VALUES ({number})")
        if number < 20:
            mariadb.execute(f"INSERT INTO {db}.t VALUES ({number})")
    for server, count in (("shop", 50), ("crm", 20)):
        wait_for(lambda s=server, n=count: inserts(rowback, s, db) == n, 60, f"the windows of {server}")
    assert drain(process) == 0, rowback.capture_log()
    assert (inserts(rowback, "shop", db), inserts(rowback, "crm", db)) == (50, 20)
    assert archived(rowback, "shop").identity.flavor == "mysql"  # type: ignore[union-attr]
    assert archived(rowback, "crm").identity.flavor == "mariadb"  # type: ignore[union-attr]
    status = rowback.json("status", "--all")
    assert [(s["server"], s["source"].split()[0]) for s in status] == [("crm", "mariadb"), ("shop", "mysql")]
    assert rowback.run("status", "--all", "--offline").stdout.count("coverage to") == 2
    assert rowback.run("status", "--all", "--server", "shop", check=False).returncode == 2


def test_two_processes_share_the_servers_and_end_together(both: Any) -> None:
    rowback, db, mysql, mariadb = both
    addresses = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    processes = [
        rowback.start_capture("--all", "--window-seconds", "0.5", "-i", str(number), "-a", addresses)
        for number in range(2)
    ]
    for process in processes:
        rowback.wait_started(process, 2)
    for number in range(30):
        mysql.execute(f"INSERT INTO {db}.t VALUES ({number})")
        mariadb.execute(f"INSERT INTO {db}.t VALUES ({number})")
    for server in ("shop", "crm"):
        wait_for(lambda s=server: inserts(rowback, s, db) == 30, 60, f"the windows of {server}")
    writers = {server: archived(rowback, server).writer.pid for server in ("shop", "crm")}  # type: ignore[union-attr]
    assert set(writers.values()) == {process.pid for process in processes}, "each has one of the two servers"
    processes[0].kill()
    assert processes[1].wait(60) == 1, rowback.capture_log()
    assert "ERROR [capture_peer_lost]" in rowback.capture_log()
    mysql.execute(f"INSERT INTO {db}.t VALUES (100)")
    rowback.run("capture", "--all", "--until-caught-up")
    assert (inserts(rowback, "shop", db), inserts(rowback, "crm", db)) == (31, 30)


def test_a_server_that_stops_for_good_leaves_the_others_alone(both: Any) -> None:
    rowback, db, mysql, mariadb = both
    process = rowback.start_capture("--all", "--window-seconds", "0.5")
    rowback.wait_started(process, 2)
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute(f"INSERT INTO {db}.t VALUES (1)")
    wait_for(lambda: archived(rowback, "crm").holes, 60, "the gap")
    mysql.execute(f"INSERT INTO {db}.t VALUES (1)")
    wait_for(lambda: inserts(rowback, "shop", db) == 1, 60, "the other server's window")
    assert process.poll() is None
    assert drain(process) == 6, "the exit status tells that one had stopped"
    assert "ERROR [capture_unsupported_event] server `crm`: " in rowback.capture_log()
    assert not archived(rowback, "shop").holes


def test_a_server_that_is_fenced_or_cannot_start_leaves_the_others_alone(both: Any) -> None:
    rowback, db, mysql, mariadb = both
    before = mariadb.execute("SELECT @@GLOBAL.binlog_row_image")[0][0]
    mariadb.execute("SET GLOBAL binlog_row_image = MINIMAL")
    try:
        process = rowback.start_capture("--all", "--window-seconds", "0.5")
        rowback.wait_started(process)
        wait_for(lambda: "capture stopped server=crm" in rowback.capture_log(), 60, "the refusal")
        mysql.execute(f"INSERT INTO {db}.t VALUES (1)")
        wait_for(lambda: inserts(rowback, "shop", db) == 1, 60, "the other server's window")
        rowback.run("capture", "--server", "shop", "--until-caught-up")
        mysql.execute(f"INSERT INTO {db}.t VALUES (2)")
        assert process.wait(60) == 3, "both have stopped; the first error counts"
    finally:
        mariadb.execute(f"SET GLOBAL binlog_row_image = '{before}'")
    assert "ERROR [archive_fenced] server `shop`: " in rowback.capture_log()
    assert "ERROR [source_misconfigured] server `crm`: " in rowback.capture_log()


@pytest.mark.slow
def test_a_source_that_is_away_at_the_start_is_waited_for_beside_others(tmp_path: Path, fresh_mysql: Any) -> None:
    first, late = fresh_mysql(name="first"), fresh_mysql(name="late")
    rowback = Rowback(tmp_path / "rowback", first, extra=second(late))
    late.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY);")
    rowback.run("capture", "--all", "--until-caught-up")
    late.stop()
    done = rowback.run("capture", "--all", "--until-caught-up", check=False)
    assert done.returncode == 3, "catching up doesn't wait"
    assert "ERROR [source_unreachable] server `crm`" in done.stderr
    process = rowback.start_capture("--all", "--window-seconds", "0.5")
    rowback.wait_started(process, 1)
    wait_for(lambda: "source not reached server=crm" in rowback.capture_log(), 30, "an attempt")
    late.restart()
    late.execute("INSERT INTO d.t VALUES (1)")
    wait_for(lambda: inserts(rowback, "crm", "d") == 1, 60, "its window")
    assert drain(process) == 0


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--all", "--server", "shop"), "can't be given together"),
        (("--server", "shop", "--server", "shop"), "named twice"),
        (("--all", "--from-earliest"), "one server at a time"),
        (("--all", "-i", "0"), "go together"),
        (("--all", "-i", "2", "-a", "a:1,b:2"), "is none of the 2 processes"),
        (("--all", "-i", "0", "-a", "a:1,b"), "are no addresses"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    config = tmp_path / "rowback.toml"
    config.write_text(f'[archive]\nroot = "file://{tmp_path}/a"\n[servers.shop]\n[servers.crm]\n')
    done = subprocess.run(
        [*COMMAND, "capture", *arguments, "--config", str(config)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert what in done.stderr


def test_sigint_drains_all_servers(both: Any) -> None:
    rowback, db, mysql, mariadb = both
    process = rowback.start_capture("--all", "--workers", "2", "--window-seconds", "60")
    rowback.wait_started(process, 2)
    for server in (mysql, mariadb):
        server.execute(f"INSERT INTO {db}.t VALUES (1)")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    rowback.run("capture", "--all", "--until-caught-up")
    assert (inserts(rowback, "shop", db), inserts(rowback, "crm", db)) == (1, 1)
