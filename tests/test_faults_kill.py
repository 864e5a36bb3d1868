"""kill -9 of capture at every named place and at random moments under load: no transaction is missing, none is doubled."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import workload
from exactness import assert_exact, executed
from killing import UNDER_LOAD, Killer
from rowback import Rowback

from recovery.context import open_context
from recovery.failpoint import PLACES
from testservers import Server

# Rounds of all places, and kills at random. The campaign (`make campaign`) has more.
ROUNDS, RANDOM = (3, 20) if os.environ.get("ROWBACK_CAMPAIGN") else (1, 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_loses_and_doubles_nothing(tmp_path: Path, fresh_source: Callable[..., Server]) -> None:
    source = fresh_source(name="killed")
    workload.create(source)
    source.load("CREATE TABLE shop.bulk (id int PRIMARY KEY, body longblob)")
    rowback = Rowback(tmp_path / "rowback", source)
    start = executed(source)
    rowback.run("capture", "--until-caught-up")
    rng = random.Random(20)
    kills = [*UNDER_LOAD] * ROUNDS + ["random"] * RANDOM
    rng.shuffle(kills)
    killer = Killer(rowback, rng)
    load = workload.Load(source, writers=4, transactions=100_000, seed=5, pause_s=0.05, xa=True).start()
    known = resolved = 0
    try:
        for number, place in enumerate(kills):
            if place == "random":
                killer.randomly(behind_commit=bool(number % 2))
            elif place == "source.mid-transaction":
                killer.at(place, provoke=lambda: long_transaction(source))
            elif place == "xa.commit":  # of transactions that were prepared in a window before
                killer.at(place, provoke=lambda: workload.resolve_xa(source, rng, share=0.1))
            else:
                killer.at(place)
            known, before = killer.check_log(), known
            assert known >= before
            if number % 5 == 0:
                source.execute("FLUSH BINARY LOGS")
            if number % 3 == 0:  # captures have been killed between these PREPAREs and their COMMIT or ROLLBACK
                resolved += workload.resolve_xa(source, rng, share=0.7)
    finally:
        load.stop()
    rowback.catch_up()
    found = assert_exact(rowback, source, start)
    print(f"kills={killer.killed.total()} {found}")
    assert killer.killed.total() == len(kills) >= 24
    assert found.transactions > 200
    assert found.gaps == 0
    assert resolved > 5
    # Commits were made by several generations, so the kills did fall between and into windows.
    state = open_context(rowback.config).log.read()
    assert len(state.transactions) >= len(kills) / 4


def long_transaction(source: Server) -> None:
    """One that takes so long to read that a batch ends inside it."""
    with source.connect(autocommit=False) as connection, connection.cursor() as cursor:
        for number in range(8):
            # Each time another content: a REPLACE by the same row isn't logged.
            text = secrets.token_hex(8)
            cursor.execute("REPLACE INTO shop.bulk VALUES (%s, REPEAT(%s, 16384))", (number, text))
        connection.commit()


def test_every_place_is_killed_at_in_some_test() -> None:
    elsewhere = {
        "gap.before": "test_faults_source",
        "sink.part": "test_faults_huge",
        "spool.append": "test_capture_spool",
        "spool.appended": "test_capture_spool",
        "spool.uploaded": "test_capture_spool",
        "spool.committed": "test_capture_spool",
        "restore.table-written": "test_output_formats",
        "restore.table-recorded": "test_output_formats",
        "restore.manifest": "test_output_formats",
        "replay.replayed": "test_replay",
        "roll-forward.table": "test_roll_forward",
        "roll-forward.commit": "test_roll_forward",
    }
    assert set(PLACES) == UNDER_LOAD.keys() | elsewhere.keys()
