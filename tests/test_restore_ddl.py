"""Restores through DDL: at random moments of a random life, what is loaded equals what the source held then and what a real
replica holds that was stopped there, definitions included."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ddlkinds import Story
from ddlstory import DBS, Moment, state_of
from oracle import load_with_client, load_with_myloader
from replaying import restored_with_replays, scratch_lines
from rowback import Rowback, drain
from standby import Standby

from recovery.context import open_context
from recovery.errors import DdlInRange, NotComputable
from recovery.restore import RestoreRequest, restore
from testservers import Server

# Statements: few in the suite, many in `make differential`.
STEPS = int(os.environ.get("ROWBACK_DDL_STEPS", "60"))
LONG = STEPS >= 1000
EVERY = 6 if LONG else 12
SNAPSHOT_EVERY = 450  # statements, so that restores of a long life don't take ever longer
# What a long life must have had of each of these.
KINDS = (
    "add", "drop", "rename_column", "reorder", "widen", "rename_table", "swap", "truncate", "drop_and_create", "create_like",
    "create_select", "add_key", "drop_key", "primary_key", "charset", "exchange_columns",
)  # fmt: skip
ACTIONS = ("ON DELETE CASCADE", "ON DELETE SET NULL ON UPDATE CASCADE", "ON UPDATE CASCADE", "", "ON DELETE RESTRICT")
# Where the server doesn't log what foreign keys do, tests/cascadestory.py is about that; here they only refuse.
QUIET = ("", "ON DELETE RESTRICT", "ON UPDATE NO ACTION", "ON DELETE NO ACTION ON UPDATE RESTRICT")
# Why a table may be left out of a point. All other refusals are failures.
KNOWN = (
    "may have changed rows without the server logging it",
    "the constraints that the other table had by then aren't those of the copy",
    "became CHAR, which drops trailing spaces",
    "was changed after it was added",
)


@dataclass(frozen=True)
class Setting:
    """A source's flavour and how it treats foreign keys. actions: of the foreign keys in the story."""

    flavor: str
    native: bool = False
    actions: tuple[str, ...] = ACTIONS
    seed: int = 1

    @property
    def options(self) -> dict[str, Any]:
        return {"innodb_native_foreign_keys": "ON"} if self.native else {}


SETTINGS = {
    "mysql": Setting("mysql", seed=5),
    "mysql-native": Setting("mysql", native=True, actions=QUIET, seed=7),
    "mariadb": Setting("mariadb", actions=QUIET, seed=5),
}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("setting", SETTINGS)
def test_any_moment_through_ddl(
    setting: str, tmp_path: Path, fresh_mysql: Any, fresh_mariadb: Any, mydumper: None
) -> None:
    chosen = SETTINGS[setting]
    fresh = fresh_mysql if chosen.flavor == "mysql" else fresh_mariadb
    source: Server = fresh(name="source", options=chosen.options)
    quick = {**chosen.options, "innodb_flush_method": "nosync", "innodb_doublewrite": "OFF"}
    target: Server = fresh(name="target", binlog=False, options=quick)
    standby = fresh(name="standby", binlog=False, options={**quick, **_replaying(chosen.flavor)})
    scratch: Server = fresh(name="scratch", binlog=False, options=quick)
    windows = "window_seconds = 2\nwindow_max_seconds = 2\n"
    rowback = Rowback(tmp_path / "rowback", source, extra=windows + scratch_lines(scratch))
    rowback.run("capture", "--until-caught-up")
    seed = int(os.environ.get("ROWBACK_DDL_SEED", chosen.seed))
    story = Story(source, seed, chosen.actions)
    story.even = LONG
    moments = live(story, rowback)
    print(f"\n{setting}, seed {seed}: {len(moments)} points")
    print("  " + ", ".join(f"{kind} {count}" for kind, count in sorted(story.counts.items())))
    print(f"  refused by the server: {dict(sorted(story.refused.items()))}")
    check(rowback, target, Standby(source, standby), moments, tmp_path)
    if LONG:
        assert len(moments) >= 200
        few = {kind: story.counts[f"DDL {kind}"] for kind in KINDS if story.counts[f"DDL {kind}"] < 10}
        assert not few, few


def _replaying(flavor: str) -> dict[str, Any]:
    # After a REPLACE into a parent a replica has fewer rows than its source (docs/DECISIONS.md): it must go on all the same.
    if flavor == "mysql":
        return {"replica_exec_mode": "IDEMPOTENT", "replica_parallel_workers": 1}
    return {"slave_exec_mode": "IDEMPOTENT"}


def live(story: Story, rowback: Rowback) -> list[Moment]:
    """Let the story happen while it is captured, with snapshots of a quiet moment now and then."""
    story.begin()
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot")
    capture = rowback.start_capture() if LONG else None
    moments: list[Moment] = []
    for step in range(1, STEPS + 1):
        if story.rng.random() < 0.45:
            story.change_definition()
        else:
            story.transaction()
        if step % EVERY == 0:
            moments.append(story.moment())
        if step % SNAPSHOT_EVERY == 0:
            rowback.run("snapshot")
    if capture is not None:
        assert drain(capture) == 0, rowback.capture_log()[-3000:]
    rowback.catch_up()
    return moments


def check(rowback: Rowback, target: Server, standby: Standby, moments: list[Moment], folder: Path) -> None:
    context = open_context(rowback.config)
    state = context.log.read()
    outcome: Counter[str] = Counter()
    for number, moment in enumerate(moments):
        standby.advance(moment.file, moment.position)
        replica = differing(state_of(standby.server, list(moment.tables)), moment.tables)
        assert not replica or moment.replaced, (moment.position, replica)
        output = folder / f"restored-{number}"
        to = moment.gtid if number % 3 == 2 else f"{moment.file}:{moment.position}"
        left_out = restored_without(context.store, state, to, output, outcome)
        load = load_with_myloader if number % 2 else load_with_client
        clear(target)
        load(target, output)
        outcome["tables equal"] += assert_equal(target, moment, left_out)
        outcome["points equal"] += not left_out
        outcome["points equal but for tables left out"] += bool(left_out)
        if left_out:  # these need a server
            whole = folder / f"whole-{number}"
            left_out = restored_with_replays(context, to, whole, outcome)
            clear(target)
            load(target, whole)
            assert_equal(target, moment, left_out)
            outcome["points equal with replays"] += not left_out
        outcome["points loaded with " + ("myloader" if number % 2 else "mysql")] += 1
        outcome["points where the replica was equal too"] += not replica
    print("  " + ", ".join(f"{what}: {count}" for what, count in sorted(outcome.items())))
    unexpected = [what for what in outcome if "UNEXPECTED" in what]
    assert not unexpected, unexpected
    assert outcome["points equal"] > len(moments) // 3
    assert outcome["points equal"] + outcome["points equal with replays"] >= len(moments) * 9 // 10


def assert_equal(target: Server, moment: Moment, left_out: set[tuple[str, str]]) -> int:
    """That the target holds what the source held, but for these tables; how many tables that were."""
    expected = {name: held for name, held in moment.tables.items() if name not in left_out}
    found = target.execute(
        f"SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN {DBS}"
    )
    restored = state_of(target, [(db, name) for db, name in found])
    where = f"{moment.file}:{moment.position}"
    assert not differing(restored, expected), (where, differing(restored, expected))
    return len(expected)


def clear(target: Server) -> None:
    with target.connect(init_command="SET foreign_key_checks = 0") as connection, connection.cursor() as cursor:
        for db in DBS:
            cursor.execute(f"DROP DATABASE IF EXISTS {db}")


def restored_without(store: Any, state: Any, to: str, output: Path, outcome: Counter[str]) -> set[tuple[str, str]]:
    """Restore; what is refused is left out, counted by its reason. Returns the tables left out."""
    left_out: set[tuple[str, str]] = set()
    while True:
        exclude = tuple(f"{db}.{name}" for db, name in left_out)
        request = RestoreRequest(to=to, output=output, exclude=exclude)
        try:
            restore(store, state, request)
        except (DdlInRange, NotComputable) as error:
            named = re.search(r"`(story2?)\.(\w+)`", error.message)
            if named is None or (named[1], named[2]) in left_out:
                raise
            left_out.add((named[1], named[2]))
            known = any(why in error.message for why in KNOWN)
            outcome[f"left out{'' if known else ', UNEXPECTED'}: {_reason(error.message)}"] += 1
            continue
        return left_out


def _reason(message: str) -> str:
    """Without names, positions and statements."""
    return re.sub(r"`[^`]*`|\d+", "_", message.rpartition(": ")[2])


def differing(found: dict[Any, Any], expected: dict[Any, Any]) -> list[str]:
    """What differs between two states, for a person: the first rows or lines of each table."""
    shown = []
    for name in sorted(found.keys() | expected.keys()):
        a, b = found.get(name), expected.get(name)
        if a is None or b is None:
            shown.append(f"{name}: {'missing' if a is None else 'unexpected'}")
        elif a[0] != b[0]:
            lines = set(a[0].splitlines()) ^ set(b[0].splitlines())
            shown.append(f"{name}: definition {sorted(lines)[:6]}")
        elif a[1] != b[1]:
            extra, lost = Counter(map(repr, a[1])), Counter(map(repr, b[1]))
            shown.append(f"{name}: extra {list(extra - lost)[:3]}, lost {list(lost - extra)[:3]}")
    return shown
