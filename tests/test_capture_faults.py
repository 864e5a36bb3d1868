"""Capture against a store that loses answers, a source that goes away, and sources that it must refuse."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import pymysql
import pytest
from faultproxy import Fault, FaultProxy
from rowback import Rowback, drain, wait_for

from dataflow.stream import _stream_error
from recovery.archive.segments import read_segment, read_transactions
from recovery.context import open_context
from testservers import MySQLServer, S3Bucket, Server


def test_a_lost_answer_of_a_conditional_put_commits_once(
    tmp_path: Path, mysql_source: MySQLServer, s3_bucket: S3Bucket, unique_name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = unique_name("s3")
    with FaultProxy(s3_bucket.endpoint_url) as proxy:
        s3 = f'[archive.s3]\nendpoint_url = "{proxy.url}"\nregion = "{s3_bucket.region}"\n'
        rowback = Rowback(tmp_path / "rowback", mysql_source, root=f"s3://{s3_bucket.name}/backup", s3=s3)
        rowback.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        rowback.run("capture", "--until-caught-up")
        mysql_source.load(f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY);")
        for number, fault in enumerate(
            (Fault.CUT_AFTER, Fault.UNAVAILABLE_AFTER, Fault.CONFLICT_AFTER, Fault.CUT_BEFORE)
        ):
            mysql_source.execute(f"INSERT INTO {db}.t VALUES ({number})")
            for _ in range(2):  # the capture's first commit is its generation, the second its window
                proxy.fail("PUT", "/log/", fault)
            rowback.run("capture", "--until-caught-up")
        assert sum(f is not None for _, _, f in proxy.served) >= 8
        context = open_context(rowback.config)
        state = context.log.read()
        seqs = [s for part in read_transactions(context.store, state.transactions) for s in part["seq"].to_pylist()]
        assert seqs == list(range(1, len(seqs) + 1))
        assert sum(s.inserts for s in state.segments if s.db == db) == 4
        assert state.generation == 5


@pytest.mark.slow
def test_a_source_that_dies_and_comes_back_is_captured_on(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="dying", options={"sync_binlog": 1})
    rowback = Rowback(tmp_path / "rowback", source)
    process = rowback.start_capture("--window-seconds", "0.2")
    rowback.wait_started(process)
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (1);")
    wait_for(lambda: "segments=2" in rowback.capture_log(), 30, "the first window")
    source.kill()
    source.restart()
    source.execute("INSERT INTO d.t VALUES (2)")
    time.sleep(3)
    assert drain(process) == 0, rowback.capture_log()
    rowback.run("capture", "--until-caught-up")
    state = open_context(rowback.config).log.read()
    assert sum(s.inserts for s in state.segments) == 2
    assert not state.gaps


def test_a_source_that_was_reset_is_refused_with_a_gap(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="reset")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY);")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.execute("INSERT INTO d.t VALUES (1)")
    rowback.run("capture", "--until-caught-up")
    source.execute("RESET BINARY LOGS AND GTIDS")
    for number in range(10, 40):
        source.execute(f"INSERT INTO d.t VALUES ({number})")
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3
    assert "ERROR [source_diverged]" in done.stderr
    assert "HINT: " in done.stderr
    state = open_context(rowback.config).log.read()
    assert len(state.holes) == 1
    assert sum(s.inserts for s in state.segments) == 1
    # The same again isn't a second gap.
    rowback.run("capture", "--until-caught-up", check=False)
    assert len(open_context(rowback.config).log.read().gaps) == 1


def test_a_purged_binlog_is_a_gap_and_an_error(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="purged")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY);")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.execute("INSERT INTO d.t VALUES (1)")
    source.execute("FLUSH BINARY LOGS")
    source.execute("INSERT INTO d.t VALUES (2)")
    newest = source.execute("SHOW BINARY LOG STATUS")[0][0]
    source.execute(f"PURGE BINARY LOGS TO '{newest}'")
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3
    assert "ERROR [source_binlog_purged]" in done.stderr
    assert len(open_context(rowback.config).log.read().holes) == 1
    status = rowback.run("status").stdout
    assert "GAP" in status


@pytest.mark.parametrize(
    ("session", "statement", "code"),
    [
        ("SET SESSION binlog_format = STATEMENT", "INSERT INTO d.t VALUES (2)", "capture_unsupported_event"),
        ("SET SESSION binlog_row_image = MINIMAL", "UPDATE d.t SET b = 2", "capture_unsupported_event"),
    ],
)
def test_what_cant_be_captured_stops_the_stream_after_what_can(
    session: str, statement: str, code: str, tmp_path: Path, fresh_mysql: Any
) -> None:
    source: MySQLServer = fresh_mysql(name="odd")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY, b int);")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.execute("INSERT INTO d.t VALUES (1, 1)")
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute(session)
        cursor.execute(statement.replace("VALUES (2)", "VALUES (2, 2)"))
    source.execute("INSERT INTO d.t VALUES (3, 3)")
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 6, done.stderr
    assert f"ERROR [{code}]" in done.stderr
    assert "panicked" not in done.stderr
    state = open_context(rowback.config).log.read()
    assert sum(s.inserts for s in state.segments) == 1, "what stands before the event is in the archive"
    assert len(state.holes) == 1


def test_a_table_that_cant_be_captured_and_is_excluded_lets_capture_go_on(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="excluded")
    source.load(
        "CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); CREATE TABLE d.g (a int PRIMARY KEY, g int);"
        "INSERT INTO d.g VALUES (1, 1)"
    )
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.load(
        "INSERT INTO d.t VALUES (1); SET SESSION binlog_row_image = MINIMAL; UPDATE d.g SET g = 2;"
        "SET SESSION binlog_row_image = FULL; INSERT INTO d.t VALUES (2);"
    )
    assert rowback.run("capture", "--until-caught-up", check=False).returncode == 6
    rowback.config.write_text(rowback.config.read_text() + 'exclude = ["d.g"]\n')
    rowback.run("capture", "--until-caught-up")
    state = open_context(rowback.config).log.read()
    assert sum(s.inserts for s in state.segments) == 2
    assert len(state.gaps) == 1
    assert not state.holes


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.parametrize("setting", ["binlog_row_image = MINIMAL", "binlog_format = MIXED"])
def test_a_misconfigured_source_is_refused_with_the_statement(
    flavor: str, setting: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Server = request.getfixturevalue(f"{flavor}_source")
    rowback = Rowback(tmp_path / "rowback", source)
    name = setting.split()[0]
    before = source.execute(f"SELECT @@GLOBAL.{name}")[0][0]
    source.execute(f"SET GLOBAL {setting}")
    try:
        done = rowback.run("capture", "--until-caught-up", check=False)
    finally:
        source.execute(f"SET GLOBAL {name} = '{before}'")
    assert done.returncode == 3
    assert f"SET GLOBAL {name}" in done.stderr.split("HINT: ")[1]


def wait_for_checkpoint(source: Server) -> None:
    """MariaDB says in a thread of its own that it's done with the older files, between any two transactions."""
    file = source.execute("SHOW MASTER STATUS")[0][0]

    def written() -> bool:
        events = source.execute(f"SHOW BINLOG EVENTS IN '{file}'")
        return any(row[2] == "Binlog_checkpoint" and row[5] == file for row in events)

    wait_for(written, 60, f"the checkpoint of {file}")


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_places_to_begin(flavor: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source: Server = request.getfixturevalue(f"fresh_{flavor}")(name="begin")
    status = "SHOW BINARY LOG STATUS" if flavor == "mysql" else "SHOW MASTER STATUS"
    gtids = "SELECT @@gtid_executed" if flavor == "mysql" else "SELECT @@gtid_binlog_pos"
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (1);")
    source.execute("FLUSH BINARY LOGS")
    if flavor == "mariadb":
        wait_for_checkpoint(source)
    source.execute("INSERT INTO d.t VALUES (2)")
    file, position = source.execute(status)[0][:2]
    executed = source.execute(gtids)[0][0]
    source.execute("INSERT INTO d.t VALUES (3)")
    expected = {
        ("--from-earliest",): 3,
        ("--from-position", f"{file}:{position}"): 1,
        ("--from-gtid", executed): 1,
        (): 0,
    }
    for number, (arguments, inserts) in enumerate(expected.items()):
        rowback = Rowback(tmp_path / f"rowback{number}", source)
        rowback.run("capture", "--until-caught-up", *arguments)
        state = open_context(rowback.config).log.read()
        assert sum(s.inserts for s in state.segments) == inserts, arguments
        if inserts == 1:
            assert state.start is not None
            assert (state.start.file, state.start.position, state.start.gtid_set) == (file, position, executed)
        again = rowback.run("capture", "--until-caught-up", "--from-earliest", check=False)
        assert again.returncode == 2
    inside = Rowback(tmp_path / "inside", source)
    # A server that is done with an older file says so between any two transactions (MariaDB), or goes to the next file.
    events = source.execute(f"SHOW BINLOG EVENTS IN '{file}'")
    source.execute("FLUSH BINARY LOGS")
    events += source.execute(f"SHOW BINLOG EVENTS IN '{file}'")[-1:]
    alone = {row[1] for row in events if row[2] in ("Binlog_checkpoint", "Rotate")}
    assert len(alone) >= (2 if flavor == "mariadb" else 1)
    for at in sorted(alone):
        rowback = Rowback(tmp_path / f"alone-{at}", source)
        rowback.run("capture", "--until-caught-up", "--from-position", f"{file}:{at}")
        behind = sum(row[2] == "Write_rows_v1" or row[2] == "Write_rows" for row in events if row[1] >= at)
        assert sum(s.inserts for s in open_context(rowback.config).log.read().segments) == behind
    done = inside.run("capture", "--until-caught-up", "--from-position", f"{file}:{position + 1}", check=False)
    assert done.returncode == 2
    assert "not the start of a transaction" in done.stderr


def test_a_gap_can_be_skipped_and_a_new_snapshot_serves_what_follows(
    tmp_path: Path, fresh_mysql: Any, mydumper: Any
) -> None:
    source: MySQLServer = fresh_mysql(name="skip")
    source.load(
        "CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY, b int); INSERT INTO d.t VALUES (1, 1), (2, 2);"
    )
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    assert rowback.run("capture", "--until-caught-up", "--skip-gap", check=False).returncode == 2
    rowback.run("snapshot")
    source.execute("UPDATE d.t SET b = 10 WHERE a = 1")
    rowback.run("capture", "--until-caught-up")
    before = source.execute("SELECT @@gtid_executed")[0][0]
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = MINIMAL")
        cursor.execute("UPDATE d.t SET b = 20 WHERE a = 2")
    inside = source.execute("SELECT @@gtid_executed")[0][0]
    assert rowback.run("capture", "--until-caught-up", check=False).returncode == 6
    assert rowback.run("capture", "--until-caught-up", "--from-earliest", check=False).returncode == 2
    rowback.run("capture", "--until-caught-up", "--skip-gap")
    refused = rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "no"), check=False)
    assert refused.returncode == 7, "the old snapshot lies before the gap"
    assert "gap" in refused.stderr
    rowback.run("snapshot")
    source.execute("INSERT INTO d.t VALUES (3, 3)")
    rowback.run("capture", "--until-caught-up")
    latest = rowback.json("restore", "--to", "latest", "--output", str(tmp_path / "latest"))
    assert latest["rows"] == 3
    uuid = before.split(":")[0]
    last = [f"{uuid}:{text.rpartition('-')[2]}" for text in (before, inside)]
    assert rowback.json("restore", "--to", last[0], "--output", str(tmp_path / "old"))["rows"] == 2
    refused = rowback.run("restore", "--to", last[1], "--output", str(tmp_path / "inside"), check=False)
    assert refused.returncode == 7


@pytest.mark.parametrize(
    "statement",
    ["SET STATEMENT max_statement_time=100 FOR DELETE FROM d.t WHERE a = 1", "ANALYZE DELETE FROM d.t WHERE a = 1"],
)
def test_statement_format_changes_in_disguise_stop_the_stream(
    statement: str, tmp_path: Path, fresh_mariadb: Any
) -> None:
    source: Server = fresh_mariadb(name="disguise")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (1), (2);")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute(statement)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 6
    assert "statement-format" in done.stderr


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_tables_made_of_queries_are_captured_in_row_format_alone(
    flavor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Server = request.getfixturevalue(f"fresh_{flavor}")(name="made")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (1), (2);")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    rows = "VALUES ROW(1), ROW(2)" if flavor == "mysql" else "VALUES (1), (2)"
    source.load(
        "USE d; CREATE TABLE r SELECT * FROM t; CREATE TABLE d.select LIKE t;"
        "CREATE TABLE p (`select` int COMMENT 'SELECT') PARTITION BY LIST (`select`) (PARTITION p VALUES IN (1, 2));"
        f"INSERT INTO p SELECT * FROM t; CREATE TABLE v AS {rows};"
        "CREATE TEMPORARY TABLE w SELECT * FROM t; DROP TEMPORARY TABLE w;"
    )
    rowback.run("capture", "--until-caught-up")
    state = open_context(rowback.config).log.read()
    assert not state.gaps
    assert sum(s.inserts for s in state.segments if s.db == "d") == 6
    made = [
        "SELECT * FROM d.t",
        f"AS {rows}",
        "REPLACE AS (SELECT 1 AS a)",
        "WITH c AS (SELECT 3 AS a) SELECT * FROM c",
    ]
    made += ["TABLE d.t"] if flavor == "mysql" else []
    for number, query in enumerate(made):
        with source.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SET SESSION binlog_format = {'STATEMENT' if number else 'MIXED'}")
            cursor.execute(f"CREATE TABLE d.n{number} {query}")
        done = rowback.run("capture", "--until-caught-up", check=False)
        assert done.returncode == 6, query
        assert f"a statement-format change: `CREATE TABLE d.n{number}" in done.stderr
        rowback.run("capture", "--until-caught-up", "--skip-gap")
    assert sum(gap.to_file is None for gap in open_context(rowback.config).log.read().gaps) == len(made)


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_files_with_checksums_and_without_are_of_one_stream(
    flavor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Server = request.getfixturevalue(f"fresh_{flavor}")(name="summed")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (0);")
    rowback.run("capture", "--until-caught-up")
    for number, kind in enumerate(["NONE", "CRC32", "NONE"], 1):
        source.load(f"SET GLOBAL binlog_checksum = {kind}; INSERT INTO d.t VALUES ({number});")
    rowback.run("capture", "--until-caught-up")  # begins in a file with checksums while the setting is NONE
    source.load("SET GLOBAL binlog_checksum = CRC32; INSERT INTO d.t VALUES (4);")
    rowback.run("capture", "--until-caught-up")  # and the other way around
    state = open_context(rowback.config).log.read()
    assert not state.gaps
    assert sum(s.inserts for s in state.segments) == 5


def purged(source: Server) -> bool:
    """Whether the first file is gone. MariaDB keeps it until a checkpoint has been written."""
    source.execute("PURGE BINARY LOGS TO 'binlog.000002'")
    return len(source.execute("SHOW BINARY LOGS")) == 1


@pytest.mark.sockets
@pytest.mark.parametrize("captured", [False, True], ids=["nothing captured", "captured and purged"])
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_a_reset_is_noticed_where_no_captured_transaction_can_be_read_again(
    captured: bool, flavor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """GTIDs don't help: the server has executed all that the archive holds, or the archive holds none."""
    source: Server = request.getfixturevalue(f"fresh_{flavor}")(name="reset")
    reset = "RESET BINARY LOGS AND GTIDS" if flavor == "mysql" else "RESET MASTER"
    source.execute(reset)
    rowback = Rowback(tmp_path / "rowback", source)
    changes = "CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); INSERT INTO d.t VALUES (1), (2);"
    if captured:
        source.load(changes)
        rowback.run("capture", "--until-caught-up", "--from-earliest")
        source.execute("FLUSH BINARY LOGS")
        rowback.run("capture", "--until-caught-up")
    else:
        rowback.run("capture", "--until-caught-up")
        source.load(changes)
    begun = open_context(rowback.config).log.read().checkpoint
    assert begun is not None
    assert begun.file_begun_at_us is not None
    source.execute("INSERT INTO d.t VALUES (100)")  # never captured
    second = begun.file_begun_at_us + 1_000_000  # the time is in whole seconds
    wait_for(lambda: time.time() * 1_000_000 > second, 5, "the next second")
    source.execute(reset)
    source.load(";".join(f"UPDATE d.t SET a = a + 1000 WHERE a = {i}" for i in (1, 2, 3, 4)) + ";")
    if captured:
        source.execute("FLUSH BINARY LOGS")
        wait_for(lambda: purged(source), 30, "the file's last use")
    source.load("".join(f"INSERT INTO d.t VALUES ({i});" for i in range(3, 6)))
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "ERROR [source_diverged]" in done.stderr
    assert f"the file `{begun.file}` has been begun anew" in done.stderr
    assert len(open_context(rowback.config).log.read().gaps) == 1
    done = rowback.run("capture", "--until-caught-up", "--skip-gap", check=False)
    assert "ERROR [source_diverged]" in done.stderr, "going on behind a gap is for the same binlog"


@pytest.mark.parametrize(
    ("text", "began", "code"),
    [
        ("Client requested source to start replication from position > file size", False, "source_diverged"),
        ("Client requested master to start replication from impossible position; the first", False, "source_diverged"),
        ("binlog truncated in the middle of event; consider out of disk space", False, "source_diverged"),
        ("binlog truncated in the middle of event; consider out of disk space", True, "capture_binlog_damaged"),
        ("Replica can not handle replication events with the checksum", False, "capture_binlog_damaged"),
        ("Could not find first log file name in binary log index file", False, "source_binlog_purged"),
    ],
)
def test_what_a_server_says_tells_another_binlog_from_a_damaged_one(text: str, began: bool, code: str) -> None:
    error = pymysql.err.OperationalError(1236, text)
    assert _stream_error(error, cast(Any, None), began=began).code == code


@pytest.mark.sockets
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_an_account_that_may_not_replicate_is_told_the_grant(
    flavor: str, tmp_path: Path, request: pytest.FixtureRequest, unique_name: Any
) -> None:
    source: Server = request.getfixturevalue(f"{flavor}_source")
    user = unique_name("noslave")
    client = "REPLICATION CLIENT" if flavor == "mysql" else "BINLOG MONITOR"
    source.load(f"CREATE USER {user}@'%' IDENTIFIED BY 'x'; GRANT {client}, SELECT ON *.* TO {user}@'%';")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.config.write_text(rowback.config.read_text().replace('user = "root"', f'user = "{user}"'))
    rowback.environment["ROWBACK_TEST_PASSWORD"] = "x"
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "ERROR [source_privilege_missing]" in done.stderr
    assert "GRANT REPLICATION SLAVE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_was_read_is_committed_while_the_source_is_away(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="away", options={"sync_binlog": 1})
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY);")
    rowback = Rowback(tmp_path / "rowback", source)
    process = rowback.start_capture("--window-seconds", "3")
    rowback.wait_started(process)
    source.execute("INSERT INTO d.t VALUES (1)")
    time.sleep(1)
    source.kill()
    context = open_context(rowback.config)
    wait_for(lambda: sum(s.inserts for s in context.log.read().segments) == 1, 30, "the window's commit")
    started = time.monotonic()
    assert drain(process) == 0
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(("kind", "value"), [("uuid", "123e4567-e89b-12d3-a456-426655440000"), ("inet6", "::1")])
def test_types_that_the_binlog_disguises_are_captured_as_they_print(
    kind: str, value: str, tmp_path: Path, fresh_mariadb: Any
) -> None:
    source: Server = fresh_mariadb(name="disguised")
    source.load(f"CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY, odd {kind});")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.execute(f"INSERT INTO d.t VALUES (1, '{value}')")
    rowback.run("capture", "--until-caught-up")
    context = open_context(rowback.config)
    (segment,) = context.log.read().segments
    assert read_segment(context.store, segment)["odd"].to_pylist() == [value]
