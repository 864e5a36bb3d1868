"""The SQL of docs/FORMAT.md, run as it stands there on a small archive: the page alone is enough to read one."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from longhistory import LongHistory

from recovery.archive.actions import Baseline, Checkpoint, DataObject, Mark, SchemaSeen, Snapshot
from recovery.archive.compaction import Policy
from recovery.archive.compactor import Compactor
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.segments import METADATA_FIELDS, TRANSACTIONS_SCHEMA, segment_schema, write_segment
from recovery.archive.segments import write_transactions as write_all
from recovery.archive.state import EMPTY
from recovery.schema import EXACT, Column, Table

SQL = dict(
    re.findall(
        r"<!-- sql: (\w+) -->\n```sql\n(.*?)```", (Path(__file__).parents[1] / "docs/FORMAT.md").read_text(), re.DOTALL
    )
)
LAYOUT = Layout("default", "shop")
ZERO = "0000-00-00 00:00:00"
DAY = datetime(2026, 5, 2)  # noqa: DTZ001 - a DATETIME has no zone
ORDERS = Table(
    "shop",
    "orders",
    (
        Column("id", "bigint", nullable=False),
        Column("state", "varchar", octets=80, charset="utf8mb4"),
        Column("placed", "datetime", fsp=0),
    ),
    ("id",),
)
NOTES = Table("shop", "notes", (Column("line", "text", charset="utf8mb4"),))
Row = dict[str, Any]


def cells(table: Table, row: Row | None) -> Row:
    """ZERO is what a column of type datetime can't hold."""
    exact = [(k, v) for k, v in (row or {}).items() if v == ZERO]
    return {k: None if v == ZERO else v for k, v in (row or {}).items()} | {EXACT: exact or None}


def images(table: Table, seq: int, ordinal: int, old: Row | None, new: Row | None) -> list[Row]:
    meta: Row = {f.name: None for f in METADATA_FIELDS} | {
        "_rb_seq": seq, "_rb_ordinal": ordinal, "_rb_committed_at_us": seq, "_rb_cut_at_us": seq,
        "_rb_binlog_file": "b.1", "_rb_binlog_pos": seq,
    }  # fmt: skip
    if old is None or new is None:
        return [meta | {"_rb_op": "insert" if new else "delete"} | cells(table, new or old)]
    bits = sum(1 << i for i, c in enumerate(table.columns) if old[c.name] != new[c.name])
    meta["_rb_changed"] = bytes([bits])
    kept = {k: v for k, v in old.items() if v != new[k] or k in table.key or not table.key}
    return [
        meta | {"_rb_op": "update_before"} | cells(table, kept),
        meta | {"_rb_op": "update_after"} | cells(table, new),
    ]


def order(id_: int, state: str | None, placed: object = DAY) -> Row:
    return {"id": id_, "state": state, "placed": placed}


# (table, old row, new row) per change, per transaction, per window
WINDOWS: list[list[list[tuple[Table, Row | None, Row | None]]]] = [
    [
        [(ORDERS, None, order(4, "new")), (NOTES, None, {"line": "a"})],
        [(ORDERS, order(1, "new"), order(1, "paid", ZERO)), (NOTES, {"line": "a"}, {"line": "b"})],
    ],
    [
        [(ORDERS, order(1, "paid", ZERO), order(1, None, ZERO)), (ORDERS, order(2, "new"), order(7, "moved"))],
        [(ORDERS, order(4, "new"), None), (ORDERS, None, order(4, "again", DAY + timedelta(days=1)))],
        [
            (ORDERS, order(1, None, ZERO), order(1, None, DAY)),
            (NOTES, {"line": "b"}, None),
            (NOTES, None, {"line": "b"}),
        ],
        [(ORDERS, order(7, "moved"), None), (NOTES, None, {"line": "b"})],
    ],
]
BASE = {ORDERS: [order(1, "new"), order(2, "new"), order(3, "ä", ZERO)], NOTES: [{"line": "a"}, {"line": "a"}]}


def states() -> list[dict[Table, Counter[str]]]:
    """The tables after each seq, from 0 on, by the plainest of folds."""
    now = {table: Counter(repr(row) for row in rows) for table, rows in BASE.items()}
    made = [{t: c.copy() for t, c in now.items()}]
    for window in WINDOWS:
        for transaction in window:
            for table, old, new in transaction:
                now[table] += Counter([repr(new)] if new else [])
                now[table] -= Counter([repr(old)] if old else [])
            made.append({t: c.copy() for t, c in now.items()})
    return made


@pytest.fixture
def db(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    store = FileStore(tmp_path)
    log = Log(store, LAYOUT)
    state = log.start_generation(EMPTY, "h", 1, lambda _: [Checkpoint(0, "b.1", 4, "", 0, 0)])
    baselines = []
    for table, rows in BASE.items():
        sink = io.BytesIO()
        schema = pa.schema(
            [pa.field(EXACT, METADATA_FIELDS[-1].type), *list(segment_schema(table))[len(METADATA_FIELDS) :]]
        )
        pq.write_table(pa.Table.from_pylist([cells(table, row) for row in rows], schema), sink)
        path = LAYOUT.baseline("s", table.db, table.name, 0)
        store.put(path, sink.getvalue())
        objects = (DataObject(path, len(rows), len(sink.getvalue()), hashlib.sha256(sink.getvalue()).hexdigest()),)
        baselines.append(Baseline(table.db, table.name, table.schema_id, table, "CREATE ...", len(rows), objects))
    mark = Mark("", "b.1", 4, 0)
    snapshot = Snapshot("s", "brief", mark, mark, 0, 1, "backups/x/", 0, (), tuple(baselines))
    state = log.commit(state, lambda _: [snapshot])
    seq = 0
    for window in WINDOWS:
        rows_of: dict[Table, list[Row]] = {}
        first = seq + 1
        for transaction in window:
            seq += 1
            for ordinal, (table, old, new) in enumerate(transaction):
                rows_of.setdefault(table, []).extend(images(table, seq, ordinal, old, new))
        seqs = range(first, seq + 1)
        listed = [
            {"seq": s, "committed_at_us": s, "cut_at_us": s, "binlog_file": "b.1", "start_position": s, "end_position": s,
             "row_changes": 1} for s in seqs
        ]  # fmt: skip
        actions = [
            *(SchemaSeen(t.schema_id, first, t) for t in rows_of if t.schema_id not in state.schemas),
            *(write_segment(store, LAYOUT, t, pa.Table.from_pylist(r, segment_schema(t))) for t, r in rows_of.items()),
            write_all(store, LAYOUT, pa.Table.from_pylist(listed, TRANSACTIONS_SCHEMA)),
            Checkpoint(seq, "b.1", seq, "", seq, seq),
        ]
        state = log.commit(state, lambda _, made=actions: made, generation=1)  # type: ignore[misc]
    connection = duckdb.connect()
    connection.execute(f"SET VARIABLE root = '{tmp_path}'; SET VARIABLE server = '{tmp_path}/default/shop'")
    connection.execute("SET VARIABLE snapshot_id = 's'; SET VARIABLE low_seq = 0")
    connection.execute(SQL["log"])
    return connection


def test_the_log_and_its_chain(db: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    assert db.sql("SELECT seq, pos FROM checkpoints").fetchall() == [(0, 4), (2, 2), (6, 6)]
    assert db.sql("SELECT first_seq, last_seq FROM transactions_segments").fetchall() == [(1, 2), (3, 6)]
    assert db.sql("SELECT tbl, first_seq FROM segments ORDER BY ALL").fetchall() == [
        ("notes", 1), ("notes", 5), ("orders", 1), ("orders", 3),
    ]  # fmt: skip
    assert db.sql("SELECT tbl, row_count, len(paths) FROM baselines ORDER BY tbl").fetchall() == [
        ("notes", 2, 1), ("orders", 3, 1),
    ]  # fmt: skip
    assert db.execute(SQL["chain"]).fetchall() == []
    second = tmp_path / LAYOUT.log_version(2)
    second.write_bytes(second.read_bytes() + b" ")
    assert db.execute(SQL["chain"]).fetchall() == [(3,)]
    second.unlink()
    assert db.execute(SQL["chain"]).fetchall() == [(3,)]


def test_a_compacted_log_and_its_index(tmp_path: Path) -> None:
    """The views name live objects only, from the log alone and from an index with the log behind it."""
    history = LongHistory(FileStore(tmp_path), 5)
    history.windows(9)
    history.idle()
    compactor = Compactor(history.store, LAYOUT, history.log, Policy(keyless_days=0))
    state = compactor.run(history.state) and history.log.read()
    history.state = state
    for version in (3, state.version):
        base = next(s for _, s in history.log.walk() if s.version == version)
        history.log.index.write(base)
    history.windows(2)
    server = f"{tmp_path}/default/shop"
    db = duckdb.connect()
    db.execute(f"SET VARIABLE server = '{server}'")
    db.execute(SQL["log"])
    live = (
        sorted(s.path for s in history.state.segments),
        [t.path for t in history.state.transactions],
    )
    for version in (None, 3, state.version):
        if version is not None:
            db.execute(f"SET VARIABLE index_version = {version}")
            db.execute(f"SET VARIABLE index = '{server}/index/{version:020d}.parquet'")
            db.execute(SQL["index"])
        paths = sorted(path for (path,) in db.sql("SELECT path FROM segments").fetchall())
        runs = [path for (path,) in db.sql("SELECT path FROM transactions_segments").fetchall()]
        assert (paths, runs) == live
    assert db.execute(SQL["chain"]).fetchall() == []


def test_whole_old_rows(db: duckdb.DuckDBPyConnection) -> None:
    db.execute(SQL["before"])
    found = db.sql(
        "SELECT _rb_seq, _rb_ordinal, id, state, coalesce(placed_exact, placed::VARCHAR) FROM whole_images "
        "WHERE _rb_op IN ('update_before', 'delete') ORDER BY ALL"
    ).fetchall()
    expected = [
        (seq, ordinal, old["id"], old["state"], str(old["placed"]))
        for seq, changes in enumerate((t for window in WINDOWS for t in window), start=1)
        for ordinal, (table, old, _) in enumerate(changes)
        if table is ORDERS and old is not None
    ]
    assert found == sorted(expected)


@pytest.mark.parametrize("target", range(7))
def test_the_tables_as_they_were(db: duckdb.DuckDBPyConnection, target: int) -> None:
    db.execute(f"SET VARIABLE target_seq = {target}")
    db.execute(SQL["before"])
    db.execute(SQL["base"])
    db.execute(SQL["fold"])
    rows = db.sql("SELECT id, state, placed, _rb_exact['placed'] FROM orders_then").fetchall()
    found = Counter(repr(order(id_, state, exact or placed)) for id_, state, placed, exact in rows)
    assert found == states()[target][ORDERS]
    changes = SQL["before"].split(";")[0]
    for block in (changes, SQL["base"]):
        db.execute(block.replace("'orders'", "'notes'"))
    db.execute(SQL["multiset"])
    lines = db.sql("SELECT line FROM notes_then").fetchall()
    assert Counter(repr({"line": line}) for (line,) in lines) == states()[target][NOTES]
