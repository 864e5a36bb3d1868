"""The negative control: with the protocol broken on purpose, the fault suite's comparison finds what was lost or doubled.

Each scenario runs twice. With the real protocol the comparison finds nothing, with the broken one it must complain.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import workload
from altered_capture import command
from conftest import provide
from exactness import Found, examine, executed
from rowback import Rowback, drain, wait_for

from testservers import MySQLServer


@dataclass
class Ground:
    """A source with some load in its binlog, and an archive that was begun before it. start: the GTIDs before that."""

    folder: Path
    source: MySQLServer
    start: str
    base: Rowback

    def rowback(self, name: str) -> Rowback:
        """A copy of that archive."""
        rowback = Rowback(self.folder / name, self.source)
        shutil.copytree(self.base.folder / "archive", rowback.folder / "archive")
        return rowback


def killed_behind_a_commit(ground: Ground, rowback: Rowback, alteration: str) -> None:
    capture = rowback.start_capture("--until-caught-up", failpoint="sink.committed:1:kill", command=command(alteration))
    assert capture.wait(120) == -signal.SIGKILL, rowback.capture_log()


def killed_before_a_commit(ground: Ground, rowback: Rowback, alteration: str) -> None:
    """And started again with the same protocol."""
    capture = rowback.start_capture("--until-caught-up", failpoint="log.before-put:2:kill", command=command(alteration))
    assert capture.wait(120) == -signal.SIGKILL, rowback.capture_log()
    rowback.start_capture("--until-caught-up", command=command(alteration)).wait(120)


def not_disturbed(ground: Ground, rowback: Rowback, alteration: str) -> None:
    rowback.start_capture("--until-caught-up", command=command(alteration)).wait(120)


def several_windows(ground: Ground, rowback: Rowback, alteration: str) -> None:
    capture = rowback.start_capture("--window-seconds", "0.1", command=command(alteration))
    try:
        for number in range(3):
            wait_for(lambda n=number: rowback.capture_log().count("window committed") > n, 60, "a window")
            # So many that some commit: others roll back or change nothing.
            workload.Load(ground.source, writers=1, transactions=8, seed=time.time_ns()).start().wait()
        drain(capture)
    finally:
        capture.kill()
        capture.wait()


def slept_through_its_replacement(ground: Ground, rowback: Rowback, alteration: str) -> None:
    zombie = rowback.start_capture(
        "--window-seconds", "0.1", failpoint="log.before-put:2:stop", command=command(alteration)
    )
    try:
        assert os.WIFSTOPPED(os.waitpid(zombie.pid, os.WUNTRACED)[1])
        for _ in range(3):  # more commits than the zombie will make
            rowback.catch_up()
        zombie.send_signal(signal.SIGCONT)
        zombie.wait(60)
    finally:
        zombie.kill()
        zombie.wait()


Scenario = Callable[[Ground, Rowback, str], None]
CASES: list[tuple[str, Scenario, str]] = [
    ("commit_before_upload", killed_behind_a_commit, "is missing from the archive"),
    ("checkpoint_ahead", killed_before_a_commit, "transactions of the source are missing"),
    ("no_read_back", several_windows, "can't be read|transactions of the source are missing"),
    ("no_fence", slept_through_its_replacement, "can't be read"),
    ("doubled_segments", not_disturbed, "adds a key twice"),
    ("lost_rows", not_disturbed, "mysqlbinlog counts"),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    provide("mysql")
    folder = tmp_path_factory.mktemp("control")
    with MySQLServer(folder / "source", name="control") as source:
        workload.create(source)
        base, start = Rowback(folder / "base", source), executed(source)
        base.run("capture", "--until-caught-up")
        workload.Load(source, writers=4, transactions=20, seed=9).start().wait()
        yield Ground(folder, source, start, base)


def run(ground: Ground, alteration: str, scenario: Scenario) -> Found:
    rowback = ground.rowback(f"{alteration}-{scenario.__name__}")
    scenario(ground, rowback, alteration)
    done = rowback.start_capture("--until-caught-up")  # the real one; it may refuse what a broken one left
    assert done.wait(120) == 0 or alteration != "none", rowback.capture_log()
    return examine(rowback, ground.source, ground.start)


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("scenario", dict.fromkeys(case[1] for case in CASES), ids=lambda s: s.__name__)
def test_the_real_protocol_passes(scenario: Scenario, ground: Ground) -> None:
    found = run(ground, "none", scenario)
    assert found.problems == []
    assert found.transactions > 40
    assert found.row_changes > 100


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(("alteration", "scenario", "complaint"), CASES, ids=[case[0] for case in CASES])
def test_a_broken_protocol_is_found_out(alteration: str, scenario: Scenario, complaint: str, ground: Ground) -> None:
    found = run(ground, alteration, scenario)
    assert any(re.search(complaint, problem) for problem in found.problems), found
