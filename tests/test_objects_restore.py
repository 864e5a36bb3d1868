"""Views, triggers, routines and events come back as they were at the target, by both loaders, on both servers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from objectstory import AFTER, BEFORE, BEHIND, DATABASES, objects_of, run
from oracle import load_with_client, load_with_myloader, load_with_myloader_1x
from rowback import Rowback

from testservers import Server

TABLES = ("shop.orders", "shop.audit", "shop.`moved now`", "shop.dropped", "`odd.dé`.`t``x`", "later.t")


@dataclass
class Story:
    """objects, rows, counters: what the source said at the mark."""

    rowback: Rowback
    target: Server
    mark: str
    objects: dict[Any, Any]
    rows: dict[str, Any]
    databases: dict[str, str]
    counters: dict[str, str]

    def clear(self) -> None:
        for db in DATABASES:
            self.target.execute(f"DROP DATABASE IF EXISTS `{db}`")


def rows_of(server: Server) -> dict[str, Any]:
    return {table: sorted(server.execute(f"SELECT * FROM {table}")) for table in TABLES}


def defaults_of(server: Server) -> dict[str, str]:
    return {db: server.execute(f"SHOW CREATE DATABASE `{db}`")[0][1] for db in DATABASES}


def counters_of(server: Server) -> dict[str, str]:
    """Each table's next AUTO_INCREMENT value."""
    found = {}
    for table in TABLES:
        match = re.search(r" AUTO_INCREMENT=(\d+)", server.execute(f"SHOW CREATE TABLE {table}")[0][1])
        found[table] = match[1] if match else ""
    return found


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    source: Server = request.getfixturevalue(f"{request.param}_source")
    target: Server = request.getfixturevalue(f"{request.param}_target")
    source.execute("SET GLOBAL event_scheduler = OFF")
    target.execute("SET GLOBAL event_scheduler = ON")
    rowback = Rowback(
        tmp_path_factory.mktemp("objects") / "rowback", source, extra=f"include = {[f'{db}.*' for db in DATABASES]}"
    )
    for db in DATABASES:
        source.execute(f"DROP DATABASE IF EXISTS `{db}`")
    run(source, BEFORE)
    rowback.run("capture", "--until-caught-up")
    rowback.run("snapshot")
    run(source, AFTER)
    statement = "SHOW BINARY LOG STATUS" if source.flavor == "mysql" else "SHOW MASTER STATUS"
    file, position = source.execute(statement)[0][:2]
    told = objects_of(source), rows_of(source), defaults_of(source), counters_of(source)
    run(source, BEHIND)
    rowback.run("capture", "--until-caught-up")
    return Story(rowback, target, f"{file}:{position}", *told)


# What can't be computed is left out by name: a view with `*` over a table that was renamed and altered behind it.
LOST = ("VIEW", "shop", "lost")


@pytest.mark.sockets
@pytest.mark.parametrize("load", [load_with_client, load_with_myloader, load_with_myloader_1x])
def test_objects_are_what_they_were(
    story: Story, load: Callable[[Server, Path], None], tmp_path: Path, mydumper: None
) -> None:
    result = story.rowback.json("restore", "--to", story.mark, "--output", str(tmp_path / "out"))
    left_out = result["plan"]["left_out"]
    assert len(left_out) == 1, left_out
    left_out = left_out[0]
    assert (left_out["type"], left_out["db"], left_out["name"]) == ("view", "shop", "lost")
    assert any("view `shop.lost`" in w for w in result["plan"]["warnings"])
    story.clear()
    load(story.target, tmp_path / "out")

    found = objects_of(story.target)
    wanted = {key: value for key, value in story.objects.items() if key != LOST}
    if load is not load_with_client:  # as documented, it gets a space behind a semicolon that ends a line
        wanted = {k: tuple(_spaced(v) for v in value) for k, value in wanted.items()}
    assert sorted(found) == sorted(wanted)
    for key, value in wanted.items():
        assert found[key] == value, key
    assert rows_of(story.target) == story.rows, "no trigger and no event ran during the load"
    assert defaults_of(story.target) == story.databases
    assert counters_of(story.target) == story.counters, "with the numbers of rows that were inserted and deleted since"


def _spaced(value: Any) -> Any:
    return re.sub(r";(?=\n)", "; ", value) if isinstance(value, str) else value
