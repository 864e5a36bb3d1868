"""Restores through DDL: at random moments of a random life, what is loaded equals what the source held then, definitions
included."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ddlstory import DB, Moment, Story, state_of
from oracle import load_with_client, load_with_myloader
from rowback import Rowback

from recovery.context import open_context
from recovery.errors import DdlInRange
from recovery.restore import RestoreRequest, restore
from testservers import Server

# Statements, and how often a moment is kept: few in the suite, many in `make soak`.
STEPS = int(os.environ.get("ROWBACK_DDL_STEPS", "160"))
EVERY = 12


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("flavor", "seed"), [("mysql", 5), ("mysql", 11), ("mariadb", 5)])
def test_any_moment_through_ddl(
    flavor: str, seed: int, tmp_path: Path, fresh_mysql: Any, fresh_mariadb: Any, mydumper: None
) -> None:
    fresh = fresh_mysql if flavor == "mysql" else fresh_mariadb
    source: Server = fresh(name="source")
    target: Server = fresh(name="target", binlog=False)
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    story = Story(source, seed=int(os.environ.get("ROWBACK_DDL_SEED", seed)))
    story.begin()
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot")
    moments: list[Moment] = []
    for step in range(STEPS):
        if story.rng.random() < 0.4:
            story.change_definition()
        else:
            story.change_rows()
        if step % EVERY == EVERY - 1:
            moments.append(story.moment())
    rowback.run("capture", "--until-caught-up")
    print(f"{flavor}: {dict(sorted(story.counts.items()))}, {len(moments)} moments")
    check(rowback, target, moments, tmp_path)


def check(rowback: Rowback, target: Server, moments: list[Moment], folder: Path) -> None:
    context = open_context(rowback.config)
    state = context.log.read()
    outcome: Counter[str] = Counter()
    for number, moment in enumerate(moments):
        output = folder / f"restored-{number}"
        request = RestoreRequest(to=f"{moment.file}:{moment.position}", output=output, tables=(f"{DB}.*",))
        try:
            restore(context.store, state, request)
        except DdlInRange as error:
            outcome[f"refused: {error.message.rpartition(': ')[2]}"] += 1
            continue
        target.execute(f"DROP DATABASE IF EXISTS {DB}")
        (load_with_myloader if number % 5 == 4 else load_with_client)(target, output)
        tables = [row[0] for row in target.execute(f"SHOW TABLES FROM {DB}")]
        restored = state_of(target, tables)
        assert sorted(restored) == sorted(moment.tables), moment.position
        for table, (create, rows) in moment.tables.items():
            assert restored[table][0] == create, (moment.position, table)
            assert restored[table][1] == rows, (moment.position, table)
        outcome["equal"] += 1
    print(dict(outcome))
    assert outcome["equal"] == len(moments), outcome
