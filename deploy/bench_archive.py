"""A big archive that no server was needed for: one table, a baseline of any size and row changes by the million.

Written through the archive's own writers (recovery/archive), so it is an archive like any other. What the table must be
at the end is followed in NumPy beside it: `Truth` knows the rows without Rowback's help, and `counted` reads the INSERT
files of a restore back without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from recovery.archive.actions import Action, Baseline, Checkpoint, DataObject, Identity, Mark, SchemaSeen, Snapshot
from recovery.archive.encoding import encode_parquet
from recovery.archive.filestore import FileStore
from recovery.archive.log import Log
from recovery.archive.names import Layout
from recovery.archive.segments import TRANSACTIONS_SCHEMA, segment_schema, write_segment, write_transactions
from recovery.archive.state import EMPTY, ArchiveState
from recovery.schema import EXACT, EXACT_TYPE, Column, Table, table_metadata, value_fields

Ints = npt.NDArray[np.int64]
UUID = "bbbbbbbb-0000-1111-2222-cccccccccccc"
T0 = 1_767_225_600_000_000  # 2026-01-01 00:00:00 UTC
CHANGES_PER_TRANSACTION = 100
SEGMENT_CHANGES = 250_000
BASE_OBJECT_ROWS = 1_000_000
BIG = Table(
    "bench",
    "big",
    (
        Column("id", "bigint"),
        Column("n", "bigint"),
        Column("at", "datetime"),
        Column("note", "varchar", charset="utf8mb4"),
    ),
    ("id",),
)
CREATE = (
    "CREATE TABLE `big` (`id` bigint NOT NULL, `n` bigint, `at` datetime, `note` varchar(60), PRIMARY KEY (`id`)) "
    "DEFAULT CHARSET=utf8mb4"
)


@dataclass(frozen=True)
class Sums:
    """rows, and sums modulo 2**64 over them of id, id * n and id * the number in the note: a row with another row's
    values changes them."""

    rows: int
    ids: int
    products: int
    notes: int


class Truth:
    """version: of each id in 0 .. 2 * rows, the number of the change that wrote it last (0: the baseline's); alive."""

    def __init__(self, rows: int) -> None:
        self.version = np.zeros(2 * rows, np.int64)
        self.alive = np.zeros(2 * rows, np.bool_)
        self.alive[::2] = True

    def sums(self) -> Sums:
        ids = np.flatnonzero(self.alive).astype(np.int64)
        versions = self.version[ids]
        return _sums(ids, _n(ids, versions), _number(ids, versions))


def build(root: Path, rows: int, changes: int, seed: int = 7) -> tuple[ArchiveState, Truth]:
    """An archive in `root` (it must not exist): a snapshot of `rows` rows, then `changes` changes after it: about
    87 % updates, 6 % inserts and 7 % deletes of keys drawn at random."""
    store, layout = FileStore(root), Layout("default", "bench")
    log = Log(store, layout, now=lambda: datetime.now(UTC))
    state = log.commit(EMPTY, lambda _: [Identity("mysql", UUID, 1, "9.7.4"), _checkpoint(0)])
    state = log.commit(state, lambda _: [_snapshot(store, layout, rows)])
    truth, rng = Truth(rows), np.random.default_rng(seed)
    seq, done, first = 0, 0, True
    while done < changes:
        count = min(SEGMENT_CHANGES, changes - done, max(1, rows // 2))
        data = _segment(truth, rng, count, seq, done)
        transactions = _transactions(seq, count)
        actions: list[Action] = [SchemaSeen(BIG.schema_id, 1, BIG)] if first else []
        actions.append(write_segment(store, layout, BIG, data))
        actions.append(write_transactions(store, layout, transactions))
        seq, done, first = seq + transactions.num_rows, done + count, False
        actions.append(_checkpoint(seq))
        state = log.commit(state, lambda _, made=actions: list(made))
    # Capture has seen that the hour of all this is over, so that it can be compacted.
    return log.commit(state, lambda _: [_checkpoint(seq, idle_us=2 * 3_600_000_000)]), truth


def counted(directory: Path) -> Sums:
    """The sums of what a restore wrote as INSERT files, read as text."""
    total = [0, 0, 0, 0]
    for path in sorted(directory.glob("bench.big.0*.sql")):
        for ids, n, number in _read(path):
            found = _sums(ids, n, number)
            total = [a + b for a, b in zip(total, (found.rows, found.ids, found.products, found.notes), strict=True)]
    return Sums(total[0], *(t % 2**64 for t in total[1:]))


def _read(path: Path) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Rows look like (1,2,'2026-01-01 00:00:00','note 17'), or ); behind."""
    options = pacsv.ReadOptions(column_names=["id", "n", "at", "note", "end"])
    parsing = pacsv.ParseOptions(quote_char=False, invalid_row_handler=lambda _: "skip")
    types = pacsv.ConvertOptions(column_types={name: pa.string() for name in ("id", "n", "at", "note", "end")})
    # Four commas a row but for the last of a statement, which ends in `;`: both become five fields.
    text = path.read_bytes().replace(b");\n", b"),\n")
    found = pacsv.read_csv(pa.BufferReader(text), options, parsing, types)
    found = found.filter(pc.starts_with(found["id"], "("))
    yield tuple(  # type: ignore[misc]
        pc.cast(pc.replace_substring_regex(found[name], "[^0-9]", ""), pa.int64()).to_numpy()
        for name in ("id", "n", "note")
    )


def _sums(ids: Ints, n: Ints, number: Ints) -> Sums:
    wide = [a.astype(np.uint64) for a in (ids, n, number)]
    with np.errstate(over="ignore"):
        parts = (wide[0], wide[0] * wide[1], wide[0] * wide[2])
        return Sums(len(ids), *(int(p.sum(dtype=np.uint64)) for p in parts))


def _n(ids: Ints, versions: Ints) -> Ints:
    return (ids * 2_654_435_761 + versions * 40_503) % 1_000_000_007


def _number(ids: Ints, versions: Ints) -> Ints:
    return (ids * 69_069 + versions * 1_103_515_245 + 12_345) % 998_244_353


def _values(ids: Ints, versions: Ints) -> dict[str, Any]:
    """The cells of rows, as Arrow columns by archive name."""
    cells = {
        "id": pa.array(ids),
        "n": pa.array(_n(ids, versions)),
        "at": pa.array(T0 + versions * 1_000_000 % (365 * 86_400_000_000), pa.int64()).cast(pa.timestamp("us")),
        "note": pc.binary_join_element_wise("note number", pc.cast(pa.array(_number(ids, versions)), pa.string()), " "),
    }
    return {BIG.column(name).archive_name: cell for name, cell in cells.items()}


def _segment(truth: Truth, rng: np.random.Generator, count: int, seq: int, done: int) -> pa.Table:
    """`count` changes, each of another key; what they do to the truth is done."""
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        more = rng.integers(0, len(truth.alive) // 2, count) * 2 + (rng.random(count) < 0.06)
        drawn = np.unique(np.concatenate([drawn, more]))
    ids = rng.permutation(drawn)[:count]
    versions, old = np.arange(done + 1, done + count + 1), truth.version[ids]
    alive = truth.alive[ids]
    deleted = alive & (rng.random(count) < 0.07)
    updated = alive & ~deleted
    truth.version[ids] = versions
    truth.alive[ids] = ~deleted
    images = np.where(updated, 2, 1)
    change = np.repeat(np.arange(count), images)
    is_after = np.r_[False, change[1:] == change[:-1]]
    before = updated[change] & ~is_after
    takes_old = before | deleted[change]
    kinds = np.where(before, 2, np.where(is_after, 3, np.where(deleted[change], 1, 0)))
    seqs = seq + 1 + change // CHANGES_PER_TRANSACTION
    ops = pa.array(["insert", "delete", "update_before", "update_after"]).take(pa.array(kinds))
    columns: dict[str, Any] = {
        "_rb_op": ops,
        "_rb_seq": pa.array(seqs),
        "_rb_ordinal": pa.array(change % CHANGES_PER_TRANSACTION),
        "_rb_committed_at_us": pa.array(T0 + seqs * 1000),
        "_rb_cut_at_us": pa.array(T0 + seqs * 1000),
        "_rb_gtid": pc.binary_join_element_wise(UUID, pc.cast(pa.array(seqs), pa.string()), ":"),
        "_rb_binlog_file": pa.array(["binlog.000001"]).take(pa.array(np.zeros(len(change), np.int32))),
        "_rb_binlog_pos": pa.array(1000 * seqs + 100),
        "_rb_changed": pc.if_else(pa.array(updated[change]), pa.scalar(b"\x0e"), pa.scalar(None, pa.binary())),
    }
    columns |= _values(ids[change], np.where(takes_old, old[change], versions[change]))
    rows, schema = len(change), segment_schema(BIG)
    return pa.table([columns.get(f.name, pa.nulls(rows, f.type)) for f in schema], schema=schema)


def _transactions(seq: int, changes: int) -> pa.Table:
    sizes = [min(CHANGES_PER_TRANSACTION, changes - at) for at in range(0, changes, CHANGES_PER_TRANSACTION)]
    seqs = np.arange(seq + 1, seq + 1 + len(sizes))
    columns = {
        "seq": pa.array(seqs),
        "gtid": pc.binary_join_element_wise(UUID, pc.cast(pa.array(seqs), pa.string()), ":"),
        "committed_at_us": pa.array(T0 + seqs * 1000),
        "cut_at_us": pa.array(T0 + seqs * 1000),
        "binlog_file": pa.array(["binlog.000001"] * len(seqs)),
        "start_position": pa.array(1000 * seqs),
        "end_position": pa.array(1000 * seqs + 900),
        "row_changes": pa.array(sizes, pa.int64()),
    }
    names = TRANSACTIONS_SCHEMA.names
    arrays = [columns.get(n, pa.nulls(len(seqs), TRANSACTIONS_SCHEMA.field(n).type)) for n in names]
    return pa.table(arrays, schema=TRANSACTIONS_SCHEMA)


def _snapshot(store: FileStore, layout: Layout, rows: int) -> Snapshot:
    schema = pa.schema([pa.field(EXACT, EXACT_TYPE), *value_fields(BIG)], metadata=table_metadata(BIG))
    objects = []
    for number, at in enumerate(range(0, rows, BASE_OBJECT_ROWS)):
        ids = np.arange(at, min(at + BASE_OBJECT_ROWS, rows)) * 2
        columns = _values(ids, np.zeros(len(ids), np.int64))
        arrays = [columns.get(f.name, pa.nulls(len(ids), f.type)) for f in schema]
        body = encode_parquet(pa.table(arrays, schema=schema), ["id"])
        path = layout.baseline("s0", BIG.db, BIG.name, number)
        store.put(path, body)
        objects.append(DataObject(path, len(ids), len(body), hashlib.sha256(body).hexdigest()))
    mark = Mark("", "binlog.000001", 900, T0)
    base = Baseline(BIG.db, BIG.name, BIG.schema_id, BIG, CREATE, rows, tuple(objects))
    return Snapshot(
        snapshot_id="s0",
        mode="brief",
        low=mark,
        high=mark,
        started_at_us=T0,
        finished_at_us=T0,
        path="backups/default/bench/s0/",
        size_bytes=0,
        databases=(("bench", "CREATE DATABASE `bench`"),),
        baselines=(base,),
        skipped=(),
        cascades=(),
        objects=(),
    )


def _checkpoint(seq: int, idle_us: int = 0) -> Checkpoint:
    at = T0 + seq * 1000
    held = f"{UUID}:1-{seq}" if seq else ""
    return Checkpoint(seq, "binlog.000001", 1000 * seq + 900, held, at, at + idle_us)
