"""A random history over several hours, written through the real log: keyed and keyless tables, keys that change, DDL, and
the rows after each transaction as a plain model knows them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from synthetic import Del, Exact, Ins, Upd, _cells, _images

from recovery.archive.actions import Action, Baseline, Checkpoint, DataObject, Ddl, Identity, Mark, SchemaSeen, Snapshot
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.segments import (
    TRANSACTIONS_SCHEMA,
    encode_parquet,
    segment_schema,
    write_segment,
    write_transactions,
)
from recovery.archive.state import EMPTY, ArchiveState
from recovery.archive.store import Store
from recovery.schema import EXACT, EXACT_TYPE, Column, Table, table_metadata, value_fields

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
START_US = 1_777_716_000_000_000  # 2026-05-02 10:00:00 UTC
STEP_US = 97_000_000  # between transactions: some 37 an hour
HOUR_US = 3_600_000_000
LAYOUT = Layout("default", "shop")


def text(name: str) -> Column:
    return Column(name, "varchar", octets=80, charset="utf8mb4")


ORDERS = Table("shop", "orders", (Column("id", "int"), text("v"), Column("at", "datetime", fsp=0)), ("id",))
PARTS = Table("shop", "parts", (text("code"), Column("n", "bigint", unsigned=True), text("v")), ("code", "n"))
BAG = Table("shop", "bag", (Column("a", "int"), text("b")))
TABLES = (ORDERS, PARTS, BAG)
CREATES = {t: f"CREATE TABLE `{t.name}` (x int)" for t in TABLES}
Row = dict[str, Any]


@dataclass
class LongHistory:
    """bend: changes a window's actions before they are committed; gtid: the GTID of a seq."""

    store: Store
    seed: int
    index_every: int = 0
    bend: Callable[[list[Action]], list[Action]] = list
    gtid: Callable[[int], str] = lambda seq: f"{UUID}:{seq}"

    def __post_init__(self) -> None:
        self.pick = random.Random(self.seed)
        self.idle_us = 0
        self.log = Log(self.store, LAYOUT, self.now, index_every=self.index_every)
        self.seq = 0
        self.rows: dict[Table, list[Row]] = {t: [] for t in TABLES}
        self.model: list[dict[Table, list[Row]]] = [{t: [] for t in TABLES}]
        self.state: ArchiveState = EMPTY
        at = self.checkpoint()
        self.state = self.log.start_generation(EMPTY, "h", 1, lambda _: [Identity("mysql", UUID, 1, "9.7"), at])
        self.snapshot("s0")

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_us(self.seq) // 1_000_000, UTC)

    def at_us(self, seq: int) -> int:
        """The time of a transaction that comes now."""
        return START_US + seq * STEP_US + self.idle_us

    def checkpoint(self) -> Checkpoint:
        at, held = self.at_us(self.seq), f"{UUID}:1-{self.seq}" if self.seq else ""
        return Checkpoint(self.seq, "binlog.000001", self.seq * 1000 + 900, held, at, at)

    def snapshot(self, name: str) -> Snapshot:
        """Under a lock, now: typed baselines and a dump directory with its manifest."""
        at = self.checkpoint()
        mark = Mark(at.gtid_set, at.file, at.position, self.at_us(self.seq))
        baselines = tuple(self._baseline(name, table) for table in TABLES)
        path = f"backups/default/shop/{name}/"
        files = {"metadata": b"Started dump at: ...", "shop.orders.00000.sql": b"INSERT INTO `orders` VALUES (1);" * 9}
        for file, body in files.items():
            self.store.put(path + file, body)
        listed = [{"name": n, "size_bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in files.items()]
        self.store.put(f"{path}manifest.json", json.dumps({"format": 1, "files": listed}).encode())
        times = (mark.read_at_us, mark.read_at_us)
        made = Snapshot(name, "brief", mark, mark, *times, path, 0, (("shop", "CREATE DATABASE `shop`"),), baselines)
        self.state = self.log.commit(self.state, lambda _: [made])
        return made

    def _baseline(self, name: str, table: Table) -> Baseline:
        rows = self.rows[table]
        objects: tuple[DataObject, ...] = ()
        if rows:
            schema = pa.schema([pa.field(EXACT, EXACT_TYPE), *value_fields(table)], metadata=table_metadata(table))
            body = encode_parquet(pa.Table.from_pylist([_cells(table, row) for row in rows], schema=schema))
            path = LAYOUT.baseline(name, table.db, table.name, 0)
            self.store.put(path, body)
            objects = (DataObject(path, len(rows), len(body), hashlib.sha256(body).hexdigest()),)
        return Baseline(table.db, table.name, table.schema_id, table, CREATES[table], len(rows), objects)

    # --- writing ------------------------------------------------------------------------------------------------------

    def windows(self, count: int) -> ArchiveState:
        for _ in range(count):
            self.window(self.pick.randint(1, 4))
        return self.state

    def window(self, transactions: int) -> ArchiveState:
        """One commit; segments are cut at the hour, as capture does."""
        images: dict[tuple[Table, int], list[dict[str, Any]]] = {}
        listed: dict[int, list[tuple[Any, ...]]] = {}
        first = self.seq + 1
        for _ in range(transactions):
            self.seq += 1
            at, changes = self.at_us(self.seq), [self._change() for _ in range(self.pick.randint(0, 4))]
            for ordinal, change in enumerate(changes):
                found = _images(change, self.seq, ordinal, at)
                images.setdefault((change.table, at // HOUR_US), []).extend(found)
            place = ("binlog.000001", self.seq * 1000, self.seq * 1000 + 900)
            row = (self.seq, self.gtid(self.seq), at, at, *place, 7, len(changes))
            listed.setdefault(at // HOUR_US, []).append(row)
            self.model.append({t: list(rows) for t, rows in self.rows.items()})
        actions: list[Action] = []
        for table, _ in images:
            if table.schema_id not in self.state.schemas and SchemaSeen(table.schema_id, first, table) not in actions:
                actions.append(SchemaSeen(table.schema_id, first, table))
        for (table, _), found in images.items():
            data = pa.Table.from_pylist(found, schema=segment_schema(table))
            actions.append(write_segment(self.store, LAYOUT, table, data))
        for _, rows in sorted(listed.items()):
            columns = zip(*rows, strict=True)
            arrays = [pa.array(v, f.type) for v, f in zip(columns, TRANSACTIONS_SCHEMA, strict=True)]
            actions.append(write_transactions(self.store, LAYOUT, pa.table(arrays, schema=TRANSACTIONS_SCHEMA)))
        actions.append(self.checkpoint())
        self.state = self.log.commit(self.state, lambda _: self.bend(actions), generation=1)
        return self.state

    def idle(self) -> ArchiveState:
        """Covered for two hours more: every hour that has transactions is over."""
        at = replace(self.checkpoint(), covered_to_us=self.at_us(self.seq) + 2 * HOUR_US)
        self.idle_us += 3 * HOUR_US
        self.state = self.log.commit(self.state, lambda _: [at], generation=1)
        return self.state

    def ddl(self, statement: str, table: Table) -> None:
        """An ALTER without effect on the columns, in a transaction of its own."""
        self.window(1)
        at, named = self.at_us(self.seq), ((table.db, table.name),)
        made = Ddl(self.seq, None, "binlog.000001", self.seq * 1000, at, "shop", statement, "ALTER TABLE", named)
        self.state = self.log.commit(self.state, lambda _: [made])

    def _change(self) -> Ins | Del | Upd:
        table = self.pick.choice(TABLES)
        rows = self.rows[table]
        kind = self.pick.choice(["insert", "update", "update", "delete"]) if rows else "insert"
        if len(rows) > 7:
            kind = "delete"
        if kind == "insert":
            new = self._row(table)
            rows.append(new)
            return Ins(table, new)
        old = self.pick.choice(rows)
        rows.remove(old)
        if kind == "delete":
            return Del(table, old)
        new = self._row(table)
        if table.key and self.pick.random() < 0.7:
            new |= {name: old[name] for name in table.key}
        rows.append(new)
        return Upd(table, old, new)

    def _row(self, table: Table) -> Row:
        """A new row whose key, if there is one, isn't taken."""
        while True:
            row = {
                ORDERS: {"id": self.pick.randint(-9, 20), "v": self._text(), "at": self._moment()},
                PARTS: {"code": self.pick.choice("aäBz"), "n": self.pick.choice([0, 7, 2**64 - 1]), "v": self._text()},
                BAG: {"a": self.pick.choice([1, None]), "b": self.pick.choice(["x", "", None])},
            }[table]
            if not table.key or not any(all(r[k] == row[k] for k in table.key) for r in self.rows[table]):
                return row

    def _text(self) -> str | None:
        return self.pick.choice(["", "x", "näh", None, "long " * 9])

    def _moment(self) -> object:
        return self.pick.choice([None, Exact("0000-00-00 00:00:00"), datetime(2026, 5, 2)])  # noqa: DTZ001
