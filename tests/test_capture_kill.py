"""kill -9 of capture at random moments under load: afterwards no transaction is missing and none is doubled."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest
import workload
from rowback import Rowback, drain, wait_for

from recovery.archive.segments import read_segment, read_transactions
from recovery.context import open_context
from recovery.gtid import MySQLGtidSet
from testservers import MySQLServer

KILLS = 22


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_loses_and_doubles_nothing(tmp_path: Path, fresh_mysql: object) -> None:
    source: MySQLServer = fresh_mysql(name="killed")  # type: ignore[operator]
    workload.create(source)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    before = source.execute("SELECT @@gtid_executed")[0][0]
    rng = random.Random(20)
    load = workload.Load(source, writers=4, transactions=100_000, seed=5, pause_s=0.004).start()
    try:
        for kill in range(KILLS):
            process = rowback.start_capture("--window-seconds", "0.1")
            rowback.wait_started(process, kill + 1)
            if kill % 2:  # every other one falls behind at least one commit of its own
                done = rowback.capture_log().count("window committed")
                wait_for(lambda n=done: rowback.capture_log().count("window committed") > n, 60, "a window")
            time.sleep(rng.uniform(0, 0.8))
            process.kill()
            process.wait()
            if kill % 5 == 0:
                source.execute("FLUSH BINARY LOGS")
    finally:
        load.stop()
    process = rowback.start_capture("--until-caught-up")
    assert process.wait(120) == 0, rowback.capture_log()[-2000:]

    context = open_context(rowback.config)
    state = context.log.read()
    assert state.generation == KILLS + 2
    captured = [g for part in read_transactions(context.store, state.transactions) for g in part["gtid"].to_pylist()]
    assert len(captured) == len(set(captured)), "a transaction stands twice"
    together = MySQLGtidSet.parse(before)
    for gtid in captured:
        together.add(gtid)
    executed = source.execute("SELECT @@gtid_executed")[0][0]
    assert together == MySQLGtidSet.parse(executed)
    assert len(captured) > 500
    assert counted_by_mysqlbinlog(source) == counted_in_archive(context, state)
    # Commits were made by several generations, so the kills did fall between and into windows.
    assert len(state.transactions) >= KILLS / 2


def counted_by_mysqlbinlog(source: MySQLServer) -> Counter[tuple[str, str]]:
    """(operation, table) -> rows, from mysqlbinlog's own decoding of the files."""
    command = source.mysqlbinlog_command("--verbose", "--base64-output=decode-rows", *map(str, source.binlog_files()))
    counts: Counter[tuple[str, str]] = Counter()
    for line in source.run(command).decode(errors="replace").split("\n"):
        if match := re.match(r"### (INSERT INTO|UPDATE|DELETE FROM) (.*)$", line):
            counts[match[1].split()[0].lower(), match[2]] += 1
    return counts


def counted_in_archive(context: object, state: object) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for segment in state.segments:  # type: ignore[attr-defined]
        name = "`{}`.`{}`".format(segment.db, segment.table.replace("`", "``"))
        operations = Counter(read_segment(context.store, segment)["_rb_op"].to_pylist())  # type: ignore[attr-defined]
        for ours, theirs in (("insert", "insert"), ("update_after", "update"), ("delete", "delete")):
            if operations[ours]:
                counts[theirs, name] += operations[ours]
        assert operations["update_before"] == operations["update_after"]
    return counts


def test_sigterm_commits_the_open_window(tmp_path: Path, mysql_source: MySQLServer, unique_name: object) -> None:
    db = unique_name("drained")  # type: ignore[operator]
    rowback = Rowback(tmp_path / "rowback", mysql_source)
    process = rowback.start_capture("--window-seconds", "300")
    rowback.wait_started(process)
    mysql_source.load(
        f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY); INSERT INTO {db}.t VALUES (1), (2);"
    )
    time.sleep(1)
    assert drain(process) == 0, rowback.capture_log()
    state = open_context(rowback.config).log.read()
    assert sum(s.inserts for s in state.segments if s.db == db) == 2


def test_a_second_capture_fences_the_first(tmp_path: Path, mysql_source: MySQLServer, unique_name: object) -> None:
    db = unique_name("fenced")  # type: ignore[operator]
    rowback = Rowback(tmp_path / "rowback", mysql_source)
    first = rowback.start_capture("--window-seconds", "0.2")
    rowback.wait_started(first)
    second = rowback.start_capture("--window-seconds", "0.2")
    try:
        rowback.wait_started(second, 2)
        mysql_source.load(
            f"CREATE DATABASE {db}; CREATE TABLE {db}.t (a int PRIMARY KEY); INSERT INTO {db}.t VALUES (1);"
        )
        assert first.wait(60) == 5
        assert "fenced" in rowback.capture_log()
    finally:
        assert drain(second) == 0
    state = open_context(rowback.config).log.read()
    assert sum(s.inserts for s in state.segments if s.db == db) == 1
