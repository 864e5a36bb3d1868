"""Asking a live server for definitions: readings with their mark, and looking ahead in its binlog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from exactness import executed
from oracle import load_with_client
from pydantic import SecretStr
from rowback import Rowback

from dataflow import live_schema
from dataflow.definitions import Reading
from dataflow.lineage import Lineage
from dataflow.live_schema import Definitions, LiveSource
from dataflow.resume import collations, identity_of
from dataflow.tablemap import TableMap
from recovery.archive.actions import Checkpoint
from recovery.config import ServerSettings
from recovery.errors import SourceMisconfigured, SourceUnreachable
from recovery.gtid import binlog_order
from recovery.schema import Column, Table
from recovery.source import binlog_status, connect, server_info
from testservers import Server

pytestmark = pytest.mark.sockets


@pytest.fixture(params=["mysql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_source")
    return found


def settings(server: Server) -> ServerSettings:
    return ServerSettings(name="s", host=server.host, port=server.port, user="root", password=SecretStr(""))


def here(server: Server) -> tuple[str, int]:
    with connect(settings(server)) as connection:
        found = binlog_status(connection)
    assert found is not None
    return found


def test_looking_ahead_finds_all_ddl_up_to_a_place(server: Server, unique_name: Callable[[str], str]) -> None:
    db = unique_name("ahead")
    start = here(server)
    before = executed(server)
    server.execute(f"CREATE DATABASE {db}")
    server.execute(f"CREATE TABLE {db}.t (id INT PRIMARY KEY, a INT)")
    server.execute(f"INSERT INTO {db}.t VALUES (1, 2), (3, 4)")
    server.execute("FLUSH BINARY LOGS")
    server.execute(f"ALTER TABLE {db}.t ADD b INT")
    server.execute(f"RENAME TABLE {db}.t TO {db}.u")
    end = here(server)
    server.execute(f"DROP TABLE {db}.u")
    with connect(settings(server)) as connection:
        charsets = collations(connection, server_info(connection))
    source = LiveSource(settings(server), charsets, None)
    ddls, reached = source.ddls(Checkpoint(0, *start, before, 0, 0), binlog_order(*end))
    found = [(d.verb, d.tables) for d in ddls if binlog_order(d.file, d.position) < binlog_order(*end)]
    assert found == [
        ("CREATE DATABASE", ()), ("CREATE TABLE", ((db, "t"),)), ("ALTER TABLE", ((db, "t"),)),
        ("RENAME TABLE", ((db, "t"), (db, "u"))),
    ]  # fmt: skip
    # It can go on where it ended.
    more, _ = source.ddls(reached, binlog_order(*here(server)))
    assert [d.verb for d in [*ddls, *more]][-1] == "DROP TABLE"
    assert len({(d.file, d.position) for d in [*ddls, *more]}) == 5


def test_a_reading_has_its_mark_and_knows_another_server(server: Server, unique_name: Callable[[str], str]) -> None:
    db = unique_name("read")
    server.execute(f"CREATE DATABASE {db}")
    server.execute(f"CREATE TABLE {db}.t (id INT PRIMARY KEY)")
    with connect(settings(server)) as connection:
        identity = identity_of(server_info(connection))
    before = here(server)
    reading = LiveSource(settings(server), {}, identity, creates=True).read([(db, "t"), (db, "missing")])
    assert list(reading.tables) == [(db, "t")]
    assert "CREATE TABLE" in reading.creates[db, "t"]
    assert reading.high >= binlog_order(*before)
    assert not reading.elsewhere
    other = replace(identity, server_uuid=identity.server_uuid and "other", server_id=identity.server_id + 1)
    assert LiveSource(settings(server), {}, other).read([(db, "t")]).elsewhere


class Away:
    """A server that can't be reached a few times, and then is another one."""

    def __init__(self, times: int) -> None:
        self.times = times

    def read(self, names: object) -> Reading:
        self.times -= 1
        if self.times >= 0:
            raise SourceUnreachable("away", hint="")
        return Reading({}, (1, 1), elsewhere=True)

    def ddls(self, after: Checkpoint, until: object) -> tuple[list[object], Checkpoint]:
        raise AssertionError


def test_a_server_that_is_away_is_waited_for_and_another_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(live_schema.time, "sleep", pauses.append)
    definitions = Definitions(Away(3), Checkpoint(0, "binlog.000001", 4, "", 0, 0), {})  # type: ignore[arg-type]
    with pytest.raises(SourceUnreachable, match="another server"):
        definitions.table(TableMap(0, Table("d", "t", ()), (), named=False), "binlog.000001:4")
    assert pauses == [0.5, 1.0, 2.0]


class Dropped:
    """A server that has no such table any more."""

    def read(self, names: object) -> Reading:
        return Reading({}, (1, 1))

    def ddls(self, after: Checkpoint, until: object) -> tuple[list[object], Checkpoint]:
        return [], after


class FailingScratch:
    """A scratch server that makes another table than the binlog's, or none."""

    def __init__(self, made: Table | Exception) -> None:
        self.made = made

    def build(self, name: object, steps: object) -> Table:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.mark.parametrize(
    ("made", "raised"),
    [
        (SourceMisconfigured("no", hint=""), SourceMisconfigured),
        (SourceUnreachable("in use", hint=""), SourceUnreachable),  # it may pass: no gap
        (Table("d", "t", (Column("a", "int"), Column("b", "int"))), SourceMisconfigured),
    ],
)
def test_a_scratch_server_that_can_t_help_stops_only_what_nothing_else_tells(
    made: Table | Exception, raised: type[Exception]
) -> None:
    table = Table("d", "t", (Column("a", "binary", octets=16),))
    for named in (True, False):
        lineage = Lineage()
        lineage.read(("d", "t"), "CREATE TABLE t (a UUID)", (0, 0))
        start = Checkpoint(0, "binlog.000001", 4, "", 0, 0)
        definitions = Definitions(Dropped(), start, {}, lineage=lineage, scratch=FailingScratch(made))  # type: ignore[arg-type]
        logged = TableMap(0, table, (), named=named)
        if named:
            assert definitions.table(logged, "binlog.000001:4") == table
        else:
            with pytest.raises(raised):
                definitions.table(logged, "binlog.000001:4")


@pytest.mark.slow
@pytest.mark.usefixtures("mydumper")
@pytest.mark.parametrize(("flavor", "metadata"), [("mysql", "MINIMAL"), ("mariadb", "NO_LOG")])
def test_snapshot_and_restore_without_column_names(
    flavor: str, metadata: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Baselines and change segments agree on the table's definition, so that they fold."""
    server: Server = request.getfixturevalue(f"fresh_{flavor}")(options={"binlog_row_metadata": metadata})
    target: Server = request.getfixturevalue(f"fresh_{flavor}")(binlog=False)
    rowback = Rowback(tmp_path, server)
    rowback.catch_up()
    server.execute("CREATE DATABASE d")
    server.execute(
        "CREATE TABLE d.t (id INT UNSIGNED PRIMARY KEY, a INT, e ENUM('x','y'), v VARCHAR(20) CHARACTER SET latin1,"
        " b BINARY(16), t DATETIME(3), j JSON)"
    )
    row = "1.5, 'y', 'z', X'00FF', '2026-01-02 03:04:05.678', '[1, 2]'"
    server.execute(f"INSERT INTO d.t VALUES (1, {row}), (2, {row}), (3, {row})")
    rowback.catch_up()
    rowback.run("snapshot")
    server.execute("UPDATE d.t SET a = 30, v = 'w' WHERE id = 2")
    server.execute("DELETE FROM d.t WHERE id = 1")
    server.execute("INSERT INTO d.t (id) VALUES (4)")
    rowback.catch_up()
    rowback.run("restore", "--to", "latest", "--output", str(tmp_path / "out"))
    load_with_client(target, tmp_path / "out")
    rows = target.execute("SELECT * FROM d.t ORDER BY id")
    assert len(rows) == 3
    assert rows == server.execute("SELECT * FROM d.t ORDER BY id")
