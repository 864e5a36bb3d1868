"""Synthetic snapshots: a restore from one gives what the source held, with the snapshot that it was made from gone.

The oracle is the source's own SELECT, SHOW CREATE and CHECKSUM TABLE at each moment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ddlkinds import Story
from ddlstory import DBS, state_of
from objectstory import AFTER, BEFORE, BEHIND, DATABASES, objects_of, run
from oracle import load_with_client, load_with_myloader
from rowback import COMMAND, Rowback, wait_settled
from test_objects_restore import LOST, counters_of, defaults_of, rows_of
from test_restore_ddl import KNOWN, SETTINGS, clear, differing, live, restored_without

from recovery.archive.actions import Snapshot
from recovery.archive.sweeper import Sweeper
from recovery.context import Context, open_context
from recovery.errors import DdlInRange, NotComputable
from recovery.failpoint import VARIABLE
from recovery.roll_forward import RollForwardRequest, roll_forward
from testservers import Server

DB = "roll"
FIRST = [
    f"CREATE DATABASE {DB}",
    f"USE {DB}",
    "CREATE TABLE plain (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20), n DECIMAL(10,3), d DATETIME(3))",
    "CREATE TABLE pair (a INT, b BIGINT UNSIGNED, v VARBINARY(9), PRIMARY KEY (b, a))",
    "CREATE TABLE heap (a INT, v DOUBLE)",
    "CREATE TABLE bare (id INT PRIMARY KEY, v TEXT)",
    "CREATE TABLE computed (id INT PRIMARY KEY, a INT, b INT AS (a * 2) STORED, c INT AS (a + 1) VIRTUAL)",
    "CREATE TABLE grows (id INT PRIMARY KEY, v TINYINT)",
    "CREATE TABLE emptied (id INT PRIMARY KEY)",
    "CREATE TABLE dropped (id INT PRIMARY KEY)",
    "CREATE TABLE old_name (id INT PRIMARY KEY, e ENUM('x','y'))",
    "CREATE TABLE swap_a (id INT PRIMARY KEY, v INT)",
    "CREATE TABLE swap_b (id INT PRIMARY KEY, v INT)",
    "CREATE TABLE parent (id INT PRIMARY KEY, v INT)",
    """CREATE TABLE child (id INT PRIMARY KEY, p INT,
       FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE)""",
    """CREATE TABLE parts (id INT PRIMARY KEY, v INT) PARTITION BY RANGE (id)
       (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30))""",
    "INSERT INTO plain (v, n, d) VALUES ('a', 1.5, '2020-01-02 03:04:05.25'), ('b', -2, NULL), (NULL, NULL, NULL)",
    "INSERT INTO pair VALUES (1, 18446744073709551615, x'00ff'), (2, 1, NULL), (1, 1, '')",
    "INSERT INTO heap VALUES (1, 0.5), (1, 0.5), (NULL, NULL), (2, 1e300)",
    "INSERT INTO computed (id, a) VALUES (1, 10), (2, 20)",
    "INSERT INTO grows VALUES (1, 1), (2, -2)",
    "INSERT INTO emptied VALUES (1)",
    "INSERT INTO dropped VALUES (1)",
    "INSERT INTO old_name VALUES (1, 'x')",
    "INSERT INTO swap_a VALUES (1, 100)",
    "INSERT INTO swap_b VALUES (1, 200), (2, 201)",
    "INSERT INTO parent VALUES (1, 1), (2, 2), (3, 3)",
    "INSERT INTO child VALUES (1, 1), (2, 1), (3, 2), (4, NULL), (5, 3)",
    "INSERT INTO parts VALUES (1, 1), (11, 11), (21, 21)",
]
# What the synthetic snapshot in the middle has passed; some statements with no change behind them.
SECOND = [
    f"USE {DB}",
    "INSERT INTO plain (v) VALUES ('c'), ('d')",
    "DELETE FROM plain WHERE v = 'd'",
    "UPDATE pair SET a = a + 10 WHERE v IS NULL",
    "DELETE FROM heap WHERE a = 1 LIMIT 1",
    "INSERT INTO heap VALUES (3, -0.0), (3, -0.0)",
    "UPDATE computed SET a = 11 WHERE id = 1",
    "ALTER TABLE grows MODIFY v INT, ADD COLUMN w VARCHAR(5) NOT NULL DEFAULT 'dflt'",
    "UPDATE grows SET v = 70000 WHERE id = 1",
    "ALTER TABLE grows ADD COLUMN late INT DEFAULT 9",
    "ALTER TABLE grows ADD COLUMN seen DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3), ADD COLUMN noted TIMESTAMP DEFAULT NOW()",
    "ALTER TABLE swap_a ADD COLUMN since TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
    "TRUNCATE TABLE emptied",
    "DROP TABLE dropped",
    "RENAME TABLE old_name TO new_name",
    "ALTER TABLE new_name CHANGE e f ENUM('x','y','z')",
    "RENAME TABLE swap_a TO swap_tmp, swap_b TO swap_a, swap_tmp TO swap_b",
    "DELETE FROM parent WHERE id = 2",
    "UPDATE parent SET id = 30 WHERE id = 3",
    "ALTER TABLE parts TRUNCATE PARTITION p0",
    "INSERT INTO parts VALUES (2, 2)",
    "ALTER TABLE parts DROP PARTITION p1",
    "CREATE TABLE made (id INT AUTO_INCREMENT PRIMARY KEY, v JSON)",
    "INSERT INTO made (v) VALUES ('[1, 2]'), ('{\"a\": null}')",
    "CREATE TABLE made_empty (a INT, b INT, KEY (b))",
    "ALTER TABLE made_empty ADD COLUMN c INT AFTER a",
    "CREATE TABLE made_like LIKE grows",
    "CREATE VIEW seen AS SELECT id, v FROM plain",
]
THIRD = [
    f"USE {DB}",
    "INSERT INTO grows (id, v) VALUES (3, 3)",
    "ALTER TABLE grows DROP COLUMN w, ADD COLUMN w2 BIGINT",
    "UPDATE grows SET w2 = 5 WHERE id = 2",
    "INSERT INTO emptied VALUES (7), (8)",
    "INSERT INTO made_empty VALUES (1, 2, 3)",
    "INSERT INTO made_like (id, v) VALUES (1, 1)",
    "INSERT INTO new_name VALUES (2, 'z')",
    "RENAME TABLE new_name TO newer_name",
    "ALTER TABLE made ADD COLUMN w VARCHAR(9) DEFAULT 'm'",
    "ALTER TABLE made ADD COLUMN since DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP",
    "ALTER TABLE grows RENAME COLUMN seen TO first_seen",
    "INSERT INTO made (v) VALUES ('3')",
    "INSERT INTO swap_a (id, v) VALUES (9, 9)",
    "DELETE FROM swap_b",
    "DELETE FROM heap WHERE a = 3 LIMIT 1",
    "DELETE FROM parent WHERE id = 30",
    "INSERT INTO parts VALUES (22, 22)",
    "ALTER TABLE parts DROP PARTITION p0",
    "CREATE TABLE dropped (x INT)",
    "DROP VIEW seen",
    "CREATE VIEW seen AS SELECT id FROM grows",
    "INSERT INTO bare VALUES (1, 'not any more')",
]
FOURTH = [
    f"USE {DB}",
    "UPDATE grows SET v = v + 1",
    "INSERT INTO dropped VALUES (5)",
    "TRUNCATE TABLE made_like",
    "CREATE TABLE after_all LIKE made",
    "INSERT INTO after_all (v) VALUES ('4')",
    "DELETE FROM plain WHERE id = 1",
    "INSERT INTO plain (v) VALUES ('e')",
]


@dataclass
class Moment:
    """What the source said: each table's CREATE, rows and checksum, each view's CREATE."""

    position: str
    tables: dict[str, tuple[str, list[tuple[Any, ...]], Any]]
    views: dict[str, str]


def look(server: Server) -> Moment:
    statement = "SHOW BINARY LOG STATUS" if server.flavor == "mysql" else "SHOW MASTER STATUS"
    file, position = server.execute(statement)[0][:2]
    return Moment(f"{file}:{position}", *held(server))


def held(server: Server) -> tuple[dict[str, Any], dict[str, str]]:
    tables: dict[str, Any] = {}
    views: dict[str, str] = {}
    for name, kind in server.execute(f"SHOW FULL TABLES IN {DB}"):
        if kind == "VIEW":
            views[name] = server.execute(f"SHOW CREATE VIEW {DB}.`{name}`")[0][1]
            continue
        rows = sorted(server.execute(f"SELECT * FROM {DB}.`{name}`"), key=repr)
        # A table of rows in no order has no checksum that two servers agree on unless the order doesn't count: it doesn't.
        checksum = server.execute(f"CHECKSUM TABLE {DB}.`{name}` EXTENDED")[0][1]
        tables[name] = (server.execute(f"SHOW CREATE TABLE {DB}.`{name}`")[0][1], rows, checksum)
    return tables, views


@dataclass
class Life:
    """moments: behind each of the four parts. original: the snapshot behind the first; middle, latest: synthetic ones of the
    second and third moment."""

    rowback: Rowback
    target: Server
    moments: list[Moment]
    original: str
    middle: str
    latest: str

    @property
    def root(self) -> Path:
        return Path(self.rowback.root.removeprefix("file://"))

    def without(self, folder: Path, *snapshots: str) -> Rowback:
        """A copy of the archive in which these snapshots' files are gone."""
        shutil.copytree(self.root, folder / "archive")
        for gone in snapshots:
            (found,) = (folder / "archive").glob(f"*/*/baselines/{gone}")
            shutil.rmtree(found)
        return Rowback(folder, self.target, root=f"file://{folder}/archive")


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    source: Server = request.getfixturevalue(f"{request.param}_source")
    target: Server = request.getfixturevalue(f"{request.param}_target")
    rowback = Rowback(tmp_path_factory.mktemp("roll") / "rowback", source, extra=f'include = ["{DB}.*"]')
    source.execute(f"DROP DATABASE IF EXISTS {DB}")
    wait_settled(source)
    run(source, FIRST)
    rowback.catch_up()
    rowback.run("snapshot")
    moments = [look(source)]
    for part in (SECOND, THIRD):
        run(source, part)
        moments.append(look(source))
    rowback.catch_up()
    (original,) = rowback.json("status", "--offline")["snapshots"]
    # Out of order: the one in the middle is made last, from the original.
    latest = rowback.json("roll-forward")["snapshot"]
    middle = rowback.json("roll-forward", "--to", moments[1].position)["snapshot"]
    assert latest["sources"] == middle["sources"] == [original["snapshot_id"]]
    run(source, FOURTH)
    moments.append(look(source))
    rowback.catch_up()
    return Life(rowback, target, moments, original["snapshot_id"], middle["snapshot_id"], latest["snapshot_id"])


def loaded(life: Life, rowback: Rowback, moment: Moment, out: Path, *, myloader: bool = False) -> dict[str, Any]:
    """Restore to the moment, load it, compare with what the source said; the plan."""
    plan: dict[str, Any] = rowback.json("restore", "--to", moment.position, "--output", str(out))["plan"]
    life.target.execute("SET GLOBAL foreign_key_checks = 0")
    life.target.execute(f"DROP DATABASE IF EXISTS {DB}")
    (load_with_myloader if myloader else load_with_client)(life.target, out)
    tables, views = held(life.target)
    assert not differing(
        {("", n): t for n, t in tables.items()}, {("", n): t for n, t in moment.tables.items()}
    )  # CREATE and rows
    assert {n: t[2] for n, t in tables.items()} == {n: t[2] for n, t in moment.tables.items()}
    assert views == moment.views
    return plan


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("at", [1, 2, 3])
def test_restores_from_the_newest_synthetic_snapshot(life: Life, tmp_path: Path, at: int) -> None:
    rowback = life.without(tmp_path / "copy", life.original)
    plan = loaded(life, rowback, life.moments[at], tmp_path / "out", myloader=at == 2)
    assert {t["snapshot_id"] for t in plan["tables"]} == {life.middle if at == 1 else life.latest}
    assert not any("passed over" in w for w in plan["warnings"])


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("at", [2, 3])
def test_restores_through_ddl_from_the_one_in_the_middle(life: Life, tmp_path: Path, at: int) -> None:
    rowback = life.without(tmp_path / "copy", life.original, life.latest)
    plan = loaded(life, rowback, life.moments[at], tmp_path / "out")
    assert {t["snapshot_id"] for t in plan["tables"]} == {life.middle}
    assert any(life.latest in w for w in plan["warnings"]), "the damaged one is named"


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_a_synthetic_snapshot_of_a_synthetic_one(life: Life, tmp_path: Path) -> None:
    rowback = life.without(tmp_path / "copy", life.original, life.latest)
    made = rowback.json("roll-forward", "--to", life.moments[2].position)["snapshot"]
    assert made["sources"] == [life.middle]
    again = rowback.json("roll-forward")["snapshot"]
    assert again["sources"] == [made["snapshot_id"]]
    shutil.rmtree(next((tmp_path / "copy/archive").glob(f"*/*/baselines/{life.middle}")))
    for at, snapshot in ((2, made), (3, again)):
        plan = loaded(life, rowback, life.moments[at], tmp_path / f"out{at}")
        assert {t["snapshot_id"] for t in plan["tables"]} == {snapshot["snapshot_id"]}


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
def test_what_users_see(life: Life, tmp_path: Path) -> None:
    listed = {s["snapshot_id"]: s for s in life.rowback.json("status", "--offline")["snapshots"]}
    assert listed[life.middle]["mode"] == listed[life.latest]["mode"] == "synthetic"
    assert listed[life.middle]["made_from"] == [life.original]
    assert listed[life.middle]["usable"]
    text = life.rowback.run("status", "--offline").stdout
    assert f"{life.middle} was rolled forward from {life.original}" in text
    before = sorted(p for p in life.root.rglob("*") if p.is_file())
    dry = life.rowback.run("roll-forward", "--dry-run").stdout
    assert "tables, " in dry
    assert sorted(p for p in life.root.rglob("*") if p.is_file()) == before
    life.rowback.run("verify", "--archive")
    part = life.without(tmp_path / "copy", life.original)
    made = part.run("roll-forward", "--tables", f"{DB}.plain,{DB}.heap", "--exclude", f"{DB}.heap").stdout
    assert "1 tables" in made
    assert f"made from {life.latest}" in made
    assert "without the source server" in made
    nothing = part.run("roll-forward", "--tables", f"{DB}.nothing", check=False)
    assert (nothing.returncode, "target_unknown_table" in nothing.stderr) == (7, True)
    # A partial one serves its table, the whole one the others.
    plan = loaded(life, part, life.moments[3], tmp_path / "out")
    assert len({t["snapshot_id"] for t in plan["tables"]}) == 2


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("place", ["roll-forward.table:3", "roll-forward.commit", "log.before-put"])
def test_killed_in_the_middle_nothing_is_left_but_orphans(life: Life, tmp_path: Path, place: str) -> None:
    rowback = life.without(tmp_path / "copy")
    archive = tmp_path / "copy/archive"
    context = open_context_of(rowback)
    before, files = context.log.read().snapshots, {p for p in archive.rglob("*") if p.is_file()}
    done = subprocess.run(
        [*COMMAND, "roll-forward"],
        env={
            **rowback.environment,
            VARIABLE: place,
            "TMPDIR": str(tmp_path),
        },
        cwd=rowback.folder,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert context.log.read().snapshots == before
    orphans = {p for p in archive.rglob("*") if p.is_file()} - files
    assert orphans
    loaded(life, rowback, life.moments[3], tmp_path / "out")
    for path in orphans:  # as after eight days
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 8 * 86_400))
    swept = Sweeper(context.store, context.layout, context.log, timedelta(hours=24)).run()
    assert swept.objects >= len(orphans)
    assert not set(archive.rglob("*.parquet")) & orphans
    assert rowback.json("roll-forward")["snapshot"]["tables"] == len(life.moments[3].tables)
    rowback.run("verify", "--archive")


def open_context_of(rowback: Rowback) -> Context:
    os.environ.setdefault("ROWBACK_TEST_PASSWORD", "")
    return open_context(rowback.config)


# --- views, triggers, routines, events --------------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_objects_are_what_they_were(request: pytest.FixtureRequest, flavor: str, tmp_path: Path) -> None:
    source: Server = request.getfixturevalue(f"{flavor}_source")
    target: Server = request.getfixturevalue(f"{flavor}_target")
    source.execute("SET GLOBAL event_scheduler = OFF")
    rowback = Rowback(tmp_path / "rowback", source, extra=f"include = {[f'{db}.*' for db in DATABASES]}")
    for db in DATABASES:
        source.execute(f"DROP DATABASE IF EXISTS `{db}`")
    run(source, BEFORE)
    rowback.catch_up()
    rowback.run("snapshot")
    run(source, AFTER)
    mark = look_at(source)
    told = objects_of(source), rows_of(source), defaults_of(source), counters_of(source)
    run(source, BEHIND)
    last = look_at(source)
    rowback.catch_up()
    # Behind the mark objects are broken on the source itself: there a restore from the snapshot itself is the measure.
    rowback.run("restore", "--to", last, "--output", str(tmp_path / "plain"))
    drop(target)
    load_with_client(target, tmp_path / "plain")
    told_last = objects_of(target)
    rowback.json("roll-forward", "--to", mark)
    originals = list(Path(rowback.root.removeprefix("file://")).glob("*/*/baselines/*"))
    shutil.rmtree(min(originals))
    for to, out in ((mark, tmp_path / "then"), (last, tmp_path / "last")):
        plan = rowback.json("restore", "--to", to, "--output", str(out))["plan"]
        assert {t["snapshot_id"] for t in plan["tables"]} == {max(originals).name}
        drop(target)
        load_with_client(target, out)
        wanted = {key: value for key, value in (told[0] if to == mark else told_last).items() if key != LOST}
        assert objects_of(target) == wanted
        if to == mark:
            assert (rows_of(target), defaults_of(target), counters_of(target)) == told[1:]


def drop(server: Server) -> None:
    for db in DATABASES:
        server.execute(f"DROP DATABASE IF EXISTS `{db}`")


def look_at(server: Server) -> str:
    statement = "SHOW BINARY LOG STATUS" if server.flavor == "mysql" else "SHOW MASTER STATUS"
    return ":".join(map(str, server.execute(statement)[0][:2]))


# --- a random life ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize("setting", SETTINGS)
def test_any_moment_from_a_chain_of_synthetic_snapshots(
    setting: str, tmp_path: Path, fresh_mysql: Any, fresh_mariadb: Any
) -> None:
    """Every second moment is rolled forward to from the one before; each restore has only the newest to start from."""
    chosen = SETTINGS[setting]
    fresh = fresh_mysql if chosen.flavor == "mysql" else fresh_mariadb
    source: Server = fresh(name="source", options=chosen.options)
    target: Server = fresh(name="target", binlog=False, options=chosen.options)
    rowback = Rowback(tmp_path / "rowback", source, extra="window_seconds = 2\nwindow_max_seconds = 2\n")
    rowback.catch_up()
    story = Story(source, int(os.environ.get("ROWBACK_DDL_SEED", chosen.seed)), chosen.actions)
    moments = live(story, rowback)
    context = open_context_of(rowback)
    only: Snapshot = context.log.read().snapshots[0]
    outcome: Counter[str] = Counter()
    missing: set[tuple[str, str]] = set()
    for number, moment in enumerate(moments):
        to = f"{moment.file}:{moment.position}"
        if number % 2 == 0:
            only = rolled(context, only, to, outcome)
            missing = {name for name in moment.tables if name not in {(b.db, b.table) for b in only.baselines}}
        state = replace(context.log.read(), snapshots=(only,))
        output = tmp_path / f"restored-{number}"
        left_out = restored_without(context.store, state, to, output, outcome)
        clear(target)
        (load_with_myloader if number % 2 else load_with_client)(target, output)
        found = target.execute(
            f"SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN {DBS}"
        )
        restored = state_of(target, [(db, name) for db, name in found])
        expected = {n: t for n, t in moment.tables.items() if n not in left_out and (n not in missing or n in restored)}
        assert not differing(restored, expected), (to, differing(restored, expected))
        outcome["tables equal"] += len(expected)
        outcome["tables that the chain lost"] += len(moment.tables.keys() & missing - restored.keys())
    print(f"\n{setting}: {len(moments)} points; {dict(sorted(outcome.items()))}")
    assert not [what for what in outcome if "UNEXPECTED" in what]
    assert outcome["tables equal"] > 3 * len(moments)


def rolled(context: Context, only: Snapshot, to: str, outcome: Counter[str]) -> Snapshot:
    """A synthetic snapshot made of this one alone; what is refused is left out."""
    exclude: list[str] = []
    while True:
        state = replace(context.log.read(), snapshots=(only,))
        request = RollForwardRequest(to, exclude=tuple(exclude))
        try:
            # The archive has all snapshots; only the plan sees one.
            made = roll_forward(
                context.store, state, context.store, context.layout, context.log, request, now=context.now
            )
        except (DdlInRange, NotComputable) as error:
            name = error.message.split("`")[1]
            if name in exclude or not any(why in error.message for why in KNOWN):
                raise
            exclude.append(name)
            outcome["left out of a synthetic snapshot"] += 1
            continue
        assert made.snapshot is not None
        outcome["synthetic snapshots"] += 1
        assert json.dumps(made.plan.to_json())
        return made.snapshot
