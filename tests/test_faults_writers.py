"""Two captures of one archive, a writer that sleeps through its replacement, and one that is asked to end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import workload
from exactness import assert_exact, executed
from rowback import Rowback, drain

from recovery.context import open_context
from testservers import MySQLServer, Server

Fresh = Callable[..., Server]


def test_sigterm_commits_the_open_window(
    tmp_path: Path, mysql_source: MySQLServer, unique_name: Callable[[str], str]
) -> None:
    db = unique_name("drained")
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


@pytest.mark.slow
def test_two_captures_at_once(tmp_path: Path, fresh_source: Fresh) -> None:
    """Under load, each newer one fences the one before; the archive is as exact as with one."""
    source = fresh_source(name="twice")
    workload.create(source)
    rowback = Rowback(tmp_path / "rowback", source)
    start = executed(source)
    rowback.run("capture", "--until-caught-up")
    load = workload.Load(source, writers=4, transactions=100_000, seed=6, pause_s=0.02).start()
    try:
        older = rowback.start_capture("--window-seconds", "0.1")
        rowback.wait_started(older)
        for number in range(3):
            newer = rowback.start_capture("--window-seconds", "0.1")
            rowback.wait_started(newer, number + 2)
            assert older.wait(60) == 5, rowback.capture_log()[-2000:]
            older = newer
    finally:
        load.stop()
    assert drain(older) == 0, rowback.capture_log()[-2000:]
    assert rowback.capture_log().count("ERROR [archive_fenced]") == 3
    rowback.catch_up()
    assert_exact(rowback, source, start)


@pytest.mark.slow
def test_two_captures_that_start_at_the_same_moment(tmp_path: Path, fresh_mysql: Fresh) -> None:
    """Both begin an empty archive: one of them is refused or fenced, and one checkpoint begins it."""
    source = fresh_mysql(name="together")
    workload.create(source)
    rowback = Rowback(tmp_path / "rowback", source)
    start = executed(source)
    captures = []
    for _ in range(2):
        captures.append(rowback.start_capture("--window-seconds", "0.1", failpoint="log.before-put:1:stop"))
        assert os.WIFSTOPPED(os.waitpid(captures[-1].pid, os.WUNTRACED)[1])
    for capture in captures:
        capture.send_signal(signal.SIGCONT)
    load = workload.Load(source, writers=4, transactions=30, seed=6).start()
    load.wait()
    deadline = time.monotonic() + 60
    while all(c.poll() is None for c in captures) and time.monotonic() < deadline:
        time.sleep(0.05)
    loser, winner = sorted(captures, key=lambda c: c.poll() is None)
    assert loser.poll() == 5, rowback.capture_log()
    assert drain(winner) == 0, rowback.capture_log()
    rowback.catch_up()
    assert_exact(rowback, source, start)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["stream.read:40", "sink.window:1", "segment.encoded:2", "log.before-put:2", "log.after-put:2"]
)
def test_a_zombie_that_wakes_up_writes_nothing(place: str, tmp_path: Path, fresh_source: Fresh) -> None:
    source = fresh_source(name="zombie")
    workload.create(source)
    rowback = Rowback(tmp_path / "rowback", source)
    start = executed(source)
    rowback.run("capture", "--until-caught-up")
    zombie = rowback.start_capture("--window-seconds", "0.1", failpoint=f"{place}:stop")
    try:
        rowback.wait_started(zombie)
        load = workload.Load(source, writers=4, transactions=40, seed=8).start()
        assert os.WIFSTOPPED(os.waitpid(zombie.pid, os.WUNTRACED)[1])
        load.wait()
        asleep = head(rowback)
        rowback.catch_up()
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait(60) == 5, rowback.capture_log()[-2000:]
    finally:
        zombie.kill()
    assert "ERROR [archive_fenced] generation 2 was fenced" in rowback.capture_log()
    written = [commit["generation"] for commit in commits(rowback)[asleep:]]
    assert written == sorted(written)
    assert set(written) == {3}
    assert_exact(rowback, source, start)


def commits(rowback: Rowback) -> list[dict[str, int]]:
    """The log's objects as they lie in the folder."""
    return [json.loads(path.read_text()) for path in sorted((rowback.folder / "archive").glob("*/*/log/*.json"))]


def head(rowback: Rowback) -> int:
    return len(commits(rowback))
