"""Every kind of event that carries data, from real servers: what the archive holds is what the source committed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exactness import assert_exact, executed
from rowback import Rowback

from dataflow.payload import PART_BYTES
from recovery.archive.segments import read_transactions
from recovery.context import open_context
from testservers import Server

TABLES = """
CREATE DATABASE d;
CREATE TABLE d.t (id int PRIMARY KEY AUTO_INCREMENT, a varchar(400), b int, c longblob);
CREATE TABLE d.k (a int, b varchar(100));
"""
CHANGES = """
INSERT INTO d.t (a, b) VALUES (REPEAT('x', 300), 1), (REPEAT('yz', 150), 2), ('short', 3);
INSERT INTO d.k VALUES (1, REPEAT('k', 90)), (1, REPEAT('k', 90)), (2, NULL);
UPDATE d.t SET b = b + 10, a = CONCAT(a, '!') WHERE id < 3;
UPDATE d.k SET b = 'changed' WHERE a = 1 LIMIT 1;
DELETE FROM d.t WHERE id = 3;
"""


class Story:
    """A source with tables and an archive that has begun, and what it looked like then."""

    def __init__(self, folder: Path, source: Server, extra: str = "") -> None:
        self.source = source
        self.start = executed(source)
        self.rowback = Rowback(folder / "rowback", source, extra=extra)
        self.rowback.run("capture", "--until-caught-up")
        source.load(TABLES)

    def check(self) -> None:
        self.rowback.run("capture", "--until-caught-up")
        found = assert_exact(self.rowback, self.source, self.start)
        assert found.row_changes > 0

    def transactions(self) -> list[dict[str, Any]]:
        context = open_context(self.rowback.config)
        parts = read_transactions(context.store, context.log.read().transactions)
        return [row for part in parts for row in part.to_pylist()]


@pytest.mark.parametrize("rows", [3, 60_000])
def test_compressed_transactions(rows: int, tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql(options={"binlog-transaction-compression": "ON", "cte-max-recursion-depth": 100_000})
    story = Story(tmp_path, source)
    source.load(CHANGES)
    source.load(
        "INSERT INTO d.t (a, b) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < "
        f"{rows}) SELECT REPEAT(CHAR(65 + i % 26), 300), i FROM n;"
        "CREATE TABLE d.s (PRIMARY KEY (id)) AS SELECT id, b FROM d.t WHERE b < 50;"
    )
    assert rows < 1000 or rows * 300 > PART_BYTES, "the large one is unpacked in parts"
    story.check()


def test_transactions_with_a_tag(tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql()
    story = Story(tmp_path, source)
    source.load(
        f"SET gtid_next = 'AUTOMATIC:audit'; {CHANGES} SET gtid_next = 'AUTOMATIC'; INSERT INTO d.k VALUES (9, '9');"
    )
    story.check()
    gtids = [row["gtid"] for row in story.transactions()]
    assert sum(":audit:" in gtid for gtid in gtids) == 5
    times = [row["committed_at_us"] for row in story.transactions()]
    assert times == sorted(times)
    assert all(t % 1_000_000 for t in times[-3:]), "tagged ones have microseconds too"
    context = open_context(story.rowback.config)
    checkpoint = context.log.read().checkpoint
    assert checkpoint is not None
    assert checkpoint.gtid_set == executed(source).replace("\n", "")


def test_gtids_with_holes_that_run_backwards(tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql()
    story = Story(tmp_path, source)
    uuid = source.execute("SELECT @@server_uuid")[0][0]
    for number in (500, 300, 301):
        source.load(
            f"SET gtid_next = '{uuid}:{number}'; INSERT INTO d.k VALUES ({number}, 'x'); SET gtid_next = 'AUTOMATIC'"
        )
    source.load(CHANGES)
    story.check()


def test_anonymous_transactions(tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql(options={"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"})
    story = Story(tmp_path, source)
    source.load(CHANGES)
    story.check()
    assert all(row["gtid"] is None for row in story.transactions())


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_row_events_of_both_versions(version: str, tmp_path: Path, fresh_mysql: Any, fresh_mariadb: Any) -> None:
    """MariaDB writes version 1, MySQL version 2."""
    source = fresh_mariadb() if version == "V1" else fresh_mysql()
    story = Story(tmp_path, source)
    source.load(CHANGES)
    story.check()


def test_rows_query_events_and_small_row_events(tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql(options={"binlog-rows-query-log-events": "ON", "binlog-row-event-max-size": 256})
    story = Story(tmp_path, source)
    source.load(CHANGES)
    story.check()


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_events_of_more_than_16_mib(flavor: str, tmp_path: Path, fresh_mysql: Any, fresh_mariadb: Any) -> None:
    options = {
        "max-allowed-packet": "128M",
        "innodb-log-file-size" if flavor == "mariadb" else "innodb-redo-log-capacity": "512M",
    }
    source = fresh_mysql(options=options) if flavor == "mysql" else fresh_mariadb(options=options)
    story = Story(tmp_path, source)
    packet = 0xFFFFFF
    for size in (packet - 60, packet - 50, packet - 40, 2 * packet - 45, 40_000_000):
        source.load(f"INSERT INTO d.t (a, b, c) VALUES ('{size}', 1, REPEAT('x', {size}))")
    source.load("UPDATE d.t SET c = REPEAT('y', 17000000) WHERE id = 1; DELETE FROM d.t WHERE id = 2;")
    story.check()


def test_mariadbs_compressed_events(tmp_path: Path, fresh_mariadb: Any) -> None:
    source = fresh_mariadb(options={"log-bin-compress": "ON", "log-bin-compress-min-len": 10})
    story = Story(tmp_path, source)
    source.load(
        CHANGES + "DELETE FROM d.t; ALTER TABLE d.t ADD COLUMN e varchar(40) DEFAULT 'a rather long default';" + CHANGES
    )
    story.check()


def test_mariadbs_alter_in_two_phases(tmp_path: Path, fresh_mariadb: Any) -> None:
    source = fresh_mariadb()
    story = Story(tmp_path, source)
    source.load(
        f"{CHANGES} DELETE FROM d.t; SET SESSION binlog_alter_two_phase = ON;"
        "ALTER TABLE d.t ADD COLUMN e int, ALGORITHM = COPY;"
        "INSERT INTO d.t (a, b, e) VALUES ('after', 1, 2); ALTER TABLE d.t ADD UNIQUE (b);"
    )
    with pytest.raises(Exception, match="Duplicate"):
        source.load("SET SESSION binlog_alter_two_phase = ON; ALTER TABLE d.k ADD UNIQUE (a), ALGORITHM = COPY;")
    source.load("INSERT INTO d.k VALUES (77, 'after the failure')")
    story.check()
    state = open_context(story.rowback.config).log.read()
    assert [d.statement for d in state.ddls if "COPY" in d.statement] == [
        "ALTER TABLE d.t ADD COLUMN e int, ALGORITHM = COPY"
    ], "a change of the table where it is committed, once; none for the one that failed"


def test_mariadb_domains(tmp_path: Path, fresh_mariadb: Any) -> None:
    source = fresh_mariadb()
    story = Story(tmp_path, source)
    source.load(
        f"{CHANGES} SET SESSION gtid_domain_id = 5; INSERT INTO d.k VALUES (5, 'five'); SET SESSION server_id = 77;"
        "INSERT INTO d.k VALUES (6, 'six');"
    )
    story.check()
    checkpoint = open_context(story.rowback.config).log.read().checkpoint
    assert checkpoint is not None
    assert checkpoint.gtid_set == executed(source)
    assert {row["gtid"].split("-")[0] for row in story.transactions()} == {"0", "5"}


XA = """
XA START 'a', 'b', 7; INSERT INTO d.t (a, b) VALUES ('xa', 1); UPDATE d.t SET b = 2 WHERE a = 'xa'; XA END 'a', 'b', 7;
XA PREPARE 'a', 'b', 7;
"""


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.parametrize("restart", [False, True], ids=["at once", "captured between"])
def test_xa_transactions(flavor: str, restart: bool, tmp_path: Path, fresh_mysql: Any, fresh_mariadb: Any) -> None:
    source = fresh_mysql() if flavor == "mysql" else fresh_mariadb()
    story = Story(tmp_path, source)

    def pause() -> None:
        if restart:
            story.rowback.run("capture", "--until-caught-up")

    source.load(CHANGES)
    source.load(XA)
    pause()
    source.load("INSERT INTO d.k VALUES (50, 'between')")
    source.load("XA COMMIT 'a', 'b', 7")
    pause()
    source.load(XA.replace("'a', 'b', 7", "'r'").replace("'xa'", "'rolled back'"))
    pause()
    source.load("INSERT INTO d.k VALUES (51, 'between')")
    source.load("XA ROLLBACK 'r'")
    source.load(
        "XA START 'one'; INSERT INTO d.t (a, b) VALUES ('one phase', 1); XA END 'one'; XA COMMIT 'one' ONE PHASE;"
    )
    story.check()


def test_a_transaction_longer_than_the_buffers(tmp_path: Path, fresh_mysql: Any) -> None:
    source = fresh_mysql(options={"cte-max-recursion-depth": 100_000})
    story = Story(tmp_path, source, extra="window_bytes = 1000000")
    source.load(
        "INSERT INTO d.t (a, b) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 90000)"
        " SELECT REPEAT(CHAR(65 + i % 26), 300), i FROM n;"
        "START TRANSACTION; UPDATE d.t SET b = -b; DELETE FROM d.t WHERE b < -50000; INSERT INTO d.k VALUES (1, 'end');"
        "COMMIT;"
    )
    story.check()
