"""The decode step on hand-made transactions: what it gives when some of them can't be decoded."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from test_framer import Binlog, fed, framer, gtid_body, query

from dataflow import events as ev
from dataflow import tablemap as tm
from dataflow.batches import ChangeBatch, EventBatch, Stop
from dataflow.decode import Decoder
from dataflow.decoders import Dictionary
from dataflow.definitions import Name, Place, Reading
from dataflow.live_schema import Definitions
from dataflow.rows import RowDecoder, RowEvents, RowFault
from recovery.archive.actions import Checkpoint, Ddl
from recovery.errors import BinlogDamaged, SourceMisconfigured, UnsupportedEvent
from recovery.schema import Column, Table


def table_map(number: int, name: bytes) -> tuple[int, bytes]:
    """One INT column `a`, named in the optional metadata."""
    body = (
        number.to_bytes(6, "little") + b"\1\0" + b"\1d\0" + bytes([len(name)]) + name + b"\0" + b"\1\3\0\0" + b"\4\2\1a"
    )
    return ev.TABLE_MAP, body


def insert(number: int, payload: bytes) -> tuple[int, bytes]:
    return ev.WRITE_ROWS, number.to_bytes(6, "little") + b"\1\0\2\0\1\1" + payload


def test_what_stands_before_the_first_transaction_that_fails_is_kept() -> None:
    """Tables are decoded one after the other, so the first fault that is met needn't be the first in the binlog."""
    good, cut = b"\0\5\0\0\0", b"\0\5\0"
    log = Binlog()
    log.transaction(1, table_map(7, b"t"), insert(7, good))
    log.transaction(2, table_map(8, b"u"), insert(8, good))
    log.transaction(3, table_map(8, b"u"), insert(8, cut))
    log.transaction(4, table_map(7, b"t"), insert(7, cut))
    (piece,) = fed(framer(), log.bytes)
    batch = EventBatch("s", "mysql", 1, piece, {})
    done, stop = Decoder(Dictionary(lambda table: frozenset(), lambda db, name: True)).decode(batch)
    assert isinstance(done, ChangeBatch)
    assert done.transactions.column("seq").to_pylist() == [1, 2]
    assert {t.name: rows.column("a").to_pylist() for t, rows in done.changes} == {"t": [5], "u": [5]}
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, BinlogDamaged)
    assert "`d.u`" in str(stop.error)


def test_more_values_than_arrow_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real limit is 2 GiB of one column in one batch."""
    columns = (Column("id", "int"), Column("t", "text", charset="utf8mb4"), Column("b", "binary", octets=4))
    wire = (tm.WireColumn(tm.LONG), tm.WireColumn(tm.BLOB, length_bytes=1), tm.WireColumn(tm.STRING, 1, octets=4))
    decoder = RowDecoder(tm.TableMap(7, Table("d", "t", columns), wire))
    body = (7).to_bytes(6, "little") + b"\1\0\2\0\3\7" + b"\0\1\0\0\0\3abc\1x" * 4
    events = RowEvents(
        np.frombuffer(body, np.uint8), np.zeros(1, np.int64), np.array([len(body)]), np.array([30], np.uint8)
    )
    assert decoder.decode(events)[0].columns[1].to_pylist() == ["abc"] * 4
    for limit in (11, 15):
        monkeypatch.setattr("dataflow.columns.texts._OFFSET_MAX", limit)
        with pytest.raises(RowFault, match="more than 2 GiB") as fault:
            decoder.decode(events)
        assert fault.value.error is UnsupportedEvent


def two_columns(number: int) -> tuple[int, bytes]:
    """`d.t` with two INT columns that may be NULL, without names."""
    return ev.TABLE_MAP, number.to_bytes(6, "little") + b"\1\0\1d\0\1t\0\2\3\3\0\3"


def pair(number: int, first: int, second: int) -> tuple[int, bytes]:
    cells = struct.pack("<ii", first, second)
    return ev.WRITE_ROWS, number.to_bytes(6, "little") + b"\1\0\2\0\2\3" + b"\0" + cells


class Swapped:
    """A server whose table `d.t` has its columns the other way round now."""

    def __init__(self, high: Place) -> None:
        self.high = high
        self.readings = 0

    def read(self, names: Sequence[Name]) -> Reading:
        self.readings += 1
        return Reading({("d", "t"): Table("d", "t", (Column("b", "int"), Column("a", "int")))}, self.high)

    def ddls(self, after: Checkpoint, until: Place) -> tuple[list[Ddl], Checkpoint]:
        raise AssertionError("all of the binlog has arrived")


def test_equal_table_maps_before_and_behind_a_ddl_are_different_tables_however_often_they_are_decoded() -> None:
    """Two INT columns swapped: the TABLE_MAP is the same byte for byte. The fault at the end has the piece decoded again."""
    log = Binlog()
    log.transaction(1, two_columns(7), pair(7, 1, 2))
    log.add(ev.GTID, gtid_body(2)).add(ev.QUERY, query(b"ALTER TABLE t MODIFY a INT AFTER b"))
    log.transaction(3, two_columns(8), pair(8, 2, 1))
    log.transaction(4, two_columns(8), (ev.WRITE_ROWS, pair(8, 2, 1)[1][:-1]))
    (piece,) = fed(framer(), log.bytes)
    known = Table("d", "t", (Column("a", "int"), Column("b", "int")))
    source = Swapped((1, log.position))
    dictionary = Dictionary(
        lambda table: frozenset(),
        lambda db, name: True,
        lambda at, charsets: Definitions(source, at, {("d", "t"): known}),
    )
    done, stop = Decoder(dictionary).decode(EventBatch("s", "mysql", 1, piece, {}))
    assert isinstance(done, ChangeBatch)
    assert isinstance(stop, Stop)
    found = [(table.columns[0].name, rows["a"].to_pylist(), rows["b"].to_pylist()) for table, rows in done.changes]
    assert found == [("a", [1], [2]), ("b", [1], [2])]
    assert source.readings == 1


def test_without_anything_that_proves_columns_they_must_be_named() -> None:
    (piece,) = fed(framer(), Binlog().transaction(1, two_columns(7), pair(7, 1, 2)).bytes)
    (stop,) = Decoder(Dictionary(lambda table: frozenset(), lambda db, name: True)).decode(
        EventBatch("s", "mysql", 1, piece, {})
    )
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, SourceMisconfigured)
