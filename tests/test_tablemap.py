"""TABLE_MAP events of real servers under every binlog_row_metadata, and tables that only MariaDB has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from rowevents import events, row_events
from rowstory import Run, images, require_equal, shape
from typematrix import cases

from dataflow import events as ev
from dataflow import tablemap
from dataflow.rows import RowDecoder
from recovery.errors import SourceMisconfigured
from recovery.schema import Column
from testservers import MariaDBServer, Server


@pytest.fixture(params=["mysql", "mariadb"])
def run(request: pytest.FixtureRequest, unique_name: Callable[[str], str]) -> Iterator[Run]:
    run = Run(request.getfixturevalue(f"{request.param}_source"), unique_name("map"))
    with contextlib.closing(run.connection):
        yield run


def bodies(server: Server, database: str) -> list[bytes]:
    server.execute("FLUSH BINARY LOGS")
    found = [event for path in server.binlog_files() for event in events(path.read_bytes())]
    return [e.body for e in found if e.type == ev.TABLE_MAP and e.body[9 : 9 + e.body[8]] == database.encode()]


@pytest.mark.sockets
def test_without_names_a_table_map_still_proves_types(run: Run) -> None:
    """One column of each type; MINIMAL is MySQL's default, NO_LOG MariaDB's."""
    ddl = {case.ddl.split("(")[0]: case.ddl for case in cases(run.server.flavor)}
    columns = ", ".join(f"c{i} {one}" for i, one in enumerate(ddl.values()))
    run.do(f"CREATE TABLE m (id INT PRIMARY KEY, {columns})")
    names = ("FULL", "MINIMAL", *(("NO_LOG",) if run.server.flavor == "mariadb" else ()))
    before = run.server.execute("SELECT @@GLOBAL.binlog_row_metadata")[0][0]
    try:
        for i, name in enumerate(names):
            run.server.execute(f"SET GLOBAL binlog_row_metadata = {name}")
            run.do("FLUSH TABLES")
            run.do(f"INSERT INTO m (id) VALUES ({i})")
    finally:
        run.server.execute(f"SET GLOBAL binlog_row_metadata = {before}")
    found = bodies(run.server, run.database)
    full, *others = (tablemap.parse(body, run.names, flavor=run.server.flavor, need_names=False) for body in found)
    assert full.named
    assert full.table.key == ("id",)
    assert len(others) == len(names) - 1
    for name, body, other in zip(names[1:], found[1:], others, strict=True):
        assert not other.named
        assert other.wire == full.wire
        assert other.table.key == ()
        assert [c.name for c in other.table.columns] == [f"@{i + 1}" for i in range(len(full.wire))]
        for column, known in zip(other.table.columns, full.table.columns, strict=True):
            if name == "MINIMAL":
                facts = (column.type, column.unsigned, column.charset)
                assert facts == (
                    known.type,
                    known.unsigned,
                    known.charset if known.type not in ("enum", "set") else None,
                )
            assert (column.precision, column.scale, column.fsp) == (known.precision, known.scale, known.fsp)
            assert column.nullable == known.nullable
        with pytest.raises(SourceMisconfigured, match="no column names for table"):
            tablemap.parse(body, run.names, flavor=run.server.flavor)
        with pytest.raises(SourceMisconfigured, match="no column names for table"):
            RowDecoder(other)


@pytest.mark.sockets
def test_sequences_and_system_versioned_tables(
    mariadb_source: MariaDBServer, unique_name: Callable[[str], str]
) -> None:
    run = Run(mariadb_source, unique_name("versioned"))
    run.do("CREATE TABLE v (id INT PRIMARY KEY, x INT) WITH SYSTEM VERSIONING")
    run.do("INSERT INTO v VALUES (1, 10), (2, 20)")
    run.do("UPDATE v SET x = 11 WHERE id = 1")
    run.do("DELETE FROM v WHERE id = 2")
    run.do("CREATE SEQUENCE s START 5 CACHE 3")
    for _ in range(4):
        run.do("SELECT NEXTVAL(s)")
    found = row_events(run.server, run.database, run.names)
    (versioned,) = found["v"]
    table = versioned.table_map.table
    assert [c.name for c in table.columns] == ["id", "x", "row_start", "row_end"]
    assert table.key == ("id", "row_end")
    columns = [
        Column("id", "int"),
        Column("x", "int"),
        Column("row_start", "timestamp"),
        Column("row_end", "timestamp"),
    ]
    state = {}
    for image in images(versioned.decode(), table):
        key = image.cells[0], image.cells[3]
        if image.op in (1, 2):
            del state[key]
        else:
            state[key] = image
    rows = run.select("v FOR SYSTEM_TIME ALL", columns)
    assert len(rows) == len(state) == 3
    shown = {(row[0][0], row[3][0]): row for row in rows}
    for (key, _), (end, _) in state:
        require_equal(state[(key, None), (end, None)], shown[str(key), f"{end:%Y-%m-%d %H:%M:%S.%f}"], table)
    last = images(found["s"][-1].decode(), found["s"][-1].table_map.table)[-1]
    (row,) = run.select("s", shape(run, "s"))
    require_equal(last, row, found["s"][-1].table_map.table)
    run.connection.close()
