"""Every type x edge value x (insert, update, delete), from the real server's binlog through the row decoder and a Parquet
file: what the archive holds is what SELECT said at that moment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from rowevents import row_events
from rowstory import Image, Run, Story, check, follow, images, in_stretches, require_equal, require_same, whole
from typematrix import Case, cases

from dataflow.events import PARTIAL_UPDATE_ROWS
from dataflow.rows import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE, RowDecoder, RowFault
from dataflow.tablemap import DATETIME, TIME, TIMESTAMP
from recovery.errors import SourceMisconfigured, UnsupportedColumn, UnsupportedEvent
from recovery.schema import Column, Table
from testservers import Server

# --- the matrix -------------------------------------------------------------------------------------------------------


def decoded(story: Story, metadata: str, case: Case) -> tuple[Table, list[Image]]:
    """The row images of a `Run.live` table."""
    (events,) = story.events
    table_map = events.table_map
    assert table_map.named == (metadata == "FULL")
    if table_map.named and case.kind is None:
        assert not case.shown or table_map.table.storage == story.live.storage
    else:  # only the schema knows; that it is the right one is for test_definitions.py
        table_map = replace(table_map, table=story.live, named=True)
    return table_map.table, images(events.decode_as(table_map), table_map.table)


@pytest.fixture(scope="module", params=["mysql", "mariadb"])
def flavor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(flavor: str, request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{flavor}_source")
    return found


@pytest.mark.sockets
@pytest.mark.parametrize("metadata", ["FULL", "the server's default"])
def test_every_value_of_every_type_is_what_select_returned(
    server: Server, metadata: str, unique_name: Callable[[str], str]
) -> None:
    if metadata != "FULL":
        metadata = {"mysql": "MINIMAL", "mariadb": "NO_LOG"}[server.flavor]
    run = Run(server, unique_name("matrix"))
    matrix = {f"t{i}": case for i, case in enumerate(cases(server.flavor)) if case.shown or metadata == "FULL"}
    before = server.execute("SELECT @@GLOBAL.binlog_row_metadata")[0][0]
    server.execute(f"SET GLOBAL binlog_row_metadata = {metadata}")
    try:
        for name, case in matrix.items():
            run.live(name, case)
    finally:
        server.execute(f"SET GLOBAL binlog_row_metadata = {before}")
        run.connection.close()
    stories = run.stories()
    wrong = []
    for name, case in matrix.items():
        try:
            check(stories[name], *decoded(stories[name], metadata, case))
        except (AssertionError, RowFault, ValueError) as error:
            wrong.append(f"{case.ddl}: {type(error).__name__} {error}"[:600])
    assert not wrong, "\n".join(wrong)
    assert len(matrix) > 140


# --- tables that are more than one column -----------------------------------------------------------------------------


@pytest.fixture
def run(server: Server, unique_name: Callable[[str], str]) -> Iterator[Run]:
    run = Run(server, unique_name("rows"))
    with contextlib.closing(run.connection):
        yield run


@pytest.mark.sockets
def test_a_table_with_more_than_a_thousand_columns(run: Run) -> None:
    kinds = ["INT", "TINYINT UNSIGNED", "VARCHAR(3)", "DATE", "DECIMAL(5,2)", "BINARY(1)", "YEAR", "SMALLINT"]
    values = ["-7", "200", "'éx'", "'2026-05-00'", "-1.25", "X'00'", "2026", "NULL"]
    columns = ", ".join(f"c{i} {kinds[i % 8]}" for i in range(1010))
    run.do(f"CREATE TABLE wide (id INT PRIMARY KEY, {columns}) CHARACTER SET utf8mb4")
    row = ", ".join(values[i % 8] for i in range(1010))
    events, found, states = follow(
        run,
        "wide",
        [
            f"INSERT INTO wide VALUES (1, {row}), (2, {', '.join(['NULL'] * 1010)})",
            "UPDATE wide SET c0 = 8, c1009 = 9, c503 = NULL, c508 = 1",
            "DELETE FROM wide WHERE id = 1",
        ],
    )
    table = events.table_map.table
    assert len(table.columns) == 1011
    for image, row_shown in zip(found[:2], states[0], strict=True):
        require_equal(image, row_shown, table)
    for i in range(2):
        require_equal(whole(found[2 + 2 * i], found[3 + 2 * i], table), states[0][i], table)
        require_equal(found[3 + 2 * i], states[1][i], table)
    assert found[3].changed == {1, 509, 1010} | ({504} if states[0][0][504][0] is not None else set())
    require_equal(found[6], states[1][0], table)


@pytest.mark.sockets
def test_generated_and_invisible_columns_and_a_key_that_changes(run: Run, flavor: str) -> None:
    invisible = "INVISIBLE" if flavor == "mariadb" else "NOT NULL DEFAULT 3 INVISIBLE"
    run.do(
        "CREATE TABLE g (a INT, v VARCHAR(20) AS (CONCAT('v', b)) VIRTUAL, b BIGINT NOT NULL, s BIGINT AS (b * 2) STORED,"
        f" h INT {invisible}, PRIMARY KEY (b), KEY (v))"
    )
    events, found, states = follow(
        run,
        "g",
        [
            "INSERT INTO g (a, b) VALUES (1, 10), (NULL, -5)",
            "UPDATE g SET b = b + 100",
            "UPDATE g SET a = a",
            "UPDATE g SET a = 5 WHERE b = 95",
            "DELETE FROM g",
        ],
    )
    table = events.table_map.table
    assert table.key == ("b",)
    assert [i.op for i in found] == [INSERT] * 2 + [UPDATE_BEFORE, UPDATE_AFTER] * 3 + [DELETE] * 2
    by_b = [{row[2][0]: row for row in state} for state in states]
    for image in found[:2]:
        require_equal(image, by_b[0][str(image.cells[2][0])], table)
    for at, (old, new) in ((2, (0, 1)), (4, (0, 1)), (6, (2, 3))):
        before = whole(found[at], found[at + 1], table)
        require_equal(before, by_b[old][str(before.cells[2][0])], table)
        require_equal(found[at + 1], by_b[new][str(found[at + 1].cells[2][0])], table)
    assert found[3].changed is not None
    assert {2, 3} <= found[3].changed
    assert found[7].changed == {0}
    for image in found[8:]:
        require_equal(image, by_b[3][str(image.cells[2][0])], table)


@pytest.mark.sockets
def test_a_table_without_a_key_keeps_whole_before_images(run: Run) -> None:
    run.do("CREATE TABLE k (id INT, t TEXT, d DATE)")
    events, found, states = follow(
        run, "k", ["INSERT INTO k VALUES (1, 'x', '0000-00-00'), (2, NULL, NULL)", "UPDATE k SET id = id + 10"]
    )
    for i in range(2):
        require_equal(found[2 + 2 * i], states[0][i], events.table_map.table)
        require_equal(found[3 + 2 * i], states[1][i], events.table_map.table)


@pytest.mark.sockets
def test_a_partitioned_table(run: Run) -> None:
    """MySQL writes the partition into the event's extra data."""
    run.do("CREATE TABLE p (id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 4")
    _, found, states = follow(
        run,
        "p",
        ["INSERT INTO p VALUES (1, 1), (2, 2), (3, 3)", "UPDATE p SET v = v + 1, id = id + 10 ORDER BY id DESC"],
    )
    assert {tuple(cell[0] for cell in image.cells) for image in found if image.op == UPDATE_AFTER} == {
        (int(row[0][0]), int(row[1][0])) for row in states[1]
    }
    assert {image.cells[0][0] for image in found if image.op == UPDATE_BEFORE} == {1, 2, 3}


@pytest.mark.sockets
def test_every_character_set_of_the_server(run: Run) -> None:
    run.do("SHOW CHARACTER SET")
    charsets = [str(row[0]) for row in run.cursor.fetchall() if row[0] not in ("binary", "filename")]
    planes = [c for c in range(1, 0x10000, 7) if not 0xD800 <= c < 0xE000] + list(range(0x1F300, 0x1F700, 9))
    samples = [*range(1, 0x180), *planes]
    texts = ["".join(map(chr, samples[i : i + 16])) for i in range(0, len(samples), 16)]
    wrong: list[str] = []
    odd = 0
    for charset in charsets:
        of = f"CHARACTER SET {charset}"
        run.do(f"CREATE TABLE c_{charset} (id INT PRIMARY KEY, c VARCHAR(40) {of}, t CHAR(16) {of})")
        rows = ", ".join(
            f"({i}, _utf8mb4 X'{t.encode().hex()}', _utf8mb4 X'{t.encode().hex()}')" for i, t in enumerate(texts)
        )
        run.do(f"INSERT INTO c_{charset} VALUES {rows}")
    found = row_events(run.server, run.database, run.names)
    for charset in charsets:
        rows_shown = run.select(f"c_{charset}", [Column("id", "int"), Column("c", "varchar"), Column("t", "char")])
        (events,) = found[f"c_{charset}"]
        table = events.table_map.table
        assert table.columns[1].charset == charset.replace("utf8mb3", table.columns[1].charset or "")
        for image, row in zip(images(events.decode(), table), rows_shown, strict=True):
            odd += sum(exact is not None for _, exact in image.cells)
            try:
                require_equal(image, row, table)
            except AssertionError as error:
                wrong.append(f"{charset}: {error}"[:500])
    assert not wrong, "\n".join(wrong[:20])
    assert len(charsets) > 35
    # Text nearly always: only what UTF-8 doesn't lead back to is kept as bytes (a backslash in sjis, for one).
    assert odd < 0.02 * len(charsets) * len(texts)


@pytest.mark.sockets
def test_partial_row_images_are_refused(run: Run) -> None:
    run.do("CREATE TABLE part (id INT PRIMARY KEY, a INT, b INT)")
    run.do("INSERT INTO part VALUES (1, 1, 1)")
    run.do("SET SESSION binlog_row_image = MINIMAL")
    run.do("UPDATE part SET a = 2")
    run.do("SET SESSION binlog_row_image = FULL")
    (events,) = row_events(run.server, run.database, run.names)["part"]
    with pytest.raises(RowFault, match=r"a partial row image of table `rows\d+\.part`") as fault:
        events.decode()
    assert (fault.value.event, fault.value.error) == (1, UnsupportedEvent)


@pytest.mark.sockets
def test_partial_json_updates_become_whole_documents(
    mysql_source: Server, unique_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(mysql_source, unique_name("diffs"))
    run.do("SET SESSION binlog_row_value_options = PARTIAL_JSON")
    run.do("CREATE TABLE j (id INT PRIMARY KEY, a JSON, t VARCHAR(9), b JSON NOT NULL, c JSON)")
    big = "JSON_OBJECT('k', REPEAT('x', 300), 'n', 1, 'l', JSON_ARRAY(1, 2, 3))"
    events, found, states = follow(
        run,
        "j",
        [
            f"INSERT INTO j VALUES (1, {big}, 't', {big}, NULL), (2, {big}, NULL, {big}, {big})",
            f"INSERT INTO j VALUES (3, NULL, '', {big}, {big})",
            "UPDATE j SET a = JSON_SET(a, '$.n', 2), b = JSON_REPLACE(b, '$.l[1]', 'two')",
            "UPDATE j SET t = 'only t'",
            "UPDATE j SET b = JSON_REMOVE(b, '$.n'), c = NULL, a = '[]'",
            "UPDATE j SET a = JSON_SET(a, '$.new', CAST(1.5 AS DECIMAL(5,2))), b = JSON_SET(b, '$.n', 1)",
            "DELETE FROM j",
        ],
    )
    table = events.table_map.table
    assert PARTIAL_UPDATE_ROWS in events.types
    require_same(events.decode(), in_stretches(events, monkeypatch))
    states = states[1:]
    for step in range(1, 5):
        for i in range(3):
            before, after = found[3 + 6 * (step - 1) + 2 * i :][:2]
            require_equal(whole(before, after, table), states[step - 1][i], table)
            require_equal(after, states[step][i], table)
    assert [image.changed for image in found[3:9:2]] == [{1, 3}, {1, 3}, {3}]
    assert all(image.changed == {2} for image in found[9:15])
    run.connection.close()


@pytest.mark.sockets
def test_temporal_columns_from_before_5_6(mariadb_source: Server, unique_name: Callable[[str], str]) -> None:
    """MariaDB still makes them if asked to. The binlog doesn't say their fractional digits, so a schema must."""
    run = Run(mariadb_source, unique_name("old"))
    points = (
        "2026-05-02 10:11:12.123456",
        "0000-00-00",
        "2026-00-00 00:00:01.5",
        "9999-12-31 23:59:59.999999",
        "1000-01-01",
    )
    stamps = ("2026-05-02 10:11:12.123456", "0000-00-00", "1970-01-01 00:00:01", "2038-01-19 03:14:07.9", "2000-01-01")
    times = ("-838:59:59", "838:59:58.999999", "00:00:00", "-00:00:00.1", "-12:34:56.789012")
    rows = ", ".join(
        f"({i}, '{a}', '{b}', '{c}', '{a}')" for i, (a, b, c) in enumerate(zip(points, stamps, times, strict=True))
    )
    before = run.server.execute("SELECT @@GLOBAL.mysql56_temporal_format")[0][0]
    run.server.execute("SET GLOBAL mysql56_temporal_format = OFF")
    try:
        for fsp in range(7):
            columns = f"a DATETIME({fsp}), b TIMESTAMP({fsp}) NULL, c TIME({fsp}), d DATE"
            run.do(f"CREATE TABLE o{fsp} (id INT PRIMARY KEY, {columns})")
    finally:
        run.server.execute(f"SET GLOBAL mysql56_temporal_format = {before}")
    for fsp in range(7):
        run.do(f"INSERT INTO o{fsp} VALUES {rows}, (9, NULL, NULL, NULL, NULL)")
    found = row_events(run.server, run.database, run.names, need_names=False)
    for fsp in range(7):
        (events,) = found[f"o{fsp}"]
        logged = events.table_map
        assert [w.type for w in logged.wire[1:4]] == [DATETIME, TIMESTAMP, TIME]
        assert not logged.named
        with pytest.raises(SourceMisconfigured):
            RowDecoder(logged)
        columns = tuple(replace(c, fsp=fsp) if c.name in "abc" else c for c in logged.table.columns)
        known_map = replace(logged, table=replace(logged.table, columns=columns), named=True)
        for image, row in zip(
            images(events.decode_as(known_map), known_map.table), run.select(f"o{fsp}", list(columns)), strict=True
        ):
            require_equal(image, row, known_map.table)
    run.connection.close()


@pytest.mark.sockets
def test_old_temporal_columns_are_refused_where_nothing_tells_their_digits(
    mariadb_source: Server, unique_name: Callable[[str], str]
) -> None:
    run = Run(mariadb_source, unique_name("old"))
    before = run.server.execute("SELECT @@GLOBAL.mysql56_temporal_format")[0][0]
    run.server.execute("SET GLOBAL mysql56_temporal_format = OFF")
    try:
        run.do("CREATE TABLE o (id INT PRIMARY KEY, c TIME(3))")
    finally:
        run.server.execute(f"SET GLOBAL mysql56_temporal_format = {before}")
    run.do("INSERT INTO o VALUES (1, '1:2:3.4')")
    with pytest.raises(UnsupportedColumn, match=r"column `c` of table .* has the format of MariaDB before 10\.1"):
        row_events(run.server, run.database, run.names)
    run.connection.close()
