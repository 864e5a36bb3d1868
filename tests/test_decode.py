"""The decode step on hand-made transactions: what it gives when some of them can't be decoded."""

from __future__ import annotations

import numpy as np
import pytest
from test_framer import Binlog, fed, framer

from dataflow import events as ev
from dataflow import tablemap as tm
from dataflow.batches import ChangeBatch, EventBatch, Stop
from dataflow.decode import Decoder, Dictionary
from dataflow.rows import RowDecoder, RowEvents, RowFault
from recovery.errors import BinlogDamaged, UnsupportedEvent
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
    assert decoder.decode(events).columns[1].to_pylist() == ["abc"] * 4
    for limit in (11, 15):
        monkeypatch.setattr("dataflow.columns.texts._OFFSET_MAX", limit)
        with pytest.raises(RowFault, match="more than 2 GiB") as fault:
            decoder.decode(events)
        assert fault.value.error is UnsupportedEvent
