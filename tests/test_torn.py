"""A MariaDB server that died inside a transaction leaves it in its binlog. Capture goes on behind it where the next file
proves that it took no effect, and stops with a gap where it doesn't."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from exactness import assert_exact, executed
from rowback import Rowback, drain, wait_for
from test_capture_large import MIB, rows_of

from dataflow import events as ev
from recovery.context import open_context
from testservers import MariaDBServer

PASSED = "a transaction without its end"
SETUP = """CREATE DATABASE d; CREATE TABLE d.t (id int PRIMARY KEY, n int, body mediumtext);
CREATE TABLE d.u (id int PRIMARY KEY);"""
SMALL = "INSERT INTO d.t VALUES (100, 1, 'small'), (101, 1, 'small')"
# Several events, and more than capture keeps back of a transaction whose end it hasn't seen; as parts of it go ahead.
LARGE = "INSERT INTO d.t SELECT 1000 + seq, seq, REPEAT('long ', 2000) FROM d.seq_1_to_3000"


def events(body: bytes) -> list[bytes]:
    found, at = [], 4
    while at < len(body):
        size = int.from_bytes(body[at + 9 : at + 13], "little")
        found.append(body[at : at + size])
        at += size
    return found


def last_transaction(file: Path) -> list[bytes]:
    found = events(file.read_bytes())
    return found[max(n for n, e in enumerate(found) if e[4] == ev.MARIADB_GTID) :]


def moved(event: bytes, position: int) -> bytes:
    """The event as if it had been written at `position`, with the next number if it is a GTID."""
    event = event[:13] + (position + len(event)).to_bytes(4, "little") + event[17:-4]
    if event[4] == ev.MARIADB_GTID:
        event = event[:19] + (int.from_bytes(event[19:27], "little") + 1).to_bytes(8, "little") + event[27:]
    return event + zlib.crc32(event).to_bytes(4, "little")


def tear(source: MariaDBServer, *, cut: bool) -> None:
    """Kill it and append its last transaction as another one: without its end, or cut in its last event but one."""
    source.kill()
    file = source.binlog_files()[-1]
    with file.open("ab") as out:
        copied = last_transaction(file)[:-1]
        for n, event in enumerate(copied):
            event = moved(event, out.tell())
            out.write(event[: len(event) // 2] if cut and n == len(copied) - 1 else event)


def begin(tmp_path: Path, fresh_mariadb: Any, metadata: str) -> tuple[MariaDBServer, Rowback, str]:
    source: MariaDBServer = fresh_mariadb(name="torn", options={"binlog_row_metadata": metadata, "sync_binlog": 1})
    source.load(SETUP)
    start = executed(source)
    rowback = Rowback(tmp_path / "rowback", source, extra=f"memory_bytes = {16 * MIB}")
    rowback.run("capture", "--until-caught-up")
    source.execute("INSERT INTO d.t VALUES (1, 1, 'first')")
    return source, rowback, start


@pytest.mark.parametrize("cut", [True, False], ids=["event-cut", "no-end"])
@pytest.mark.parametrize("statement", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("running", "metadata"), [(True, "FULL"), (False, "NO_LOG")])
def test_what_the_server_rolled_back_is_passed_over(
    running: bool, metadata: str, statement: str, cut: bool, tmp_path: Path, fresh_mariadb: Any
) -> None:
    source, rowback, start = begin(tmp_path, fresh_mariadb, metadata)
    capture = rowback.start_capture("--window-seconds", "0.1") if running else None
    if capture is not None:
        rowback.wait_started(capture)
    source.execute(statement)
    if capture is not None:
        wait_for(lambda: open_context(rowback.config).log.read().last_seq == 2, 30, "the last whole transaction")
    tear(source, cut=cut)
    source.start()
    # Its number is given again, to something else; and with NO_LOG, this table's columns are asked for across the tear.
    source.execute("INSERT INTO d.u VALUES (7)")
    source.execute("DELETE FROM d.t WHERE id = 1")
    if capture is not None:
        wait_for(
            lambda: open_context(rowback.config).log.read().last_seq == 4, 60, "what was committed after the start"
        )
        assert drain(capture) == 0
    done = rowback.run("capture", "--until-caught-up")
    assert PASSED in (done.stderr if capture is None else rowback.capture_log())
    assert assert_exact(rowback, source, start).gaps == 0
    state = open_context(rowback.config).log.read()
    assert not state.gaps
    assert state.last_seq == 4


@pytest.mark.parametrize("metadata", ["FULL", "NO_LOG"])
def test_twice_in_a_row_with_nothing_between(metadata: str, tmp_path: Path, fresh_mariadb: Any) -> None:
    source, rowback, start = begin(tmp_path, fresh_mariadb, metadata)
    tear(source, cut=True)
    whole = last_transaction(source.binlog_files()[-1])
    source.start()
    source.kill()
    with source.binlog_files()[-1].open("ab") as out:
        out.write(moved(whole[0], out.tell()) + whole[1][:7])
    source.start()
    source.execute("INSERT INTO d.u VALUES (7)")
    done = rowback.run("capture", "--until-caught-up")
    assert done.stderr.count(PASSED) >= 2
    assert assert_exact(rowback, source, start).gaps == 0


@pytest.mark.parametrize("cut", [True, False], ids=["event-cut", "no-end"])
def test_an_idle_source_behind_it_is_taken_up_again(cut: bool, tmp_path: Path, fresh_mariadb: Any) -> None:
    source, rowback, start = begin(tmp_path, fresh_mariadb, "FULL")
    rowback.run("capture", "--until-caught-up")
    tear(source, cut=cut)
    torn = source.binlog_files()[-1]
    source.start()
    for _ in range(2):
        assert "ERROR" not in rowback.run("capture", "--until-caught-up").stderr
    source.execute("INSERT INTO d.u VALUES (7)")
    rowback.run("capture", "--until-caught-up")
    source.execute(f"PURGE BINARY LOGS TO '{source.binlog_files()[-1].name}'")
    assert not torn.exists()
    source.execute("INSERT INTO d.u VALUES (8)")
    rowback.run("capture", "--until-caught-up")
    assert assert_exact(rowback, source, start, purged=True).gaps == 0


XA = ("XA START 'x'", "{}", "XA END 'x'", "XA PREPARE 'x'")


def prepare(source: MariaDBServer, statement: str) -> None:
    connection = source.connect()
    with connection.cursor() as cursor:
        for each in XA:
            cursor.execute(each.format(statement))
    connection.close()


@pytest.mark.parametrize("statement", [SMALL, LARGE], ids=["small", "large"])
def test_an_xa_prepare_without_its_end_and_something_else_behind_it(
    statement: str, tmp_path: Path, fresh_mariadb: Any
) -> None:
    source, rowback, _ = begin(tmp_path, fresh_mariadb, "FULL")
    rowback.run("capture", "--until-caught-up")
    prepare(source, statement)
    source.kill()
    file = source.binlog_files()[-1]
    os.truncate(file, file.stat().st_size - len(last_transaction(file)[-1]))
    source.start()
    source.execute("INSERT INTO d.u VALUES (7), (8)")
    assert PASSED in rowback.run("capture", "--until-caught-up").stderr
    context = open_context(rowback.config)
    assert sorted(row["id"] for row in rows_of(context, "d", "u")) == [7, 8]
    assert len(rows_of(context, "d", "t")) == 1
    assert not context.log.read().pending


def test_an_xa_prepare_behind_it(tmp_path: Path, fresh_mariadb: Any) -> None:
    source, rowback, start = begin(tmp_path, fresh_mariadb, "FULL")
    source.execute(SMALL)
    tear(source, cut=False)
    source.start()
    prepare(source, "INSERT INTO d.t VALUES (50, 1, 'xa')")
    source.execute("XA COMMIT 'x'")
    assert PASSED in rowback.run("capture", "--until-caught-up").stderr
    assert assert_exact(rowback, source, start).gaps == 0


TOOK_EFFECT = (
    "TRUNCATE TABLE d.t",
    "INSERT INTO d.aria VALUES (1)",
    "CREATE TABLE d.v (id int PRIMARY KEY) SELECT seq AS id, REPEAT('long ', 2000) AS body FROM d.seq_1_to_300",
)


@pytest.mark.parametrize("statement", TOOK_EFFECT)
def test_what_a_crash_does_not_roll_back_is_a_gap(statement: str, tmp_path: Path, fresh_mariadb: Any) -> None:
    source, rowback, _ = begin(tmp_path, fresh_mariadb, "FULL")
    source.execute("CREATE TABLE d.aria (id int PRIMARY KEY) ENGINE=Aria")
    rowback.run("capture", "--until-caught-up")
    before = open_context(rowback.config).log.read()
    source.execute(statement)
    source.kill()
    file = source.binlog_files()[-1]
    os.truncate(file, file.stat().st_size - 10)
    refused(source, rowback, "took effect")
    assert open_context(rowback.config).log.read().ddls == before.ddls


def test_a_binlog_that_is_not_synced_is_no_proof(tmp_path: Path, fresh_mariadb: Any) -> None:
    """A power cut may take the end of the binlog and leave the tables' rows: the server's list is of what is left."""
    source, rowback, _ = begin(tmp_path, fresh_mariadb, "FULL")
    rowback.run("capture", "--until-caught-up")
    source.execute(SMALL)
    source.kill()
    file = source.binlog_files()[-1]
    os.truncate(file, file.stat().st_size - 10)
    source.options["sync_binlog"] = 0
    refused(source, rowback, "sync_binlog = 0")
    assert source.execute("SELECT COUNT(*) FROM d.t") == ((3,),)


def test_a_tail_whose_beginning_is_cut_is_a_gap(tmp_path: Path, fresh_mariadb: Any) -> None:
    """Nothing says what it was."""
    source, rowback, _ = begin(tmp_path, fresh_mariadb, "FULL")
    rowback.run("capture", "--until-caught-up")
    source.kill()
    with source.binlog_files()[-1].open("ab") as out:
        out.write(b"\x01\x02\x03\x04\xa2")
    refused(source, rowback, "truncated in the middle of event")


def refused(source: MariaDBServer, rowback: Rowback, says: str) -> None:
    last = open_context(rowback.config).log.read().last_seq
    source.start()
    source.execute("INSERT INTO d.u VALUES (7)")
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 6, done.stderr
    assert "ERROR [capture_binlog_damaged]" in done.stderr
    assert says in done.stderr
    state = open_context(rowback.config).log.read()
    assert (len(state.holes), state.last_seq) == (1, last)
    rowback.run("capture", "--until-caught-up", "--skip-gap")
    source.execute("INSERT INTO d.u VALUES (8)")
    rowback.run("capture", "--until-caught-up")
    assert [row["id"] for row in rows_of(open_context(rowback.config), "d", "u")] == [8]


def of_another(source: MariaDBServer, number: int, statement: str) -> None:
    """As a transaction of another server in the same domain, numbered as it likes (gtid_strict_mode is off)."""
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION server_id = 77, SESSION gtid_seq_no = %s", (number,))
        cursor.execute(statement)
        connection.commit()


def test_numbers_that_went_back_are_no_obstacle(tmp_path: Path, fresh_mariadb: Any) -> None:
    source, rowback, _ = begin(tmp_path, fresh_mariadb, "FULL")
    rowback.run("capture", "--until-caught-up")
    of_another(source, 900, "INSERT INTO d.u VALUES (1)")
    of_another(source, 500, "INSERT INTO d.u VALUES (2)")
    source.execute("SET GLOBAL gtid_domain_id = 3")
    source.execute("INSERT INTO d.u VALUES (3)")
    tear(source, cut=True)
    source.start()
    source.execute("INSERT INTO d.u VALUES (7)")
    assert PASSED in rowback.run("capture", "--until-caught-up").stderr
    context = open_context(rowback.config)
    assert sorted(row["id"] for row in rows_of(context, "d", "u")) == [1, 2, 3, 7]
    assert not context.log.read().gaps


@pytest.mark.parametrize("number", [None, 500], ids=["highest", "went-back"])
def test_a_file_that_lost_its_end_is_a_gap(number: int | None, tmp_path: Path, fresh_mariadb: Any) -> None:
    """The next file knows of transactions that didn't come, also where the position of what came is as high."""
    source, rowback, _ = begin(tmp_path, fresh_mariadb, "FULL")
    rowback.run("capture", "--until-caught-up")
    if number is None:
        source.execute("INSERT INTO d.t VALUES (2, 1, 'lost')")
    else:
        of_another(source, number + 400, "INSERT INTO d.t VALUES (4, 1, 'kept')")
        rowback.run("capture", "--until-caught-up")
        of_another(source, number - 1, "INSERT INTO d.t VALUES (2, 1, 'lost')")
        of_another(source, number, "INSERT INTO d.t VALUES (3, 1, 'lost')")
    captured = open_context(rowback.config).log.read().last_seq
    if number is None:
        source.execute("INSERT INTO d.t VALUES (3, 1, 'lost')")
    file = source.binlog_files()[-1]
    source.stop()
    kept = events(file.read_bytes())
    first_lost = [n for n, e in enumerate(kept) if e[4] == ev.MARIADB_GTID][-2]
    os.truncate(file, 4 + sum(map(len, kept[: first_lost + 2])) + 10)
    source.start()
    source.execute("INSERT INTO d.u VALUES (7)")
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 6, done.stderr
    assert "ERROR [capture_binlog_damaged]" in done.stderr
    assert re.search(r"binlog.00000\d` says that `.*` stand before it, and up to there it was `.*`", done.stderr)
    state = open_context(rowback.config).log.read()
    assert (len(state.holes), state.last_seq) == (1, captured)


def test_the_last_file_is_not_passed_over(tmp_path: Path, fresh_mariadb: Any) -> None:
    """Damage in the file that is written now: no start of the server says what became of it."""
    source, rowback, _ = begin(tmp_path, fresh_mariadb, "FULL")
    rowback.run("capture", "--until-caught-up")
    source.execute(SMALL)
    source.execute("FLUSH BINARY LOGS")
    source.execute("INSERT INTO d.u VALUES (7)")
    file = source.binlog_files()[-1]
    os.truncate(file, file.stat().st_size - 40)
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 6, done.stderr
    assert "ERROR [capture_binlog_damaged]" in done.stderr
    assert open_context(rowback.config).log.read().last_seq == 2
