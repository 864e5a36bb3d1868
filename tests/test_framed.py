"""Pieces from the framing thread: all of them, in order, the error behind them, and no further ahead than promised."""

from __future__ import annotations

import queue
import time
from typing import cast

import numpy as np
import pytest
from test_framer import Binlog, framer

from dataflow.framed import PieceStream
from dataflow.pieces import Piece
from dataflow.stream import EventStream
from recovery.errors import BinlogDamaged, SourceUnreachable


class Bytes:
    """As EventStream gives them, from a list. lost: what ends it."""

    def __init__(self, parts: list[np.ndarray], lost: Exception | None = None) -> None:
        self.parts: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        for part in parts:
            self.parts.put(part)
        self.lost = lost
        self.closed = False

    def take(self, budget_bytes: int, wait_s: float = 0.0) -> list[tuple[np.ndarray, int]]:
        if self.parts.empty():
            if self.lost is not None:
                raise self.lost
            time.sleep(0.001)
            return []
        part = self.parts.get()
        return [(part, 10**15)]

    def close(self) -> None:
        self.closed = True


def pieces_of(stream: Bytes, target: tuple[str, int] | None = None) -> PieceStream:
    return PieceStream(cast(EventStream, stream), framer(), target, asked_at_us=77)


def taken(pieces: PieceStream) -> list[Piece]:
    found: list[Piece] = []
    deadline = time.monotonic() + 20
    while not pieces.complete:
        assert time.monotonic() < deadline
        found += pieces.take()
    return found


def binlog(transactions: int) -> Binlog:
    log = Binlog()
    for number in range(1, transactions + 1):
        log.transaction(number)
    return log


def test_everything_in_order_and_then_complete() -> None:
    log = binlog(400)
    parts = [log.bytes[i : i + 700] for i in range(0, len(log.bytes), 700)]
    pieces = pieces_of(Bytes(parts), ("binlog.000001", log.position))
    found = taken(pieces)
    assert [tx for p in found for tx in range(p.before.seq, p.after.seq)] == list(range(400))
    assert found[-1].after.covered_to_us >= 77
    assert pieces.take() == []
    pieces.close()


def test_what_ended_the_stream_comes_behind_what_was_read_before_it() -> None:
    log = binlog(3)
    pieces = pieces_of(Bytes([log.bytes], SourceUnreachable("gone", hint="Wait.")))
    seen = 0
    with pytest.raises(SourceUnreachable):
        while True:
            seen = max([seen, *(p.after.seq for p in pieces.take())])
    assert seen == 3
    with pytest.raises(SourceUnreachable):
        pieces.take()
    pieces.close()


def test_damage_comes_behind_what_was_whole_before_it() -> None:
    data = binlog(3).bytes.copy()
    data[-6] ^= 1
    pieces = pieces_of(Bytes([data]))
    seen = 0
    with pytest.raises(BinlogDamaged):
        while True:
            seen = max([seen, *(p.after.seq for p in pieces.take())])
    assert seen == 2
    pieces.close()


def test_it_runs_one_batch_ahead_and_gathers_the_rest() -> None:
    log = binlog(50)
    parts = [log.bytes[i : i + 100] for i in range(0, len(log.bytes), 100)]
    stream = Bytes(parts)
    pieces = pieces_of(stream, ("binlog.000001", log.position))
    first = wait_for_pieces(pieces)
    second = wait_for_pieces(pieces)
    time.sleep(0.05)
    assert not stream.parts.empty(), "what was not asked for was not read"
    seqs = [p.after.seq for p in (*first, *second, *taken(pieces))]
    assert seqs == sorted(seqs)
    assert seqs[-1] == 50
    pieces.close()


def test_closing_ends_the_thread_and_the_stream() -> None:
    stream = Bytes([binlog(5).bytes])
    pieces = pieces_of(stream)
    wait_for_pieces(pieces)
    pieces.close()
    assert stream.closed
    assert not pieces._thread.is_alive()


def wait_for_pieces(pieces: PieceStream) -> list[Piece]:
    deadline = time.monotonic() + 10
    while not (found := pieces.take()):
        assert time.monotonic() < deadline
    return found
