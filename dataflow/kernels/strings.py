"""Gathers values of variable length: bytes, padded bytes, and text of single-byte character sets as UTF-8."""

from __future__ import annotations

from typing import Final

from numba import types

from dataflow.kernels.memory import (
    BYTES,
    INLINE,
    INTS,
    LONGS,
    OPTIONS,
    OUT_BYTES,
    OUT_INTS,
    OUT_LONGS,
    copy,
    load_i64,
    store_64,
    trailing_zeros,
)
from dataflow.kernels.walk import ODD
from recovery.kernelcache import kernel

_HIGHS: Final = -0x7F7F7F7F7F7F7F80  # the highest bit of each of eight bytes


@kernel(types.int64(INTS), **OPTIONS)
def total(lengths):  # type: ignore[no-untyped-def]
    """The bytes of all values together."""
    size = 0
    for i in range(lengths.shape[0]):
        if lengths[i] > 0:
            size += lengths[i]
    return size


@kernel(types.void(BYTES, LONGS, INTS, OUT_INTS, OUT_BYTES), **OPTIONS)
def gather(data, offsets, lengths, ends, out):  # type: ignore[no-untyped-def]
    """Values one behind the other in `out` (of `total` bytes); ends: Arrow's offsets, one more than there are cells."""
    at = 0
    ends[0] = 0
    # Short values by whole words: what is written behind them the next value overwrites. Near the ends of the two arrays,
    # and for long ones, by memcpy, whose call alone takes longer than a short value.
    last_in, last_out = data.shape[0] - 16, out.shape[0] - 16
    for i in range(lengths.shape[0]):
        length = types.int64(lengths[i])
        if length > 0:
            source = offsets[i]
            if length <= 16 and source <= last_in and at <= last_out:
                store_64(out, at, load_i64(data, source))
                store_64(out, at + 8, load_i64(data, source + 8))
            else:
                copy(out, at, data, source, length)
            at += length
        ends[i + 1] = at


@kernel(types.int64(BYTES, LONGS, OUT_INTS, types.int64, LONGS, INTS, OUT_LONGS, OUT_INTS), **OPTIONS)
def labels(data, offsets, lengths, width, starts, sizes, where, room):  # type: ignore[no-untyped-def]
    """Of numbers of `width` bytes, little endian: where each one's label begins and how long it is, for `gather`. starts,
    sizes: of the labels, by number; a size of ODD marks the cell. Gives the first row whose number has no label, -1 if there
    is none."""
    for i in range(lengths.shape[0]):
        where[i] = 0
        room[i] = lengths[i]
        if lengths[i] > 0:
            number = types.int64(data[offsets[i]])
            if width == 2:
                number |= types.int64(data[offsets[i] + 1]) << 8
            if number >= sizes.shape[0]:
                return i
            where[i] = starts[number]
            room[i] = sizes[number]
            if room[i] == ODD:
                lengths[i] = ODD
    return -1


@kernel(types.int64(BYTES, LONGS, INTS, types.int64, OUT_INTS, OUT_BYTES), **OPTIONS)
def gather_padded(data, offsets, lengths, width, ends, out):  # type: ignore[no-untyped-def]
    """BINARY(width): travels without its trailing zero bytes (Field_string::pack). `out` holds zeros. Gives how many values
    are longer than the column; they are cut to nothing."""
    at = 0
    bad = 0
    ends[0] = 0
    for i in range(lengths.shape[0]):
        length = types.int64(lengths[i])
        if length > width:
            bad += 1
        elif length >= 0:
            copy(out, at, data, offsets[i], length)
            at += width
        ends[i + 1] = at
    return bad


@kernel(types.int64(BYTES, types.int64, types.int64), **INLINE)
def character(data, at, end):  # type: ignore[no-untyped-def]
    """The end of a well-formed sequence that begins with a byte over 127 (Unicode standard, table 3-7), else -1."""
    first = data[at]
    if first < 0xC2 or first > 0xF4:
        return -1
    more = 1 + (first >= 0xE0) + (first >= 0xF0)
    if at + more >= end:
        return -1
    low, high = 0x80, 0xBF
    if first == 0xE0:
        low = 0xA0
    elif first == 0xED:
        high = 0x9F
    elif first == 0xF0:
        low = 0x90
    elif first == 0xF4:
        high = 0x8F
    if data[at + 1] < low or data[at + 1] > high:
        return -1
    for i in range(at + 2, at + more + 1):
        if data[i] & 0xC0 != 0x80:
            return -1
    return at + more + 1


@kernel(types.boolean(BYTES), **OPTIONS)
def is_ascii(data):  # type: ignore[no-untyped-def]
    size = data.shape[0]
    seen = 0
    for i in range(0, size - 7, 8):
        seen |= load_i64(data, i)
    for i in range(size & ~7, size):
        seen |= types.int64(data[i])
    return seen & _HIGHS == 0


@kernel(types.boolean(BYTES, INTS), **OPTIONS)
def is_utf8(data, ends):  # type: ignore[no-untyped-def]
    """Whether each value is well-formed UTF-8 (Unicode standard, table 3-7): the bytes of all together are, and none begins
    inside a character. ends: Arrow's offsets."""
    at, size = 0, data.shape[0]
    while at < size:
        if at + 8 <= size:
            beyond = load_i64(data, at) & _HIGHS
            if beyond == 0:
                at += 8
                continue
            at += trailing_zeros(beyond) >> 3
        elif data[at] < 128:
            at += 1
            continue
        at = character(data, at, size)
        if at < 0:
            return False
    split = False
    for i in range(1, ends.shape[0]):
        split |= ends[i] < size and data[ends[i]] & 0xC0 == 0x80
    return not split


@kernel(types.int64(BYTES, LONGS, INTS, BYTES), **OPTIONS)
def transcoded_size(data, offsets, lengths, sizes):  # type: ignore[no-untyped-def]
    """The UTF-8 bytes of all values; sizes: of each byte's character."""
    size = 0
    for i in range(lengths.shape[0]):
        at = offsets[i]
        for b in range(lengths[i]):
            size += sizes[data[at + b]]
    return size


@kernel(types.int64(BYTES, LONGS, OUT_INTS, BYTES, BYTES, OUT_INTS, OUT_BYTES), **OPTIONS)
def transcode(data, offsets, lengths, sizes, characters, ends, out):  # type: ignore[no-untyped-def]
    """Text of a single-byte character set. characters: 4 bytes of UTF-8 for each byte value, of which `sizes` count; a byte
    of size 0 isn't in the character set: its value becomes empty and is marked ODD. Gives how many were."""
    at = 0
    odd = 0
    ends[0] = 0
    for i in range(lengths.shape[0]):
        begin = at
        for b in range(lengths[i]):
            byte = types.int64(data[offsets[i] + b])
            size = types.int64(sizes[byte])
            if size == 0:
                at = begin
                lengths[i] = ODD
                odd += 1
                break
            for k in range(size):
                out[at + k] = characters[4 * byte + k]
            at += size
        ends[i + 1] = at
    return odd
