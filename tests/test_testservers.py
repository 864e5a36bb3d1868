"""The throw-away servers themselves: that they start, keep what they were given, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pymysql
import pytest

import testservers
from testservers import MariaDBServer, MySQLServer, S3Bucket, Server, ServerMissingError, ServerStartError


@pytest.fixture(params=["mysql", "mariadb"])
def fresh(request: pytest.FixtureRequest) -> Callable[..., Server]:
    factory: Callable[..., Server] = request.getfixturevalue(f"fresh_{request.param}")
    return factory


@pytest.fixture(params=["mysql", "mariadb"])
def source(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{request.param}_source")
    return server


@pytest.mark.sockets
def test_a_row_reaches_the_binlog_with_its_column_names(source: Server) -> None:
    source.execute("FLUSH BINARY LOGS")
    source.execute("CREATE DATABASE house")
    source.execute("CREATE TABLE house.t (id INT PRIMARY KEY, label VARCHAR(20))")
    source.execute("INSERT INTO house.t VALUES (1, 'naïve 🐢')")

    files = [str(path) for path in source.binlog_files()[-1:]]  # earlier ones have what other tests wrote
    assert files
    text = source.run(source.mysqlbinlog_command("-vv", "--print-table-metadata", *files)).decode(errors="replace")
    assert "### INSERT INTO `house`.`t`" in text
    assert "`label` VARCHAR(20)" in text  # binlog_row_metadata=FULL
    remote = source.run(source.mysqlbinlog_command(Path(files[-1]).name, remote=True))
    assert b"house" in remote


def test_flavor_and_version(mysql_source: MySQLServer, mariadb_source: MariaDBServer) -> None:
    assert mysql_source.flavor == "mysql"
    assert mysql_source.version >= (8, 0, 0)
    assert "MariaDB" not in mysql_source.version_text
    assert mysql_source.execute("SELECT @@gtid_mode, @@binlog_row_metadata") == (("ON", "FULL"),)
    assert mariadb_source.flavor == "mariadb"
    assert "MariaDB" in mariadb_source.version_text
    assert mariadb_source.execute("SELECT @@binlog_row_metadata, @@performance_schema") == (("FULL", 0),)


def test_two_servers_have_two_identities(mysql_source: MySQLServer, fresh_mysql: Callable[..., MySQLServer]) -> None:
    other = fresh_mysql()
    assert other.execute("SELECT @@server_uuid") != mysql_source.execute("SELECT @@server_uuid")
    assert other.server_id != mysql_source.server_id


@pytest.mark.sockets
def test_committed_rows_survive_kill_and_restart(fresh: Callable[..., Server]) -> None:
    server = fresh()
    port, uuid = server.port, server.execute("SELECT @@server_id")
    server.load(b"CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); INSERT INTO shop.t VALUES (1);")
    server.kill()
    assert not server.running
    with pytest.raises(pymysql.err.OperationalError):
        server.connect()
    server.start()
    assert server.execute("SELECT id FROM shop.t") == ((1,),)
    assert (server.port, server.execute("SELECT @@server_id")) == (port, uuid)

    server.restart(options={"max-connections": 77})
    assert server.execute("SELECT id, @@max_connections FROM shop.t") == ((1, 77),)


@pytest.mark.sockets
def test_dump_loads_into_a_target(source: Server, request: pytest.FixtureRequest) -> None:
    target: Server = request.getfixturevalue(f"{source.flavor}_target")
    assert target.execute("SELECT @@log_bin") == ((0,),)
    source.execute("CREATE DATABASE dumped")
    source.execute("CREATE TABLE dumped.t (id INT PRIMARY KEY, b VARBINARY(9))")
    source.execute("INSERT INTO dumped.t VALUES (1, %s)", [b"\x00\xff\n\r\\'\""])
    target.load(source.dump("--databases", "dumped"))
    assert target.execute("SELECT * FROM dumped.t") == source.execute("SELECT * FROM dumped.t")


@pytest.mark.sockets
def test_failing_sql_raises_with_the_servers_message(source: Server) -> None:
    with pytest.raises(RuntimeError, match="no_such_table"):
        source.load("INSERT INTO mysql.no_such_table VALUES (1);")


def test_a_bad_option_raises_with_the_servers_log(fresh_mysql: Callable[..., MySQLServer]) -> None:
    with pytest.raises(ServerStartError, match="no-such-option"):
        fresh_mysql(options={"no_such_option": 1})


@pytest.mark.sockets
def test_close_removes_data_and_process(fresh: Callable[..., Server]) -> None:
    server = fresh()
    pid = server.pid
    server.close()
    assert not server.data_dir.exists()
    assert not Path(server.socket).exists()
    assert not Path(f"/proc/{pid}").exists()


def test_servers_die_with_the_process_that_started_them(tmp_path: Path, mysql_source: MySQLServer) -> None:
    """Also after a kill -9, and not with the thread that started them."""
    program = textwrap.dedent(
        f"""
        import os, signal, sys, threading
        from testservers import MySQLServer
        server = MySQLServer({str(tmp_path / "orphan")!r})
        thread = threading.Thread(target=server.start); thread.start(); thread.join()
        server.execute("SELECT 1")
        print(server.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    env = {**os.environ, "PYTHONPATH": str(Path(testservers.__file__).parent)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while _alive(pid):
        assert time.monotonic() < deadline, "the server outlived the process that started it"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has waited for yet doesn't."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_a_server_that_is_not_provisioned_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWBACK_CACHE", str(tmp_path))
    assert not testservers.has_mydumper()
    with pytest.raises(ServerMissingError, match=r"deploy/provision\.sh"):
        MySQLServer(tmp_path / "a")


def test_s3_put_and_get(s3_bucket: S3Bucket) -> None:
    client = s3_bucket.client()
    client.put_object(Bucket=s3_bucket.name, Key="log/0001.json", Body=b"{}", IfNoneMatch="*")
    assert client.get_object(Bucket=s3_bucket.name, Key="log/0001.json")["Body"].read() == b"{}"
    with pytest.raises(client.exceptions.ClientError) as caught:
        client.put_object(Bucket=s3_bucket.name, Key="log/0001.json", Body=b"other", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412


def test_each_test_gets_an_empty_bucket(s3_bucket: S3Bucket) -> None:
    assert s3_bucket.client().list_objects_v2(Bucket=s3_bucket.name)["KeyCount"] == 0


def test_a_unit_test_cannot_connect() -> None:
    with socket.socket() as probe, pytest.raises(AssertionError, match="a unit test connects"):
        probe.connect(("127.0.0.1", 9))
