"""Captures of servers whose binlog names no columns (MySQL MINIMAL, MariaDB NO_LOG): equal to SELECT, or stopped; columns
are never mixed up, whenever a DDL comes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rowback import Rowback, drain, wait_for
from typematrix import agrees, cases, shown

from recovery.archive.segments import read_segment
from recovery.archive.state import ArchiveState
from recovery.context import open_context
from recovery.schema import Table
from testservers import Server

pytestmark = pytest.mark.sockets
METADATA = [("mysql", "MINIMAL"), ("mariadb", "NO_LOG"), ("mariadb", "MINIMAL")]
FLAVORS = METADATA[:2]
QUICK = "window_seconds = 0.3\nwindow_max_seconds = 0.3"


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Callable[[str, str], Server]:
    def started(flavor: str, metadata: str) -> Server:
        server: Server = request.getfixturevalue(f"fresh_{flavor}")(options={"binlog_row_metadata": metadata})
        server.execute("CREATE DATABASE d CHARACTER SET utf8mb4")
        return server

    return started


def archive(rowback: Rowback) -> ArchiveState:
    return open_context(rowback.config).log.read()


def images(rowback: Rowback, table: str) -> Iterator[tuple[Table, dict[str, Any]]]:
    """Every row image of a table, segment by segment, with the definition it was written with."""
    context = open_context(rowback.config)
    state = context.log.read()
    for segment in sorted((s for s in state.segments if s.table == table), key=lambda s: s.first_seq):
        for row in read_segment(context.store, segment).to_pylist():
            yield state.schemas[segment.schema_id], row


# --- every type ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("flavor", "metadata"), METADATA[2:])  # the others: test_archive_matrix.py
def test_every_type_equals_select(
    flavor: str, metadata: str, start: Callable[[str, str], Server], tmp_path: Path
) -> None:
    server = start(flavor, metadata)
    every = dict(enumerate(cases(flavor)))
    connection = server.connect(database="d")
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = '', time_zone = '+00:00'")
        for i, case in every.items():
            cursor.execute(f"CREATE TABLE t{i} (id INT PRIMARY KEY, c {case.ddl} NULL, k INT UNSIGNED NOT NULL)")
        # Labels that the server can't print are refused, see below.
        cursor.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = 'd' AND LOCATE('?', column_type)"
        )
        for (name,) in cursor.fetchall():
            del every[int(name[1:])]
        assert len(every) > 100
        for i, case in every.items():
            for n, value in enumerate((*case.values, "NULL")):
                cursor.execute(f"INSERT INTO t{i} VALUES ({n}, {value}, 4294967295)")
        rowback = Rowback(tmp_path, server)
        rowback.catch_up("--from-earliest")
        for i, case in every.items():
            found = {row["id"]: (table, row) for table, row in images(rowback, f"t{i}")}
            table = next(iter(found.values()))[0]
            assert [c.name for c in table.columns] == ["id", "c", "k"]
            assert table.key == ("id",)
            assert table.columns[2].unsigned
            column = table.columns[1]
            cursor.execute(f"SELECT id, {', '.join(shown('c', column))} FROM t{i}")
            rows = cursor.fetchall()
            assert len(rows) == len(found) == len(case.values) + 1
            for number, *server_value in rows:
                row = found[number][1]
                exact = dict(row["_rb_exact"] or ()).get("c")
                assert agrees(column, row["c"], exact, tuple(server_value)), (case.ddl, row["c"], exact, server_value)
                assert row["k"] == 4294967295
    connection.close()


ODD = {
    "both": (
        "CREATE TABLE d.made (id INT PRIMARY KEY, v INT AS (id + 1) VIRTUAL, s INT AS (id + 2) STORED, UNIQUE (s))",
        "CREATE TABLE d.hidden (id INT PRIMARY KEY, h INT DEFAULT 5 INVISIBLE)",
        "CREATE TABLE d.keyless (id INT, t VARCHAR(9))",
        "CREATE TABLE d.`o'dd ``n` (id INT PRIMARY KEY, `c.``'` INT)",
        "CREATE TABLE d.parts (id INT PRIMARY KEY, b INT) PARTITION BY HASH (id) PARTITIONS 3",
    ),
    "mysql": ("CREATE TABLE d.functional (id INT PRIMARY KEY, b INT, KEY ((b * 2)), UNIQUE ((b + 1)))",),
    "mariadb": (
        "CREATE TABLE d.versioned (id INT PRIMARY KEY, b INT) WITH SYSTEM VERSIONING",
        """CREATE TABLE d.period (id INT PRIMARY KEY, b INT, s TIMESTAMP(6) GENERATED ALWAYS AS ROW START,
        e TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING""",
    ),
}


@pytest.mark.parametrize(("flavor", "metadata"), FLAVORS)
def test_tables_out_of_the_ordinary(
    flavor: str, metadata: str, start: Callable[[str, str], Server], tmp_path: Path
) -> None:
    server = start(flavor, metadata)
    for statement in (*ODD["both"], *ODD[flavor]):
        server.execute(statement)
    names = [name for (name,) in server.execute("SHOW TABLES FROM d")]
    for name in names:
        quoted = "`" + name.replace("`", "``") + "`"
        server.execute(f"INSERT INTO d.{quoted} (id) VALUES (1), (2)")
        server.execute(f"UPDATE d.{quoted} SET id = 7 WHERE id = 2")
    rowback = Rowback(tmp_path, server)
    rowback.catch_up("--from-earliest")
    for name in names:
        found = list(images(rowback, name))
        period = [c.name for c in found[0][0].columns if c.type == "timestamp"]
        plain = [c.name for c in found[0][0].columns if c.type != "timestamp"]
        assert len(period) == (2 if name in ("versioned", "period") else 0)
        if period:
            found = [(t, row) for t, row in found if row[period[1]].year == 2038]  # those that are current
        kept = {row["id"]: row for _, row in found if row["_rb_op"] in ("insert", "update_after")}
        selected = ", ".join("`" + c.replace("`", "``") + "`" for c in plain)
        rows = server.execute(f"SELECT {selected} FROM d.`{name.replace('`', '``')}` ORDER BY id")
        assert [tuple(kept[i][c] for c in plain) for i in (1, 7)] == list(rows), name
    made = next(t for t, _ in images(rowback, "made"))
    assert [c.generated for c in made.columns] == [False, True, True]
    assert next(t for t, _ in images(rowback, "keyless")).key == ()


@pytest.mark.parametrize(("flavor", "metadata"), FLAVORS)
def test_labels_that_a_server_cannot_print_are_refused(
    flavor: str, metadata: str, start: Callable[[str, str], Server], tmp_path: Path
) -> None:
    server = start(flavor, metadata)
    server.execute("CREATE TABLE d.t (id INT PRIMARY KEY, e ENUM('a','\U0001f600') CHARACTER SET utf8mb4)")
    rowback = Rowback(tmp_path, server)
    rowback.catch_up()
    server.execute("INSERT INTO d.t VALUES (1, 2)")
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode != 0
    assert "a label of column `e`" in done.stderr


# --- columns that change places -----------------------------------------------------------------------------------------
# In table d.t, a holds 10*id + 1 and b holds 10*id + 2, always under their names; the DDL swaps their places.


SWAPS = ("ALTER TABLE d.t MODIFY a INT AFTER b", "ALTER TABLE d.t MODIFY b INT AFTER a")


class Swapped:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.rows = self.swaps = 0
        server.execute("CREATE TABLE d.t (id INT PRIMARY KEY, a INT, b INT)")

    def insert(self, count: int = 1) -> None:
        for _ in range(count):
            self.rows += 1
            n = self.rows
            self.server.execute(f"INSERT INTO d.t (id, a, b) VALUES ({n}, {10 * n + 1}, {10 * n + 2})")

    def swap(self) -> None:
        self.server.execute(SWAPS[self.swaps % 2])
        self.swaps += 1

    def captured(self, rowback: Rowback) -> int:
        """How many rows the archive has; each under the right names."""
        seen = set()
        for table, row in images(rowback, "t"):
            assert (row["a"], row["b"]) == (10 * row["id"] + 1, 10 * row["id"] + 2), (table, row)
            seen.add(row["id"])
        assert seen == set(range(1, len(seen) + 1))
        return len(seen)


@pytest.mark.parametrize(("flavor", "metadata"), FLAVORS)
def test_columns_swapped_while_capture_is_down(
    flavor: str, metadata: str, start: Callable[[str, str], Server], tmp_path: Path
) -> None:
    """Rows before the DDL have the definition that the archive knows, rows behind it one that is read."""
    table, rowback = Swapped(server := start(flavor, metadata)), Rowback(tmp_path, server)
    rowback.catch_up()
    table.insert(3)
    rowback.catch_up()
    table.insert(4)
    table.swap()
    table.insert(5)
    server.execute("FLUSH BINARY LOGS")
    rowback.catch_up()
    assert table.captured(rowback) == 12
    orders = [[c.name for c in t.columns] for t in archive(rowback).schemas.values()]
    assert sorted(orders) == [["id", "a", "b"], ["id", "b", "a"]]
    table.swap()
    table.insert(2)
    rowback.catch_up()
    assert table.captured(rowback) == 14
    assert not archive(rowback).gaps


@pytest.mark.parametrize(("flavor", "metadata"), FLAVORS)
def test_rows_between_two_swaps_stop_capture_or_are_rebuilt(
    flavor: str,
    metadata: str,
    start: Callable[[str, str], Server],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Nothing live shows what the table was between them: the stream stops there, with all before it committed."""
    table, rowback = Swapped(server := start(flavor, metadata)), Rowback(tmp_path / "without", server)
    scratch: Server = request.getfixturevalue(f"fresh_{flavor}")(name="scratch", binlog=False)
    settings = f'scratch_host = "{scratch.host}"\nscratch_port = {scratch.port}\nscratch_user = "root"'
    with_scratch = Rowback(tmp_path / "with", server, extra=settings)
    for each in (rowback, with_scratch):
        each.catch_up()
    table.insert(3)
    for each in (rowback, with_scratch):
        each.catch_up()
    table.insert(4)
    table.swap()
    table.insert(5)
    table.swap()
    table.insert(6)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode != 0
    assert "`d.t`" in done.stderr
    assert "binlog_row_metadata" in done.stderr
    assert table.captured(rowback) == 7
    assert len(archive(rowback).gaps) == 1

    # The table began before the archive did and no snapshot has its CREATE statement: nothing to replay the DDL on.
    done = with_scratch.run("capture", "--until-caught-up", check=False)
    assert done.returncode != 0
    assert table.captured(with_scratch) == 7
    fresh = Rowback(tmp_path / "fresh", server, extra=settings)
    fresh.catch_up("--from-earliest")
    assert table.captured(fresh) == 18
    assert not [row for row in scratch.execute("SHOW DATABASES") if row[0] == "d"]


@pytest.mark.parametrize(("flavor", "metadata"), FLAVORS)
def test_tables_that_are_gone_again_are_rebuilt_from_their_ddl(
    flavor: str, metadata: str, start: Callable[[str, str], Server], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = start(flavor, metadata)
    scratch: Server = request.getfixturevalue(f"fresh_{flavor}")(name="scratch", binlog=False)
    settings = f'scratch_host = "{scratch.host}"\nscratch_port = {scratch.port}\nscratch_user = "root"'
    rowback = Rowback(tmp_path, server, extra=settings)
    rowback.catch_up()
    server.execute("CREATE TABLE d.short (id INT PRIMARY KEY, b INT UNSIGNED, a DATE)")
    server.execute("INSERT INTO d.short VALUES (1, 4000000000, '2026-05-02')")
    server.execute("ALTER TABLE d.short RENAME COLUMN a TO born, ADD COLUMN n DECIMAL(5,2) AFTER id")
    server.execute("INSERT INTO d.short VALUES (2, 1.25, 7, '2026-05-03')")
    server.execute("RENAME TABLE d.short TO d.other")
    server.execute("INSERT INTO d.other VALUES (3, 2.25, 8, '2026-05-04')")
    server.execute("DROP TABLE d.other")
    rowback.catch_up()
    rows = [row for name in ("short", "other") for _, row in images(rowback, name)]
    assert [(r["id"], r["b"], str(r.get("a") or r.get("born")), str(r.get("n"))) for r in rows] == [
        (1, 4000000000, "2026-05-02", "None"),
        (2, 7, "2026-05-03", "1.25"),
        (3, 8, "2026-05-04", "2.25"),
    ]


@pytest.mark.parametrize(("flavor", "metadata"), FLAVORS)
def test_columns_swapped_while_capture_runs(
    flavor: str, metadata: str, start: Callable[[str, str], Server], tmp_path: Path
) -> None:
    """Rows and swaps without a pause, against a running capture: it captures them all, or stops, and no row is ever under
    wrong names. Once the swaps rest for a moment before each, nothing stops it."""
    table, rowback = Swapped(server := start(flavor, metadata)), Rowback(tmp_path, server, extra=QUICK)
    source = random.Random(flavor)
    running = rowback.start_capture()
    try:
        rowback.wait_started(running)
        for _ in range(8):
            table.insert(source.randint(1, 5))
            wait_for(lambda: rows_committed(rowback) == table.rows, 60, "the rows")
            table.swap()
        table.insert(3)
        wait_for(lambda: rows_committed(rowback) == table.rows, 60, "the last rows")
        assert drain(running) == 0
    finally:
        running.kill()
    assert table.captured(rowback) == table.rows
    assert not archive(rowback).gaps


@pytest.mark.parametrize(("flavor", "metadata"), FLAVORS)
def test_a_race_of_swaps_and_readings(
    flavor: str, metadata: str, start: Callable[[str, str], Server], tmp_path: Path
) -> None:
    table, rowback = Swapped(server := start(flavor, metadata)), Rowback(tmp_path, server, extra=QUICK)
    source = random.Random(flavor)
    running = rowback.start_capture()
    try:
        rowback.wait_started(running)
        stop = threading.Event()

        def swap_now_and_then() -> None:
            other = Swapped.__new__(Swapped)
            other.server, other.swaps = server, 0
            while not stop.wait(source.uniform(0.0, 0.4)):
                other.swap()

        swapper = threading.Thread(target=swap_now_and_then)
        swapper.start()
        while running.poll() is None and table.rows < 300:
            table.insert()
        stop.set()
        swapper.join()
        # A capture that is told to stop commits what it was sent, not what the server still has: let it come to the end.
        wait_for(
            lambda: running.poll() is not None or rows_committed(rowback) == table.rows, 120, "the last rows, or a stop"
        )
        if running.poll() is None:
            drain(running)
    finally:
        running.kill()
    captured = table.captured(rowback)
    log = rowback.capture_log()
    assert "Traceback" not in log, log[-3000:]
    assert captured == table.rows or "can't be proved" in log


def rows_committed(rowback: Rowback) -> int:
    return sum(s.inserts for s in archive(rowback).segments)
