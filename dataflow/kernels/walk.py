"""Walks row events: the only code that interprets lengths. Every read is checked against the end of its event.

Layout (MySQL's libs/mysql/binlog/event/rows_event.h, "Rows_event"; MariaDB's sql/log_event.h is the same as version 1):

    table id 6, flags 2, in version 2 the length of extra data 2 (it counts itself) and the data; number of columns, packed;
    a bit per column: whether images have it, for updates once more for the after images; then the images.

An image is a NULL bit per column and the values of the others. The after image of a PARTIAL_UPDATE_ROWS event begins with
its value options (packed); if bit 0 is set, a bit per JSON column says that its value is a list of diffs
(sql/rpl_record.cc, unpack_row).
"""

from __future__ import annotations

from typing import Final

from numba import types

from dataflow.kernels.memory import (
    BYTES,
    INLINE,
    LONGS,
    OPTIONS,
    OUT_LONGS,
    load_i64,
    load_u16,
    load_u32,
    prefetch,
    same,
)
from recovery.kernelcache import kernel

# In place of a cell's length. Everything below zero has no value in the cell's column.
NULL: Final = -1
UNCHANGED: Final = -3  # of a before image, when the after image has the same bytes
ODD: Final = -4  # set by the gather kernels: a value that the column's type can't hold

INSERT, DELETE, BEFORE, AFTER = 0, 1, 2, 3

# Statuses.
DONE: Final = 0
FULL: Final = 1  # the output arrays are; call again with the same state
CUT_SHORT: Final = 2
COLUMNS_DIFFER: Final = 3
PARTIAL_IMAGE: Final = 4
UNKNOWN_TYPE: Final = 5
UNKNOWN_OPTION: Final = 6

# Slots of the state.
EVENT, AT, CHANGE, IMAGES, DIFFS = 0, 1, 2, 3, 4
STATE_SLOTS: Final = 5

_PARTIAL_UPDATE: Final = 39
# Row events of one table lie apart where transactions are small, and those to come are known: so many ahead their first
# two cache lines are asked for.
_AHEAD: Final = 8


@kernel(types.UniTuple(types.int64, 2)(BYTES, types.int64, types.int64), **INLINE)
def packed(data, at, end):  # type: ignore[no-untyped-def]
    """(A length-encoded integer, where it ends); (0, -1) if it doesn't."""
    if at >= end:
        return 0, -1
    first = types.int64(data[at])
    if first < 251:
        return first, at + 1
    width = 2 if first == 252 else 3 if first == 253 else 8
    if first == 251 or first == 255 or at + 1 + width > end:
        return 0, -1
    number = 0
    for i in range(width):
        number |= types.int64(data[at + 1 + i]) << (8 * i)
    return number, at + 1 + width


@kernel(types.boolean(BYTES, types.int64, types.int64), **OPTIONS)
def all_set(data, at, bits):  # type: ignore[no-untyped-def]
    for i in range(bits >> 3):
        if data[at + i] != 255:
            return False
    rest = bits & 7
    mask = (1 << rest) - 1
    return rest == 0 or types.int64(data[at + (bits >> 3)]) & mask == mask


@kernel(types.int64(BYTES, types.int64, types.int64, types.int64, types.int64), **OPTIONS)
def head(data, at, end, kind, columns):  # type: ignore[no-untyped-def]
    """The part before the images: where they begin, or minus the status."""
    at += 8
    if at > end:
        return -CUT_SHORT
    if kind >= 30:
        if at + 2 > end:
            return -CUT_SHORT
        at += max(load_u16(data, at), 2)
    count, at = packed(data, at, end)
    if at < 0:
        return -CUT_SHORT
    if count != columns:
        return -COLUMNS_DIFFER
    size = (columns + 7) >> 3
    for _ in range(2 if kind == 24 or kind == 31 or kind == _PARTIAL_UPDATE else 1):
        if at + size > end:
            return -CUT_SHORT
        if not all_set(data, at, columns):
            return -PARTIAL_IMAGE
        at += size
    return at


@kernel(
    types.int64(BYTES, types.int64, types.int64, LONGS, types.int64, types.int64[:, ::1], types.int32[:, ::1]),
    **OPTIONS,
)
def image(data, at, end, widths, row, offsets, lengths):  # type: ignore[no-untyped-def]
    """One image into column `row` of the matrices; gives where it ends, -1 if it reaches beyond `end`.

    widths: of fixed-width values, or minus the width of the length prefix.
    """
    columns = widths.shape[0]
    nulls = at
    at += (columns + 7) >> 3
    if at > end:
        return -1
    for c in range(columns):
        null = types.int64(data[nulls + (c >> 3)] >> (c & 7)) & 1
        width = widths[c]
        if width < 0:
            if null:
                width = 0
            else:
                prefix = -width
                if at + prefix > end:
                    return -1
                if prefix == 1:
                    width = types.int64(data[at])
                elif prefix == 2:
                    width = load_u16(data, at)
                elif prefix == 3:
                    width = load_u16(data, at) | types.int64(data[at + 2]) << 16
                else:
                    width = load_u32(data, at)
                    if width > 0x7FFFFFFF:  # the matrix has 32 bits for a length
                        return -1
                at += prefix
        # Without a branch: which values are NULL is what the processor can't foresee.
        offsets[c, row] = at
        lengths[c, row] = width | -null
        at += width & null - 1
        if at > end:
            return -1
    return at


@kernel(
    types.void(BYTES, types.int64, LONGS, types.int64, types.int64[:, ::1], types.int32[:, ::1], types.uint8[:, ::1]),
    **OPTIONS,
)
def compare(data, limit, keep, row, offsets, lengths, changed):  # type: ignore[no-untyped-def]
    """Before image `row` against the after image behind it, by stored bytes: sets the bits of `changed`, and marks
    unchanged cells of the before image unless `keep` names their column. limit: the buffer's size."""
    for c in range(keep.shape[0]):
        length = types.int64(lengths[c, row])
        equal = length == lengths[c, row + 1]
        if equal and length > 0:
            one, other = offsets[c, row], offsets[c, row + 1]
            if length <= 8 and other + 8 <= limit:  # the after image stands behind the before image
                difference = load_i64(data, one) ^ load_i64(data, other)
                equal = difference << (64 - 8 * length) == 0
            else:
                equal = same(data, one, other, length)
        if not equal:
            bit = 1 << (c & 7)
            changed[row, c >> 3] |= bit
            changed[row + 1, c >> 3] |= bit
        elif not keep[c]:
            lengths[c, row] = UNCHANGED


@kernel(
    types.int64(
        BYTES, types.int64, types.int64, LONGS, LONGS, types.int64, types.int64[:, ::1], types.int64[::1],
    ),
    **OPTIONS,
)  # fmt: skip
def value_options(data, at, end, json_columns, widths, row, diffs, state):  # type: ignore[no-untyped-def]
    """What precedes a PARTIAL_UPDATE_ROWS after image: notes (image, column) of cells that are diffs. Gives where the image
    begins, or minus the status."""
    options, at = packed(data, at, end)
    if at < 0:
        return -CUT_SHORT
    if options == 0:
        return at
    if options != 1:
        return -UNKNOWN_OPTION
    size = (json_columns.shape[0] + 7) >> 3
    if at + size > end:
        return -CUT_SHORT
    for i in range(json_columns.shape[0]):
        if data[at + (i >> 3)] >> (i & 7) & 1:
            diffs[state[DIFFS], 0] = row
            diffs[state[DIFFS], 1] = json_columns[i]
            state[DIFFS] += 1
    return at + size


@kernel(
    types.int64(
        BYTES, LONGS, LONGS, BYTES, LONGS, LONGS, LONGS, OUT_LONGS, OUT_LONGS, OUT_LONGS, types.int8[::1],
        types.int64[:, ::1], types.int32[:, ::1], types.uint8[:, ::1], types.int64[:, ::1],
    ),
    **OPTIONS,
)  # fmt: skip
def walk(  # type: ignore[no-untyped-def]
    data, start, end, kind, widths, keep, json_columns, state, event, change, op, offsets, lengths, changed, diffs
):
    """All images from `state` on; gives a status. `state` says then how many images there are, and, after an error, which
    event has it. changed must hold zeros; diffs has room for every JSON column of every image."""
    columns = widths.shape[0]
    capacity = event.shape[0]
    while state[EVENT] < start.shape[0]:
        e = state[EVENT]
        if e + _AHEAD < start.shape[0]:
            prefetch(data, start[e + _AHEAD])
            prefetch(data, start[e + _AHEAD] + 64)
        stop = end[e]
        form = types.int64(kind[e])
        update = form == 24 or form == 31 or form == _PARTIAL_UPDATE
        if not (23 <= form <= 25 or 30 <= form <= 32 or form == _PARTIAL_UPDATE):
            return UNKNOWN_TYPE
        if state[AT] == 0:
            if start[e] < 0 or start[e] > stop or stop > data.shape[0]:
                return CUT_SHORT
            at = head(data, start[e], stop, form, columns)
            if at < 0:
                return -at
            state[AT] = at
            state[CHANGE] = 0
        at = state[AT]
        while at < stop:
            row = state[IMAGES]
            if row + (2 if update else 1) > capacity:
                return FULL
            at = image(data, at, stop, widths, row, offsets, lengths)
            if at < 0:
                return CUT_SHORT
            event[row] = e
            change[row] = state[CHANGE]
            if update:
                op[row] = BEFORE
                if form == _PARTIAL_UPDATE:
                    at = value_options(data, at, stop, json_columns, widths, row + 1, diffs, state)
                    if at < 0:
                        return -at
                at = image(data, at, stop, widths, row + 1, offsets, lengths)
                if at < 0:
                    return CUT_SHORT
                event[row + 1] = e
                change[row + 1] = state[CHANGE]
                op[row + 1] = AFTER
                if form != _PARTIAL_UPDATE:
                    compare(data, data.shape[0], keep, row, offsets, lengths, changed)
                state[IMAGES] = row + 2
            else:
                op[row] = INSERT if form == 23 or form == 30 else DELETE
                state[IMAGES] = row + 1
            state[CHANGE] += 1
            state[AT] = at
        state[EVENT] += 1
        state[AT] = 0
    return DONE


@kernel(
    types.void(
        BYTES, BYTES, LONGS, LONGS, types.Array(types.int8, 1, "C", readonly=True), types.int64[:, ::1],
        types.int32[:, ::1], types.uint8[:, ::1],
    ),
    **OPTIONS,
)  # fmt: skip
def compare_partial(data, kind, keep, event, op, offsets, lengths, changed):  # type: ignore[no-untyped-def]
    """`compare` for the images of PARTIAL_UPDATE_ROWS events, once their empty diffs are resolved."""
    for row in range(op.shape[0]):
        if op[row] == BEFORE and kind[event[row]] == _PARTIAL_UPDATE:
            compare(data, data.shape[0], keep, row, offsets, lengths, changed)
