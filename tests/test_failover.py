"""Failover: the address answers with another server of the same history, or with one that only looks like it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from rowback import Rowback, drain, wait_for
from tcpproxy import TcpProxy

from recovery.archive.segments import read_transactions
from recovery.archive.state import ArchiveState
from recovery.context import open_context
from testservers import MySQLServer, Server

CREATE = "CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY, b varchar(20));"


def replicate(replica: Server, source: Server) -> None:
    replica.execute(
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source.host}', SOURCE_PORT = {source.port}, SOURCE_USER = 'root', "
        "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
    )
    replica.execute("START REPLICA")


def executed(server: Server) -> str:
    return str(server.execute("SELECT @@gtid_executed")[0][0]).replace("\n", "")


def wait_replicated(replica: Server, source: Server) -> None:
    (done,) = replica.execute("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 60)", [executed(source)])[0]
    assert done == 0


def promote(replica: Server) -> None:
    replica.execute("STOP REPLICA")
    replica.execute("RESET REPLICA ALL")


def archived(rowback: Rowback) -> ArchiveState:
    return open_context(rowback.config).log.read()


def keys(rowback: Rowback) -> list[int]:
    """Of all inserts in the archive, in its order."""
    found = rowback.json("changes", "--table", "d.t", "--op", "insert", "--oldest-first")
    return [change["key"]["a"] for change in found["changes"]]


def move(rowback: Rowback, old: Server, new: Server) -> None:
    rowback.config.write_text(rowback.config.read_text().replace(f"port = {old.port}", f"port = {new.port}"))


@pytest.fixture
def pair(tmp_path: Path, fresh_mysql: Any) -> tuple[MySQLServer, MySQLServer, Rowback]:
    """A source with a replica, captured with `failover` up to a first insert."""
    old, new = fresh_mysql(name="old"), fresh_mysql(name="new")
    replicate(new, old)
    rowback = Rowback(tmp_path / "rowback", old, extra="failover = true")
    rowback.run("capture", "--until-caught-up")
    old.load(CREATE)
    old.execute("INSERT INTO d.t VALUES (1, 'one')")
    rowback.run("capture", "--until-caught-up")
    return old, new, rowback


@pytest.mark.slow
def test_a_running_capture_follows_a_promoted_replica_and_back(
    tmp_path: Path, fresh_mysql: Any, mydumper: None
) -> None:
    old, new = fresh_mysql(name="old"), fresh_mysql(name="new")
    replicate(new, old)
    new.execute("FLUSH BINARY LOGS")  # positions differ from the source's
    with TcpProxy(old.host, old.port) as proxy:
        rowback = Rowback(tmp_path / "rowback", old, port=proxy.port, extra="failover = true")
        process = rowback.start_capture("--window-seconds", "0.5")
        rowback.wait_started(process)
        old.load(CREATE)
        numbers = itertools.count(1)
        for _ in range(40):
            old.execute(f"INSERT INTO d.t VALUES ({next(numbers)}, 'old')")
        rowback.run("snapshot")
        old.execute("UPDATE d.t SET b = 'changed' WHERE a = 3")
        wait_for(lambda: archived(rowback).checkpoint.gtid_set == executed(old), 60, "capture")  # type: ignore[union-attr]
        wait_replicated(new, old)
        promote(new)
        old.kill()
        for _ in range(20):
            new.execute(f"INSERT INTO d.t VALUES ({next(numbers)}, 'new')")
        proxy.redirect(new.host, new.port)
        wait_for(lambda: len(archived(rowback).failovers) == 1, 90, "the failover")
        for _ in range(20):
            new.execute(f"INSERT INTO d.t VALUES ({next(numbers)}, 'new')")
        wait_for(lambda: archived(rowback).checkpoint.gtid_set == executed(new), 60, "capture")  # type: ignore[union-attr]
        assert process.poll() is None, "one process went through it"

        old.restart()
        replicate(old, new)
        wait_replicated(old, new)
        promote(old)
        old.execute(f"INSERT INTO d.t VALUES ({next(numbers)}, 'back')")
        proxy.redirect(old.host, old.port)
        wait_for(lambda: len(archived(rowback).failovers) == 2, 90, "the way back")
        wait_for(lambda: archived(rowback).checkpoint.gtid_set == executed(old), 60, "capture")  # type: ignore[union-attr]
        assert drain(process) == 0, rowback.capture_log()

        state = archived(rowback)
        assert not state.gaps
        assert {f.proof for f in state.failovers} <= {"commit time", "rows"}
        assert state.failovers[0].proof == "commit time"
        context = open_context(rowback.config)
        rows = [r for part in read_transactions(context.store, state.transactions) for r in part.to_pylist()]
        assert [r["seq"] for r in rows] == list(range(1, len(rows) + 1))
        assert len({r["gtid"] for r in rows}) == len(rows), "no transaction twice"
        assert keys(rowback) == list(range(1, 82))
        file, position = old.execute("SHOW BINARY LOG STATUS")[0][:2]
        for number, target in enumerate(("latest", f"{file}:{position}")):
            done = rowback.json("restore", "--to", target, "--output", str(tmp_path / f"restored{number}"))
            assert done["rows"] == 81
        first = rows[10]["gtid"]
        done = rowback.run("restore", "--to", first, "--output", str(tmp_path / "early"), check=False)
        assert done.returncode == 7, "before the snapshot"
        assert rowback.json("restore", "--to", rows[42]["gtid"], "--output", str(tmp_path / "then"))["rows"] == 40
        text = rowback.run("status", "--offline").stdout
        assert text.count("failover") == 2
        rowback.run("snapshot")
        rowback.run("verify", "--archive")


@pytest.mark.parametrize(
    "place", ["capture.before-generation", "log.before-put", "log.after-put", "capture.generation"]
)
def test_a_failover_that_is_killed_happens_once(pair: Any, place: str) -> None:
    old, new, rowback = pair
    wait_replicated(new, old)
    promote(new)
    new.execute("INSERT INTO d.t VALUES (2, 'two')")
    move(rowback, old, new)
    rowback.environment["ROWBACK_FAILPOINT"] = f"{place}:1:kill"
    assert rowback.run("capture", "--until-caught-up", check=False).returncode == -9
    del rowback.environment["ROWBACK_FAILPOINT"]
    before = len(archived(rowback).failovers)
    assert before == (place in ("log.after-put", "capture.generation"))
    rowback.run("capture", "--until-caught-up")
    assert len(archived(rowback).failovers) == 1
    assert keys(rowback) == [1, 2]
    assert not archived(rowback).gaps


def test_without_the_setting_another_server_is_refused(pair: Any) -> None:
    old, new, rowback = pair
    wait_replicated(new, old)
    rowback.config.write_text(rowback.config.read_text().replace("failover = true", ""))
    move(rowback, old, new)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3
    assert "ERROR [source_diverged]" in done.stderr
    assert "failover = true" in done.stderr
    assert not archived(rowback).failovers


def test_a_replica_that_is_behind_is_refused_and_the_old_server_taken_again(pair: Any) -> None:
    old, new, rowback = pair
    wait_replicated(new, old)
    promote(new)
    old.execute("INSERT INTO d.t VALUES (2, 'two')")
    rowback.run("capture", "--until-caught-up")
    move(rowback, old, new)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "hasn't executed all the GTIDs" in done.stderr
    assert len(archived(rowback).holes) == 1
    move(rowback, new, old)
    old.execute("INSERT INTO d.t VALUES (3, 'three')")
    rowback.run("capture", "--until-caught-up")
    assert keys(rowback) == [1, 2, 3]
    assert not archived(rowback).holes


def test_a_replica_with_changes_of_its_own_in_between_is_refused(pair: Any) -> None:
    old, new, rowback = pair
    wait_replicated(new, old)
    new.execute("INSERT INTO d.t VALUES (100, 'errant')")
    old.execute("INSERT INTO d.t VALUES (2, 'two')")
    wait_replicated(new, old)
    rowback.run("capture", "--until-caught-up")
    move(rowback, old, new)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "before transactions that were captured" in done.stderr
    assert str(new.execute("SELECT @@server_uuid")[0][0]) in done.stderr, "the transaction that is too many is named"
    assert len(archived(rowback).holes) == 1


def test_a_gap_that_is_skipped_behind_a_failover_is_of_the_new_server(pair: Any) -> None:
    """Its positions can't be compared with the old server's, whose files may have the same names."""
    old, new, rowback = pair
    wait_replicated(new, old)
    promote(new)
    new.execute("INSERT INTO d.t VALUES (2, 'two')")
    move(rowback, old, new)
    rowback.run("capture", "--until-caught-up")
    with new.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute("INSERT INTO d.t VALUES (3, 'three')")
        connection.commit()
    assert rowback.run("capture", "--until-caught-up", check=False).returncode == 6
    rowback.run("capture", "--until-caught-up", "--skip-gap")
    new.execute("INSERT INTO d.t VALUES (4, 'four')")
    rowback.run("capture", "--until-caught-up")
    state = archived(rowback)
    assert len(state.failovers) == 1
    assert {gap.lineage for gap in state.gaps} == {1}
    (listed,) = rowback.json("status", "--offline")["gaps"]
    assert listed["to_position"] is not None
    assert keys(rowback) == [1, 2, 4]


def test_a_server_that_purged_what_follows_is_a_gap(pair: Any) -> None:
    old, new, rowback = pair
    wait_replicated(new, old)
    promote(new)
    new.execute("INSERT INTO d.t VALUES (2, 'two')")
    new.execute("FLUSH BINARY LOGS")
    newest = new.execute("SHOW BINARY LOG STATUS")[0][0]
    new.execute(f"PURGE BINARY LOGS TO '{newest}'")
    move(rowback, old, new)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "ERROR [source_binlog_purged]" in done.stderr
    assert len(archived(rowback).holes) == 1


def test_the_same_gtids_with_another_history_are_refused(pair: Any, fresh_mysql: Any) -> None:
    old, _, rowback = pair
    other = fresh_mysql(name="other")
    uuid, count = executed(old).split(":")
    statements = ["CREATE DATABASE d", "CREATE TABLE d.t (a int PRIMARY KEY, b varchar(20))"]
    statements += ["INSERT INTO d.t VALUES (1, 'forged')"]
    with other.connect() as connection, connection.cursor() as cursor:
        for number, statement in zip(range(1, int(count.split("-")[-1]) + 1), statements, strict=True):
            cursor.execute(f"SET gtid_next = '{uuid}:{number}'")
            cursor.execute(statement)
    assert executed(other) == executed(old)
    move(rowback, old, other)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3, done.stderr
    assert "is another transaction there" in done.stderr
    assert not archived(rowback).failovers


@pytest.mark.parametrize("same", [True, False])
def test_between_two_replicas_the_rows_are_the_proof(same: bool, tmp_path: Path, fresh_mysql: Any) -> None:
    origin, first, second = (fresh_mysql(name=name) for name in ("origin", "first", "second"))
    replicate(first, origin)
    replicate(second, origin)
    rowback = Rowback(tmp_path / "rowback", first, extra="failover = true")
    rowback.run("capture", "--until-caught-up")
    origin.load(CREATE)
    origin.execute("INSERT INTO d.t VALUES (1, 'one'), (2, 'two')")
    origin.execute("UPDATE d.t SET b = concat(b, '!')")
    wait_replicated(first, origin)
    wait_replicated(second, origin)
    rowback.run("capture", "--until-caught-up")
    if not same:  # the transaction that is compared has other rows there
        (gtid,) = archived(rowback).checkpoint.gtid_set.split(",")  # type: ignore[union-attr]
        uuid, _, numbers = gtid.partition(":")
        second.execute("STOP REPLICA")
        second.execute("RESET BINARY LOGS AND GTIDS")
        second.execute("SET GLOBAL gtid_purged = %s", [f"{uuid}:1-{int(numbers.split('-')[-1]) - 1}"])
        with second.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SET gtid_next = '{uuid}:{numbers.split('-')[-1]}'")
            cursor.execute("UPDATE d.t SET b = concat(b, '?')")
    second.execute("STOP REPLICA")
    second.execute("INSERT INTO d.t VALUES (3, 'three')")
    move(rowback, first, second)
    done = rowback.run("capture", "--until-caught-up", check=False)
    if same:
        assert done.returncode == 0, done.stderr
        assert archived(rowback).failovers[0].proof == "rows"
        assert keys(rowback) == [1, 2, 3]
    else:
        assert done.returncode == 3, done.stderr
        assert "is another transaction there" in done.stderr


def test_mariadb_is_refused(tmp_path: Path, fresh_mariadb: Any) -> None:
    old, new = fresh_mariadb(name="old"), fresh_mariadb(name="new")
    rowback = Rowback(tmp_path / "rowback", old, extra="failover = true")
    rowback.run("capture", "--until-caught-up")
    move(rowback, old, new)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 3
    assert "only MySQL servers with GTIDs" in done.stderr
