"""A small archive made by hand: rows described as Python values, written as segments into a FileStore."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from recovery.archive.actions import Baseline, Checkpoint, Ddl, Gap, Mark, Snapshot
from recovery.archive.filestore import FileStore
from recovery.archive.names import Layout
from recovery.archive.segments import TRANSACTIONS_SCHEMA, segment_schema, write_segment, write_transactions
from recovery.archive.state import ArchiveState
from recovery.schema import EXACT, Table

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
START_US = 1_777_716_000_000_000  # 2026-05-02 10:00:00 UTC
SECOND_US = 1_000_000


@dataclass(frozen=True)
class Exact:
    """A value that the column's type can't hold."""

    text: str


Row = dict[str, Any]


@dataclass(frozen=True)
class Ins:
    table: Table
    row: Row


@dataclass(frozen=True)
class Del:
    table: Table
    row: Row


@dataclass(frozen=True)
class Upd:
    table: Table
    before: Row
    after: Row


@dataclass
class Archive:
    """Each `commit` is one window: its transactions become one transactions segment and one segment per table. The n-th
    transaction has seq n, GTID UUID:n, and commits n seconds after START_US."""

    root: Path
    state: ArchiveState = field(default_factory=ArchiveState)

    def __post_init__(self) -> None:
        self.store = FileStore(self.root)
        self.layout = Layout("default", "shop")
        start = Checkpoint(0, "binlog.000001", 4, "", START_US, START_US)
        self.state = replace(self.state, start=start, checkpoint=start, checkpoints=(start,))

    def commit(self, *transactions: list[Ins | Del | Upd]) -> ArchiveState:
        first = self.state.last_seq + 1
        rows: dict[Table, list[dict[str, Any]]] = {}
        listed = []
        for seq, changes in enumerate(transactions, start=first):
            at = START_US + seq * SECOND_US
            listed.append(
                (seq, f"{UUID}:{seq}", at, at, "binlog.000001", seq * 1000, seq * 1000 + 900, 7, len(changes))
            )
            for ordinal, change in enumerate(changes):
                rows.setdefault(change.table, []).extend(_images(change, seq, ordinal, at))
        columns = zip(*listed, strict=True)
        fields = zip(columns, TRANSACTIONS_SCHEMA, strict=True)
        data = pa.table([pa.array(v, f.type) for v, f in fields], schema=TRANSACTIONS_SCHEMA)
        segments = [
            write_segment(self.store, self.layout, t, pa.Table.from_pylist(r, schema=segment_schema(t)))
            for t, r in rows.items()
        ]
        last = first + len(transactions) - 1
        at = START_US + last * SECOND_US
        checkpoint = Checkpoint(last, "binlog.000001", last * 1000 + 900, f"{UUID}:1-{last}", at, at)
        self.state = replace(
            self.state,
            checkpoint=checkpoint,
            checkpoints=(*self.state.checkpoints, checkpoint),
            segments=(*self.state.segments, *segments),
            transactions=(*self.state.transactions, write_transactions(self.store, self.layout, data)),
            schemas={**self.state.schemas, **{t.schema_id: t for t in rows}},
        )
        return self.state

    def ddl(self, statement: str, tables: tuple[tuple[str, str], ...] | None) -> None:
        """A DDL statement in a transaction of its own."""
        self.commit([])
        seq, at = self.state.last_seq, START_US + self.state.last_seq * SECOND_US
        ddl = Ddl(seq, f"{UUID}:{seq}", "binlog.000001", seq * 1000, at, "shop", statement, "ALTER TABLE", tables)
        self.state = replace(self.state, ddls=(*self.state.ddls, ddl))

    def gap(self) -> None:
        seq = self.state.last_seq
        gap = Gap(
            seq, "binlog.000001", seq * 1000 + 900, None, None, START_US + seq * SECOND_US, "the binlog was purged"
        )
        self.state = replace(self.state, gaps=(*self.state.gaps, gap))

    def snapshot(self, *tables: tuple[Table, str]) -> None:
        """Baselines without data: (definition, SHOW CREATE TABLE)."""
        mark = Mark("", "binlog.000001", 4, START_US)
        baselines = tuple(Baseline(t.db, t.name, t.schema_id, t, text, 0, ()) for t, text in tables)
        made = Snapshot("s1", "brief", mark, mark, START_US, START_US, "backups/x/", 0, (), baselines)
        self.state = replace(self.state, snapshots=(*self.state.snapshots, made))


def _images(change: Ins | Del | Upd, seq: int, ordinal: int, at: int) -> list[dict[str, Any]]:
    meta = {
        "_rb_seq": seq,
        "_rb_ordinal": ordinal,
        "_rb_committed_at_us": at,
        "_rb_cut_at_us": at,
        "_rb_gtid": f"{UUID}:{seq}",
        "_rb_binlog_file": "binlog.000001",
        "_rb_binlog_pos": seq * 1000 + 100 + ordinal,
        "_rb_connection_id": 7,
        "_rb_flags": 1,
    }
    table = change.table
    if isinstance(change, Ins):
        return [{"_rb_op": "insert", **meta, **_cells(table, change.row)}]
    if isinstance(change, Del):
        return [{"_rb_op": "delete", **meta, **_cells(table, change.row)}]
    changed = [c.name for c in table.columns if _differ(change.before[c.name], change.after[c.name])]
    bits = sum(1 << i for i, c in enumerate(table.columns) if c.name in changed)
    meta["_rb_changed"] = bits.to_bytes((len(table.columns) + 7) // 8, "little")
    kept = {n: v for n, v in change.before.items() if n in changed or n in table.key or not table.key}
    return [
        {"_rb_op": "update_before", **meta, **_cells(table, kept)},
        {"_rb_op": "update_after", **meta, **_cells(table, change.after)},
    ]


def _differ(a: Any, b: Any) -> bool:
    return repr(a) != repr(b)  # -0.0 and 0.0 are different bytes


def _cells(table: Table, row: Row) -> dict[str, Any]:
    exact = [(name, value.text) for name, value in row.items() if isinstance(value, Exact)]
    typed = {
        table.column(name).archive_name: None if isinstance(value, Exact) else value for name, value in row.items()
    }
    return {EXACT: exact or None, **typed}
