"""Snapshots of real servers with the real mydumper: values, coordinates under load, refusals and failures."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from synthetic import Exact
from typecases import cases

from recovery.archive.actions import Checkpoint, Identity
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.config import ServerSettings
from recovery.errors import (
    AccessDenied,
    DumperFailed,
    DumperMissing,
    LockNotAcquired,
    NoSpace,
    PrivilegeMissing,
    SnapshotError,
    SourceDiverged,
    UnknownTable,
    UnsupportedColumn,
)
from recovery.quoting import quote
from recovery.schema import table_of
from recovery.snapshot import dumper, take, window
from recovery.snapshot.request import Progress, SnapshotRequest, SnapshotResult
from recovery.snapshot.take import take_snapshot
from recovery.source import connect, server_info
from testservers import Server

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("mydumper")]
GRANTS = Path(__file__).parent.parent / "deploy" / "grants.sql"


@dataclass
class Bench:
    """A server with a database of this test, and an archive of its own."""

    server: Server
    db: str
    root: Path
    user: str = "root"
    password: str = ""
    seen: list[Progress] = field(default_factory=list)
    layout: Layout = field(default_factory=lambda: Layout("default", "s"))

    @property
    def log(self) -> Log:
        return Log(FileStore(self.root), self.layout)

    def execute(self, sql: str, *args: Any) -> tuple[tuple[Any, ...], ...]:
        with contextlib.closing(self.server.connect(database=self.db)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return tuple(cursor.fetchall())

    def begin(self) -> None:
        """What the first capture leaves in the archive: the source's identity and a checkpoint."""
        if self.log.read().checkpoint is None:
            settings = ServerSettings(name="s", host=self.server.host, port=self.server.port, user="root")
            with contextlib.closing(connect(settings)) as connection:
                info = server_info(connection)
            identity = Identity(info.flavor, info.server_uuid, info.server_id, info.version)
            checkpoint = Checkpoint(0, "binlog.000001", 4, "", 0, 0)
            self.log.commit(self.log.read(), lambda head: [identity, checkpoint])

    def take(self, **given: Any) -> SnapshotResult:
        given.setdefault("databases", (self.db,))
        self.begin()
        staging = self.root.parent / "staging"
        request = SnapshotRequest(**({"staging_dir": staging, "threads": 3} | given))
        settings = ServerSettings(
            name="s", host=self.server.host, port=self.server.port, user=self.user, password=SecretStr(self.password)
        )
        try:
            return take_snapshot(
                settings, FileStore(self.root), self.layout, self.log, request,
                now=lambda: datetime.now(UTC), progress=self.seen.append,
            )  # fmt: skip
        finally:
            assert list(staging.iterdir()) == []  # whatever happened

    def rows(self, result: SnapshotResult, table: str) -> list[dict[str, Any]]:
        (baseline,) = [b for b in result.snapshot.baselines if b.table == table]
        found: list[dict[str, Any]] = []
        for item in baseline.objects:
            path = self.root / item.path
            assert hashlib.sha256(path.read_bytes()).hexdigest() == item.sha256
            data = pq.read_table(path, page_checksum_verification=True)
            assert table_of(data.schema) == baseline.definition
            assert data.num_rows == item.rows
            found += data.to_pylist()
        assert len(found) == baseline.rows
        return found


@pytest.fixture(params=["mysql", "mariadb"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, unique_name: Callable[[str], str]) -> Iterator[Bench]:
    server: Server = request.getfixturevalue(f"{request.param}_source")
    db = unique_name("snap")
    server.execute(f"CREATE DATABASE {db} CHARACTER SET utf8mb4")
    (tmp_path / "archive").mkdir()
    yield Bench(server, db, tmp_path / "archive")
    server.execute(f"DROP DATABASE {db}")


# --- values -----------------------------------------------------------------------------------------------------------


def cell(row: dict[str, Any], name: str) -> Any:
    exact = dict(row["_rb_exact"] or [])
    return Exact(exact[name]) if name in exact else row[name]


@pytest.mark.parametrize("lock", ["brief", "none"])
@pytest.mark.parametrize("own", [False, True], ids=["parsed from the dump", "read by our connection"])
def test_every_type_and_nasty_value(bench: Bench, lock: str, own: bool) -> None:
    every = [
        c for c in cases(bench.server.flavor) if own or not ("FLOAT" in c.ddl or "''" in c.ddl.replace("it''s", ""))
    ]
    columns = ", ".join(f"`{c.column.name}` {c.ddl} NULL" for c in every) + (
        ", g INT AS (id + 1) VIRTUAL" if own else ""
    )
    bench.execute(f"CREATE TABLE v (id INT PRIMARY KEY, {columns})")
    with contextlib.closing(bench.server.connect(database=bench.db)) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
        for i in range(max(len(c.values) for c in every) + 1):
            given = [(c.column.name, c.values[i][0]) for c in every if i < len(c.values)]
            names = "".join(f", `{name}`" for name, _ in given)
            cursor.execute(f"INSERT INTO v (id{names}) VALUES ({i}{''.join(f', {sql}' for _, sql in given)})")
    result = bench.take(lock=lock)
    (planned,) = manifest(bench, result)["tables"]
    assert planned["baseline_from"] == ("source" if own else "dump")
    rows = {row["id"]: row for row in bench.rows(result, "v")}
    for case in every:
        for i, row in rows.items():
            expected = case.values[i][1] if i < len(case.values) else None
            if case.column.type == "enum" and isinstance(expected, Exact):
                expected = Exact("0")
            assert cell(row, case.column.name) == expected, (case.ddl, i)
    if own:
        assert all(row["g"] == row["id"] + 1 for row in rows.values())


def manifest(bench: Bench, result: SnapshotResult) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bench.root / result.snapshot.path / "manifest.json").read_bytes())
    return found


def test_the_dump_directory_is_whole_and_described(bench: Bench) -> None:
    bench.execute("CREATE TABLE a (id INT PRIMARY KEY, t TEXT)")
    bench.execute("INSERT INTO a VALUES (1, 'x'), (2, NULL)")
    bench.execute("CREATE TABLE e (id INT PRIMARY KEY)")
    bench.execute("CREATE VIEW w AS SELECT id FROM a")
    bench.execute("CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET @x = 1")
    result = bench.take()
    folder = bench.root / result.snapshot.path
    facts = manifest(bench, result)
    files = {f["name"]: f for f in facts["files"]}
    assert set(files) == {p.name for p in folder.iterdir()} - {"manifest.json"}
    for name, described in files.items():
        body = (folder / name).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (described["size_bytes"], described["sha256"])
    assert b'(1,"x"),\n(2,NULL);' in gzip.decompress((folder / f"{bench.db}.a.sql.gz").read_bytes())
    assert {(t["table"], t["rows"]) for t in facts["tables"]} == {("a", 2), ("e", 0)}
    assert facts["skipped"] == [{"db": bench.db, "table": "w", "reason": "view"}]
    assert result.snapshot.size_bytes == sum(p.stat().st_size for p in folder.iterdir())
    assert {"plan", "lock", "upload", "baseline", "commit"} <= {p.phase for p in bench.seen}
    state = bench.log.read()
    assert list(state.snapshots) == [result.snapshot]
    assert state.identity is not None
    assert state.identity.flavor == bench.server.flavor
    again = bench.take(lock="none")
    assert again.snapshot.path != result.snapshot.path
    assert len(bench.log.read().snapshots) == 2


def test_large_tables_become_several_files(bench: Bench) -> None:
    bench.execute("CREATE TABLE big (id INT PRIMARY KEY, t VARCHAR(40), f INT)")
    bench.execute("CREATE TABLE bigf (id INT PRIMARY KEY, t VARCHAR(40), f FLOAT)")
    with contextlib.closing(bench.server.connect(database=bench.db)) as connection, connection.cursor() as cursor:
        for start in range(0, 120_000, 10_000):
            cursor.executemany(
                "INSERT INTO big VALUES (%s, %s, %s)", [(i, f"name {i}", i % 7) for i in range(start, start + 10_000)]
            )
        cursor.execute("INSERT INTO bigf SELECT * FROM big")
    result = bench.take()
    for name in ("big", "bigf"):
        (baseline,) = [b for b in result.snapshot.baselines if b.table == name]
        assert [o.rows for o in baseline.objects] == [100_000, 20_000]
        assert [(r["id"], r["t"], r["f"]) for r in bench.rows(result, name)] == [
            (i, f"name {i}", i % 7) for i in range(120_000)
        ]


NASTY = [
    "a/b",
    "../../etc",
    "quo\"te'`s",
    " lead",
    "dot.ted",
    "ünïcødé",
    "sel ect",
    "A",
    "a",
    "%41",
    "x-schema",
    "t.00001",
    "it,s",
]


@pytest.mark.parametrize("lock", ["brief", "none"])
def test_names(bench: Bench, lock: str) -> None:
    for i, name in enumerate(NASTY):
        quoted = "`" + name.replace("`", "``") + "`"
        bench.execute(f"CREATE TABLE {quoted} ({quoted} INT PRIMARY KEY, `_rb_op` VARCHAR(9))")
        bench.execute(f"INSERT INTO {quoted} VALUES ({i}, 'x')")
    result = bench.take(lock=lock)
    for i, name in enumerate(NASTY):
        assert bench.rows(result, name) == [{"_rb_exact": None, name: i, "_rb_col_rb_op": "x"}]
    missing = {t["table"] for t in manifest(bench, result)["tables"] if not t["in_dump"]}
    assert missing == {"a/b", "../../etc", "quo\"te'`s", " lead", "dot.ted", "x-schema", "t.00001", "it,s"}
    assert len(result.warnings) == len(missing)


@pytest.mark.parametrize("mode", ["ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH", "NO_BACKSLASH_ESCAPES"])
def test_the_servers_sql_mode_changes_nothing(bench: Bench, mode: str) -> None:
    bench.execute("CREATE TABLE m (id INT PRIMARY KEY, c CHAR(9), t TEXT)")
    bench.execute("INSERT INTO m VALUES (1, 'a', %s)", 'it\'s "x" \\ \n')
    bench.server.execute(f"SET GLOBAL sql_mode = '{mode}'")
    try:
        result = bench.take()
    finally:
        bench.server.execute("SET GLOBAL sql_mode = DEFAULT")
    assert bench.rows(result, "m") == [{"_rb_exact": None, "id": 1, "c": "a", "t": 'it\'s "x" \\ \n'}]
    assert mode.split(",")[0] in result.snapshot.sql_mode


# --- coordinates under load -------------------------------------------------------------------------------------------

WRITERS = 4


class Load:
    """Writers that each commit transactions of the same shape: two accounts change, and the writer's counter grows by one.
    So the sum of the counters is the number of transactions, and the accounts' sum never changes."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._stop = threading.Event()
        bench.execute("CREATE TABLE counters (id INT PRIMARY KEY, n INT)")
        bench.execute("CREATE TABLE floats (id INT PRIMARY KEY, n INT, f FLOAT)")
        bench.execute("CREATE TABLE accounts (id INT PRIMARY KEY, owner TEXT, cents BIGINT)")
        bench.execute("INSERT INTO counters VALUES " + ", ".join(f"({i}, 0)" for i in range(WRITERS)))
        bench.execute("INSERT INTO floats VALUES " + ", ".join(f"({i}, 0, 0.1)" for i in range(WRITERS)))
        bench.execute("INSERT INTO accounts VALUES " + ", ".join(f"({i}, REPEAT('x', 200), 1000)" for i in range(500)))
        self.base = self.number(self._gtids())
        self._threads = [threading.Thread(target=self._write, args=(i,)) for i in range(WRITERS)]

    def _gtids(self) -> str:
        variable = "@@gtid_executed" if self._bench.server.flavor == "mysql" else "@@gtid_binlog_pos"
        return str(self._bench.execute(f"SELECT {variable}")[0][0])

    def number(self, gtid_set: str) -> int:
        """The number of transactions in the server's own stream of GTIDs."""
        if self._bench.server.flavor == "mysql":
            intervals = [part.split("-") for part in gtid_set.replace("\n", "").split(":")[1:]]
            return sum(int(span[-1]) - int(span[0]) + 1 for span in intervals)
        return int(gtid_set.split("-")[-1])

    def _write(self, writer: int) -> None:
        with contextlib.closing(self._bench.server.connect(database=self._bench.db, autocommit=False)) as connection:
            cursor = connection.cursor()
            step = 0
            while not self._stop.is_set():
                step += 1
                first = writer * 100 + step % 100
                cursor.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (writer,))
                cursor.execute("UPDATE accounts SET cents = cents - 7 WHERE id = %s", (first,))
                cursor.execute("UPDATE accounts SET cents = cents + 7 WHERE id = %s", (400 + writer,))
                cursor.execute("UPDATE floats SET n = n + 1 WHERE id = %s", (writer,))
                connection.commit()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        time.sleep(0.3)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_brief_lock_is_exact_under_load(bench: Bench) -> None:
    marks = []
    with Load(bench) as load:
        for _ in range(4):
            result = bench.take(lock="brief")
            assert result.snapshot.low == result.snapshot.high
            assert 0 < result.lock_held_s < 5
            committed = load.number(result.snapshot.low.gtid_set) - load.base
            assert sum(row["n"] for row in bench.rows(result, "counters")) == committed
            assert sum(row["n"] for row in bench.rows(result, "floats")) == committed
            assert sum(row["cents"] for row in bench.rows(result, "accounts")) == 500_000
            marks.append(committed)
    assert marks == sorted(set(marks))  # the writers did write


def test_no_lock_marks_enclose_the_data_under_load(bench: Bench) -> None:
    with Load(bench) as load:
        for _ in range(4):
            result = bench.take(lock="none")
            low = load.number(result.snapshot.low.gtid_set) - load.base
            high = load.number(result.snapshot.high.gtid_set) - load.base
            assert low < high
            for table in ("counters", "floats"):
                assert low <= sum(row["n"] for row in bench.rows(result, table)) <= high
            assert result.lock_held_s == 0


@pytest.mark.parametrize("lock", ["brief", "none"])
def test_mysql_without_gtids(
    fresh_mysql: Callable[..., Server], tmp_path: Path, unique_name: Callable[[str], str], lock: str
) -> None:
    server = fresh_mysql(options={"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"})
    server.execute("CREATE DATABASE d")
    server.execute("CREATE TABLE d.t (id INT PRIMARY KEY)")
    server.execute("INSERT INTO d.t VALUES (1)")
    (tmp_path / "archive").mkdir()
    result = Bench(server, "d", tmp_path / "archive").take(lock=lock)
    assert result.snapshot.mode == lock
    for mark in (result.snapshot.low, result.snapshot.high):
        assert mark.gtid_set == ""
        assert mark.position > 4


def test_auto_falls_back_when_a_statement_is_in_the_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "LOCK_ATTEMPTS", 1)
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    sleeper = threading.Thread(target=bench.execute, args=("SELECT SLEEP(8)",))
    sleeper.start()
    time.sleep(2.2)
    with pytest.raises(LockNotAcquired, match="runs a statement"):
        bench.take(lock="brief", lock_wait_seconds=1)
    result = bench.take(lock="auto", lock_wait_seconds=1)
    assert result.snapshot.mode == "none"
    assert "runs a statement" in result.reason
    sleeper.join()


def test_the_lock_does_not_outlive_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")

    def fail(*_: object) -> None:
        bench.execute("SELECT 1")
        raise LockNotAcquired("mydumper's threads didn't open their snapshots", hint="")

    monkeypatch.setattr(window, "LOCK_ATTEMPTS", 1)
    monkeypatch.setattr(window, "wait_until_open", fail)
    with pytest.raises(LockNotAcquired):
        bench.take(lock="brief")
    bench.execute("INSERT INTO t VALUES (1)")  # would hang under the lock
    assert bench.take(lock="auto").snapshot.mode == "none"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_unsupported_things_are_refused_by_name_unless_excluded(bench: Bench) -> None:
    bench.execute("CREATE TABLE good (id INT PRIMARY KEY)")
    bad = ["CREATE TABLE bad (id INT PRIMARY KEY) ENGINE=MyISAM"]
    if bench.server.flavor == "mariadb":
        bad.append(
            "CREATE TABLE bad (id INT PRIMARY KEY, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED"
            " GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING"
        )
    for sql in bad:
        bench.execute(sql)
        with pytest.raises(SnapshotError, match="bad"):
            bench.take()
        assert [b.table for b in bench.take(exclude=(f"{bench.db}.b*",)).snapshot.baselines] == ["good"]
        bench.execute("DROP TABLE bad")


def test_tables_that_need_the_lock(bench: Bench) -> None:
    bench.execute("CREATE TABLE p (id INT PRIMARY KEY)")
    bench.execute("CREATE TABLE keyless (a INT)")
    bench.execute("INSERT INTO keyless VALUES (1), (1)")
    bench.execute("CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)")
    with pytest.raises(LockNotAcquired, match="keyless"):
        bench.take(lock="none")
    result = bench.take(lock="none", skip_unsafe=True)
    skipped = {name for _, name, _ in result.snapshot.skipped}
    assert skipped == ({"keyless", "child"} if bench.server.flavor == "mariadb" else {"keyless"})
    assert len(bench.rows(bench.take(lock="brief"), "keyless")) == 2


def test_selection(bench: Bench) -> None:
    for name in ("orders", "order_items", "users"):
        bench.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY)")
    taken = bench.take(databases=(), tables=(f"{bench.db}.order*",), exclude=(f"{bench.db}.*_items",))
    assert [b.table for b in taken.snapshot.baselines] == ["orders"]
    assert not [f for f in manifest(bench, taken)["files"] if "users" in f["name"] or "items" in f["name"]]
    for wrong in ({"tables": (f"{bench.db}.nothing",)}, {"databases": ("no_such_db",)}, {"exclude": ("*",)}):
        with pytest.raises(UnknownTable):
            bench.take(**wrong)


def test_another_servers_archive_is_refused(bench: Bench, request: pytest.FixtureRequest) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.take()
    other = "mariadb" if bench.server.flavor == "mysql" else "mysql"
    bench.server = request.getfixturevalue(f"{other}_source")
    with pytest.raises(SourceDiverged):
        bench.take()


# --- the account ------------------------------------------------------------------------------------------------------


def test_the_documented_grants_are_enough(bench: Bench) -> None:
    bench.server.load(GRANTS.read_bytes())
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY, f FLOAT)")
    bench.execute("CREATE VIEW w AS SELECT * FROM t")
    bench.execute("CREATE PROCEDURE p() SELECT 'routine body'")
    bench.execute("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
    bench.user, bench.password = "rowback", "change-me"
    assert bench.take(lock="brief").snapshot.mode == "brief"
    assert bench.take(lock="none").snapshot.mode == "none"


def test_wrong_password_and_missing_privileges(bench: Bench, unique_name: Callable[[str], str]) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.password = "wrong horse"
    with pytest.raises(AccessDenied) as denied:
        bench.take()
    assert "wrong horse" not in str(denied.value)
    bench.user, bench.password = unique_name("low"), 'p w#"\\x'
    monitor = "REPLICATION CLIENT"
    bench.server.execute(f"CREATE USER {bench.user} IDENTIFIED BY %s", (bench.password,))
    bench.server.execute(f"GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, {monitor} ON *.* TO {bench.user}")
    with pytest.raises(PrivilegeMissing) as missing:
        bench.take(lock="brief")
    assert "GRANT FLUSH_TABLES ON *.*" in missing.value.hint or bench.server.flavor == "mariadb"
    result = bench.take(lock="auto")
    assert result.snapshot.mode == "none"
    assert "RELOAD" in result.reason
    bench.server.execute(f"DROP USER {bench.user}")


def test_parts_that_the_account_may_not_see_are_left_out_with_a_warning(
    bench: Bench, unique_name: Callable[[str], str]
) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.execute("INSERT INTO t VALUES (1)")
    bench.execute("CREATE VIEW w AS SELECT * FROM t")
    bench.execute("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
    bench.execute("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @x = 1")
    root, name = bench.user, unique_name("part")
    have = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "PROCESS", "REPLICATION CLIENT"]
    for lacks, kind, file in [
        ("", "", ""),
        ("EVENT", "events", ""),
        ("TRIGGER", "triggers", "t-schema-triggers"),
        ("SHOW VIEW", "views", "w-schema-view"),
    ]:
        bench.server.execute(f"DROP USER IF EXISTS {name}")
        bench.server.execute(f"CREATE USER {name}")
        bench.server.execute(f"GRANT {', '.join(p for p in have if p != lacks)} ON *.* TO {name}")
        bench.user = name
        result = bench.take(lock="none")
        assert bench.rows(result, "t") == [{"_rb_exact": None, "id": 1}]
        files = [f["name"] for f in manifest(bench, result)["files"]]
        if lacks:
            warning, *more = result.warnings  # a view that can't be shown is named again, for it can't be restored
            assert kind == "views" or not more
            assert all(f"view `{bench.db}.w`" in m for m in more)
            assert f"without {kind}" in warning
            assert f"GRANT {lacks} ON *.* TO '{name}'@" in warning
            assert not file or not any(file in found for found in files)
        else:
            assert result.warnings == ()
        bench.user = root
    bench.server.execute(f"DROP USER {name}")


def test_without_select_the_grant_is_named(bench: Bench, unique_name: Callable[[str], str]) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    root, name = bench.user, unique_name("blind")
    bench.server.execute(f"CREATE USER {name}")
    bench.server.execute(f"GRANT REPLICATION CLIENT, PROCESS ON *.* TO {name}")
    asked: list[dict[str, Any]] = [{}, {"databases": ()}, {"databases": (), "tables": (f"{bench.db}.t",)}]
    for extra in ("", "SHOW VIEW, TRIGGER"):  # with these the table is seen, but still not read
        if extra:
            bench.server.execute(f"GRANT {extra} ON *.* TO {name}")
        for given in asked:
            bench.user = name
            with pytest.raises(PrivilegeMissing) as caught:
                bench.take(**given)
            assert "GRANT SELECT ON " in caught.value.hint
            assert f"TO '{name}'@" in caught.value.hint
            bench.user = root
    bench.server.execute(f"GRANT SELECT ON {bench.db}.* TO {name}")
    bench.user = name
    assert len(bench.take(lock="none").snapshot.baselines) == 1
    with pytest.raises(UnknownTable):
        bench.take(databases=(), tables=(f"{bench.db}.nope",))
    bench.user = root
    bench.server.execute(f"DROP USER {name}")


# --- databases of other people ----------------------------------------------------------------------------------------

ODD_DATABASES = ["a'b", 'q"r', "x`y", "c\\d", "o.d/d ö", "ö", "жук", "it's 100%"]


@pytest.mark.parametrize("lock", ["brief", "none"])
def test_odd_databases_do_not_disturb_and_are_held(request: pytest.FixtureRequest, tmp_path: Path, lock: str) -> None:
    for flavor in ("mysql", "mariadb"):
        server: Server = request.getfixturevalue(f"fresh_{flavor}")()
        (tmp_path / flavor / "archive").mkdir(parents=True)
        connection = server.connect()
        with contextlib.closing(connection), connection.cursor() as cursor:
            for db in ("shop", "crm"):
                cursor.execute(f"CREATE DATABASE {db}")
                cursor.execute(f"CREATE TABLE {db}.t (id INT PRIMARY KEY)")
                cursor.execute(f"INSERT INTO {db}.t VALUES (7)")
                cursor.execute(f"CREATE EVENT {db}.e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
            for db in ODD_DATABASES:
                cursor.execute("CREATE DATABASE " + quote(db))  # still empty
        bench = Bench(server, "shop", tmp_path / flavor / "archive")
        for given in ({"databases": ("shop",)}, {"databases": ("shop", "crm")}):
            result = bench.take(lock=lock, **given)
            assert result.warnings == ()
            names = {f["name"] for f in manifest(bench, result)["files"]}
            assert "metadata" in names
            for db in given["databases"]:
                assert {f"{db}-schema-create.sql.gz", f"{db}-schema-post.sql.gz", f"{db}.t.sql.gz"} <= names
        connection = server.connect()
        with contextlib.closing(connection), connection.cursor() as cursor:
            for db in ODD_DATABASES:
                cursor.execute(f"CREATE TABLE {quote(db)}.t (id INT PRIMARY KEY)")
                cursor.execute(f"INSERT INTO {quote(db)}.t VALUES (1)")
        result = bench.take(lock=lock, databases=())
        assert {b.db: b.rows for b in result.snapshot.baselines} == dict.fromkeys(["shop", "crm", *ODD_DATABASES], 1)
        assert len(result.warnings) == len(ODD_DATABASES)


def test_several_dumpers_stand_at_one_position(bench: Bench, unique_name: Callable[[str], str]) -> None:
    other, odd = unique_name("other"), unique_name("o'dd")
    with Load(bench) as load:
        bench.server.execute(f"CREATE DATABASE {other}")
        bench.server.execute(f"CREATE TABLE {other}.t (id INT PRIMARY KEY)")
        bench.server.execute(f"CREATE DATABASE {quote(odd)}")
        load.base += 3
        try:
            for _ in range(3):
                result = bench.take(lock="brief", databases=(bench.db, other))
                committed = load.number(result.snapshot.low.gtid_set) - load.base
                assert sum(row["n"] for row in bench.rows(result, "counters")) == committed
                assert sum(row["n"] for row in bench.rows(result, "floats")) == committed
        finally:
            bench.server.execute(f"DROP DATABASE {quote(odd)}")
            bench.server.execute(f"DROP DATABASE {other}")


# --- mydumper and the machine -----------------------------------------------------------------------------------------


def fake_dumper(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `mydumper` on PATH that says it is 0.10.0 and otherwise runs `body` (shell)."""
    folder.mkdir()
    script = folder / "mydumper"
    script.write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'mydumper 0.10.0, built against x'; exit;; --help) exit;; esac\n" + body
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_missing_dumper(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DumperMissing):
        bench.take()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("echo 'CRITICAL: it broke' >&2; exit 3", "status 3.*it broke"),
        ("exit 0", "left no `metadata` file"),
        ("sleep 60", "didn't end within 1 s"),
    ],
)
def test_failing_dumpers(
    bench: Bench, body: str, complaint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    fake_dumper(tmp_path / "bin", body, monkeypatch)
    with pytest.raises(DumperFailed, match=complaint):
        bench.take(lock="none", timeout_s=1)
    assert len(bench.log.read().snapshots) == 0


def test_a_table_missing_from_the_dump_is_no_empty_table(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    body = 'while [ "$1" != --outputdir ]; do shift; done; echo x > "$2/metadata"'
    fake_dumper(tmp_path / "bin", body, monkeypatch)
    with pytest.raises(DumperFailed, match="missing from the dump"):
        bench.take(lock="none")


def test_the_password_is_in_a_private_file_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], int]] = []
    real = dumper.DumpProcess.__init__

    def spy(self: Any, run: dumper.Run, timeout_s: float) -> None:
        defaults = Path(run.argv[1].removeprefix("--defaults-file="))
        seen.append((list(run.argv), stat.S_IMODE(defaults.stat().st_mode)))
        real(self, run, timeout_s)

    monkeypatch.setattr(dumper.DumpProcess, "__init__", spy)
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.server.load(GRANTS.read_bytes())
    bench.user, bench.password = "rowback", "change-me"
    bench.take()
    ((argv, mode),) = seen
    assert mode == 0o600
    assert "change-me" not in " ".join(argv)


def test_the_password_is_gone_while_mydumper_works(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    said = "".join(f"echo 'Thread {n} connected using MySQL connection ID {n}';" for n in (1, 2, 3))
    fake_dumper(
        tmp_path / "bin",
        f"{said} while [ -e ../mydumper.cnf ] || [ -e mydumper.cnf ]; do sleep 0.05; done; exit 9",
        monkeypatch,
    )
    with pytest.raises(DumperFailed, match="status 9"):
        bench.take(lock="none", timeout_s=20)


def test_a_snapshot_before_the_first_capture_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    monkeypatch.setattr(Bench, "begin", lambda self: None)
    with pytest.raises(SnapshotError, match="capture has not begun") as caught:
        bench.take()
    assert "rowback capture" in caught.value.hint
    assert bench.log.read().version == 0


def test_leftovers_of_killed_snapshots_are_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    host, now = socket.gethostname(), time.time()
    cases = {
        "old": (f"{gone.pid} {host}\n", 100_000, False),
        "young": (f"{gone.pid} {host}\n", 1_000, True),
        "alive": (f"{os.getpid()} {host}\n", 100_000, True),
        "elsewhere": (f"{gone.pid} another-{host}\n", 100_000, True),
        "unmarked": (None, 100_000, True),
        "broken": ("x\n", 100_000, True),
    }
    for name, (owner, age_s, _) in cases.items():
        folder = tmp_path / f"rowback-snapshot-{name}"
        (folder / "try1").mkdir(parents=True)
        if owner is not None:
            (folder / "owner").write_text(owner)
        os.utime(folder, (now - age_s, now - age_s))
    (tmp_path / "rowback-snapshot-link").symlink_to(tmp_path / "rowback-snapshot-young")
    take.sweep(tmp_path, now)
    for name, (_, _, stays) in cases.items():
        assert (tmp_path / f"rowback-snapshot-{name}").exists() == stays, name


def test_a_full_staging_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    usage = dumper.shutil.disk_usage("/")
    monkeypatch.setattr(dumper.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(NoSpace) as caught:
        bench.take()
    assert "--staging-dir" in caught.value.hint


@pytest.mark.parametrize("change", ["ALTER TABLE t ADD x INT", "DROP TABLE t"])
def test_a_schema_change_in_the_window_fails_the_snapshot(
    bench: Bench, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.execute("INSERT INTO t VALUES (1)")
    real = window.high_mark

    def late(*given: Any) -> Any:
        time.sleep(1.1)  # CREATE_TIME has whole seconds
        bench.execute(change)
        return real(*given)

    monkeypatch.setattr(window, "high_mark", late)
    with pytest.raises(SnapshotError, match="altered or recreated"):
        bench.take(lock="none")
    assert len(bench.log.read().snapshots) == 0


@pytest.mark.parametrize("kind", ["INT", "FLOAT"])
def test_a_table_truncated_before_it_is_read_fails_the_snapshot(
    bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.execute(f"CREATE TABLE t (id INT PRIMARY KEY, f {kind})")
    bench.execute("INSERT INTO t VALUES (1, 1)")
    real = window._open_reader

    def truncate(*given: Any) -> Any:
        reader = real(*given)
        bench.execute("TRUNCATE TABLE t")
        return reader

    monkeypatch.setattr(window, "_open_reader", truncate)
    if kind == "FLOAT":
        with pytest.raises(SnapshotError, match="truncated"):
            bench.take(lock="none")
    else:  # mydumper opens its snapshot later: after the TRUNCATE, which is then between LOW and HIGH
        assert bench.rows(bench.take(lock="none"), "t") == []


CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.config import ServerSettings
from recovery.snapshot.request import SnapshotRequest
from recovery.snapshot.take import take_snapshot
port, root, staging, db = sys.argv[1:]
store, layout = FileStore(Path(root)), Layout("default", "s")
take_snapshot(ServerSettings(name="s", port=int(port), user="root"), store, layout, Log(store, layout),
    SnapshotRequest(databases=(db,), staging_dir=Path(staging), lock="none"),
    now=lambda: datetime.now(UTC))
"""


def ends(pid: int) -> bool:
    """Whether the process is gone within some seconds: an orphan is there until the first process has seen its end."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_mydumper_and_remove_the_staging_folder(
    bench: Bench, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.begin()
    pid_file, staging = tmp_path / "pid", tmp_path / "staging"
    fake_dumper(tmp_path / "bin", f"echo $$ > {pid_file}.tmp; mv {pid_file}.tmp {pid_file}; exec sleep 60", monkeypatch)
    root = Path(__file__).parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(bench.server.port), str(bench.root), str(staging), bench.db],
        env=os.environ | {"PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(number)
    assert child.wait(30) != 0
    assert list(staging.iterdir()) == []
    assert ends(int(pid_file.read_text()))


def test_kill_9_ends_mydumper_as_well(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.begin()
    pid_file, staging = tmp_path / "pid", tmp_path / "staging"
    fake_dumper(tmp_path / "bin", f"echo $$ > {pid_file}.tmp; mv {pid_file}.tmp {pid_file}; exec sleep 60", monkeypatch)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(bench.server.port), str(bench.root), str(staging), bench.db],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.wait(30)
    assert ends(int(pid_file.read_text()))
    (folder,) = staging.iterdir()
    assert (folder / "owner").read_text().split()[0] == str(child.pid)


def test_labels_that_the_server_hides_are_warned_of(bench: Bench) -> None:
    bench.execute("CREATE TABLE e (id INT PRIMARY KEY, k ENUM('a', X'F09F9880') CHARACTER SET utf8mb4, l ENUM('b'))")
    bench.execute("INSERT INTO e VALUES (1, 'a', 'b')")
    (warning,) = (w for w in bench.take().warnings if "`?`" in w)
    assert "column k of" in warning
    bench.execute("INSERT INTO e VALUES (2, X'F09F9880', 'b')")
    with pytest.raises(UnsupportedColumn, match="`k`"):
        bench.take()


def test_sequences_are_named(bench: Bench) -> None:
    if bench.server.flavor != "mariadb":
        pytest.skip("MySQL has no sequences")
    bench.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    bench.execute("CREATE SEQUENCE numbers")
    snapshot = bench.take().snapshot
    assert (bench.db, "numbers", "sequence") in snapshot.skipped
    assert [(o.type, o.name) for o in snapshot.objects] == [("sequence", "numbers")]
