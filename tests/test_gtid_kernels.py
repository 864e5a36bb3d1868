"""What the kernels read from GTID events and print as GTIDs, beside the same in plain Python."""

from __future__ import annotations

import random
import struct
import uuid

import numpy as np

from dataflow import events as ev
from dataflow.kernels import gtids as gk
from dataflow.kernels import transactions as tk
from dataflow.transactions import Transactions

NUMBERS = (1, 9, 10, 99, 100, 12345, 10**18 - 1, 10**18, 2**63 - 1)


def transactions(source: list[int], sources: tuple[str, ...], number: list[int]) -> Transactions:
    nothing = np.zeros(len(number), np.int64)
    return Transactions(
        file="binlog.000001",
        first_seq=1,
        source=np.array(source, np.int64),
        sources=sources,
        number=np.array(number, np.int64),
        committed_at_us=nothing,
        cut_at_us=nothing,
        start=nothing,
        end=nothing,
        connection=nothing,
        crcs=np.zeros(0, np.uint32),
        first_event=nothing,
        last_event=nothing,
    )


def test_gtids_as_text() -> None:
    for sources in (("a-b:",), ("", "0-1-", "f" * 32 + ":tag:"), ()):
        choice = random.Random(len(sources))
        source = [choice.randrange(-1, len(sources)) for _ in range(200)]
        number = [choice.choice(NUMBERS) for _ in source]
        found = transactions(source, sources, number)
        expected = [None if s < 0 else f"{sources[s]}{n}" for s, n in zip(source, number, strict=True)]
        found.gtids().validate(full=True)
        assert found.gtids().to_pylist() == expected
        assert [found.gtid(i) for i in range(len(found))] == expected


def test_what_gtid_events_say() -> None:
    choice = random.Random(7)
    uuids = [uuid.UUID(int=n) for n in (1, 2, 1 << 64, 2**128 - 1)]
    buffer, raw, expected = bytearray(16), [], []
    for at in range(400):
        seconds, row = choice.randrange(2**31), [0] * tk.TX_FIELDS
        row[tk.TX_GTID], row[tk.TX_TIMESTAMP], row[tk.TX_SERVER_ID] = (
            len(buffer),
            seconds,
            choice.choice((1, 2**32 - 1)),
        )
        kind = row[tk.TX_TYPE] = choice.choice((ev.GTID, ev.GTID, ev.ANONYMOUS_GTID, ev.MARIADB_GTID))
        committed, sequence, number = seconds * 1_000_000, 0, choice.choice(NUMBERS)
        source: object = None
        if at % 17 == 3:  # dataflow/framer.py knows it
            row[tk.TX_GTID], number = -1, 0
        elif kind == ev.MARIADB_GTID:
            domain = choice.choice((0, 2**32 - 1))
            buffer += struct.pack("<QIB", number, domain, 0) + b"\xff" * 6
            source = (domain, row[tk.TX_SERVER_ID])
        else:
            sid, sequence, time = choice.choice(uuids), choice.randrange(2**62), choice.choice((0, 1, (1 << 55) - 1))
            second = choice.choice((0, 1 << 55))  # an original commit time of its own follows
            timed = row[tk.TX_TIMED] = choice.randrange(2)
            buffer += struct.pack("<B16sQBQQ", 0, sid.bytes, number, 2, 0, sequence)
            buffer += (time | second).to_bytes(7, "little") if timed else b""
            if timed and time:
                committed = time
            source, number = (sid, number) if kind == ev.GTID else (None, 0)
        raw.append(row)
        expected.append((source, number, committed, sequence))
    data, table = np.frombuffer(bytes(buffer) + b"\0" * 8, np.uint8), np.array(raw, np.int64)
    source_of, number_of, committed_of, sequence_of, firsts = np.empty((5, len(raw)), np.int64)
    count = gk.read(data, table, source_of, number_of, committed_of, sequence_of, firsts)
    places = dict.fromkeys(s for s, *_ in expected if s is not None)
    assert count == len(places) == 8
    assert [expected[first][0] for first in firsts[:count]] == list(places)
    names = list(places)
    found = zip(
        [None if s < 0 else names[s] for s in source_of], number_of.tolist(), committed_of.tolist(), sequence_of.tolist(),
        strict=True,
    )  # fmt: skip
    assert list(found) == expected
