"""Archives built by hand: whole transactions of row images, written through the real writers and the real log."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from recovery.archive.actions import (
    Action,
    Baseline,
    Cascade,
    Checkpoint,
    DataObject,
    Ddl,
    Gap,
    Identity,
    Mark,
    SchemaObject,
    SchemaSeen,
    Snapshot,
)
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.segments import (
    TRANSACTIONS_SCHEMA,
    encode_parquet,
    segment_schema,
    write_segment,
    write_transactions,
)
from recovery.archive.snapshot_scope import SnapshotScope
from recovery.archive.state import EMPTY, ArchiveState
from recovery.schema import EXACT, EXACT_TYPE, Column, Table, table_metadata, value_fields

UUID = "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb"
T0 = 1_767_225_600_000_000  # 2026-01-01 00:00:00 UTC
SECOND = 1_000_000
Row = dict[str, Any]


def column(name: str, kind: str = "int", **given: Any) -> Column:
    if kind in ("char", "varchar", "text", "enum", "set"):
        given.setdefault("charset", "utf8mb4")
    return Column(name, kind, **given)


def table(db: str, name: str, *columns: Column, key: Sequence[str] = ("id",)) -> Table:
    return Table(db, name, tuple(columns), tuple(key))


ORDERS = table("shop", "orders", column("id"), column("v", "varchar"))
ITEMS = table("shop", "items", column("id"), column("n", "bigint"))


@dataclass(frozen=True)
class Image:
    """One row image. Values by column name; `exact` by column name too."""

    table: Table
    op: str
    ordinal: int
    row: Row
    exact: dict[str, str] = field(default_factory=dict)
    changed: bytes | None = None


def insert(of: Table, ordinal: int = 0, exact: dict[str, str] | None = None, **row: Any) -> list[Image]:
    return [Image(of, "insert", ordinal, row, exact or {})]


def delete(of: Table, ordinal: int = 0, exact: dict[str, str] | None = None, **row: Any) -> list[Image]:
    return [Image(of, "delete", ordinal, row, exact or {})]


def update(of: Table, before: Row, after: Row, ordinal: int = 0) -> list[Image]:
    """With a key, the before image holds the key and the changed cells, as capture writes it."""
    slim = before
    if of.key:
        slim = {k: v for k, v in before.items() if k in of.key or v != after.get(k)}
    bits = sum(1 << i for i, c in enumerate(of.columns) if before.get(c.name) != after.get(c.name))
    changed = bits.to_bytes((len(of.columns) + 7) // 8, "little")
    images = (("update_before", slim), ("update_after", after))
    return [Image(of, op, ordinal, row, changed=changed) for op, row in images]


class Archive:
    """A growing archive of one server. Transaction n takes bytes 1000*n .. 1000*n+900 of binlog.000001, has the GTID
    UUID:n and the time T0 + n seconds; its seq is n."""

    def __init__(self, root: Path, flavor: str = "mysql", gtids: bool = True) -> None:
        self.store = FileStore(root)
        self.layout = Layout("default", "shop")
        self.clock = itertools.count(T0 // SECOND)
        self.log = Log(self.store, self.layout, now=lambda: datetime.fromtimestamp(next(self.clock), UTC))
        self.flavor, self.gtids = flavor, gtids
        self.flags: int | None = None  # of all row events
        self.seq = 0
        self.state: ArchiveState = EMPTY
        identity = Identity(flavor, UUID if flavor == "mysql" else None, 1, "9.7.4")
        self.commit(identity, self.checkpoint())

    def commit(self, *actions: Action) -> ArchiveState:
        self.state = self.log.commit(self.state, lambda _: list(actions))
        return self.state

    def gtid(self, seq: int) -> str | None:
        if not self.gtids:
            return None
        return f"{UUID}:{seq}" if self.flavor == "mysql" else f"0-1-{seq}"

    def gtid_set(self, seq: int) -> str:
        if not self.gtids or seq < 1:
            return ""
        return f"{UUID}:1-{seq}" if self.flavor == "mysql" else f"0-1-{seq}"

    @staticmethod
    def end(seq: int) -> int:
        return 1000 * seq + 900

    def checkpoint(self) -> Checkpoint:
        at = T0 + self.seq * SECOND
        return Checkpoint(self.seq, "binlog.000001", self.end(self.seq), self.gtid_set(self.seq), at, at)

    def mark(self, seq: int, gtid_set: str | None = None, position: int | None = None) -> Mark:
        held = self.gtid_set(seq) if gtid_set is None else gtid_set
        at = self.end(seq) if position is None else position
        return Mark(held, "binlog.000001", at, T0 + seq * SECOND + 500_000)

    def window(self, *transactions: Sequence[Image], ddls: Sequence[Ddl] = ()) -> ArchiveState:
        """One commit: each argument is one transaction's images."""
        numbered = list(enumerate(transactions, self.seq + 1))
        self.seq += len(transactions)
        images = [(seq, image) for seq, held in numbered for image in held]
        actions: list[Action] = []
        for one in {i.table.schema_id: i.table for _, i in images}.values():
            if one.schema_id not in self.state.schemas:
                actions.append(SchemaSeen(one.schema_id, numbered[0][0], one))
            rows = [(seq, image) for seq, image in images if image.table == one]
            actions.append(write_segment(self.store, self.layout, one, self._segment_rows(one, rows)))
        rows_of = [self._transaction(seq, len(held)) for seq, held in numbered]
        data = pa.Table.from_pylist(rows_of, schema=TRANSACTIONS_SCHEMA)
        actions.append(write_transactions(self.store, self.layout, data))
        return self.commit(*actions, *ddls, self.checkpoint())

    def _transaction(self, seq: int, row_changes: int) -> Row:
        return {
            "seq": seq,
            "gtid": self.gtid(seq),
            "committed_at_us": T0 + seq * SECOND,
            "cut_at_us": T0 + seq * SECOND,
            "binlog_file": "binlog.000001",
            "start_position": 1000 * seq,
            "end_position": self.end(seq),
            "row_changes": row_changes,
        }

    def _segment_rows(self, of: Table, images: Sequence[tuple[int, Image]]) -> pa.Table:
        rows = [
            {
                "_rb_op": image.op,
                "_rb_seq": seq,
                "_rb_ordinal": image.ordinal,
                "_rb_committed_at_us": T0 + seq * SECOND,
                "_rb_cut_at_us": T0 + seq * SECOND,
                "_rb_gtid": self.gtid(seq),
                "_rb_binlog_file": "binlog.000001",
                "_rb_binlog_pos": 1000 * seq + 100,
                "_rb_flags": self.flags,
                "_rb_changed": image.changed,
                EXACT: list(image.exact.items()) or None,
                **{of.column(k).archive_name: v for k, v in image.row.items()},
            }
            for seq, image in images
        ]
        return pa.Table.from_pylist(rows, schema=segment_schema(of))

    def ddl(self, seq: int, statement: str, tables: Sequence[tuple[str, str]] | None) -> Ddl:
        named = None if tables is None else tuple(tables)
        verb = " ".join(statement.split()[:2])
        at = T0 + seq * SECOND
        return Ddl(seq, self.gtid(seq), "binlog.000001", 1000 * seq + 100, at, "shop", statement, verb, named)

    def gap(self, after_seq: int, to_position: int | None = None) -> Gap:
        end = "binlog.000001" if to_position is not None else None
        recorded = T0 + after_seq * SECOND + 800_000
        return Gap(after_seq, "binlog.000001", self.end(after_seq), end, to_position, recorded, "binlog purged")

    def baseline(
        self, snapshot_id: str, of: Table, rows: Sequence[tuple[Row, dict[str, str]]], create: str, files: int = 1
    ) -> Baseline:
        """rows: (values by column name, exact texts), dealt out over `files` objects."""
        schema = pa.schema([pa.field(EXACT, EXACT_TYPE), *value_fields(of)], metadata=table_metadata(of))
        objects = []
        for n in range(files if rows else 0):
            part = [
                {EXACT: list(exact.items()) or None, **{of.column(k).archive_name: v for k, v in row.items()}}
                for row, exact in rows[n::files]
            ]
            body = encode_parquet(pa.Table.from_pylist(part, schema=schema))
            path = self.layout.baseline(snapshot_id, of.db, of.name, n)
            self.store.put(path, body)
            objects.append(DataObject(path, len(part), len(body), hashlib.sha256(body).hexdigest()))
        return Baseline(of.db, of.name, of.schema_id, of, create, len(rows), tuple(objects))

    def snapshot(
        self,
        snapshot_id: str,
        low: Mark,
        high: Mark,
        *baselines: Baseline,
        mode: str | None = None,
        skipped: Sequence[tuple[str, str, str]] = (),
        cascades: Sequence[Cascade] = (),
        objects: Sequence[SchemaObject] = (),
        scope: SnapshotScope | None = None,
    ) -> Snapshot:
        names = sorted({"shop", *(b.db for b in baselines)})
        snapshot = Snapshot(
            snapshot_id=snapshot_id,
            mode=mode or ("brief" if low == high else "none"),
            low=low,
            high=high,
            started_at_us=low.read_at_us,
            finished_at_us=high.read_at_us,
            path=f"backups/default/shop/{snapshot_id}/",
            size_bytes=0,
            databases=tuple((db, "CREATE DATABASE `{}`".format(db.replace("`", "``"))) for db in names),
            baselines=tuple(baselines),
            skipped=tuple(skipped),
            cascades=tuple(cascades),
            objects=tuple(objects),
            scope=scope,
        )
        self.commit(snapshot)
        return snapshot
