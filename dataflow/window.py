"""The window step: change batches gathered until a window is old, long or large enough, always at a transaction end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from bytewax.operators import StatefulBatchLogic

from dataflow.batches import ChangeBatch, Stop, Window
from recovery.archive.actions import Checkpoint, Ddl
from recovery.failpoint import failpoint
from recovery.schema import Table

IDLE_COMMIT_S = 300  # an idle source's heartbeats become one commit per this many seconds at most


@dataclass(frozen=True)
class Limits:
    """When a window closes. seconds: by the system's clock, from the window's first batch on."""

    seconds: float
    rows: int
    size_bytes: int


class WindowLogic(StatefulBatchLogic[ChangeBatch | Stop, Window | Stop, None]):
    """One server's open window. Holds state in memory only: what isn't committed is read from the source again."""

    def __init__(self, limits: Mapping[str, Limits]) -> None:
        self._limits = limits  # by server
        self._last_commit = datetime.now(UTC)
        self._clear()

    def _clear(self) -> None:
        self._first: ChangeBatch | None = None
        self._after: Checkpoint | None = None
        self._changes: dict[str, tuple[Table, list[pa.RecordBatch]]] = {}
        self._transactions: list[pa.RecordBatch] = []
        self._ddl: list[Ddl] = []
        self._rows = self._size = 0
        self._closes_at: datetime | None = None

    def on_batch(self, batch: list[ChangeBatch | Stop]) -> tuple[Iterable[Window | Stop], bool]:
        out: list[Window | Stop] = []
        for item in batch:
            if isinstance(item, Stop):
                out.extend(self._close())
                out.append(item)
                continue
            self._take(item)
            limits = self._limits[item.server]
            if self._rows >= limits.rows or self._size >= limits.size_bytes:
                out.extend(self._close())
        return out, StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[Iterable[Window | Stop], bool]:
        return self._close(), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[Window | Stop], bool]:
        return self._close(), StatefulBatchLogic.RETAIN

    def notify_at(self) -> datetime | None:
        return self._closes_at

    def snapshot(self) -> None:
        return None

    def _take(self, item: ChangeBatch) -> None:
        now = datetime.now(UTC)
        self._first = self._first or item
        self._after = item.after
        for table, rows in item.changes:
            self._changes.setdefault(table.schema_id, (table, []))[1].append(rows)
            self._rows += rows.num_rows
        if item.transactions.num_rows:
            if not self._transactions:
                self._closes_at = now + timedelta(seconds=self._limits[item.server].seconds)
            self._transactions.append(item.transactions)
        elif self._closes_at is None:
            self._closes_at = max(now, self._last_commit + timedelta(seconds=IDLE_COMMIT_S))
        self._ddl.extend(item.ddl)
        self._size += item.size_bytes

    def _close(self) -> list[Window | Stop]:
        if self._first is None or self._after is None:
            return []
        window = Window(
            server=self._first.server,
            generation=self._first.generation,
            before=self._first.before,
            after=self._after,
            changes=tuple((table, tuple(batches)) for table, batches in self._changes.values()),
            transactions=tuple(self._transactions),
            ddl=tuple(self._ddl),
        )
        self._clear()
        self._last_commit = datetime.now(UTC)
        failpoint("window.closed")
        return [window]
