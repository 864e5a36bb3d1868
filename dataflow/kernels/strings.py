"""Gathers values of variable length: bytes, padded bytes, and text of single-byte character sets as UTF-8."""

from __future__ import annotations

from numba import njit, types

from dataflow.kernels.memory import BYTES, INTS, LONGS, OPTIONS, OUT_BYTES, OUT_INTS, copy, load_i64
from dataflow.kernels.walk import ODD


@njit(types.int64(INTS), **OPTIONS)
def total(lengths):  # type: ignore[no-untyped-def]
    """The bytes of all values together."""
    size = 0
    for i in range(lengths.shape[0]):
        if lengths[i] > 0:
            size += lengths[i]
    return size


@njit(types.void(BYTES, LONGS, INTS, OUT_INTS, OUT_BYTES), **OPTIONS)
def gather(data, offsets, lengths, ends, out):  # type: ignore[no-untyped-def]
    """Values one behind the other in `out` (of `total` bytes); ends: Arrow's offsets, one more than there are cells."""
    at = 0
    ends[0] = 0
    for i in range(lengths.shape[0]):
        length = types.int64(lengths[i])
        if length > 0:
            copy(out, at, data, offsets[i], length)
            at += length
        ends[i + 1] = at


@njit(types.int64(BYTES, LONGS, INTS, types.int64, OUT_INTS, OUT_BYTES), **OPTIONS)
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


@njit(types.boolean(BYTES), **OPTIONS)
def is_ascii(data):  # type: ignore[no-untyped-def]
    size = data.shape[0]
    seen = 0
    for i in range(0, size - 7, 8):
        seen |= load_i64(data, i)
    for i in range(size & ~7, size):
        seen |= types.int64(data[i])
    return seen & -0x7F7F7F7F7F7F7F80 == 0


@njit(types.int64(BYTES, LONGS, INTS, BYTES), **OPTIONS)
def transcoded_size(data, offsets, lengths, sizes):  # type: ignore[no-untyped-def]
    """The UTF-8 bytes of all values; sizes: of each byte's character."""
    size = 0
    for i in range(lengths.shape[0]):
        at = offsets[i]
        for b in range(lengths[i]):
            size += sizes[data[at + b]]
    return size


@njit(types.int64(BYTES, LONGS, OUT_INTS, BYTES, BYTES, OUT_INTS, OUT_BYTES), **OPTIONS)
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
