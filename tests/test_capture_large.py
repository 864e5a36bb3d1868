"""Transactions that are larger than the memory they may take, and XA transactions, from a real server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rowback import Rowback, drain, wait_for

from recovery.archive.segments import read_segment, read_transactions
from recovery.context import Context, open_context
from testservers import MySQLServer

MIB = 1024 * 1024
# 60,000 rows of about 1 KiB that don't compress away.
FILL = """
CREATE DATABASE {db}; CREATE TABLE {db}.t (id int AUTO_INCREMENT PRIMARY KEY, body text, n int);
CREATE TABLE {db}.other (id int PRIMARY KEY);
SET SESSION cte_max_recursion_depth = 100000;
BEGIN;
INSERT INTO {db}.other VALUES (1);
INSERT INTO {db}.t (body, n)
  WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 60000)
  SELECT CONCAT(REPEAT(SHA2(i, 512), 7), i), i FROM s;
UPDATE {db}.t SET n = n + 1 WHERE id <= 1000;
INSERT INTO {db}.other VALUES (2);
COMMIT;
"""


def rows_of(context: Context, db: str, table: str) -> list[dict[str, Any]]:
    state = context.log.read()
    found = [s for s in state.segments if (s.db, s.table) == (db, table)]
    rows = [row for s in found for row in read_segment(context.store, s).to_pylist()]
    return sorted(rows, key=lambda r: (r["_rb_seq"], r["_rb_ordinal"], r["_rb_op"] == "update_after"))


def check(context: Context, source: MySQLServer, db: str) -> None:
    rows = rows_of(context, db, "t")
    assert len({r["_rb_seq"] for r in rows}) == 1
    latest = {r["id"]: (r["body"], r["n"]) for r in rows if r["_rb_op"] != "update_before"}
    assert latest == {i: (body, n) for i, body, n in source.execute(f"SELECT id, body, n FROM {db}.t")}
    ordinals = [r["_rb_ordinal"] for r in rows if r["_rb_op"] != "update_after"]
    other = [r["_rb_ordinal"] for r in rows_of(context, db, "other")]
    assert sorted(ordinals + other) == list(range(61002))
    state = context.log.read()
    parts = [s for s in state.segments if (s.db, s.table) == (db, "t")]
    assert len(parts) > 3, "it went in parts"
    (listed,) = (
        r
        for p in read_transactions(context.store, state.transactions)
        for r in p.to_pylist()
        if r["seq"] == rows[0]["_rb_seq"]
    )
    assert listed["row_changes"] == 61002
    assert not state.gaps


def test_a_large_transaction_goes_in_parts_and_is_whole(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="large")
    rowback = Rowback(tmp_path / "rowback", source, extra=f"memory_bytes = {16 * MIB}")
    rowback.run("capture", "--until-caught-up")
    source.load(FILL.format(db="d"))
    for failpoint in ("segment.uploaded:4:kill", "sink.uploaded:2:kill", "log.after-put:2:kill"):
        rowback.environment["ROWBACK_FAILPOINT"] = failpoint
        done = rowback.run("capture", "--until-caught-up", check=False)
        assert done.returncode != 0, failpoint
        seen = {s.table for s in open_context(rowback.config).log.read().segments}
        assert seen in (set(), {"t", "other"}), "all of a transaction or nothing"
    del rowback.environment["ROWBACK_FAILPOINT"]
    rowback.run("capture", "--until-caught-up")
    check(open_context(rowback.config), source, "d")


def test_xa_transactions_over_restarts_and_filters(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="xa")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY); CREATE TABLE d.hidden (a int PRIMARY KEY);")
    rowback = Rowback(tmp_path / "rowback", source, extra='exclude = ["d.hidden"]')
    rowback.run("capture", "--until-caught-up")
    xa = "XA START '{x}'; INSERT INTO d.{t} VALUES ({n}); XA END '{x}'; XA PREPARE '{x}';"
    source.load(xa.format(x="one", t="t", n=1))
    source.load(xa.format(x="two", t="t", n=2))
    source.load(xa.format(x="three", t="hidden", n=3))
    rowback.run("capture", "--until-caught-up")
    context = open_context(rowback.config)
    state = context.log.read()
    assert [(p.row_changes, len(p.objects)) for p in state.pending] == [(1, 1), (1, 1), (0, 0)]
    assert rows_of(context, "d", "t") == []
    assert [p["row_changes"] for p in rowback.json("status")["pending_xa"]] == [1, 1, 0]
    assert "3 prepared" in rowback.run("status").stdout
    source.execute("XA ROLLBACK 'two'")
    source.execute("INSERT INTO d.t VALUES (4)")
    source.execute("XA COMMIT 'one'")
    source.execute("XA COMMIT 'three'")
    process = rowback.start_capture("--window-seconds", "0.2")
    rowback.wait_started(process)
    wait_for(lambda: not context.log.read().pending, 60, "the XA transactions to end")
    source.load(xa.format(x="five", t="t", n=5) + "XA COMMIT 'five';")
    time.sleep(0.5)
    assert drain(process) == 0, rowback.capture_log()
    rowback.run("capture", "--until-caught-up")
    rows = rows_of(context, "d", "t")
    assert [r["a"] for r in rows] == [4, 1, 5]
    assert [r["_rb_seq"] for r in rows] == sorted(r["_rb_seq"] for r in rows)
    state = context.log.read()
    gtids = {
        r["seq"]: (r["gtid"], r["row_changes"])
        for p in read_transactions(context.store, state.transactions)
        for r in p.to_pylist()
    }
    for row in rows:
        assert (row["_rb_gtid"], 1) == gtids[row["_rb_seq"]]
    assert not state.holes


def test_an_xa_commit_whose_prepare_was_never_captured_is_a_gap(tmp_path: Path, fresh_mysql: Any) -> None:
    source: MySQLServer = fresh_mysql(name="xaold")
    source.load("CREATE DATABASE d; CREATE TABLE d.t (a int PRIMARY KEY);")
    source.load("XA START 'old'; INSERT INTO d.t VALUES (1); XA END 'old'; XA PREPARE 'old';")
    rowback = Rowback(tmp_path / "rowback", source)
    rowback.run("capture", "--until-caught-up")
    source.execute("XA COMMIT 'old'")
    done = rowback.run("capture", "--until-caught-up", check=False)
    assert done.returncode == 6, done.stderr
    assert "prepared before this archive begins" in done.stderr
    assert len(open_context(rowback.config).log.read().holes) == 1
    rowback.run("capture", "--until-caught-up", "--skip-gap")
    source.execute("INSERT INTO d.t VALUES (2)")
    rowback.run("capture", "--until-caught-up")
    assert [r["a"] for r in rows_of(open_context(rowback.config), "d", "t")] == [2]
