"""Random lives with statements that only a server can carry out: with a scratch server, any moment is restored as it was.

The oracle is the source itself at that moment. Statements: few in the suite, many with ROWBACK_REPLAY_STEPS.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ddlkinds import Story
from ddlstory import DBS, TYPES, Moment, Part
from oracle import load_with_client
from replaying import restored_with_replays, scratch_lines
from rowback import Rowback
from test_restore_ddl import assert_equal, clear

from recovery.context import open_context
from testservers import Server

STEPS = int(os.environ.get("ROWBACK_REPLAY_STEPS", "48"))
EVERY = 8
SNAPSHOT_EVERY = 32


class ReplayedStory(Story):
    """As Story, with changes of type, numbered rows and computed defaults."""

    def begin(self) -> None:
        self.run("SET time_zone = '-03:00', timestamp = DEFAULT")
        super().begin()

    def change_definition(self) -> None:
        kind = self.rng.choice([self.retype, self.retype, self.number_rows, self.compute, None, None])
        if kind is None:
            super().change_definition()
        elif kind():
            self.counts[f"DDL {kind.__name__}"] += 1

    def retype(self) -> bool:
        table = self.pick()
        parts = self.others(table)
        if not parts:
            return False
        part = self.rng.choice(parts)
        new = Part(part.name, self.rng.choice(list(TYPES)), part.nullable, generated=False)
        if self.rng.random() < 0.7:
            self.run("SET sql_mode = ''")
        done = self.attempt(f"ALTER TABLE {self.ref(table)} MODIFY {new.definition}")
        self.run("SET sql_mode = DEFAULT")
        return done

    def number_rows(self) -> bool:
        step = self.rng.choice([1, 1, 3])
        self.run(f"SET auto_increment_increment = {step}, auto_increment_offset = {step}")
        column = self.next_column("n")
        place = self.rng.choice(["", " FIRST"])
        done = self.attempt(
            f"ALTER TABLE {self.ref(self.pick())} ADD {column} BIGINT NOT NULL AUTO_INCREMENT{place}, ADD KEY ({column})"
        )
        self.run("SET auto_increment_increment = DEFAULT, auto_increment_offset = DEFAULT")
        return done

    def compute(self) -> bool:
        table = self.pick()
        handle = self.handle(self.shape(table))
        kind, default = self.rng.choice(
            [
                ("BIGINT", f"({handle} * 2 + 1)"),
                ("VARCHAR(40)", f"(CONCAT('ü', {handle}))"),
                ("JSON", "(JSON_ARRAY(1, 'a'))"),
            ]
        )
        added = f"ADD {self.next_column()} {kind} DEFAULT {default}"
        return self.attempt(f"ALTER TABLE {self.ref(table)} {added}")


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("flavor", "seed"), [("mysql", 3), ("mariadb", 4)])
def test_any_moment_of_a_life_that_is_replayed(
    flavor: str, seed: int, tmp_path: Path, fresh_mysql: Any, fresh_mariadb: Any, mydumper: None
) -> None:
    fresh = fresh_mysql if flavor == "mysql" else fresh_mariadb
    quick = {"innodb_flush_method": "nosync", "innodb_doublewrite": "OFF"}
    source: Server = fresh(name="source")
    target: Server = fresh(name="target", binlog=False, options=quick)
    scratch: Server = fresh(name="scratch", binlog=False, options=quick)
    rowback = Rowback(tmp_path / "rowback", source, extra=scratch_lines(scratch))
    rowback.catch_up()
    story = ReplayedStory(source, int(os.environ.get("ROWBACK_DDL_SEED", seed)))
    story.begin()
    rowback.catch_up()
    moments: list[Moment] = []
    for step in range(STEPS):
        if step % SNAPSHOT_EVERY == 0:
            rowback.run("snapshot")
        (story.change_definition if story.rng.random() < 0.5 else story.transaction)()
        if step % EVERY == EVERY - 1:
            moments.append(story.moment())
    rowback.catch_up()
    outcome: Counter[str] = Counter()
    context = open_context(rowback.config)
    for number, moment in enumerate(moments):
        to, output = f"{moment.file}:{moment.position}", tmp_path / f"restored-{number}"
        left_out = restored_with_replays(context, to, output, outcome)
        clear(target)
        load_with_client(target, output)
        outcome["tables equal"] += assert_equal(target, moment, left_out)
    print(f"\n{flavor}: {len(moments)} points; {dict(sorted(outcome.items()))}")
    print(f"  {dict(sorted(story.counts.items()))}")
    assert outcome["statements replayed"] >= len(moments)
    assert outcome["tables equal"] >= 4 * outcome["tables left out of replays"]
    assert not {row[0] for row in scratch.execute("SHOW DATABASES")} & {*DBS, "rowback_scratch"}
