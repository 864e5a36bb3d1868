"""Rows that MariaDB logs though they were rolled back, because their transaction also did what can't be undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rowback import Rowback
from test_capture_large import MIB, rows_of

from dataflow.rollbacks import Rollbacks
from recovery.archive.segments import read_transactions
from recovery.context import Context, open_context
from testservers import MariaDBServer

SETUP = """CREATE DATABASE d; CREATE TABLE d.a (id int PRIMARY KEY, n int);
CREATE TABLE d.y (id int PRIMARY KEY) ENGINE=MyISAM;"""


def captured(context: Context, table: str) -> dict[int, Any]:
    """The table's rows, by id, as the images in the archive have them."""
    found: dict[int, Any] = {}
    for row in rows_of(context, "d", table):
        if row["_rb_op"] in ("delete", "update_before"):
            del found[row["id"]]
        else:
            assert row["id"] not in found
            found[row["id"]] = row.get("n")
    return found


def check(rowback: Rowback, source: MariaDBServer, *, says: str = "") -> Context:
    done = rowback.run("capture", "--until-caught-up")
    assert says in done.stderr
    context = open_context(rowback.config)
    assert captured(context, "a") == dict(source.execute("SELECT id, n FROM d.a"))
    assert set(captured(context, "y")) == {row[0] for row in source.execute("SELECT id FROM d.y")}
    state = context.log.read()
    assert not state.gaps
    counted = [r["row_changes"] for p in read_transactions(context.store, state.transactions) for r in p.to_pylist()]
    rows = [r for table in ("a", "y") for r in rows_of(context, "d", table)]
    assert sum(counted) == sum(r["_rb_op"] != "update_after" for r in rows)
    return context


@pytest.fixture
def begun(tmp_path: Path, fresh_mariadb: Any) -> tuple[MariaDBServer, Rowback]:
    source: MariaDBServer = fresh_mariadb(name="rolled")
    rowback = Rowback(tmp_path / "rowback", source, extra=f"memory_bytes = {16 * MIB}")
    rowback.run("capture", "--until-caught-up")
    source.load(SETUP)
    return source, rowback


SMALL = """
INSERT INTO d.a VALUES (1, 1); CREATE TEMPORARY TABLE d.t (z int); INSERT INTO d.t VALUES (1); ROLLBACK;

INSERT INTO d.a VALUES (1, 1); DROP TEMPORARY TABLE d.made; ROLLBACK;

INSERT INTO d.a VALUES (1, 1); SAVEPOINT s; UPDATE d.a SET n = 2; CREATE TEMPORARY TABLE d.t (z int); ROLLBACK TO s;
INSERT INTO d.a VALUES (2, 2); COMMIT;

DELETE FROM d.a; SAVEPOINT s; INSERT INTO d.y VALUES (1); INSERT INTO d.a VALUES (2, 2); ROLLBACK TO s;
INSERT INTO d.y VALUES (2); COMMIT;

INSERT INTO d.a VALUES (1, 1); INSERT INTO d.y VALUES (3); CREATE TEMPORARY TABLE d.u (z int);
INSERT INTO d.y VALUES (4); ROLLBACK;

CREATE TEMPORARY TABLE d.v (z int); SAVEPOINT `s 1`; INSERT INTO d.a VALUES (1, 1); SAVEPOINT `we``ird`;
INSERT INTO d.a VALUES (2, 2); SAVEPOINT `S 1`; INSERT INTO d.a VALUES (3, 3); ROLLBACK TO `s 1`;
INSERT INTO d.a VALUES (4, 4); SAVEPOINT x; INSERT INTO d.a VALUES (5, 5); ROLLBACK TO `WE``IRD`;
INSERT INTO d.a VALUES (6, 6); ROLLBACK TO `we``ird`; INSERT INTO d.a VALUES (7, 7); COMMIT;

SET sql_mode = ANSI_QUOTES; CREATE TEMPORARY TABLE d.w (z int); SAVEPOINT a; SAVEPOINT "q""q";
INSERT INTO d.a VALUES (11, 1); ROLLBACK TO "q""q"; INSERT INTO d.a VALUES (12, 2); ROLLBACK TO a;
INSERT INTO d.a VALUES (13, 3); COMMIT;
"""


def test_rows_that_were_rolled_back_count_for_nothing(begun: tuple[MariaDBServer, Rowback]) -> None:
    source, rowback = begun
    for number, transaction in enumerate(SMALL.strip().split("\n\n")):
        source.load(
            f"CREATE TEMPORARY TABLE d.made (z int); BEGIN; {transaction} INSERT INTO d.a VALUES ({100 + number}, 0);"
        )
    context = check(rowback, source)
    assert sorted(captured(context, "a")) == [1, 7, 13, 103, 104, 105, 106]


def test_xa_transactions_too(begun: tuple[MariaDBServer, Rowback]) -> None:
    source, rowback = begun
    source.load(
        "XA START 'q'; INSERT INTO d.a VALUES (1, 1); CREATE TEMPORARY TABLE d.t (z int); SAVEPOINT r; "
        "INSERT INTO d.a VALUES (2, 2); ROLLBACK TO r; INSERT INTO d.a VALUES (3, 3); XA END 'q'; "
        "XA PREPARE 'q'; XA COMMIT 'q'; "
        "XA START 'p'; INSERT INTO d.a VALUES (9, 9); CREATE TEMPORARY TABLE d.u (z int); XA END 'p'; XA ROLLBACK 'p';"
    )
    context = check(rowback, source)
    assert sorted(captured(context, "a")) == [1, 3]


@pytest.mark.parametrize(
    ("first", "second"), [("`ß`", "s"), ("s", "`ß`"), ("ss", "`ß`"), ("`\u017f`", "s"), ("k", "`\u212a`")]
)
def test_savepoints_that_only_the_server_can_tell_apart_are_not_guessed(first: str, second: str) -> None:
    rollbacks = Rollbacks()
    rollbacks.savepoint(100, first, 200)
    rollbacks.savepoint(100, second, 300)
    assert rollbacks.back_to(100, first) is None
    assert rollbacks.back_to(100, second) is None


def test_ascii_savepoints_are_told_without_case() -> None:
    rollbacks = Rollbacks()
    for at, name in enumerate(["s", "`t`", "S"]):
        rollbacks.savepoint(100, name, 200 + at)
    assert rollbacks.back_to(100, '"T"') == 201
    assert rollbacks.back_to(100, "s") is None, "the second of its name went with what was behind t"


@pytest.mark.parametrize("rows", [1500, 60_000])  # a few pieces of a stream; parts of a window as well
def test_a_long_transaction_is_read_again(begun: tuple[MariaDBServer, Rowback], rows: int) -> None:
    source, rowback = begun
    source.load("ALTER TABLE d.a ADD body text;")
    fill = "INSERT INTO d.a SELECT seq + {n}, seq, REPEAT(SHA2(seq, 512), 8) FROM d.seq_1_to_{rows};"
    first, second, third = (fill.format(n=n, rows=rows) for n in (0, 100_000, 200_000))
    source.load(
        f"BEGIN; CREATE TEMPORARY TABLE d.t (z int); {first} ROLLBACK; INSERT INTO d.a VALUES (300000, 1, 'x');"
        f"BEGIN; CREATE TEMPORARY TABLE d.u (z int); {first} SAVEPOINT s; {second} ROLLBACK TO s; {third} SAVEPOINT q;"
        "UPDATE d.a SET n = -1; ROLLBACK TO q; INSERT INTO d.a VALUES (300001, 1, 'x'); COMMIT;"
        "BEGIN; CREATE TEMPORARY TABLE d.v (z int); UPDATE d.a SET n = 7; DELETE FROM d.a; ROLLBACK;"
    )
    context = check(rowback, source, says="reading a transaction again" if rows > 10_000 else "")
    assert len(captured(context, "a")) == 2 * rows + 2
