"""What foreign keys did below the binlog is worked out: restores equal what the source held, on real servers.

The oracle is the source's own SELECT after each step, and the plain client loads what was restored.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cascadestory import DB, Moment, Story, rows_of
from oracle import load_with_client
from rowback import Rowback

from recovery.context import open_context
from recovery.restore import RestoreRequest, restore
from testservers import Server

# Few in the suite; more by hand.
SEED = int(os.environ.get("ROWBACK_CASCADE_SEED", "1"))
TRANSACTIONS = int(os.environ.get("ROWBACK_CASCADE_TRANSACTIONS", "120"))
STEPS_APART = int(os.environ.get("ROWBACK_CASCADE_STEPS_APART", "7"))
KINDS = {
    "mariadb": ("fresh_mariadb", {}),
    "mysql-native": ("fresh_mysql", {"innodb_native_foreign_keys": "ON"}),
    "mysql": ("fresh_mysql", {}),
}


def begun(request: pytest.FixtureRequest, kind: str, folder: Path) -> tuple[Story, Rowback]:
    """A source with the family, captured and with a snapshot."""
    fixture, options = KINDS[kind]
    source: Server = request.getfixturevalue(fixture)(options=options, name="source")
    rowback = Rowback(folder / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    story = Story(source)
    story.begin()
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot")
    return story, rowback


def check(rowback: Rowback, target: Server, moments: Iterable[Moment], folder: Path) -> int:
    """Restores each moment; how many derivations there were."""
    context = open_context(rowback.config)
    state = context.log.read()
    derived = 0
    for number, moment in enumerate(moments):
        output = folder / f"restored-{number}"
        request = RestoreRequest(to=f"{moment.file}:{moment.position}", output=output, tables=(f"{DB}.*",))
        derived += len(restore(context.store, state, request).plan.derivations)
        target.execute(f"DROP DATABASE IF EXISTS {DB}")
        load_with_client(target, output)
        found = rows_of(target)
        for table, rows in moment.rows.items():
            assert found[table] == rows, (number, moment.what, table)
    return derived


@pytest.mark.sockets
@pytest.mark.parametrize("kind", KINDS)
def test_restores_equal_the_source(request: pytest.FixtureRequest, kind: str, tmp_path: Path, mydumper: Any) -> None:
    """A script with every kind of key and action, then a random life, then several writers at once."""
    story, rowback = begun(request, kind, tmp_path)
    moments = list(story.scripted())[:: STEPS_APART if kind != "mysql" else 20]
    if kind != "mysql":
        moments += story.random(SEED, transactions=TRANSACTIONS, every=TRANSACTIONS)
        moments += story.together(SEED, writers=4, transactions=TRANSACTIONS // 2, moments=2)
    rowback.run("capture", "--until-caught-up")
    target = request.getfixturevalue(KINDS[kind][0])(name="target", binlog=False)
    derived = check(rowback, target, moments, tmp_path)
    assert derived == (0 if kind == "mysql" else len(moments))
