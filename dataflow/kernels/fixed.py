"""Gathers values of fixed width: integers, floats, BIT, YEAR, indexes of ENUM and bits of SET.

Cells without a value (a negative length) become 0; the validity bitmap says what they are.
"""

from __future__ import annotations

from numba import types

from dataflow.kernels.memory import (
    BYTES,
    INTS,
    LONGS,
    OPTIONS,
    OUT_BYTES,
    OUT_INTS,
    OUT_LONGS,
    load_i64,
    load_u16,
    load_u32,
    store_16,
    store_32,
    store_64,
)
from recovery.kernelcache import kernel


@kernel(types.int64(INTS, OUT_BYTES), **OPTIONS)
def validity(lengths, bitmap):  # type: ignore[no-untyped-def]
    """Arrow's bitmap: a bit per cell, the lowest first, set if it has a value. Gives how many have none."""
    n = lengths.shape[0]
    for i in range(bitmap.shape[0]):
        bits = 0
        for b in range(min(8, n - 8 * i)):
            bits |= (lengths[8 * i + b] >= 0) << b
        bitmap[i] = bits
    missing = 0
    for i in range(n):
        missing += lengths[i] < 0
    return missing


@kernel(types.void(BYTES, LONGS, INTS, types.int64, OUT_BYTES), **OPTIONS)
def same_width(data, offsets, lengths, width, out):  # type: ignore[no-untyped-def]
    """Little-endian values of 1, 2, 4 or 8 bytes as they are: the Arrow types have the same widths."""
    n = lengths.shape[0]
    if width == 1:
        for i in range(n):
            out[i] = data[offsets[i]] if lengths[i] > 0 else 0
    elif width == 2:
        for i in range(n):
            store_16(out, 2 * i, load_u16(data, offsets[i]) if lengths[i] > 0 else 0)
    elif width == 4:
        for i in range(n):
            store_32(out, 4 * i, load_u32(data, offsets[i]) if lengths[i] > 0 else 0)
    else:
        for i in range(n):
            store_64(out, 8 * i, load_i64(data, offsets[i]) if lengths[i] > 0 else 0)


@kernel(types.void(BYTES, LONGS, INTS, types.boolean, OUT_BYTES), **OPTIONS)
def three_bytes(data, offsets, lengths, signed, out):  # type: ignore[no-untyped-def]
    """MEDIUMINT: 24 bits, little endian, to 32."""
    shift = 40 if signed else 0
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            value = load_u16(data, offsets[i]) | types.int64(data[offsets[i] + 2]) << 16
            value = value << shift >> shift
        store_32(out, 4 * i, value)


@kernel(types.void(BYTES, LONGS, INTS, types.int64, types.boolean, OUT_LONGS), **OPTIONS)
def widened(data, offsets, lengths, width, big_endian, out):  # type: ignore[no-untyped-def]
    """Unsigned integers of 1 to 8 bytes as 64 bits: BIT is big endian (Field_bit::val_int), ENUM and SET little."""
    for i in range(lengths.shape[0]):
        value = 0
        if lengths[i] > 0:
            at = offsets[i]
            for b in range(width):
                byte = types.int64(data[at + b])
                value |= byte << (8 * (width - 1 - b if big_endian else b))
        out[i] = value


@kernel(types.void(BYTES, LONGS, INTS, OUT_BYTES), **OPTIONS)
def years(data, offsets, lengths, out):  # type: ignore[no-untyped-def]
    """YEAR: one byte, years since 1900, and 0 for the year 0000 (Field_year::val_int)."""
    for i in range(lengths.shape[0]):
        value = types.int64(data[offsets[i]]) if lengths[i] > 0 else 0
        store_16(out, 2 * i, value + 1900 if value else 0)


@kernel(
    types.int64(
        types.Array(types.int8, 1, "C", readonly=True), types.int64, types.uint8[:, ::1], OUT_BYTES, OUT_INTS, OUT_BYTES
    ),
    **OPTIONS,
)
def bits_of(op, least, bits, bitmap, ends, out):  # type: ignore[no-untyped-def]
    """The rows of `bits` whose `op` is at least `least`, as the buffers of an Arrow array; the others are null. Gives how
    many are."""
    n, width = bits.shape
    at = missing = 0
    ends[0] = 0
    bitmap[:] = 0
    for i in range(n):
        if op[i] >= least:
            bitmap[i >> 3] |= 1 << (i & 7)
            for b in range(width):
                out[at + b] = bits[i, b]
            at += width
        else:
            missing += 1
        ends[i + 1] = at
    return missing
