"""The source dies, comes back, and loses its binlogs while captures run and writers go on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import workload
from exactness import assert_exact, examine, executed
from rowback import Rowback, drain, wait_for

from recovery.context import open_context
from testservers import Server

Fresh = Callable[..., Server]
DURABLE = {"sync_binlog": 1, "innodb_flush_log_at_trx_commit": 1}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_source_that_is_killed_under_load(tmp_path: Path, fresh_source: Fresh) -> None:
    source = fresh_source(name="mortal", options=DURABLE)
    workload.create(source)
    start = executed(source)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    capture = rowback.start_capture("--window-seconds", "0.2")
    rowback.wait_started(capture)
    for seed in range(3):
        back = rowback.capture_log().count("source back")
        load = workload.Load(
            source, writers=4, transactions=100_000, seed=seed, mortal=True, xa=keeps_xa(source)
        ).start()
        time.sleep(2)
        source.kill()
        load.stop()
        source.restart()
        wait_for(lambda n=back: rowback.capture_log().count("source back") > n, 90, "capture to find the source again")
    assert drain(capture) == 0, rowback.capture_log()[-2000:]
    rowback.catch_up()
    found = assert_exact(rowback, source, start)
    assert (found.gaps, found.generations) == (0, 3)
    assert found.transactions > 100


@pytest.mark.slow
def test_a_source_that_is_killed_together_with_capture(tmp_path: Path, fresh_source: Fresh) -> None:
    """A machine with both of them loses its power. What the server's recovery keeps is what the archive has."""
    source = fresh_source(name="both", options=DURABLE)
    workload.create(source)
    start = executed(source)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    for seed in range(3):
        capture = rowback.start_capture("--window-seconds", "0.1")
        rowback.wait_started(capture, seed + 1)
        load = workload.Load(
            source, writers=4, transactions=100_000, seed=seed, mortal=True, xa=keeps_xa(source)
        ).start()
        time.sleep(1.5)
        source.kill()
        capture.kill()
        capture.wait()
        load.stop()
        source.restart()
    rowback.catch_up()
    assert assert_exact(rowback, source, start).gaps == 0


def keeps_xa(source: Server) -> bool:
    """Whether XA transactions that are in its binlog are in its tables behind a crash. MariaDB's may not be, of two phases
    (they stay prepared) or of one (they are gone), though its replicas have them: both were seen on 10.11."""
    return source.flavor == "mysql"


@pytest.mark.slow
def test_a_reset_under_a_running_capture_is_never_passed_over(tmp_path: Path, fresh_source: Fresh) -> None:
    """It must not go on behind it, now or when it is started again, and a gap says so."""
    source = fresh_source(name="reset")
    workload.create(source)
    start = executed(source)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    workload.Load(source, writers=4, transactions=20, seed=1).start().wait()
    rowback.run("capture", "--until-caught-up")
    assert_exact(rowback, source, start)
    capture = rowback.start_capture("--window-seconds", "0.2")
    rowback.wait_started(capture)
    source.execute("RESET BINARY LOGS AND GTIDS" if source.flavor == "mysql" else "RESET MASTER")
    load = workload.Load(source, writers=4, transactions=60, seed=2).start()
    load.wait()
    # The server ends the stream with an I/O error, or capture finds another transaction where its last one was.
    assert capture.wait(90) in (3, 6), rowback.capture_log()[-2000:]
    # Killed in front of its gap, the next one records it.
    killed = rowback.start_capture("--until-caught-up", failpoint="gap.before:1:kill")
    assert killed.wait(120) == -signal.SIGKILL, rowback.capture_log()[-2000:]
    # The old position lies inside an event of the new binlog, or at another one's start.
    again = rowback.run("capture", "--until-caught-up", check=False)
    assert again.returncode in (3, 6), again.stderr
    state = open_context(rowback.config).log.read()
    assert len(state.holes) >= 1
    found = examine(rowback, source, "", purged=True)
    assert any("missing" in problem for problem in found.problems), "the comparison sees that the rest isn't there"
