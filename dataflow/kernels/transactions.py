"""From an index of events to transactions and their row events: the grammar of a binlog, for everything that is common.

`read` goes over the index in order, checks the position chain, opens and ends transactions, and lists row events with the
definition (a TABLE_MAP seen before) and the transaction that they belong to. It stops in front of every event that needs
more than this: DDL, rotations, XA, compressed payloads, events of unknown types. Those are for dataflow/framer.py.
Layouts: MySQL's libs/mysql/binlog/event/{control_events,rows_event,statement_events}.h; MariaDB's sql/log_event.h.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import types

from dataflow.kernels.frame import (
    EVENT_BODY,
    EVENT_END,
    EVENT_FLAGS,
    EVENT_LOG_POS,
    EVENT_SERVER_ID,
    EVENT_SIZE,
    EVENT_TIMESTAMP,
    EVENT_TYPE,
)
from dataflow.kernels.memory import BYTES, LONGS, OPTIONS, load_i64, load_u16, load_u32
from recovery.kernelcache import kernel

TABLE: Final = types.int64[:, ::1]

# What `read` keeps between calls, in an int64 array.
STATE_POSITION: Final = 0  # where the next event of the file must start (not modulo 2**32)
STATE_OPEN: Final = 1  # 1 inside a transaction
STATE_BLOCK: Final = 2  # 1 between BEGIN and the end of a transaction
STATE_MAPPED: Final = 3  # how many table ids the open transaction has mapped
STATE_FIELDS: Final = 4

# The fields of a transaction, one int64 each.
TX_FIRST: Final = 0  # index of its first event
TX_LAST: Final = 1  # index of its last event
TX_START: Final = 2  # position of its first event
TX_END: Final = 3  # position behind its last event
TX_GTID: Final = 4  # offset of its GTID event's body; -1 if dataflow/framer.py knows the GTID
TX_TYPE: Final = 5  # type of its GTID event
TX_TIMESTAMP: Final = 6  # the GTID event's, seconds
TX_SERVER_ID: Final = 7
TX_CONNECTION: Final = 8  # -1 if the binlog doesn't say
TX_TIMED: Final = 9  # 1 if the GTID event is long enough for a commit time (MySQL 8.0.1 and newer)
TX_FIELDS: Final = 10

# The fields of a row event, one int64 each.
ROW_DEFINITION: Final = 0
ROW_BODY: Final = 1
ROW_END: Final = 2
ROW_TYPE: Final = 3
ROW_TX: Final = 4
ROW_POSITION: Final = 5  # where it starts in its file
ROW_FIELDS: Final = 6

# Why `read` came back.
DONE: Final = 0
SPECIAL: Final = 1  # the event is not consumed
NEW_DEFINITION: Final = 2  # a TABLE_MAP that is not in the definitions; not consumed
HOLE: Final = 3  # the event doesn't follow on the one before
NESTED: Final = 4  # a transaction begins inside another one
OUTSIDE: Final = 5  # a change outside any transaction
UNMAPPED: Final = 6  # a row event without a TABLE_MAP
MANY_MAPS: Final = 7  # more tables in one transaction than `maps` has room for
SHORT: Final = 8  # an event shorter than what must be in it

_QUERY: Final = 2
_STOP: Final = 3
_XID: Final = 16
_TABLE_MAP: Final = 19
_WRITE_ROWS_V1: Final = 23
_DELETE_ROWS_V1: Final = 25
_ROWS_QUERY: Final = 29
_WRITE_ROWS: Final = 30
_DELETE_ROWS: Final = 32
GTID: Final = 33
_ANONYMOUS_GTID: Final = 34
_PARTIAL_UPDATE_ROWS: Final = 39
_ANNOTATE_ROWS: Final = 160
_BINLOG_CHECKPOINT: Final = 161
MARIADB_GTID: Final = 162
_WRITE_ROWS_COMPRESSED_V1: Final = 166
_DELETE_ROWS_COMPRESSED: Final = 171
_ARTIFICIAL: Final = 0x20  # LOG_EVENT_ARTIFICIAL_F
_STANDALONE: Final = 1  # Gtid_log_event::FL_STANDALONE
_NOT_PLAIN: Final = 32 | 64 | 128  # FL_DDL, FL_PREPARED_XA, FL_COMPLETED_XA
_DUMMY_TABLE: Final = 0xFFFFFF  # a row event that only ends a statement

_BEGIN: Final = np.frombuffer(b"BEGIN", np.uint8)
_COMMIT: Final = np.frombuffer(b"COMMIT", np.uint8)
_SAVEPOINT: Final = np.frombuffer(b"SAVEPOINT", np.uint8)


@kernel(types.int64(BYTES, types.int64, types.int64), **OPTIONS)
def hash_bytes(buffer, start, stop):  # type: ignore[no-untyped-def]
    """A 63-bit hash, for finding definitions; equality is always decided by the bytes."""
    h = np.uint64(stop - start) * np.uint64(0x9E3779B97F4A7C15)
    at = start
    while at + 8 <= stop:
        h = (h ^ np.uint64(load_i64(buffer, at))) * np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(32)
        at += 8
    while at < stop:
        h = (h ^ np.uint64(buffer[at])) * np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(29)
        at += 1
    return np.int64(h >> np.uint64(1))


@kernel(types.boolean(BYTES, types.int64, BYTES, types.int64, types.int64), **OPTIONS)
def _equal(left, left_at, right, right_at, length):  # type: ignore[no-untyped-def]
    i = 0
    while i + 8 <= length:
        if load_i64(left, left_at + i) != load_i64(right, right_at + i):
            return False
        i += 8
    while i < length:
        if left[left_at + i] != right[right_at + i]:
            return False
        i += 1
    return True


@kernel(types.int64(BYTES, types.int64, types.int64, LONGS, BYTES, TABLE), **OPTIONS)
def find_definition(buffer, start, stop, slots, arena, spans):  # type: ignore[no-untyped-def]
    """The number of the definition whose bytes are buffer[start:stop], -1 if there is none. slots: open addressing over
    (number + 1), a power of two long; arena: the bytes of all definitions; spans: (offset, end) in it by number."""
    mask = slots.shape[0] - 1
    slot = hash_bytes(buffer, start, stop) & mask
    while slots[slot] != 0:
        number = slots[slot] - 1
        offset, end = spans[number, 0], spans[number, 1]
        if end - offset == stop - start and _equal(buffer, start, arena, offset, end - offset):
            return number
        slot = (slot + 1) & mask
    return -1


@kernel(types.boolean(BYTES, types.int64, types.int64, BYTES), **OPTIONS)
def _is_text(buffer, start, stop, text):  # type: ignore[no-untyped-def]
    if stop - start < text.shape[0]:
        return False
    return _equal(buffer, start, text, 0, text.shape[0])


@kernel(types.int64(BYTES, types.int64), **OPTIONS)
def _table_id(buffer, body):  # type: ignore[no-untyped-def]
    return load_u32(buffer, body) | load_u16(buffer, body + 4) << 32


@kernel(
    types.UniTuple(types.int64, 4)(
        BYTES, TABLE, types.int64, types.int64, types.boolean, types.int64[::1], LONGS, BYTES, TABLE, TABLE, TABLE,
        types.int64, TABLE, types.int64,
    ),
    **OPTIONS,
)  # fmt: skip
def read(  # type: ignore[no-untyped-def]
    buffer, index, at, count, chained, state, slots, arena, spans, maps, transactions, txs, rows, n_rows
):
    """Read the events index[at:count].

    chained: whether positions are checked (not inside a compressed payload). maps: int64 (capacity, 2), the open
    transaction's (table id, definition). transactions, rows: where to write, of at least as many rows as there are events;
    txs: complete ones so far (the open one is row `txs`), n_rows: row events so far.
    Returns (status, index of the event where it stopped, txs, n_rows).
    """
    while at < count:
        event = index[at]
        kind, body, end = event[EVENT_TYPE], event[EVENT_BODY], event[EVENT_END]
        known = (
            kind in (_TABLE_MAP, _XID, _QUERY, _PARTIAL_UPDATE_ROWS, _ROWS_QUERY, _STOP)
            or (_WRITE_ROWS <= kind <= _ANONYMOUS_GTID)
            or (_WRITE_ROWS_V1 <= kind <= _DELETE_ROWS_V1)
            or (_ANNOTATE_ROWS <= kind <= MARIADB_GTID)
            or (_WRITE_ROWS_COMPRESSED_V1 <= kind <= _DELETE_ROWS_COMPRESSED)
        )
        if not known or event[EVENT_FLAGS] & _ARTIFICIAL:
            return SPECIAL, at, txs, n_rows
        start = state[STATE_POSITION]
        # log_pos is 32 bits wide; files over 4 GiB wrap it.
        if chained and (start + event[EVENT_SIZE]) & 0xFFFFFFFF != event[EVENT_LOG_POS]:
            return HOLE, at, txs, n_rows
        commits = False
        if kind == _QUERY:
            if end - body < 13:
                return SHORT, at, txs, n_rows
            text = body + 13 + load_u16(buffer, body + 11) + buffer[body + 8] + 1
            begins = end - text == 5 and _is_text(buffer, text, end, _BEGIN)
            commits = end - text == 6 and _is_text(buffer, text, end, _COMMIT)
            # MySQL never logs in row format that it went back to one: what is behind it is cut out of what it logs.
            passes = transactions[txs, TX_TYPE] != MARIADB_GTID and _is_text(buffer, text, end, _SAVEPOINT)
            if text > end or not (begins or commits or passes):
                return SPECIAL, at, txs, n_rows
            if state[STATE_OPEN] == 0:
                return OUTSIDE, at, txs, n_rows
            connection = load_u32(buffer, body)
            if connection:
                transactions[txs, TX_CONNECTION] = connection
            if begins:
                state[STATE_BLOCK] = 1
        elif kind in (GTID, _ANONYMOUS_GTID, MARIADB_GTID):
            if state[STATE_OPEN] != 0:
                return NESTED, at, txs, n_rows
            if end - body < (13 if kind == MARIADB_GTID else 42):
                return SHORT, at, txs, n_rows
            block = 0
            if kind == MARIADB_GTID:
                flags = types.int64(buffer[body + 12])
                if flags & _NOT_PLAIN:
                    return SPECIAL, at, txs, n_rows
                block = 0 if flags & _STANDALONE else 1
            transaction = transactions[txs]
            transaction[TX_FIRST] = at
            transaction[TX_START] = start
            transaction[TX_GTID] = body
            transaction[TX_TYPE] = kind
            transaction[TX_TIMESTAMP] = event[EVENT_TIMESTAMP]
            transaction[TX_SERVER_ID] = event[EVENT_SERVER_ID]
            transaction[TX_CONNECTION] = -1
            transaction[TX_TIMED] = end - body >= 49
            state[STATE_OPEN], state[STATE_BLOCK], state[STATE_MAPPED] = 1, block, 0
        elif kind == _TABLE_MAP:
            if state[STATE_OPEN] == 0:
                return OUTSIDE, at, txs, n_rows
            if end - body < 10:
                return SHORT, at, txs, n_rows
            # The table id (6 bytes) changes when the server reopens a table; the rest is the definition.
            definition = find_definition(buffer, body + 6, end, slots, arena, spans)
            if definition < 0:
                return NEW_DEFINITION, at, txs, n_rows
            number = _table_id(buffer, body)
            place = 0
            while place < state[STATE_MAPPED] and maps[place, 0] != number:
                place += 1
            if place == maps.shape[0]:
                return MANY_MAPS, at, txs, n_rows
            maps[place, 0] = number
            maps[place, 1] = definition
            state[STATE_MAPPED] = max(state[STATE_MAPPED], place + 1)
        elif kind == _XID:
            if state[STATE_OPEN] == 0:
                return OUTSIDE, at, txs, n_rows
        elif kind in (_ROWS_QUERY, _STOP, _ANNOTATE_ROWS, _BINLOG_CHECKPOINT):
            pass
        else:
            if state[STATE_OPEN] == 0:
                return OUTSIDE, at, txs, n_rows
            if end - body < 8:
                return SHORT, at, txs, n_rows
            number = _table_id(buffer, body)
            place = 0
            while place < state[STATE_MAPPED] and maps[place, 0] != number:
                place += 1
            if place < state[STATE_MAPPED]:
                row = rows[n_rows]
                row[ROW_DEFINITION] = maps[place, 1]
                row[ROW_BODY] = body
                row[ROW_END] = end
                row[ROW_TYPE] = kind
                row[ROW_TX] = txs
                row[ROW_POSITION] = start
                n_rows += 1
            elif number != _DUMMY_TABLE:
                return UNMAPPED, at, txs, n_rows
        state[STATE_POSITION] = start + event[EVENT_SIZE]
        if kind == _XID or commits:
            transactions[txs, TX_LAST] = at
            transactions[txs, TX_END] = state[STATE_POSITION]
            txs += 1
            state[STATE_OPEN] = 0
        at += 1
    return DONE, at, txs, n_rows
