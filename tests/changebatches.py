"""Change batches made by hand, as the decode step makes them, and the archive that they go on from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from handmade import ORDERS, T0, UUID

from dataflow.batches import ChangeBatch, Prepared, Resolved
from dataflow.committer import Archive
from recovery.archive.actions import Checkpoint, Identity
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.segments import TRANSACTIONS_SCHEMA, segment_schema
from recovery.archive.state import EMPTY
from recovery.archive.store import ObjectInfo, Store
from recovery.schema import Table

SERVER = "shop"
LAYOUT = Layout("default", SERVER)
SECOND = 1_000_000


def checkpoint(seq: int) -> Checkpoint:
    """Behind transaction `seq`, which has the time T0 + seq seconds."""
    at = T0 + seq * SECOND
    return Checkpoint(seq, "binlog.000001", 1000 * seq + 900, f"{UUID}:1-{seq}" if seq else "", at, at)


@dataclass(frozen=True)
class Tx:
    """A transaction that inserts `rows` rows into `table`; `first` is the ordinal of the first of them in this batch.
    end: it ends in this batch. counted: the rows that its end says it has, all of them if None. at_us: its time."""

    seq: int
    rows: int = 1
    table: Table = ORDERS
    first: int = 0
    end: bool = True
    counted: int | None = None
    at_us: int | None = None

    @property
    def cut(self) -> int:
        return T0 + self.seq * SECOND if self.at_us is None else self.at_us


def images(tx: Tx) -> list[dict[str, object]]:
    return [
        {
            "_rb_op": "insert",
            "_rb_seq": tx.seq,
            "_rb_ordinal": tx.first + n,
            "_rb_committed_at_us": tx.cut,
            "_rb_cut_at_us": tx.cut,
            "_rb_gtid": f"{UUID}:{tx.seq}",
            "_rb_binlog_file": "binlog.000001",
            "_rb_binlog_pos": 1000 * tx.seq + 100,
            "_rb_connection_id": 7,
            "_rb_flags": 1,
            "id": tx.seq * 100_000 + tx.first + n,
            "v": "x" * 50,
        }
        for n in range(tx.rows)
    ]


def rows_of(*transactions: Tx) -> pa.RecordBatch:
    """Their rows, of one table."""
    data = [image for tx in transactions for image in images(tx)]
    return pa.RecordBatch.from_pylist(data, schema=segment_schema(transactions[0].table))


def batch(
    *transactions: Tx,
    after: int | None = None,
    prepared: Sequence[Prepared] = (),
    resolved: Sequence[Resolved] = (),
    ends: Sequence[Tx] = (),
    size_bytes: int = 100,
    is_open: bool | None = None,
    continued: bool | None = None,
) -> ChangeBatch:
    """A batch of these transactions, the last of which may not end in it. ends: transactions without rows that end too.
    continued: it begins inside a transaction; if not given, whether rows of one came before.
    after: the seq of the last one that ended, where no transaction says it."""
    whole = sorted([*(t for t in transactions if t.end), *ends], key=lambda t: t.seq)
    first = whole[0].seq - 1 if whole else after
    last = whole[-1].seq if whole else after
    assert first is not None
    assert last is not None
    by_table: dict[str, list[Tx]] = {}
    for tx in transactions:
        if tx.rows:
            by_table.setdefault(tx.table.schema_id, []).append(tx)
    listed = [
        {
            "seq": t.seq,
            "gtid": f"{UUID}:{t.seq}",
            "committed_at_us": t.cut,
            "cut_at_us": t.cut,
            "binlog_file": "binlog.000001",
            "start_position": 1000 * t.seq,
            "end_position": 1000 * t.seq + 900,
            "connection_id": 7,
            "row_changes": t.first + t.rows if t.counted is None else t.counted,
        }
        for t in whole
    ]
    cut = whole[-1].cut if whole else checkpoint(last).cut_at_us
    end = checkpoint(last)
    return ChangeBatch(
        SERVER,
        1,
        checkpoint(first),
        Checkpoint(end.seq, end.file, end.position, end.gtid_set, cut, cut),
        tuple((txs[0].table, rows_of(*txs)) for txs in by_table.values()),
        pa.RecordBatch.from_pylist(listed, schema=TRANSACTIONS_SCHEMA),
        (),
        size_bytes,
        open=any(not t.end for t in transactions) if is_open is None else is_open,
        continued=_continues(transactions, prepared) if continued is None else continued,
        prepared=tuple(prepared),
        resolved=tuple(resolved),
    )


def _continues(transactions: Sequence[Tx], prepared: Sequence[Prepared]) -> bool:
    return any(t.first for t in transactions) or any(
        rows.num_rows and rows["_rb_ordinal"][0].as_py() for p in prepared for _, rows in p.changes
    )


@dataclass
class TestingStore:
    """A store whose writes may be delayed, refused or watched. before_put: called with the key ahead of each write;
    after_put: when it has happened, with what may still be lost."""

    __test__ = False

    inner: Store
    before_put: Callable[[str], None] = lambda key: None
    after_put: Callable[[str], None] = lambda key: None
    written: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, body: bytes) -> None:
        self.before_put(key)
        self.inner.put(key, body)
        self._wrote(key)

    def put_if_absent(self, key: str, body: bytes) -> None:
        self.before_put(key)
        self.inner.put_if_absent(key, body)
        self._wrote(key)

    def _wrote(self, key: str) -> None:
        with self._lock:
            self.written.append(key)
        self.after_put(key)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def upload(self, key: str, path: Path) -> None:
        self.before_put(key)
        self.inner.upload(key, path)
        self._wrote(key)

    def download(self, key: str, path: Path) -> None:
        self.inner.download(key, path)

    def stat(self, key: str) -> ObjectInfo | None:
        return self.inner.stat(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix, start_after)

    def delete(self, key: str) -> None:
        self.inner.delete(key)


def new_archive(root: Path) -> tuple[Archive, TestingStore]:
    """An archive that begins at seq 0, taken over by generation 1."""
    store = TestingStore(FileStore(root))
    log = Log(store, LAYOUT, sleep=lambda _: None)
    log.start_generation(EMPTY, "here", 1, lambda _: [Identity("mysql", UUID, 1, "9.7.4"), checkpoint(0)])
    store.written.clear()
    return Archive(store, LAYOUT, log), store
