"""GTID events to numbers, and numbers to GTIDs as text.

Layouts: MySQL's libs/mysql/binlog/event/control_events.h, Gtid_event; MariaDB's sql/log_event.h, Gtid_log_event.
"""

from __future__ import annotations

from typing import Final

from numba import types

from dataflow.kernels.memory import (
    BYTES,
    LONGS,
    OPTIONS,
    OUT_BYTES,
    OUT_INTS,
    OUT_LONGS,
    copy,
    load_i64,
    load_u32,
    same,
)
from dataflow.kernels.numbers import integer
from dataflow.kernels.transactions import (
    GTID,
    MARIADB_GTID,
    TABLE,
    TX_GTID,
    TX_SERVER_ID,
    TX_TIMED,
    TX_TIMESTAMP,
    TX_TYPE,
)
from recovery.kernelcache import kernel

NUMBER_BYTES: Final = 20  # digits of a uint64 at most
_COMMIT_TIME: Final = (1 << 55) - 1  # immediate_commit_timestamp: 7 bytes, bit 55 says that another one follows


@kernel(types.boolean(BYTES, TABLE, types.int64, types.int64), **OPTIONS)
def _same_source(buffer, transactions, one, other):  # type: ignore[no-untyped-def]
    if transactions[one, TX_TYPE] != transactions[other, TX_TYPE]:
        return False
    left, right = transactions[one, TX_GTID], transactions[other, TX_GTID]
    if transactions[one, TX_TYPE] == MARIADB_GTID:
        return (
            load_u32(buffer, left + 8) == load_u32(buffer, right + 8)
            and transactions[one, TX_SERVER_ID] == transactions[other, TX_SERVER_ID]
        )
    return same(buffer, left + 1, right + 1, 16)


@kernel(types.int64(BYTES, TABLE, OUT_LONGS, OUT_LONGS, OUT_LONGS, OUT_LONGS, OUT_LONGS), **OPTIONS)
def read(buffer, transactions, source, number, committed, sequence, firsts):  # type: ignore[no-untyped-def]
    """What the GTID events of transactions (TX_* fields) say: `source` (-1 without a GTID), `number`, `committed`
    (microseconds since the epoch) and `sequence` (MySQL's sequence_number, 0 if not known).

    Gives how many sources there are: MySQL's UUIDs or MariaDB's pairs of domain and server. firsts: for each the first
    transaction that has it; room for as many as there are transactions.
    """
    found = 0
    for i in range(transactions.shape[0]):
        body, kind = transactions[i, TX_GTID], transactions[i, TX_TYPE]
        source[i], number[i], sequence[i] = -1, 0, 0
        committed[i] = transactions[i, TX_TIMESTAMP] * 1_000_000
        if body < 0:
            continue
        if kind == MARIADB_GTID:
            number[i] = load_i64(buffer, body)
        else:
            sequence[i] = load_i64(buffer, body + 34)
            if transactions[i, TX_TIMED]:
                time = load_i64(buffer, body + 41) >> 8 & _COMMIT_TIME
                if time > 0:
                    committed[i] = time
            if kind != GTID:
                continue
            number[i] = load_i64(buffer, body + 17)
        # Nearly always that of the transaction before.
        place = source[i - 1] if i > 0 and source[i - 1] >= 0 else 0
        if found == 0 or not _same_source(buffer, transactions, i, firsts[place]):
            place = 0
            while place < found and not _same_source(buffer, transactions, i, firsts[place]):
                place += 1
            if place == found:
                firsts[found] = i
                found += 1
        source[i] = place
    return found


@kernel(types.int64(LONGS, LONGS, BYTES, LONGS, OUT_INTS, OUT_BYTES), **OPTIONS)
def write(source, number, texts, starts, ends, out):  # type: ignore[no-untyped-def]
    """Each source's text and the number behind it, one GTID behind the other in `out`, which has room for NUMBER_BYTES more
    than the source's text for each; gives the end. starts: of the sources' texts, one more than there are sources; ends:
    Arrow's offsets, one more than there are transactions. One without a source takes no room."""
    at = 0
    ends[0] = 0
    for i in range(source.shape[0]):
        if source[i] >= 0:
            start = starts[source[i]]
            length = starts[source[i] + 1] - start
            copy(out, at, texts, start, length)
            at = integer(out, at + length, number[i], True)
        ends[i + 1] = at
    return at
